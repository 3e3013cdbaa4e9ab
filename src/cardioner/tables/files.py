"""Read the notes of table files: Parquet, CSV, JSON lines and Arrow, batch by batch, whatever their size."""

from __future__ import annotations

import csv
import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from cardioner.data.formats.files import check_encoding
from cardioner.errors import DataError, FormatError, UsageError, many
from cardioner.tables.kinds import ARROW, JSON_LINES, PARQUET, parts_of
from cardioner.tables.source import CHANGED, ROWS, NoteBatch, array_of, checked, each_id_once, position_after

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from cardioner.tables.columns import Columns

    Reader = Callable[[Path, "Columns", str], Iterator[pa.RecordBatch]]

_BUFFER = 1 << 20
"""Bytes of a column that are read from a Parquet file at a time, instead of a whole row group."""

csv.field_size_limit(2**31 - 1)


class TableFiles:
    """The notes of one table file, or of several that have the same columns, in order.

    Args:
        paths: Files, or folders of them; `.parquet` files below a folder are taken in the order of their names.
        columns: Which columns are read.
        encoding: Of CSV and JSON lines.

    Raises:
        DataError: If there is no such file, or none of a kind that is read.
        UsageError: If the encoding does not exist.
    """

    def __init__(self, paths: Sequence[Path], columns: Columns, encoding: str = "utf-8") -> None:
        check_encoding(encoding)
        self.columns = columns
        self.files = [file for path in paths for file in _files_at(path)]
        self._encoding = encoding

    def total(self) -> int | None:
        """How many rows there are, where the files say so."""
        if any(file.suffix.lower() not in PARQUET for file in self.files):
            return None
        count = 0
        for file in self.files:
            with _reading(file), pq.ParquetFile(file) as parquet:
                count += parquet.metadata.num_rows
        return count

    def without_id(self) -> int:
        """None are left out: they come with the others, and are refused."""
        return 0

    def batches(self, after: Mapping[str, Any] | None = None) -> Generator[NoteBatch, None, None]:
        """The notes, batch by batch.

        Args:
            after: The position of the batch behind which to begin.

        Raises:
            DataError: If a file cannot be read, lacks a column, or is not what it was.
        """
        rows, digest, behind = 0, "", after is None
        for batch, refused in each_id_once(regrouped(self._read(), ROWS), self.columns):
            rows += batch.num_rows
            digest = position_after(digest, batch, self.columns)
            position = {"rows": rows, "digest": digest}
            if behind:
                yield NoteBatch(batch, refused, position)
            elif after is not None and rows >= after["rows"]:
                if position != after:
                    raise DataError(CHANGED)
                behind = True
        if not behind:
            raise DataError(CHANGED)

    def _read(self) -> Iterator[pa.RecordBatch]:
        schema = None
        for file in self.files:
            with _reading(file):
                for batch in _READERS[file.suffix.lower()](file, self.columns, self._encoding):
                    made = checked(batch, self.columns, schema, str(file))
                    schema = schema or made.schema
                    yield made


def regrouped(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of a size; the last may be smaller."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += batch.num_rows
        while count >= rows:
            table = pa.Table.from_batches(held)
            yield table.slice(0, rows).combine_chunks().to_batches()[0]
            held, count = table.slice(rows).to_batches(), count - rows
    if count:
        yield pa.Table.from_batches(held).combine_chunks().to_batches()[0]


def _files_at(path: Path) -> list[Path]:
    if path.is_dir():
        if not (parts := parts_of(path)):
            raise DataError(f"{path}: expected .parquet files in the folder, found none")
        return parts
    if not path.exists():
        raise DataError(f"{path} does not exist")
    if path.suffix.lower() not in _READERS:
        raise UsageError(f"{path} is no table that can be read: expected one of {', '.join(_READERS)}, or a folder")
    return [path]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """One line on why a file cannot be read; messages of libraries may quote notes."""
    try:
        yield
    except pa.ArrowException as error:
        raise DataError(
            f"{path} cannot be read ({type(error).__name__}): it is damaged, cut off or of another kind than its name "
            "says"
        ) from None
    except OSError as error:
        reason = error.strerror or "it is damaged or cut off"
        raise DataError(f"{path} cannot be read ({reason})") from None
    except UnicodeError:
        raise DataError(f"{path} has bytes that are not in its encoding: name another with --encoding") from None


# One reader a format -------------------------------------------------------------------------------------------------


def _read_parquet(path: Path, columns: Columns, _: str) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file:
        columns.check_types(file.schema_arrow, str(path))
        yield from file.iter_batches(batch_size=ROWS, columns=columns.needed, use_threads=False)


def _read_arrow(path: Path, columns: Columns, _: str) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(path)) as held:
        try:
            opened = pa.ipc.open_file(held)
            batches = map(opened.get_batch, range(opened.num_record_batches))
        except pa.ArrowInvalid:  # the form without an index at its end
            held.seek(0)
            opened = pa.ipc.open_stream(held)
            batches = iter(opened)
        columns.check_types(opened.schema, str(path))
        for batch in batches:
            for start in range(0, batch.num_rows, ROWS):
                yield batch.slice(start, ROWS)


def _read_csv(path: Path, columns: Columns, encoding: str) -> Iterator[pa.RecordBatch]:
    """Every value of CSV is text, also ids: nothing in the file says more. An empty note is an empty text."""
    with path.open(encoding="utf-8-sig" if encoding.lower() in {"utf-8", "utf8"} else encoding, newline="") as file:
        lines = csv.reader(file, strict=True)
        try:
            header = next(lines, [])
            _check_header(header, columns, path)
            places = [header.index(name) for name in columns.needed]
            rows: list[list[str]] = []
            for row in lines:
                if len(row) != len(header):
                    if not row:
                        continue
                    found = f"expected {many(len(header), 'field')}, as in the header, found {len(row)}"
                    raise FormatError(path, lines.line_num, found)
                rows.append([row[place] for place in places])
                if len(rows) == ROWS:
                    yield _batch_of(rows, columns)
                    rows = []
        except csv.Error:
            raise FormatError(path, lines.line_num, "a quotation mark is not closed, or stands in a field") from None
        yield _batch_of(rows, columns)


def _check_header(header: list[str], columns: Columns, path: Path) -> None:
    """Refuse a table without the columns; what does not look like a header may be a note, and is not shown."""
    if not {*header} & {*columns.needed}:
        raise DataError(
            f"{path}: expected a header, in which commas part the names of columns; none of the "
            f"{many(len(header), 'field')} of the first line is {' or '.join(map(repr, columns.needed))}: name the "
            "columns with --id-column, --text-column and --keep"
        )
    columns.check_names(header, str(path))


def _batch_of(rows: list[list[str]], columns: Columns) -> pa.RecordBatch:
    arrays = [pa.array([row[place] for row in rows], pa.string()) for place in range(len(columns.needed))]
    return pa.RecordBatch.from_arrays(arrays, names=columns.needed)


def _read_jsonl(path: Path, columns: Columns, encoding: str) -> Iterator[pa.RecordBatch]:
    rows: list[dict[str, Any]] = []
    named = False
    with path.open(encoding=encoding) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            rows.append(_read_object(path, number, line))
            if not named:
                columns.check_names(rows[0], f"{path}:{number}")
                named = True
            if len(rows) == ROWS:
                yield _batch_of_objects(rows, columns, path, number)
                rows = []
    if rows:
        yield _batch_of_objects(rows, columns, path, number)


def _read_object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise FormatError(path, number, "expected a JSON object") from None
    if not isinstance(found, dict):
        raise FormatError(path, number, f"expected a JSON object, found {type(found).__name__}")
    return found


def _batch_of_objects(rows: list[dict[str, Any]], columns: Columns, path: Path, last: int) -> pa.RecordBatch:
    where = f"{path}, {many(len(rows), 'line')} up to line {last}"
    arrays = [array_of([row.get(name) for row in rows], name, where) for name in columns.needed]
    return pa.RecordBatch.from_arrays(arrays, names=columns.needed)


_READERS: dict[str, Reader] = {
    **dict.fromkeys(PARQUET, _read_parquet),
    **dict.fromkeys(ARROW, _read_arrow),
    ".csv": _read_csv,
    **dict.fromkeys(JSON_LINES, _read_jsonl),
}
