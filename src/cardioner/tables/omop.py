"""Spans as rows of `note_nlp` of the OMOP Common Data Model 5.4 (https://ohdsi.github.io/CommonDataModel/cdm54.html)."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cardioner.errors import DataError, FormatError
from cardioner.tables.assertions import DEFAULT, MODIFIERS_LENGTH, Assertions, modifiers
from cardioner.tables.columns import SPANS, Columns
from cardioner.tables.values import values_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cardioner.tables.source import Tagged

SCHEMA = pa.schema(
    [
        ("note_nlp_id", pa.int64()),
        ("note_id", pa.int64()),
        ("section_concept_id", pa.int32()),
        ("snippet", pa.string()),
        ("offset", pa.string()),
        ("lexical_variant", pa.string()),
        ("note_nlp_concept_id", pa.int32()),
        ("note_nlp_source_concept_id", pa.int32()),
        ("nlp_system", pa.string()),
        ("nlp_date", pa.date32()),
        ("nlp_datetime", pa.timestamp("us")),
        ("term_exists", pa.string()),
        ("term_temporal", pa.string()),
        ("term_modifiers", pa.string()),
    ]
)
"""The columns of `note_nlp`, in the order of its definition."""

WIDE, NARROW = 63, 31
"""Bits of an id that is not negative, in a column of eight bytes and in one of four, as the official definition has."""

_LONGEST = 250
"""Most characters of `lexical_variant` and of `snippet`."""
_NO_NUL = "\ufffd"
_AROUND = 60
"""Characters of a snippet on either side of a span."""


@dataclass
class NoteNlp:
    """Makes rows of `note_nlp` from tagged notes.

    `term_exists` and `term_temporal` are what its attributes assert, `term_modifiers` all of them; null where there are
    none.

    Attributes:
        columns: Of the notes.
        system: What found the spans, for `nlp_system`.
        concepts: Concept ids for `(label, lexical variant)`, and for `(label, "")`; other spans get 0.
        snippet: Whether to copy the text around each span.
        assertions: What attributes assert.
        left_out: What the table cannot hold, counted.
    """

    columns: Columns
    system: str
    concepts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    snippet: bool = False
    assertions: Assertions = DEFAULT
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        """What to call it."""
        return "note_nlp"

    def __call__(self, batch: Tagged) -> pa.RecordBatch:
        """The rows for the spans of a batch.

        Raises:
            DataError: If an id is no whole number, as OMOP has it.
        """
        rows = []
        ids = batch.tagged.column(self.columns.id).to_pylist()
        texts = batch.notes.column(self.columns.text)
        for row, spans in enumerate(values_of(batch.tagged.column(SPANS))):
            note_id = _whole(ids[row])
            if spans is None:
                self.left_out["notes that were not tagged"] += 1
            rows += [self._row(note_id, texts[row].as_py(), span) for span in spans or ()]
        when = batch.when
        common = {"nlp_system": self.system, "nlp_date": when.date(), "nlp_datetime": when.replace(tzinfo=None)}
        return pa.RecordBatch.from_pylist([row | common for row in rows], SCHEMA)

    def _row(self, note_id: int, text: str, span: Mapping[str, Any]) -> dict[str, Any]:
        start, end, label = span["start"], span["end"], span["label"]
        variant = text[start:end].replace("\0", _NO_NUL)  # which PostgreSQL cannot hold
        self.left_out["NUL characters"] += text.count("\0", start, end)
        concept = self.concepts.get((label, _folded(variant)), self.concepts.get((label, ""), 0))
        if not concept:
            self.left_out[f"the type {label} of spans without a concept"] += 1
        if len(variant) > _LONGEST:
            self.left_out[f"characters of spans that are longer than {_LONGEST}"] += len(variant) - _LONGEST
        said = span["attributes"] or {}
        asserted, modified = self.assertions.of(said, span["attribute_scores"] or {}), modifiers(said) or ""
        if len(modified) > MODIFIERS_LENGTH:
            self.left_out[f"characters of modifiers beyond {MODIFIERS_LENGTH}"] += len(modified) - MODIFIERS_LENGTH
        around = text[max(0, start - _AROUND) : end + _AROUND][:_LONGEST]
        return {
            "note_nlp_id": note_nlp_id(f"{note_id} {start} {end} {label} {self.system}", WIDE),
            "note_id": note_id,
            "snippet": around.replace("\0", _NO_NUL) if self.snippet else None,
            "offset": str(start),
            "lexical_variant": variant[:_LONGEST],
            "note_nlp_concept_id": concept,
            "note_nlp_source_concept_id": 0,
            "term_exists": asserted.exists,
            "term_temporal": asserted.temporal,
            "term_modifiers": modified[:MODIFIERS_LENGTH].replace("\0", _NO_NUL) or None,
        }


def note_nlp_id(key: str, bits: int, attempt: int = 0) -> int:
    """An id that depends on nothing but its key: the same span of the same model has the same id in every run.

    Args:
        key: What the row is about.
        bits: How many the id may have.
        attempt: Gives another id where another row has that of the attempt before.
    """
    digest = blake2b(f"{key} {attempt}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - bits)


def with_free_ids(
    rows: Sequence[Mapping[str, Any]], bits: int, taken: Callable[[Sequence[int]], set[int]]
) -> list[dict[str, Any]]:
    """Rows with ids of so many bits that no two have, nor any row that is there already.

    Args:
        rows: As `NoteNlp` makes them.
        bits: `WIDE` or `NARROW`.
        taken: Which of some ids are in the table.
    """
    free: list[dict[str, Any]] = []
    given: set[int] = set()
    waiting = [(row["note_nlp_id"], row["note_nlp_id"] >> (WIDE - bits), row) for row in rows]
    attempt = 0
    while waiting:
        there, clashing, attempt = taken([number for _, number, _ in waiting]), [], attempt + 1
        for wide, number, row in waiting:
            if number in there or number in given:
                clashing.append((wide, note_nlp_id(str(wide), bits, attempt), row))
            else:
                given.add(number)
                free.append({**row, "note_nlp_id": number})
        waiting = clashing
    return free


def read_concepts(path: Path) -> dict[tuple[str, str], int]:
    """Concepts from a CSV file with the columns `label`, `concept_id` and, if wanted, `lexical_variant`.

    A row with a lexical variant is for mentions that read so, in upper or lower case; one without is for all others.

    Raises:
        DataError: If the file cannot be read, or a row is malformed or contradicts another.
    """
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path} cannot be read ({type(error).__name__}): expected a CSV file of concepts") from None
    rows = csv.DictReader(content.splitlines())
    if not {"label", "concept_id"} <= {*(rows.fieldnames or ())}:
        raise DataError(f"{path}: expected the columns label and concept_id, and if wanted lexical_variant")
    concepts: dict[tuple[str, str], int] = {}
    for row in rows:
        key = (row["label"].strip(), _folded(row.get("lexical_variant") or ""))
        concept = (row["concept_id"] or "").strip()
        if not key[0] or not concept.isdecimal() or int(concept).bit_length() > NARROW:
            raise FormatError(path, rows.line_num, "expected a label, and a whole number below 2^31 as concept_id")
        if concepts.setdefault(key, int(row["concept_id"])) != int(row["concept_id"]):
            raise FormatError(path, rows.line_num, f"another concept for the same mention of {key[0]!r} stands above")
    return concepts


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _whole(value: Any) -> int:
    try:
        number = int(value or 0)
    except ValueError:
        raise DataError(
            "note_nlp needs whole numbers as ids of notes, found text: take the column that holds note_id"
        ) from None
    if number.bit_length() > WIDE:
        raise DataError(
            f"note_nlp needs ids of notes that fit into eight bytes, found one of {number.bit_length()} bits"
        )
    return number
