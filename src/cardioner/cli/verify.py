"""`cardioner verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cardioner.cli.console import notices, output, plain, print_json, quieten, table, tell
from cardioner.errors import ModelError

if TYPE_CHECKING:
    from cardioner.model_dir.verify import Verification


def verify(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="The model directory.")],
    key: Annotated[
        Path | None,
        typer.Option(
            "--key", metavar="FILE", help="A public key (.pub): the directory must be signed with its other half."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON alone on standard output.")] = False,
) -> None:
    """Tell whether a model directory is whole, unaltered, and computes here what it did when it was saved.

    Every file is compared with what the manifest, cardioner.json, lists, and the model is run on made-up input whose
    result the manifest knows. Nothing in the directory is run as code. The exit code is 4 if anything is wrong.

    Example: cardioner verify model --key hospital.key.pub
    """
    with notices.status("checking the directory"):
        quieten()
        from cardioner.model_dir.verify import verify as verify_directory  # noqa: PLC0415 - imports torch

        found = verify_directory(model, key=key)
    if json:
        print_json(found.to_dict())
    else:
        _show(found)
    if not found.sound:
        raise typer.Exit(ModelError.exit_code)


def _show(found: Verification) -> None:
    """What was found, for people."""
    if found.issues:
        rows = ((one.name, "wrong" if one.serious else "note", one.problem) for one in found.issues)
        output.print(table("Issues", ("what", "", "problem"), rows, left=3))
    if found.manifest is not None:
        made = ", ".join(f"{name} {version}" for name, version in found.manifest.versions.items())
        tell(f"{len(found.manifest.files)} files listed; saved with {made}")
    if found.golden_outputs:
        tell("the model computes what it did when it was saved")
    if found.signed_by:
        tell(f"signed with the key {found.signed_by}")
    elif found.claimed:
        tell(f"a signature names the key {plain(found.claimed)}; --key FILE.pub proves whether it holds")
    else:
        tell("not signed: whoever can write the directory could have changed it and its manifest alike")
    tell(f"{found.directory} is {'sound' if found.sound else 'not to be trusted as it is'}")
