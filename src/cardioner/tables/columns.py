"""Which columns of a table are the notes, and what types they may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from cardioner.errors import DataError, UsageError, listed

if TYPE_CHECKING:
    from collections.abc import Iterable

SPANS, PROBLEM = "spans", "problem"
SPAN_FIELDS = ("start", "end", "label", "score", "attributes", "attribute_scores")
_TYPES = (
    pa.int32(),
    pa.int32(),
    pa.string(),
    pa.float64(),
    pa.map_(pa.string(), pa.string()),
    pa.map_(pa.string(), pa.float64()),
)
SPAN = pa.struct(list(zip(SPAN_FIELDS, _TYPES, strict=True)))
"""Offsets are code points into the text, half-open; the score is the model's probability of exactly this span.

Attributes are as `attributes.value_text` writes their values. The maps are empty where a model knows no attributes.
"""


@dataclass(frozen=True)
class Columns:
    """The columns of a table of notes. By default they are named as in the table `note` of OMOP.

    Attributes:
        id: What each note is known by: text or whole numbers.
        text: The note.
        keep: What else is copied to the output.

    Raises:
        UsageError: If a column would come twice, or has the name of one that is added.
    """

    id: str = "note_id"
    text: str = "note_text"
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        kept = (self.id, *self.keep)
        if len({*kept}) < len(kept):
            raise UsageError("a column can be kept once, and the column of ids is always kept")
        if taken := {SPANS, PROBLEM, *SPAN_FIELDS} & {*kept}:
            raise UsageError(f"the output has columns of its own named {listed(taken)}: rename those of the table")

    @property
    def needed(self) -> list[str]:
        """All of them, each once."""
        return list(dict.fromkeys((self.id, self.text, *self.keep)))

    def check_names(self, names: Iterable[str], where: str) -> None:
        """Refuse a table that lacks one of the columns, or has it twice.

        Raises:
            DataError: Naming the columns that there are.
        """
        there = list(names)
        if missing := [name for name in self.needed if name not in there]:
            raise DataError(
                f"{where} has no column {missing[0]!r}; its columns are {', '.join(there) or 'none'}: name the columns "
                "with --id-column, --text-column and --keep"
            )
        if twice := [name for name in self.needed if there.count(name) > 1]:
            raise DataError(f"{where} has more than one column {twice[0]!r}: rename one")

    def check_types(self, schema: pa.Schema, where: str) -> None:
        """Refuse ids and notes of other types, beside the names.

        Raises:
            DataError: Saying which types there are.
        """
        self.check_names(schema.names, where)
        of_text, of_id = (_plain_type(schema.field(name).type) for name in (self.text, self.id))
        if not (pa.types.is_string(of_text) or pa.types.is_null(of_text)):
            raise DataError(f"{where}: expected text in the column {self.text!r}, found {of_text}: convert it to text")
        if not (pa.types.is_string(of_id) or pa.types.is_integer(of_id) or pa.types.is_null(of_id)):
            raise DataError(
                f"{where}: expected text or whole numbers in the column {self.id!r}, found {of_id}: convert it"
            )

    def select(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The columns alone, without dictionaries, and text as one type of text."""
        arrays = [_plain(batch.column(name)) for name in self.needed]
        return pa.RecordBatch.from_arrays(arrays, names=self.needed)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """The type of a column as it is read, whatever the way it is stored."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.string() if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) else kind


def _plain(column: pa.Array) -> pa.Array:
    kind = _plain_type(column.type)
    return column if column.type.equals(kind) else column.cast(kind)
