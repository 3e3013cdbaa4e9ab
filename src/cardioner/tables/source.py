"""What all sources of notes in tables have in common: batches, their positions, and rows whose id cannot be used."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pyarrow as pa

from cardioner.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence
    from datetime import datetime

    from cardioner.tables.columns import Columns

ROWS = 256
"""Rows that are read, tagged and written together."""

CHANGED = "the notes changed since the run was begun: start again with --overwrite"
NO_ID, ID_AGAIN = "no id", "an earlier row has the same id"


class NoteBatch(NamedTuple):
    """Rows that are tagged together.

    Attributes:
        rows: The rows, with the columns that are needed.
        refused: Those that are not to be tagged, by their place, and why.
        position: From where its source can go on behind it, as JSON has it.
    """

    rows: pa.RecordBatch
    refused: Mapping[int, str]
    position: Mapping[str, Any]


class Tagged(NamedTuple):
    """A batch of notes, what `tag_batch` made of it, and when, in UTC."""

    notes: pa.RecordBatch
    tagged: pa.RecordBatch
    when: datetime


class Source(Protocol):
    """Where notes are from."""

    columns: Columns

    def total(self) -> int | None:
        """How many rows there are, if that is known."""

    def without_id(self) -> int:
        """How many rows it leaves out because they have no id."""

    def batches(self, after: Mapping[str, Any] | None = None) -> Generator[NoteBatch, None, None]:
        """The notes behind a position, or all."""


def checked(batch: pa.RecordBatch, columns: Columns, schema: pa.Schema | None, where: str) -> pa.RecordBatch:
    """The needed columns of a batch, with the types that they had in the batches before.

    Raises:
        DataError: If they have others.
    """
    columns.check_types(batch.schema, where)
    made = columns.select(batch)
    for name in (columns.id, *columns.keep):  # notes are checked one by one
        _check_utf_8(made.column(name), f"{where}: the column {name!r}")
    if schema is None:  # a column without a value in the first rows is one of text
        types = [pa.string() if pa.types.is_null(field.type) else field.type for field in made.schema]
        schema = pa.schema(list(zip(made.schema.names, types, strict=True)))
    arrays = [_as(made.column(field.name), field, where) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def array_of(values: Sequence[Any], name: str, where: str) -> pa.Array:
    """The values of a column.

    Raises:
        DataError: If Arrow has no type for them.
    """
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeError):
        raise DataError(
            f"{where}: expected one type of value in the column {name!r}, found several, one that no table has, or "
            "half of a surrogate pair"
        ) from None


def _check_utf_8(column: pa.Array, where: str) -> None:
    try:
        column.validate(full=True)
    except pa.ArrowException:
        raise DataError(f"{where} has bytes that are no UTF-8") from None


def _as(column: pa.Array, field: pa.Field, where: str) -> pa.Array:
    """A column with the type that it has in the first rows."""
    try:
        return column if column.type.equals(field.type) else column.cast(field.type)
    except pa.ArrowException:
        raise DataError(
            f"{where}: the column {field.name!r} has {column.type} here and {field.type} before: convert it to one type"
        ) from None


def each_id_once(
    batches: Iterator[pa.RecordBatch], columns: Columns
) -> Iterator[tuple[pa.RecordBatch, Mapping[int, str]]]:
    """Each batch with those of its rows that have no id, or one that came before.

    The ids are remembered as digests in a temporary database on the disk, so memory does not grow with them.
    """
    with closing(sqlite3.connect("")) as seen:
        seen.execute("CREATE TABLE ids (digest BLOB PRIMARY KEY) WITHOUT ROWID")
        for batch in batches:
            refused: dict[int, str] = {}
            for row, value in enumerate(batch.column(columns.id).to_pylist()):
                if value is None or value == "":
                    refused[row] = NO_ID
                    continue
                digest = blake2b(str(value).encode(), digest_size=16).digest()
                if not seen.execute("INSERT OR IGNORE INTO ids VALUES (?)", (digest,)).rowcount:
                    refused[row] = ID_AGAIN
            yield batch, refused


def content_of(batch: NoteBatch, columns: Columns) -> bytes:
    """What a batch is recognised by: its ids and notes."""
    texts = batch.rows.column(columns.text).cast(pa.binary()).to_pylist()  # also what is no UTF-8
    return repr((batch.rows.column(columns.id).to_pylist(), texts)).encode()


def position_after(digest: str, batch: pa.RecordBatch, columns: Columns) -> str:
    """A digest of the ids up to the end of a batch, from that up to its beginning."""
    ids = batch.column(columns.id).to_pylist()
    return blake2b(repr((digest, ids)).encode(), digest_size=16).hexdigest()
