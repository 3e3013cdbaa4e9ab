"""What the headers of safetensors files say, read without a tensor library: names, kinds of numbers, shapes.

The format: eight bytes, little-endian, for the length of the header; the header, a JSON object of names to `dtype`,
`shape` and `data_offsets`, with texts under `__metadata__`; then the numbers, without holes and without anything behind
them (huggingface/safetensors, `README.md`, "Format").
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from cardioner.errors import ModelError
from cardioner.model_dir.json_files import SMALL, parse_object, refuse, shown

_MOST_WEIGHTS = 8_192
_LONGEST_NAME = 512
_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
"""Bytes of a number of each kind."""


class Stored(NamedTuple):
    """A weight as its file describes it; `real` if its numbers have fractions, as those that a model learns."""

    shape: tuple[int, ...]
    real: bool

    @property
    def numbers(self) -> int:
        """How many numbers it has."""
        return prod(self.shape)


def check_names(path: Path, weights: Mapping[str, Any]) -> None:
    """Refuse no weights, more than a tagger has, and names that could not be those of weights."""
    if not 0 < len(weights) <= _MOST_WEIGHTS:
        refuse(path, f"expected from 1 to {_MOST_WEIGHTS:,} weights, found {len(weights):,}")
    if not all(name.isprintable() and len(name) <= _LONGEST_NAME for name in weights):
        refuse(path, "expected names of weights, found one that is too long or has control characters")


def read_header(path: Path) -> dict[str, Stored]:
    """The header of a safetensors file, which must account for every byte of it."""
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
    check_names(path, header)
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
    wrong = f"the header is wrong about {shown(name)}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        refuse(path, f"{wrong}: expected dtype, shape and data_offsets")
    shape, offsets, kind = entry["shape"], entry["data_offsets"], entry["dtype"]
    if not isinstance(kind, str) or kind not in _SIZES:
        refuse(path, f"{wrong}: expected numbers of a kind such as F32 or BF16, found {shown(kind)}")
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        refuse(path, f"{wrong}: expected sizes and offsets of 0 or more")
    if prod(shape) * _SIZES[kind] != offsets[1] - offsets[0]:
        refuse(path, f"{wrong}: {prod(shape)} numbers of kind {kind} do not fill {offsets[1] - offsets[0]:,} bytes")
    return offsets[0], offsets[1], name, Stored(tuple(shape), "F" in kind)


def _are_sizes(values: Any) -> bool:
    """Whether something is a short list of numbers that count something."""
    return (
        isinstance(values, list)
        and len(values) <= 8
        and all(type(value) is int and 0 <= value < 1 << 48 for value in values)
    )
