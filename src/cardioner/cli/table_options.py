"""The options of `cardioner predict` for notes in tables and databases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

_PANEL = "Tables and databases"


@dataclass(frozen=True)
class TableOptions:
    """Where in a table the notes are, and what is written for them."""

    id_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The column of ids. Default: note_id.", rich_help_panel=_PANEL),
    ] = None
    text_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The column of notes. Default: note_text.", rich_help_panel=_PANEL),
    ] = None
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A column to copy. May be given several times.", rich_help_panel=_PANEL),
    ] = None
    explode: Annotated[
        bool, typer.Option("--explode", help="Write a row for each span, not for each note.", rich_help_panel=_PANEL)
    ] = False

    @property
    def given(self) -> bool:
        """Whether one of them says that the input is a table."""
        return self != TableOptions()
