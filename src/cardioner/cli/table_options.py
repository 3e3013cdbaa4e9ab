"""The options of `cardioner predict` for notes in tables and databases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
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

    sql: Annotated[
        str | None,
        typer.Option(metavar="QUERY", help="Read the notes that a SELECT gives.", rich_help_panel=_PANEL),
    ] = None
    database: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The database, without a password; or a file that holds its URL. Default: CARDIONER_DATABASE_URL.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    to_table: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Fill a table of the database, in place of OUT.", rich_help_panel=_PANEL),
    ] = None
    concepts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --to omop: a CSV file with the columns label, concept_id and, if you like, lexical_variant.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    assertions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --to omop or fhir: a CSV file with rules for attributes, in place of the built-in ones.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    snippet: Annotated[
        bool, typer.Option("--snippet", help="With --to omop: copy the text around spans.", rich_help_panel=_PANEL)
    ] = False

    @property
    def given(self) -> bool:
        """Whether one of them says that the input is a table."""
        return self != TableOptions()
