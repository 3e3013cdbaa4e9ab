"""`cardioner upgrade`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cardioner.cli.console import notices, plain, quieten, table, tell


def upgrade(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A directory that the original CardioNER saved.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The model directory to write.")],
    backbone: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The encoder's folder, where OLD lacks its configuration or tokenizer."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model in NEW.")] = False,
) -> None:
    """Convert a model of the original CardioNER to the current form, with equal logits.

    Nothing in OLD is run or changed, and nothing is downloaded.

    Example: cardioner upgrade old-model model
    """
    with notices.status("reading the old model"):
        quieten()
        from cardioner.interop import legacy  # noqa: PLC0415 - imports torch

        found = legacy.upgrade(old, new, backbone=backbone, overwrite=overwrite)
    notices.print(table(f"Found in {old}", ("", ""), found.facts.items(), left=2))
    for warning in found.warnings:
        tell(f"warning: {plain(warning)}")
    tell(f"Model: {new}")
