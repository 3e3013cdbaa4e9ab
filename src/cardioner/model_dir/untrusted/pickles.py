"""What a `pytorch_model.bin` holds, told from its operations without carrying out any of them.

`torch.save` writes a zip file: numbers as they are, each storage a member, and a pickle that says how tensors lie in
them. The pickle is followed here step by step, with nothing made but descriptions. So what torch itself allows under
`weights_only=True` and what still costs memory or time (a `bytearray` of any length, a tensor larger than its storage,
a key that takes for ever to hash) is refused before torch sees it.
"""

from __future__ import annotations

import io
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from zipfile import ZIP_STORED, BadZipFile, ZipFile

from cardioner.errors import ModelError
from cardioner.model_dir.untrusted.files import refuse
from cardioner.model_dir.untrusted.stored import Stored, check_count, check_name

_MOST_OPERATIONS_BYTES = 8 << 20
_MOST_MEMBERS = 50_000
_MOST_AT_ONCE = 64 << 20
_STORAGES = {
    "DoubleStorage": (8, True),
    "FloatStorage": (4, True),
    "HalfStorage": (2, True),
    "BFloat16Storage": (2, True),
    "LongStorage": (8, False),
    "IntStorage": (4, False),
    "ShortStorage": (2, False),
    "CharStorage": (1, False),
    "ByteStorage": (1, False),
    "BoolStorage": (1, False),
}
"""Classes of storages in `torch`: bytes of a number, and whether it has a fraction."""
_DICT = "collections OrderedDict"
_TENSOR = "torch._utils _rebuild_tensor_v2"
_PARAMETER = "torch._utils _rebuild_parameter"
_PLAIN = {"BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Named(NamedTuple):
    """A function or class, by its name alone."""

    name: str


class _Storage(NamedTuple):
    """A member of numbers."""

    numbers: int
    real: bool


class _MoreThanWeights(Exception):  # noqa: N818 - it says what was found
    """The pickle asks for something that tensors do not need."""


class _Bounded(io.FileIO):
    """A file that is never read at once beyond what is sane, whatever the sizes in it say."""

    def read(self, size: int | None = -1, /) -> bytes:
        """As inherited."""
        if size is None or size < 0 or size > _MOST_AT_ONCE:
            size = _MOST_AT_ONCE
        return super().read(size) or b""


def read_pickle(path: Path) -> dict[str, Stored]:
    """The weights of a `pytorch_model.bin` as it describes them.

    Raises:
        ModelError: If it is cut, compressed, no file of `torch.save`, or holds anything but weights.
    """
    size = path.stat().st_size
    try:
        with _Bounded(path) as file, ZipFile(file) as archive:
            members = _members(path, archive, size)
            home = next((name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")), None)
            if home is None or home.count("/") != 1 or members[f"{home}data.pkl"] > _MOST_OPERATIONS_BYTES:
                _damaged(path, size)
            operations = archive.read(f"{home}data.pkl")
    except (BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError, OverflowError):
        _damaged(path, size)
    try:
        return _weights(path, _Machine(members, f"{home}data/").run(operations))
    except (_MoreThanWeights, ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError):
        raise ModelError(f"{path} holds more than weights and is not read: do not trust where it came from") from None


def _damaged(path: Path, size: int) -> NoReturn:
    raise ModelError(f"{path} is cut or damaged ({size} bytes), or no file that torch.save writes: copy it again")


def _members(path: Path, archive: ZipFile, size: int) -> dict[str, int]:
    """The sizes of a zip file's members, none of which may be longer than what stands for it."""
    entries = archive.infolist()
    if not 0 < len(entries) <= _MOST_MEMBERS:
        refuse(path, f"expected a file that torch.save writes, found {len(entries):,} members in it")
    stored = all(entry.compress_type == ZIP_STORED and entry.compress_size == entry.file_size for entry in entries)
    if not stored or any(entry.flag_bits & 1 for entry in entries):
        refuse(path, "expected what torch.save writes, found it cut, damaged or compressed: it may unfold to any size")
    named = {entry.filename: entry.file_size for entry in entries}
    apart = len(named) == len(entries) == len({entry.header_offset for entry in entries})
    if not apart or sum(named.values()) > size or min(entry.header_offset for entry in entries) != 0:
        refuse(path, "expected members that lie one behind the other, found overlapping ones, or other data")
    return named


def _weights(path: Path, found: Any) -> dict[str, Stored]:
    """The weights, if there is nothing else."""
    if not isinstance(found, dict) or not all(isinstance(value, Stored) for value in found.values()):
        raise _MoreThanWeights
    for name in found:
        check_name(path, name)
    check_count(path, found)
    return found


class _Machine:
    """Follows a pickle's operations, making descriptions of what they would make.

    Args:
        members: The sizes of the zip file's members.
        home: The folder of the storages among them.
    """

    def __init__(self, members: dict[str, int], home: str) -> None:
        self._members = members
        self._home = home
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._steps: dict[str, Callable[[Any], None]] = {
            "GLOBAL": self._name,
            "MARK": lambda _: self._marks.append(len(self._stack)),
            "EMPTY_DICT": lambda _: self._stack.append({}),
            "TUPLE": lambda _: self._stack.append(tuple(self._marked())),
            "BINPUT": self._keep,
            "LONG_BINPUT": self._keep,
            "BINGET": lambda index: self._stack.append(self._memo[index]),
            "LONG_BINGET": lambda index: self._stack.append(self._memo[index]),
            "BINPERSID": lambda _: self._stack.append(self._storage(self._stack.pop())),
            "REDUCE": lambda _: self._call(),
            "SETITEM": lambda _: self._set([self._stack.pop(-2), self._stack.pop()]),
            "SETITEMS": lambda _: self._set(self._marked()),
            "BUILD": lambda _: self._drop_state(),
        }

    def run(self, operations: bytes) -> Any:
        """What the whole pickle stands for."""
        for operation, argument, _ in pickletools.genops(operations):
            name = operation.name
            if name == "STOP":
                return self._stack.pop()
            if name in _PLAIN:
                self._stack.append(argument)
            elif name in _CONSTANTS:
                self._stack.append(_CONSTANTS[name])
            elif name in _TUPLES:
                self._stack[-_TUPLES[name] :] = [tuple(self._stack[-_TUPLES[name] :])]
            elif name in self._steps:
                self._steps[name](argument)
            elif name != "PROTO" or argument != 2:
                raise _MoreThanWeights
        raise _MoreThanWeights

    def _keep(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _marked(self) -> list[Any]:
        """What stands behind the last mark."""
        mark = self._marks.pop()
        found = self._stack[mark:]
        del self._stack[mark:]
        return found

    def _name(self, name: str) -> None:
        place, _, last = name.partition(" ")
        if name not in {_DICT, _TENSOR, _PARAMETER} and not (place == "torch" and last in _STORAGES):
            raise _MoreThanWeights
        self._stack.append(_Named(name))

    def _set(self, pairs: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not dict or len(pairs) % 2 or not all(type(key) is str for key in pairs[::2]):
            raise _MoreThanWeights
        target.update(zip(pairs[::2], pairs[1::2], strict=True))

    def _drop_state(self) -> None:
        """The state of a dictionary of weights is the versions of its modules, which nothing here needs."""
        state = self._stack.pop()
        if type(self._stack[-1]) is not dict or type(state) is not dict or set(state) - {"_metadata"}:
            raise _MoreThanWeights

    def _storage(self, told: Any) -> _Storage:
        """The numbers that a tensor lies in: a member of the zip file, as long as it says."""
        kind, named, key, _, count = told
        size, real = _STORAGES[named.name.partition(" ")[2]]
        if kind != "storage" or type(count) is not int or not re.fullmatch(r"\d{1,9}", key, re.ASCII):
            raise _MoreThanWeights
        if count < 0 or self._members[f"{self._home}{key}"] != count * size:
            raise _MoreThanWeights
        return _Storage(count, real)

    def _call(self) -> None:
        """One of the three calls that make weights."""
        arguments, function = self._stack.pop(), self._stack.pop()
        if type(function) is not _Named or type(arguments) is not tuple:
            raise _MoreThanWeights
        if function.name == _DICT and not arguments:
            self._stack.append({})
        elif function.name == _TENSOR and 6 <= len(arguments) <= 7:
            self._stack.append(_tensor(*arguments[:4]))
        elif function.name == _PARAMETER and len(arguments) == 3 and isinstance(arguments[0], Stored):
            self._stack.append(arguments[0])
        else:
            raise _MoreThanWeights


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> Stored:
    """A tensor whose every number is in its storage, and no number there twice."""
    numbers = [offset, *shape, *strides]
    if type(storage) is not _Storage or len(shape) != len(strides) or len(shape) > 8:
        raise _MoreThanWeights
    if not all(type(number) is int and 0 <= number < 1 << 48 for number in numbers):
        raise _MoreThanWeights
    found = Stored(tuple(shape), storage.real)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if found.count and (found.count > storage.numbers or last >= storage.numbers):
        raise _MoreThanWeights
    return found
