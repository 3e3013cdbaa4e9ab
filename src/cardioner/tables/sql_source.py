"""Notes that a query gives, in the order of their ids, so that a run can go on behind any of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import sqlalchemy as sa

from cardioner.errors import DataError
from cardioner.tables.database import reporting_database
from cardioner.tables.source import ID_AGAIN, NO_ID, ROWS, NoteBatch, array_of, checked

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from cardioner.tables.columns import Columns

PAGE = 1 << 16
"""Most rows that are read in one transaction: a longer one would keep the server from cleaning up."""

HELD = 1 << 12
"""Most rows of a page that is held in memory."""


class QueryNotes:
    """The notes that a query gives.

    It is read in pages, each with a cursor on the server, in the order of the ids. Of databases in one file a page is
    read before its notes are tagged, as a cursor that is open would keep others from writing.

    Args:
        engine: The database.
        query: A SELECT whose columns have the names in `columns`.
        columns: Which columns are read.

    Raises:
        DataError: If the query fails, or lacks a column.
    """

    def __init__(self, engine: sa.Engine, query: str, columns: Columns) -> None:
        self.columns = columns
        self._engine = engine
        self._streams = engine.dialect.name not in {"sqlite", "duckdb"}
        inner = sa.text(query.strip().rstrip(";").replace(":", r"\:"))  # a colon names no parameter
        with reporting_database(engine, "run the query"), engine.connect() as connection:
            names = list(connection.execute(sa.select(sa.text("*")).select_from(_named(inner)).limit(0)).keys())
        columns.check_names(names, "the query")
        self._notes = inner.columns(*map(sa.column, names)).subquery("notes")
        self._id = self._notes.c[columns.id]

    def total(self) -> int | None:
        """How many rows have an id."""
        return self._count(self._id.is_not(None))

    def without_id(self) -> int:
        """How many rows have none: they are not read."""
        return self._count(self._id.is_(None))

    def batches(self, after: Mapping[str, Any] | None = None) -> Generator[NoteBatch, None, None]:
        """The notes, batch by batch.

        Args:
            after: The position of the batch behind which to begin.

        Raises:
            DataError: If the database cannot be read, or ids or notes have another type.
        """
        position = dict(after or {"after": None, "seen": 0})
        schema = None
        for rows in self._parts(position):
            batch = checked(self._batch_of(rows), self.columns, schema, "the query")
            schema = schema or batch.schema
            refused = _count_ids(batch.column(self.columns.id).to_pylist(), position)
            yield NoteBatch(batch, refused, dict(position))

    def _parts(self, position: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
        """Rows, `ROWS` at a time, until a page has none that is new; the caller moves the position on."""
        size = PAGE if self._streams else HELD
        new = True
        while new:
            new, old = False, position["seen"]
            held: list[Sequence[Any]] = []
            with (
                reporting_database(self._engine, "read the notes", resumable=True),
                self._engine.connect().execution_options(stream_results=True) as opened,
                opened.execute(self._page(position, size)) as page,
            ):
                for part in page.partitions(ROWS):
                    rows, old = part[old:], max(0, old - len(part))
                    new = new or bool(rows)
                    if rows and self._streams:
                        yield rows
                    elif rows:
                        held.append(rows)
            yield from held

    def _page(self, position: Mapping[str, Any], size: int) -> sa.Select[Any]:
        wanted = sa.select(*(self._notes.c[name] for name in self.columns.needed)).order_by(self._id)
        if position["after"] is None:
            return wanted.where(self._id.is_not(None)).limit(size)
        kind = sa.BigInteger() if isinstance(position["after"], int) else sa.String()
        behind = self._id >= sa.bindparam("after", position["after"], kind)  # that id may come several times
        return wanted.where(behind).limit(size + position["seen"])

    def _count(self, condition: sa.ColumnElement[bool]) -> int:
        with reporting_database(self._engine, "count the notes"), self._engine.connect() as connection:
            counting = sa.select(sa.func.count()).select_from(self._notes).where(condition)
            return int(connection.execute(counting).scalar_one())

    def _batch_of(self, rows: Sequence[Any]) -> pa.RecordBatch:
        arrays = [
            array_of([row[place] for row in rows], name, "the query") for place, name in enumerate(self.columns.needed)
        ]
        return pa.RecordBatch.from_arrays(arrays, names=self.columns.needed)


def _named(query: sa.TextClause) -> Any:
    return query.columns().subquery("notes")


def _count_ids(ids: Sequence[Any], position: dict[str, Any]) -> dict[int, str]:
    """Move a position on behind ids; gives the rows that have no id, or the one before."""
    refused = {}
    for row, value in enumerate(ids):
        if value == position["after"]:
            refused[row] = ID_AGAIN
            position["seen"] += 1
            continue
        if value == "":
            refused[row] = NO_ID
        if not isinstance(value, (int, str)):
            raise DataError(f"the query: expected ids that are text or whole numbers, found {type(value).__name__}")
        position["after"], position["seen"] = value, 1
    return refused
