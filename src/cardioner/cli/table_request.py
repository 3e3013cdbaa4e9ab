"""What is asked of `cardioner predict` for notes in tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cardioner.cli.cluster_options import ClusterOptions
from cardioner.cli.outputs import place_name
from cardioner.cli.table_options import TableOptions
from cardioner.cli.tagging import Models, TaggingOptions
from cardioner.errors import UsageError
from cardioner.tables.columns import Columns
from cardioner.tables.kinds import form_of


@dataclass(frozen=True)
class Request:
    """What is asked: where notes are from, what is written for them, and where."""

    models: Models
    inputs: tuple[Path, ...]
    output: Path | None
    to: str | None
    encoding: str
    options: TaggingOptions
    tables: TableOptions
    cluster: ClusterOptions

    @property
    def columns(self) -> Columns:
        """The columns of the notes."""
        named = self.tables
        return Columns(named.id_column or "note_id", named.text_column or "note_text", tuple(named.keep or ()))

    @property
    def place(self) -> str:
        """What to call the output."""
        return f"the table {self.tables.to_table}" if self.output is None else place_name(self.output)

    def check(self) -> None:
        """Refuse combinations of options that cannot work.

        Raises:
            UsageError: Saying which.
        """
        tables = self.tables
        if bool(self.inputs) == bool(tables.sql):
            raise UsageError("expected notes either from INPUT or from --sql")
        if (self.output is None) == (tables.to_table is None):
            raise UsageError("expected either --output or --to-table")
        if tables.database and not (tables.sql or tables.to_table):
            raise UsageError("--database is for --sql and --to-table")
        if self.to is not None and (tables.explode or tables.keep):
            raise UsageError(f"--to {self.to} has columns of its own: leave out --explode and --keep")
        if self.to != "omop" and (tables.concepts or tables.snippet):
            raise UsageError("--concepts and --snippet are for --to omop")
        if self.to is None and tables.assertions:
            raise UsageError("--assertions is for --to omop and --to fhir")
        if tables.to_table and self.to and self.to != "omop":
            raise UsageError(f"--to {self.to} is written to a file: give --output")

    def form(self) -> str:
        """In which form a file is written.

        Raises:
            UsageError: If its suffix says no form, or another one.
        """
        assert self.output is not None
        form = form_of(self.output)
        if (self.to or "").startswith("fhir"):
            if form != "jsonl":
                raise UsageError(f"{self.output}: bundles are written line by line, to .ndjson or .jsonl")
            return "lines"
        return form
