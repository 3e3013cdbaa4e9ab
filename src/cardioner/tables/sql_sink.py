"""Write tagged notes into a table of a database, each batch in one transaction with the progress of the run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from cardioner.errors import DataError, OutputError, many
from cardioner.multiclass.windows import Coverage
from cardioner.tables.database import database_name, qualified, reporting_database
from cardioner.tables.omop import NARROW, WIDE, with_free_ids
from cardioner.tables.values import rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PROGRESS = "cardioner_progress"
"""The table in which a run notes how far it is, beside the table that it fills. It holds no text."""

_JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
_KINDS: tuple[tuple[Callable[[pa.DataType], bool], sa.types.TypeEngine[Any]], ...] = (
    (pa.types.is_boolean, sa.Boolean()),
    (pa.types.is_integer, sa.BigInteger()),
    (pa.types.is_floating, sa.Double()),
    (pa.types.is_decimal, sa.Numeric()),
    (pa.types.is_string, sa.Text()),
    (pa.types.is_date, sa.Date()),
    (lambda kind: pa.types.is_timestamp(kind) and kind.tz is None, sa.DateTime()),
    (pa.types.is_timestamp, sa.DateTime(timezone=True)),
    (pa.types.is_list, _JSON),
    (pa.types.is_map, _JSON),
)


class TableSink:
    """A table that is filled batch by batch, so that a run that was killed goes on where it stopped.

    Args:
        engine: The database.
        name: `table` or `schema.table`.
        own: For a table that others fill too, the column and the value by which our rows are known: those of a note
            are replaced when it is tagged again. `None` for a table of ours alone.

    Attributes:
        position: Behind which position of the source the run goes on; `None` at the beginning.
        coverage: What the notes up to there came to.
    """

    def __init__(self, engine: sa.Engine, name: str, own: tuple[str, str] | None = None) -> None:
        self.position: Mapping[str, Any] | None = None
        self.coverage = Coverage()
        self._engine = engine
        self._name = name
        self._own = own
        self._bits = WIDE
        schema, self._table_name = qualified(name)
        self._metadata = sa.MetaData(schema=schema)
        self._progress = sa.Table(
            PROGRESS,
            self._metadata,
            sa.Column("target", sa.String(200), primary_key=True),
            sa.Column("request", sa.Text(), nullable=False),
            sa.Column("position", sa.Text(), nullable=False),
            sa.Column("coverage", sa.Text(), nullable=False),
        )
        self._mine = self._progress.c.target == name
        self._held = ""
        self._table: sa.Table | None = None

    def begin(self, request: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
        """Find out where to begin, and note that a run has begun.

        Args:
            request: What was asked, as JSON has it: all that decides what is found.
            resume: Go on behind what an earlier run finished.
            overwrite: Forget it; a table of ours alone is emptied.

        Raises:
            OutputError: If rows are there that nobody asked to go on with or to replace.
            DataError: If the database cannot be written.
        """
        asked = json.dumps(request, sort_keys=True)
        with reporting_database(self._engine, f"write the table {PROGRESS}"), self._engine.begin() as connection:
            connection.execute(sa.schema.CreateTable(self._progress, if_not_exists=True))
            row = connection.execute(sa.select(self._progress).where(self._mine)).mappings().one_or_none()
        if row is not None and resume:
            self._check_request(json.loads(row["request"]), request)
            self._held, self.position = row["position"], json.loads(row["position"] or "null")
            self.coverage = Coverage(*json.loads(row["coverage"]))
            return
        if row is not None and not overwrite and not self._own:
            raise OutputError(
                f"{self._name} was filled by an earlier run: go on with it, new notes included, with --resume, or "
                "start again with --overwrite"
            )
        self._start(asked, overwrite=overwrite)

    def append(self, rows: pa.RecordBatch, ids: Sequence[Any], position: Mapping[str, Any], coverage: Coverage) -> None:
        """Write the rows of a batch together with the progress: both are there, or neither.

        Args:
            rows: What is written.
            ids: The notes that they are about.
            position: Of the source, behind the batch.
            coverage: What this and all batches before came to.

        Raises:
            OutputError: If another run fills the table.
            DataError: If the database cannot be written.
        """
        table, held = self._target(rows.schema), json.dumps(position)
        with (
            reporting_database(self._engine, f"write the table {self._name}", resumable=True),
            self._engine.begin() as connection,
        ):
            moved = self._mine & (self._progress.c.position == self._held)
            values = {"position": held, "coverage": json.dumps(coverage)}
            if connection.execute(sa.update(self._progress).where(moved).values(values)).rowcount != 1:
                raise OutputError(f"another run fills {self._name}: wait for it or stop it")
            made = rows_of(rows)
            if self._own:
                made = self._replace(connection, table, made, ids)
            if made:
                connection.execute(sa.insert(table), made)
        self._held, self.position, self.coverage = held, position, coverage

    def _check_request(self, before: Mapping[str, Any], request: Mapping[str, Any]) -> None:
        if differing := sorted(name for name in {*before, *request} if before.get(name) != request.get(name)):
            raise OutputError(
                f"{self._name} was filled with other settings ({', '.join(differing)}): give the same options again, "
                "or start again with --overwrite"
            )

    def _start(self, asked: str, *, overwrite: bool) -> None:
        """Note that a run has begun, in a table that holds nothing of ours."""
        start = {"target": self._name, "request": asked, "position": "", "coverage": "[]"}
        existing = sa.table(self._table_name, schema=self._metadata.schema)
        with reporting_database(self._engine, f"write the table {self._name}"):
            there = self._exists(existing)
            with self._engine.begin() as connection:
                if there and not self._own:
                    self._empty(connection, existing, overwrite=overwrite)
                connection.execute(sa.delete(self._progress).where(self._mine))
                connection.execute(sa.insert(self._progress), start)
        if self._own and not there:
            raise DataError(f"{database_name(self._engine)} has no table {self._name}: create it first")

    def _exists(self, table: sa.TableClause) -> bool:
        try:
            with self._engine.connect() as connection:
                connection.execute(sa.select(sa.literal(1)).select_from(table).limit(0))
        except (sa.exc.ProgrammingError, sa.exc.OperationalError):  # as drivers report a table that is not there
            return False
        return True

    def _empty(self, connection: sa.Connection, table: sa.TableClause, *, overwrite: bool) -> None:
        """Remove all rows of a table, if that is wanted."""
        count = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        if count and not overwrite:
            raise OutputError(
                f"{self._name} has {many(count, 'row')}: choose another table, or replace them with --overwrite"
            )
        connection.execute(sa.delete(table))

    def _target(self, schema: pa.Schema) -> sa.Table:
        """The table, which is created when the first batch shows its columns."""
        if self._table is None:
            columns = [sa.Column(one.name, _kind(one)) for one in schema]
            self._table = sa.Table(self._table_name, self._metadata, *columns)
            with reporting_database(self._engine, f"create the table {self._name}"), self._engine.begin() as connection:
                if self._own:
                    self._bits = self._id_bits(connection)
                else:
                    connection.execute(sa.schema.CreateTable(self._table, if_not_exists=True))
        return self._table

    def _id_bits(self, connection: sa.Connection) -> int:
        """How many bits an id may have in this table: the official definition has columns of four bytes."""
        if self._engine.dialect.name == "sqlite":
            return WIDE
        columns = sa.table(
            "columns",
            *map(sa.column, ("table_schema", "table_name", "column_name", "data_type")),
            schema="information_schema",
        )
        wanted = (sa.func.lower(columns.c.table_name) == self._table_name.lower()) & (
            sa.func.lower(columns.c.column_name) == "note_nlp_id"
        )
        if self._metadata.schema:
            wanted &= sa.func.lower(columns.c.table_schema) == self._metadata.schema.lower()
        kinds = connection.execute(sa.select(columns.c.data_type).where(wanted)).scalars().all()
        return WIDE if kinds and all(str(kind).lower() == "bigint" for kind in kinds) else NARROW

    def _replace(
        self, connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]], ids: Sequence[Any]
    ) -> list[dict[str, Any]]:
        """Remove our rows of these notes; gives the new ones, with ids that no other row has."""
        assert self._own is not None
        name, value = self._own
        ours = (table.c[name] == value) & table.c.note_id.in_([int(one) for one in ids if one is not None])
        connection.execute(sa.delete(table).where(ours))

        def taken(wanted: Sequence[int]) -> set[int]:
            found = sa.select(table.c.note_nlp_id).where(table.c.note_nlp_id.in_(wanted))
            return {*connection.execute(found).scalars()}

        return with_free_ids(rows, self._bits, taken)


def _kind(field: pa.Field) -> sa.types.TypeEngine[Any]:
    for fits, kind in _KINDS:
        if fits(field.type):
            return kind
    raise DataError(f"the column {field.name!r} has {field.type}, for which a table of a database has no column")
