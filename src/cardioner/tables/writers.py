"""Write record batches to table files; a file takes its name when it is whole."""

from __future__ import annotations

import csv
import io
import json
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from cardioner._io import writing
from cardioner.errors import DataError
from cardioner.tables.values import rows_of, values_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PART_ROWS = 1 << 20
"""Most rows of a part, where a folder of them is written."""

_GROUP_BYTES = 1 << 23
"""Bytes of a row group before it is compressed: what is held until it is written."""


def write_table(batches: Iterable[pa.RecordBatch], place: Path, form: str) -> None:
    """Write batches that have the same columns.

    Args:
        batches: The rows; at least one batch.
        place: The file, or for Parquet without a suffix the folder.
        form: What `kinds.form_of` gives for the place; or `lines`, the first column as it is.

    Raises:
        DataError: If there is no batch.
        OutputError: If something is at the place, or it cannot be written.
    """
    remaining = iter(batches)
    first = next(remaining, None)
    if first is None:
        raise DataError("the table has no row")
    every = chain([first], remaining)
    if form != "parquet" or place.suffix:
        with writing(place, overwrite=False) as file:
            _WRITERS[form](every, first.schema, file)
        return
    for number, part in enumerate(_parts(every)):
        with writing(place / f"part-{number:05}.parquet", overwrite=False) as file:
            _write_parquet(part, first.schema, file)


def _parts(batches: Iterator[pa.RecordBatch]) -> Iterator[Iterator[pa.RecordBatch]]:
    """The batches of each part."""

    def part(first: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        rows = first.num_rows
        yield first
        while rows < PART_ROWS and (batch := next(batches, None)) is not None:
            rows += batch.num_rows
            yield batch

    while (first := next(batches, None)) is not None:
        yield part(first)


def _write_parquet(batches: Iterable[pa.RecordBatch], schema: pa.Schema, file: BinaryIO) -> None:
    held: list[pa.RecordBatch] = []
    size = 0
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in batches:
            held.append(batch)
            size += batch.nbytes
            if size >= _GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(held))
                held, size = [], 0
        if held:
            writer.write_table(pa.Table.from_batches(held))


def _write_arrow(batches: Iterable[pa.RecordBatch], schema: pa.Schema, file: BinaryIO) -> None:
    with pa.ipc.new_file(file, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _write_csv(batches: Iterable[pa.RecordBatch], schema: pa.Schema, file: BinaryIO) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(schema.names)
    for batch in batches:
        columns = [values_of(column) for column in batch.columns]
        rows.writerows([_field(value) for value in row] for row in zip(*columns, strict=True))
    text.detach()  # whoever opened the file closes it


def _field(value: Any) -> Any:
    return _json(value) if isinstance(value, (list, dict)) else value


def _write_jsonl(batches: Iterable[pa.RecordBatch], _: pa.Schema, file: BinaryIO) -> None:
    for batch in batches:
        file.writelines(f"{_json(row)}\n".encode() for row in rows_of(batch))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _write_lines(batches: Iterable[pa.RecordBatch], _: pa.Schema, file: BinaryIO) -> None:
    for batch in batches:
        file.writelines(f"{line}\n".encode() for line in batch.column(0).to_pylist())


_WRITERS = {
    "parquet": _write_parquet,
    "csv": _write_csv,
    "jsonl": _write_jsonl,
    "arrow": _write_arrow,
    "lines": _write_lines,
}
