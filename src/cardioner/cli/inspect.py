"""`cardioner inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cardioner.cli.console import notices, output, print_json, quieten, table


def inspect(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="The model directory.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON alone on standard output.")] = False,
) -> None:
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
        nested = any(isinstance(part, dict) for part in value.values())
        return ("\n" if nested else ", ").join(f"{name} {_shown(part)}" for name, part in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return "none" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
