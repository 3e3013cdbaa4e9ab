"""What the headers of a directory's weights say, read without a tensor library: names, kinds of numbers, shapes.

The format of safetensors: eight bytes, little-endian, for the length of the header; the header, a JSON object of names
to `dtype`, `shape` and `data_offsets`, with texts under `__metadata__`; then the numbers, without holes and without
anything behind them (huggingface/safetensors, `README.md`, "Format").
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from cardioner.errors import ModelError
from cardioner.model_dir.untrusted.files import (
    INDEX,
    PICKLED_WEIGHTS,
    SMALL,
    WEIGHTS,
    parse_object,
    read_object,
    refuse,
    shown,
)
from cardioner.model_dir.untrusted.pickles import read_pickle
from cardioner.model_dir.untrusted.stored import Stored, check_count, check_name

_SHARD = re.compile(r"model[\w.-]*\.safetensors")
_MOST_SHARDS = 1000


class _Kind(NamedTuple):
    """A kind of number: bytes of each, and whether it has a fraction."""

    size: int
    real: bool


_KINDS = {
    "F64": _Kind(8, real=True),
    "F32": _Kind(4, real=True),
    "F16": _Kind(2, real=True),
    "BF16": _Kind(2, real=True),
    "I64": _Kind(8, real=False),
    "I32": _Kind(4, real=False),
    "I16": _Kind(2, real=False),
    "I8": _Kind(1, real=False),
    "U8": _Kind(1, real=False),
    "BOOL": _Kind(1, real=False),
}


def read_weights(directory: Path, files: frozenset[str]) -> dict[str, Stored] | None:
    """The names and shapes of the weights that loading would read; `None` if a file of them is missing.

    Args:
        directory: The model directory.
        files: The names of its files.

    Raises:
        ModelError: If a header lies, an index names other places, or a pickle holds more than weights.
    """
    headers = {name: read_header(directory / name) for name in sorted(files) if _SHARD.fullmatch(name)}
    if INDEX in files:
        if WEIGHTS in files:
            refuse(directory / INDEX, f"expected either it or {WEIGHTS}, found both: which one is read is not known")
        shards = _shards(directory / INDEX)
        if not set(shards.values()) <= set(headers):
            return None
        return _joined(directory, headers, shards)
    if WEIGHTS in files:
        return headers[WEIGHTS]
    return read_pickle(directory / PICKLED_WEIGHTS) if PICKLED_WEIGHTS in files else None


def read_header(path: Path) -> dict[str, Stored]:
    """The header of a safetensors file, which must account for every byte of it.

    Raises:
        ModelError: If it does not.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise ModelError(f"{path} is cut or damaged ({size} bytes): copy it again")
        if length > SMALL:
            refuse(path, f"expected a header of at most {SMALL:,} bytes, found one of {length:,}")
        header = parse_object(path, file.read(length))
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        refuse(path, "expected texts in the header's __metadata__, found something else")
    check_count(path, header)
    places = sorted((_entry(path, name, entry) for name, entry in header.items()), key=lambda place: place[:2])
    end = 0
    for start, stop, _, _ in places:
        if start != end:
            refuse(path, f"the header is wrong: expected numbers from byte {end:,} on, found them from {start:,} on")
        end = stop
    if end != size - 8 - length:
        raise ModelError(
            f"{path} is cut or damaged ({size} bytes, its header speaks of {end + 8 + length:,}): copy it again"
        )
    return {name: stored for _, _, name, stored in places}


def _entry(path: Path, name: str, entry: Any) -> tuple[int, int, str, Stored]:
    """An entry of a header: its first byte, the byte behind its last, its name, what it is."""
    check_name(path, name)
    told = f"the header is wrong about {shown(name)}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        refuse(path, f"{told}: expected dtype, shape and data_offsets")
    shape, offsets, kind = entry["shape"], entry["data_offsets"], entry["dtype"]
    if not isinstance(kind, str) or kind not in _KINDS:
        refuse(path, f"{told}: expected numbers of a kind such as F32 or BF16, found {shown(kind)}")
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        refuse(path, f"{told}: expected sizes and offsets of 0 or more")
    if prod(shape) * _KINDS[kind].size != offsets[1] - offsets[0]:
        refuse(path, f"{told}: {prod(shape)} numbers of kind {kind} do not fill {offsets[1] - offsets[0]:,} bytes")
    return offsets[0], offsets[1], name, Stored(tuple(shape), real=_KINDS[kind].real)


def _are_sizes(values: Any) -> bool:
    """Whether something is a short list of numbers that count something."""
    return (
        isinstance(values, list)
        and len(values) <= 8
        and all(type(value) is int and 0 <= value < 1 << 48 for value in values)
    )


def _shards(path: Path) -> dict[str, str]:
    """The files of weights by their names, each a file of the directory itself."""
    found = read_object(path).get("weight_map")
    if not isinstance(found, dict) or not found:
        refuse(path, "expected weight_map to name the files of the weights")
    for name in set(map(shown, found.values())):
        if not _SHARD.fullmatch(name):
            refuse(path, f"expected names such as model-00001-of-00002.safetensors, found {name}")
    if len(set(found.values())) > _MOST_SHARDS:
        refuse(path, f"expected at most {_MOST_SHARDS} files of weights")
    return found


def _joined(
    directory: Path, headers: Mapping[str, Mapping[str, Stored]], shards: Mapping[str, str]
) -> dict[str, Stored]:
    """The weights of all files, each of them in the file that the index says."""
    joined: dict[str, Stored] = {}
    for file in sorted(set(shards.values())):
        here = {name for name, named in shards.items() if named == file}
        if here != headers[file].keys():
            refuse(directory / INDEX, f"the weights that it names in {file} are not those that {file} holds")
        joined |= headers[file]
    check_count(directory / INDEX, joined)
    return joined
