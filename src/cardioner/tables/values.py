"""Values of Arrow columns as Python has them, with maps as dicts: pyarrow gives lists of pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable


def values_of(column: pa.Array) -> list[Any]:
    """The values of a column."""
    values: list[Any] = column.to_pylist()
    read = _reader(column.type)
    return values if read is None else list(map(read, values))


def rows_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """The rows of a batch, by the names of the columns."""
    names, columns = batch.schema.names, map(values_of, batch.columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _reader(kind: pa.DataType) -> Callable[[Any], Any] | None:
    """What makes dicts of the maps in a value of a type; `None` if it has none."""
    if pa.types.is_map(kind):
        return lambda value: value if value is None else dict(value)
    if pa.types.is_list(kind) and (read := _reader(kind.value_type)):
        return lambda value: value if value is None else list(map(read, value))
    if pa.types.is_struct(kind):
        reads = {field.name: read for field in kind if (read := _reader(field.type))}
        if reads:
            return lambda value: value and value | {name: read(value[name]) for name, read in reads.items()}
    return None
