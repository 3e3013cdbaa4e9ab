"""The commands on model directories: `inspect`, `verify`, `sign`, `upgrade` and `export`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cardioner._io import check_no_file, is_stream
from cardioner.cli.console import notices, output, plain, print_json, quieten, show, table, tell
from cardioner.cli.inputs import FormatOption, JsonAloneOption, read_parts
from cardioner.cli.option_groups import add_commands
from cardioner.cli.outputs import check_model_folder
from cardioner.data.formats import ReadOptions
from cardioner.errors import ModelError, UsageError, many

if TYPE_CHECKING:
    from cardioner.model_dir.verify import Verification

PASSWORD = "CARDIONER_KEY_PASSWORD"  # noqa: S105 - the name of a variable

ModelArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The model directory.")]
ExportArgument = Annotated[Path, typer.Argument(metavar="OUT", help="The directory to write.")]
OverwriteExportOption = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export in OUT.")]


def inspect(model: ModelArgument, json: JsonAloneOption = False) -> None:
    """Describe a model directory without running anything in it.

    Example: cardioner inspect model
    """
    with notices.status("reading the directory"):
        quieten()
        from cardioner.model_dir.inspect import inspect as inspect_directory  # noqa: PLC0415 - imports torch

        found = inspect_directory(model)
    if json:
        print_json({"facts": found.facts, "files": found.files, "warnings": list(found.warnings)})
        return
    output.print(table(str(model), ("", ""), ((name, _shown(value)) for name, value in found.facts.items()), left=2))
    output.print(table("Files", ("name", "bytes"), ((name, f"{size:,}") for name, size in found.files.items())))
    for warning in found.warnings:
        output.print(f"warning: {warning}", style="yellow", markup=False)
    if not found.warnings:
        output.print("Nothing to warn of.")


def _shown(value: Any) -> str:
    """A fact as one line; nested facts a line each."""
    if isinstance(value, dict):
        nested = any(isinstance(part, (dict, list)) for part in value.values())
        return ("\n" if nested else ", ").join(f"{name} {_shown(part)}" for name, part in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return "none" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def verify(
    model: ModelArgument,
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A public key (.pub): the directory must be signed with its other half."),
    ] = None,
    json: JsonAloneOption = False,
) -> None:
    """Check that a model directory is complete and unaltered, and computes here what it did when it was saved.

    Every file is compared with what the manifest, cardioner.json, lists, and the model is run on made-up input whose
    results are in the manifest. Nothing in the directory is run as code. The exit code is 4 if anything is wrong.

    Example: cardioner verify model --key hospital.key.pub
    """
    found = _verified(model, key)
    if json:
        print_json(found.to_dict())
    else:
        _show(found)
    if not found.sound:
        raise typer.Exit(ModelError.exit_code)


def _verified(model: Path, key: Path | None = None) -> Verification:
    with notices.status("checking the directory"):
        quieten()
        from cardioner.model_dir.verify import verify as verify_directory  # noqa: PLC0415 - imports torch

        return verify_directory(model, key=key)


def _show(found: Verification) -> None:
    """What was found, for people."""
    issues = [one for one in found.issues if one.problem not in found.warnings]
    if issues:
        rows = ((one.name, "wrong" if one.serious else "note", one.problem) for one in issues)
        output.print(table("Issues", ("what", "", "problem"), rows, left=3))
    if found.manifest is not None:
        made = ", ".join(f"{name} {version}" for name, version in found.manifest.versions.items())
        tell(f"{many(len(found.manifest.files), 'file')} listed; saved with {made}")
    if found.golden_outputs:
        tell("the model computes what it did when it was saved")
    if found.signed_by:
        tell(f"signed with the key {found.signed_by}")
    elif found.claimed:
        tell(f"there is a signature by the key {plain(found.claimed)}: check it with --key FILE.pub")
    else:
        tell("not signed: whoever can write the directory could have changed it and its manifest alike")
    for warning in found.warnings:
        tell(f"warning: {warning}")
    tell(f"{found.directory} is {'sound' if found.sound else 'not to be trusted as it is'}")


def sign(
    model: Annotated[Path | None, typer.Argument(metavar="DIR", help="The model directory.")] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="The private key to sign with.")] = None,
    make_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Make a key pair instead: FILE and FILE.pub.")
    ] = None,
    encrypt: Annotated[
        bool, typer.Option("--encrypt", help="With --make-key: ask for a password for the key.")
    ] = False,
) -> None:
    """Sign a model directory, so that others can tell who vouches for it; or make the keys for that.

    The directory is verified first, and one that is not sound is not signed. Give FILE.pub to whoever receives models,
    by another route than the models; keep FILE to yourself. The password of an encrypted key is asked for, or taken
    from CARDIONER_KEY_PASSWORD.

    Example: cardioner sign --make-key hospital.key; cardioner sign model --key hospital.key
    """
    from cardioner.model_dir.layout import SIGNATURE  # noqa: PLC0415
    from cardioner.model_dir.signing import make_signing_key, needs_password, write_signature  # noqa: PLC0415 - starts fast

    if make_key is not None:
        if is_stream(make_key):
            raise UsageError(f"--make-key {make_key}: expected a place for two files, FILE and FILE.pub")
        if model is not None or key is not None:
            raise UsageError("--make-key makes keys and signs nothing: leave DIR and --key out")
        public = make_signing_key(make_key, _password(again=True) if encrypt else None)
        tell(f"private key: {make_key} (keep it to yourself); public key: {public}")
        return
    if model is None or key is None:
        raise UsageError("expected a model directory and --key FILE, or --make-key FILE alone")
    password = _password() if needs_password(key) else None
    if wrong := [one for one in _verified(model).issues if one.serious and one.name != SIGNATURE]:
        raise ModelError(f"{model} is not signed: {wrong[0].name}: {wrong[0].problem}; see cardioner verify {model}")
    tell(f"{model} is signed with the key {write_signature(model, key, password)}")


def _password(*, again: bool = False) -> str:
    """The password, from the environment or from whoever types."""
    known = os.environ.get(PASSWORD)
    return known or typer.prompt("Password of the key", hide_input=True, confirmation_prompt=again, err=True)


def upgrade(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A directory that the original CardioNER saved.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The model directory to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model in NEW.")] = False,
    backbone: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The encoder's folder, where OLD lacks its configuration or tokenizer."),
    ] = None,
) -> None:
    """Convert a model of the original CardioNER to the current form, with equal logits.

    Nothing in OLD is run or changed, and nothing is downloaded.

    Example: cardioner upgrade old-model model
    """
    check_model_folder(new, replace=overwrite)
    with notices.status("reading the old model"):
        quieten()
        from cardioner.interop import legacy  # noqa: PLC0415 - imports torch

        found = legacy.upgrade(old, new, backbone=backbone, overwrite=overwrite)
    show(table(f"Found in {old}", ("", ""), found.facts.items(), left=2))
    for warning in found.warnings:
        tell(f"warning: {plain(warning)}")
    tell(f"Model: {new}")


# Export --------------------------------------------------------------------------------------------------------------

export = typer.Typer(name="export", help="Write a model in a form that runs without cardioner.")


@export.callback(invoke_without_command=True)
def forms(context: typer.Context) -> None:
    """Write a model in a form that runs without cardioner."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def hub(
    model: Annotated[
        Path, typer.Argument(metavar="DIR", help="The model directory, with a linear head and without a CRF.")
    ],
    target: ExportArgument,
    overwrite: OverwriteExportOption = False,
) -> None:
    """Export a model as the encoder family's own class in transformers, which needs no code from cardioner.

    Nothing is written unless its logits equal the model's. What differs from the model is listed.

    Example: cardioner export hub model hub-model
    """
    check_model_folder(target, replace=overwrite)
    with notices.status("exporting"):
        quieten()
        from cardioner.interop.hub import export_hub  # noqa: PLC0415 - imports torch

        done = export_hub(model, target, overwrite=overwrite)
    for warning in done.warnings:
        tell(warning)
    tell(f"Written: {done.directory}, a {done.kind} whose logits differ by at most {done.difference:.1g}")


def onnx(  # noqa: PLR0913 - one parameter an option
    model: Annotated[
        Path, typer.Argument(metavar="DIR", help="The model directory, with any head, with or without a CRF.")
    ],
    target: Annotated[Path | None, typer.Argument(metavar="[OUT]", help="The directory to write.")] = None,
    into: Annotated[
        bool, typer.Option("--into", help="Add the graph to DIR itself, for predict --engine onnx, in place of OUT.")
    ] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Reduce the weights to 8 bits; needs --check.")] = False,
    check: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Notes to compare the spans in: any format, annotated or not."),
    ] = None,
    format: FormatOption = None,  # noqa: A002 - the readers' name
    overwrite: OverwriteExportOption = False,
) -> None:
    """Export a model as an ONNX graph with a small tagger that only needs onnxruntime, numpy and tokenizers.

    Nothing is written unless it tags as the model does: no logit may differ by more than 0.0001, and every span must be
    the same, in the notes of --check and in a few made-up ones. With --int8 some spans change: those found in the notes
    of --check must agree with the model's by at least 0.98 (F1), and the model must find at least 50 there.

    With --into the graph goes into the model directory, and its manifest lists it: cardioner predict --engine onnx then
    needs no torch. A signed directory is left as it is: delete its signature first, and sign again afterwards.

    Example: cardioner export onnx model onnx-model --int8 --check dev

    Example: cardioner export onnx model --into
    """
    if into == (target is not None):
        raise UsageError("expected either OUT, a directory to write, or --into, to add the graph to the model itself")
    if target is not None:
        check_no_file(target)
    notes = read_parts([check], {}, ReadOptions(format))[0] if check else ()
    with notices.status("exporting and comparing"):
        quieten()
        from cardioner.interop.onnx import add_onnx, export_onnx  # noqa: PLC0415 - imports torch

        if target is None:
            done = add_onnx(model, check=notes, int8=int8, overwrite=overwrite)
        else:
            done = export_onnx(model, target, check=notes, int8=int8, overwrite=overwrite)
    for line in done.figures:
        tell(line)
    if target is None:
        tell(f"Added to {done.directory}, for cardioner predict --engine onnx (to sign it: cardioner sign)")
    else:
        tell(f"Written: {done.directory} (python tag.py NOTES)")


add_commands(export, hub, onnx)
