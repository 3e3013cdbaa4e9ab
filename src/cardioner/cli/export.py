"""`cardioner export`: models for people who do not have cardioner."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cardioner.cli.console import notices, quieten, tell
from cardioner.cli.inputs import BY_DEFAULT, read_parts

export = typer.Typer(name="export", help="Write a model in a form that runs without cardioner.")


@export.callback(invoke_without_command=True)
def forms(context: typer.Context) -> None:
    """Write a model in a form that runs without cardioner."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@export.command()
def hub(
    model: Annotated[
        Path, typer.Argument(metavar="DIR", help="The model directory, with a linear head and without a CRF.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The directory to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export in OUT.")] = False,
) -> None:
    """Export a model as the encoder family's own class in transformers, which needs no code from cardioner.

    Nothing is written unless its logits equal the model's. What differs from the model is listed.

    Example: cardioner export hub model hub-model
    """
    with notices.status("exporting"):
        quieten()
        from cardioner.interop.hub import export_hub  # noqa: PLC0415 - imports torch

        done = export_hub(model, target, overwrite=overwrite)
    for warning in done.warnings:
        tell(warning)
    tell(f"Written: {done.directory}, a {done.kind} whose logits differ by at most {done.difference:.1g}")


@export.command()
def onnx(
    model: Annotated[
        Path, typer.Argument(metavar="DIR", help="The model directory, with any head, with or without a CRF.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The directory to write.")],
    int8: Annotated[bool, typer.Option("--int8", help="Reduce the weights to 8 bits; needs --check.")] = False,
    check: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Notes to compare the spans in: any format, annotated or not."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export in OUT.")] = False,
) -> None:
    """Export a model as an ONNX graph with a small tagger that only needs onnxruntime, numpy and tokenizers.

    Nothing is written unless it tags as the model does: no logit may differ by more than 0.0001, and every span must be
    the same, in the notes of --check and in a few made-up ones. With --int8 some spans change: those found in the notes
    of --check must agree with the model's by at least 0.98 (F1), and the model must find at least 50 there.

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
