"""`cardioner export`: ways to leave."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cardioner.cli.console import notices, quieten, tell

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
        from cardioner.exporting.hub import export_hub  # noqa: PLC0415 - imports torch

        done = export_hub(model, target, overwrite=overwrite)
    for remark in done.remarks:
        tell(remark)
    tell(f"{done.kind}, no logit further than {done.difference:.1g} from the model's: {done.directory}")
