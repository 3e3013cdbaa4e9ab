"""What a `pytorch_model.bin` holds, found out before torch reads it: tensors, and nothing but those.

`torch.save` writes a zip file: numbers as they are, each storage a member, and a pickle that says how tensors lie in
them. `torch.load(weights_only=True)` runs no code of a pickle, but it allocates whatever the pickle asks for. So the
pickle is first read here by Python's own unpickler with few operations, and with stand-ins for the functions that make
weights ("Restricting Globals" in Python's documentation); every tensor must lie in a storage that the file holds.

Before version 1.6 torch wrote no zip file but pickles, with the storages behind them. Encoders are still published in
that form, and it is read in the same way.
"""

from __future__ import annotations

import io
import pickle
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, NoReturn
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch
from torch import Tensor

from cardioner.errors import ModelError, many
from cardioner.model_dir.json_files import in_one_line, refuse
from cardioner.model_dir.untrusted.weights import Stored, check_names

_MOST_OPERATIONS_BYTES = 8 << 20
_BEFORE_ZIP = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How files begin that torch wrote before version 1.6: a pickle of its magic number."""
_MOST_MEMBERS = 50_000
_MOST_AT_ONCE = 64 << 20


class _Kind(NamedTuple):
    """A kind of number: bytes of each, and whether it has a fraction."""

    size: int
    real: bool


_FRACTIONS = {"Double": 8, "Float": 4, "Half": 2, "BFloat16": 2}
_WHOLE = {"Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1}
_STORAGES = {f"{name}Storage": _Kind(size, name in _FRACTIONS) for name, size in (_FRACTIONS | _WHOLE).items()}
"""Classes of storages in `torch`."""
_OPERATIONS = (
    *(pickle.PROTO, pickle.STOP, pickle.MARK, pickle.GLOBAL, pickle.REDUCE, pickle.BINPERSID),
    *(pickle.BINPUT, pickle.LONG_BINPUT, pickle.BINGET, pickle.LONG_BINGET, pickle.SETITEM, pickle.SETITEMS),
    *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2),
    *(pickle.TUPLE3, pickle.BINUNICODE, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT),
)
"""What the pickle of a dictionary of tensors is made of, beside what `_Reader` does in its own way."""


class _MoreThanWeights(ValueError):  # noqa: N818 - it says what was found
    """The pickle asks for something that tensors do not need."""


class _Bounded(io.FileIO):
    """A file that is never read at once beyond what is sane, whatever the sizes in it say."""

    def read(self, size: int | None = -1, /) -> bytes:
        """As inherited."""
        if size is None or size < 0 or size > _MOST_AT_ONCE:
            size = _MOST_AT_ONCE
        return super().read(size) or b""


def read_pickle(path: Path) -> dict[str, Stored]:
    """The weights of a `pytorch_model.bin` as it describes them."""
    size = path.stat().st_size
    with path.open("rb") as start:
        if start.read(len(_BEFORE_ZIP)) == _BEFORE_ZIP:
            return _read_before_zip(path, size)
    try:
        with _Bounded(path) as file, ZipFile(file) as archive:
            members = _members(path, archive, size)
            home = next((name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")), None)
            if home is None or home.count("/") != 1 or members[f"{home}data.pkl"] > _MOST_OPERATIONS_BYTES:
                _damaged(path, size)
            operations = archive.read(f"{home}data.pkl")
    except (BadZipFile, OSError, ValueError, RuntimeError, EOFError, OverflowError):
        _damaged(path, size)
    with _holding_weights_alone(path):
        found = _weights_of(_Reader(io.BytesIO(operations), members, f"{home}data/"))
    check_names(path, found)
    return found


def _read_before_zip(path: Path, size: int) -> dict[str, Stored]:
    """The weights of a file that torch wrote before version 1.6: five pickles, then the storages one behind the other.

    The pickles are a magic number, the version, what is known of the machine, the weights, and the keys of the storages
    (`torch.serialization._legacy_save`). A storage is its count in eight bytes, and its numbers.
    """
    with path.open("rb") as file, _holding_weights_alone(path):
        stream = io.BytesIO(file.read(_MOST_OPERATIONS_BYTES))
        for _ in range(3):
            _ReaderBeforeZip(stream).load()
        reader = _ReaderBeforeZip(stream)
        found = _weights_of(reader)
        keys = _ReaderBeforeZip(stream).load()
        if sorted(keys) != sorted(reader.storages):
            raise _MoreThanWeights
    if stream.tell() + sum(8 + storage for storage in reader.storages.values()) != size:
        _damaged(path, size)
    check_names(path, found)
    return found


def _holding_weights_alone(path: Path) -> AbstractContextManager[None]:
    return in_one_line(f"{path} holds more than weights and is not read", "(do not trust where it came from)")


def _weights_of(reader: _Reader) -> dict[str, Stored]:
    found = reader.load()
    if type(found) is not _Weights or not all(isinstance(value, Stored) for value in found.values()):
        raise _MoreThanWeights
    return dict(found)


def load_pickle(path: Path) -> dict[str, Tensor]:
    """The weights of a `pytorch_model.bin` that nobody has looked at yet, on the CPU."""
    read_pickle(path)
    with in_one_line(f"{path} is cut or damaged", "(copy it again)"):
        return dict(torch.load(path, weights_only=True, map_location="cpu"))


def _damaged(path: Path, size: int) -> NoReturn:
    raise ModelError(f"{path} is cut or damaged ({size} bytes), or no file that torch.save writes: copy it again")


def _members(path: Path, archive: ZipFile, size: int) -> dict[str, int]:
    """The sizes of a zip file's members, none of which may be longer than what stands for it."""
    entries = archive.infolist()
    if not 0 < len(entries) <= _MOST_MEMBERS:
        refuse(path, f"expected a file that torch.save writes, found {many(len(entries), 'member')} in it")
    stored = all(entry.compress_type == ZIP_STORED and entry.compress_size == entry.file_size for entry in entries)
    if not stored or any(entry.flag_bits & 1 for entry in entries):
        refuse(path, "expected what torch.save writes, found it cut, damaged or compressed: it may unfold to any size")
    named = {entry.filename: entry.file_size for entry in entries}
    apart = len(named) == len(entries) == len({entry.header_offset for entry in entries})
    if not apart or sum(named.values()) > size or min(entry.header_offset for entry in entries) != 0:
        refuse(path, "expected members that lie one behind the other, found overlapping ones, or other data")
    return named


class _Weights(dict[str, Any]):
    """A dictionary that a pickle fills; keys that are no texts are not even hashed, which may take for ever."""

    def __setitem__(self, key: Any, value: Any) -> None:
        if type(key) is not str:
            raise _MoreThanWeights
        super().__setitem__(key, value)


class _Storage(NamedTuple):
    """A member of numbers."""

    numbers: int
    real: bool


class _Reader(pickle._Unpickler):
    """Makes descriptions of what a pickle would make."""

    dispatch: ClassVar[dict[int, Any]] = {code[0]: pickle._Unpickler.dispatch[code[0]] for code in _OPERATIONS}

    def __init__(self, operations: io.BytesIO, members: dict[str, int], home: str) -> None:
        super().__init__(operations)
        self.stack: list[Any] = []  # which `load` replaces
        self._members = members
        self._home = home

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a function, or what a class of storages holds."""
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        makers = {
            ("collections", "OrderedDict"): _new,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): _parameter,
        }
        return makers[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        """The numbers that a tensor lies in: a member of the zip file, as long as it says."""
        what, kind, key, _, count = pid
        if what != "storage" or type(kind) is not _Kind or type(key) is not str or type(count) is not int:
            raise _MoreThanWeights
        if count < 0 or self._members[f"{self._home}{key}"] != count * kind.size:
            raise _MoreThanWeights
        return _Storage(count, kind.real)

    def load_dict(self) -> None:
        """A new dictionary, which is filled later."""
        self.stack.append(_Weights())

    def load_build(self) -> None:
        """The state of a dictionary of weights is the versions of its modules, which nothing here needs."""
        state = self.stack.pop()
        if type(self.stack[-1]) is not _Weights or type(state) is not _Weights or set(state) - {"_metadata"}:
            raise _MoreThanWeights

    dispatch |= {pickle.EMPTY_DICT[0]: load_dict, pickle.BUILD[0]: load_build}


class _ReaderBeforeZip(_Reader):
    """The same for files without members: how many bytes each storage has is only noted."""

    dispatch: ClassVar[dict[int, Any]] = _Reader.dispatch | {
        code[0]: pickle._Unpickler.dispatch[code[0]] for code in (pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS)
    }

    def __init__(self, operations: io.BytesIO) -> None:
        super().__init__(operations, {}, "")
        self.storages: dict[str, int] = {}

    def persistent_load(self, pid: Any) -> _Storage:
        """The numbers that a tensor lies in, as many as the pickle says; a view of other storages is refused."""
        what, kind, key, _, count, view = pid
        if what != "storage" or type(kind) is not _Kind or type(key) is not str or type(count) is not int:
            raise _MoreThanWeights
        if view is not None or count < 0 or self.storages.setdefault(key, count * kind.size) != count * kind.size:
            raise _MoreThanWeights
        return _Storage(count, kind.real)


def _new() -> _Weights:
    """An empty dictionary; unlike the class, it takes nothing to fill it with."""
    return _Weights()


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Stored:
    """A tensor whose every number is in its storage, and no number there twice."""
    numbers = [offset, *shape, *strides]
    if type(storage) is not _Storage or len(shape) != len(strides) or len(shape) > 8:
        raise _MoreThanWeights
    if not all(type(number) is int and 0 <= number < 1 << 48 for number in numbers):
        raise _MoreThanWeights
    found = Stored(tuple(shape), storage.real)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if found.numbers and (found.numbers > storage.numbers or last >= storage.numbers):
        raise _MoreThanWeights
    return found


def _parameter(tensor: Any, *_: Any) -> Stored:
    """A parameter is its tensor."""
    if type(tensor) is not Stored:
        raise _MoreThanWeights
    return tensor
