"""`cardioner export`: ways to leave."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cardioner.cli.console import notices, quieten, tell
from cardioner.cli.inputs import BY_DEFAULT, read_parts

export = typer.Typer(name="export", help="Write a model in a form that needs no cardioner.")


@export.callback(invoke_without_command=True)
def forms(context: typer.Context) -> None:
    """Write a model in a form that needs no cardioner."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@export.command()
def hub(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="The model directory: a linear head, no CRF.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The directory to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export in OUT.")] = False,
) -> None:
    """Turn a model into the encoder family's own token classifier of transformers, which runs no code of ours.

    Its logits are compared with the model's; unless they are equal nothing is written. What cannot travel is said.

    Example: cardioner export hub model hub-model
    """
    with notices.status("exporting"):
        quieten()
        from cardioner.interop.hub import export_hub  # noqa: PLC0415 - imports torch

        done = export_hub(model, target, overwrite=overwrite)
    for remark in done.remarks:
        tell(remark)
    tell(f"{done.kind}, no logit further than {done.difference:.1g} from the model's: {done.directory}")


@export.command()
def onnx(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="The model directory; a CRF and an MLP head may be.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The directory to write.")],
    int8: Annotated[bool, typer.Option("--int8", help="Quantise the weights to 8 bits; needs --check.")] = False,
    check: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Notes in any format, annotated or not, to compare the spans in."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export in OUT.")] = False,
) -> None:
    """Turn a model into an ONNX graph with a small tagger that needs onnxruntime, numpy and tokenizers alone.

    Nothing is written unless it finds the model's spans: no logit may differ by more than 0.0001 and every span must be
    the same, in the notes of --check and in a few made up for it. With --int8 spans move: in the notes of --check those
    found must agree with the model's by 0.98 or more (F1), and the model must find 50 or more.

    Example: cardioner export onnx model onnx-model --int8 --check dev
    """
    notes = read_parts([check], {}, BY_DEFAULT)[0] if check else ()
    with notices.status("exporting and comparing"):
        quieten()
        from cardioner.interop.onnx import export_onnx  # noqa: PLC0415 - imports torch

        done = export_onnx(model, target, check=notes, int8=int8, overwrite=overwrite)
    for line in done.figures:
        tell(line)
    tell(f"Written: {done.directory} (python tag.py NOTES)")
