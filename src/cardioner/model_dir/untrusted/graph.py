"""Whether an ONNX file is one graph of tensors and nothing else, found out before onnxruntime reads it.

A graph may name files with its weights (external data), functions and operators of other libraries, or graphs in
graphs, which are branches and loops. None of these is needed for an encoder, so all are refused, and so is every field
that is not known here. The file is a protocol buffer; https://onnx.ai/onnx/api/classes.html lists its messages, and
https://protobuf.dev/programming-guides/encoding/ the form.

Not covered: a graph that asks for tensors of any size while it runs; the golden outputs run it first.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from cardioner.model_dir.json_files import refuse, shown

MOST_BYTES = 2 << 30
"""A protocol buffer holds less than 2 GiB."""
_DOMAINS = {"", "ai.onnx"}
"""The operators of the standard; those of other domains are a library's own."""
_MOST_FIELDS = 200_000
"""The graph of MiniLM has 3,500."""
_VARINT, _EIGHT, _SIZED, _FOUR = 0, 1, 2, 5
_FIXED = {_EIGHT: 8, _FOUR: 4}
_LONGEST_VARINT = 10


class _Field(NamedTuple):
    """A field of a message: its number, and its value if it is a number, else where its bytes are."""

    number: int
    value: int
    start: int
    stop: int


class _DamagedError(ValueError):
    """Bytes that are no protocol buffer."""


def check_graph(path: Path) -> None:
    """Refuse an ONNX file that is more than one graph of tensors.

    Raises:
        ModelError: Saying what was found.
    """
    size = path.stat().st_size
    if not 0 < size < MOST_BYTES:
        refuse(path, f"expected a graph of less than {MOST_BYTES:,} bytes, found {size:,}")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        checked = _Checked(path, data)
        try:
            checked.message("model", 0, size)
        except _DamagedError:
            refuse(path, "expected an ONNX graph, found a damaged file")


class _Checked:
    """The walk over the messages of a file."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path = path
        self._data = data
        self._fields = 0
        self._checks: Mapping[str, Callable[[_Field], None]] = {
            "domain": self._domain,
            "location": self._location,
        }

    def message(self, kind: str, start: int, stop: int) -> None:
        """Check every field of a message: known ones are passed over, looked at, or messages of their own."""
        known = _MESSAGES[kind]
        for field in _fields(self._data, start, stop):
            self._fields += 1
            if self._fields > _MOST_FIELDS:
                refuse(self._path, f"expected a graph of at most {_MOST_FIELDS:,} fields, found more")
            what = known.get(field.number)
            if what is None:
                problem = _REFUSED.get((kind, field.number), f"the field {field.number} of a {kind}, which is unknown")
                refuse(self._path, f"expected one graph of tensors, found {problem}")
            if what in self._checks:
                self._checks[what](field)
            if what in _MESSAGES:
                self.message(what, field.start, field.stop)

    def _domain(self, field: _Field) -> None:
        name = bytes(self._data[field.start : field.stop])
        if name not in {known.encode() for known in _DOMAINS}:
            found = shown(name.decode("utf-8", "replace"))
            refuse(self._path, f"expected operators of the ONNX standard alone, found one of {found}")

    def _location(self, field: _Field) -> None:
        if field.value:
            refuse(self._path, "expected one graph of tensors, found weights in another file")


_MESSAGES: Mapping[str, Mapping[int, str]] = {
    "model": {
        **dict.fromkeys((1, 2, 3, 4, 5, 6), "passed"),
        7: "graph",
        8: "opset",
    },
    "opset": {1: "domain", 2: "passed"},
    "graph": {1: "node", 5: "tensor", **dict.fromkeys((2, 10, 11, 12, 13, 16), "passed")},
    "node": {5: "attribute", 7: "domain", **dict.fromkeys((1, 2, 3, 4, 6, 9), "passed")},
    "attribute": {5: "tensor", **dict.fromkeys((1, 2, 3, 4, 7, 8, 9, 13, 20), "passed")},
    "tensor": {14: "location", **dict.fromkeys((1, 2, 4, 5, 7, 8, 9, 10, 11, 12, 16), "passed")},
}
"""The fields that a message may have: passed over, checked, or messages in turn."""

_REFUSED: Mapping[tuple[str, int], str] = {
    ("model", 14): "settings for the library that reads it (metadata_props)",
    ("model", 20): "a training (training_info)",
    ("model", 25): "functions of its own",
    ("graph", 15): "sparse tensors",
    ("attribute", 6): "a graph in a graph, which branches or loops",
    ("attribute", 11): "graphs in a graph, which branch or loop",
    ("tensor", 13): "weights in another file (external data)",
}
"""What the fields are called that would do harm."""


def _fields(data: mmap.mmap, start: int, stop: int) -> Iterator[_Field]:
    """The fields of a message."""
    while start < stop:
        tag, start = _varint(data, start, stop)
        number, wire = tag >> 3, tag & 7
        value, end = 0, start
        if wire == _VARINT:
            value, end = _varint(data, start, stop)
        elif wire == _SIZED:
            length, start = _varint(data, start, stop)
            end = start + length
        elif wire in _FIXED:
            end = start + _FIXED[wire]
        else:
            raise _DamagedError
        if end > stop or not number:
            raise _DamagedError
        yield _Field(number, value, start, end)
        start = end


def _varint(data: mmap.mmap, start: int, stop: int) -> tuple[int, int]:
    """A number of variable length, and where it ends."""
    value = 0
    for count in range(_LONGEST_VARINT):
        if start + count >= stop:
            break
        byte = data[start + count]
        value |= (byte & 127) << (7 * count)
        if byte < 128:
            return value, start + count + 1
    raise _DamagedError
