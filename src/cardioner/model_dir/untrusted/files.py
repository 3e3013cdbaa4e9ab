"""What lies in a directory, and JSON that costs no more than its size allows to read."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from cardioner.errors import ModelError

CONFIG = "config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
TOKENIZER = "tokenizer.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED_WEIGHTS = "pytorch_model.bin"

SMALL = 16 << 20
"""Most bytes of a JSON file that describes something."""
LARGE = 48 << 20
"""Most bytes of a `tokenizer.json`: the largest that is known has 34 million."""
_MOST_ENTRIES = 10_000
_MOST_PARTS = 500_000
"""Most commas and brackets in a small JSON file: each may cost a hundred times its own byte."""
_MOST_PARTS_OF_LARGE = 4_000_000
_DEEPEST = 64
_LONGEST_PATH = 4096
_COPY = "copy the whole directory again from whoever made it"


def refuse(place: Path, problem: str, advice: str = _COPY) -> NoReturn:
    """Say what is wrong with a file, in one line.

    Raises:
        ModelError: Always.
    """
    raise ModelError(f"{shown(place, _LONGEST_PATH)}: {problem}: {advice}")


def shown(value: Any, most: int = 80) -> str:
    """Something from a hostile file as a short text on one line."""
    if value is None or isinstance(value, (dict, list)):
        return "nothing" if value is None else "a list" if isinstance(value, list) else "an object"
    text = str(value)[: most + 1]
    text = text if text.isprintable() else text.encode("unicode_escape").decode()
    return text if len(text) <= most else f"{text[:most]}..."


def check_entries(directory: Path) -> frozenset[str]:
    """Refuse links that lead out of a directory, and what is neither a file nor a folder; nothing is opened.

    A pipe would wait for ever for somebody to write, and a link may name any file of the reader's.

    Returns:
        The names of the files.

    Raises:
        ModelError: Naming the first such entry.
    """
    home, names = os.path.realpath(directory), []
    for place in (directory, directory / "additional_chat_templates"):
        for count, entry in enumerate(_entries(place), 1):
            path = place / entry.name
            if count > _MOST_ENTRIES:
                refuse(place, f"expected a model's files, found more than {_MOST_ENTRIES:,} entries")
            if entry.is_symlink():
                _check_link(path, home)
            kind = _kind_of(path)
            if kind not in {"file", "folder", "link"}:
                refuse(path, f"expected a file, found {kind}", "delete it, and mistrust where it came from")
            if place == directory and kind == "file":
                names.append(entry.name)
    return frozenset(names)


def check_are_files(directory: Path, names: Iterable[str]) -> None:
    """Refuse folders where files are read.

    Raises:
        ModelError: Naming the first one.
    """
    for name in names:
        if (directory / name).is_dir():
            refuse(directory / name, "expected a file, found a folder")


def check_bounded(path: Path) -> None:
    """Refuse JSON that costs too much to read, whatever else is wrong with it.

    Raises:
        ModelError: If it is too large, has too many parts, or is nested without end.
    """
    data = _bounded(path, SMALL)
    _check_parts(path, data, _MOST_PARTS)
    try:
        json.loads(data)
    except RecursionError:
        refuse(path, "expected a JSON object, found one nested without end", "delete it")
    except (ValueError, MemoryError):
        return


def read_object(path: Path, *, most: int = SMALL) -> dict[str, Any]:
    """A JSON object, read only if it is small enough, and no deeper than a description is.

    Args:
        path: The file.
        most: Most bytes of it.

    Raises:
        ModelError: If it is too large, cut, no UTF-8, no JSON object, or says a thing twice.
    """
    return parse_object(path, _bounded(path, most), parts=_MOST_PARTS if most == SMALL else _MOST_PARTS_OF_LARGE)


def _bounded(path: Path, most: int) -> bytes:
    """A file's bytes, if they are no more than that."""
    size = path.stat().st_size
    if size > most:
        refuse(path, f"expected at most {most:,} bytes, found {size:,}")
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        refuse(path, f"it cannot be read ({error.strerror})", "check the permissions")


def _check_parts(path: Path, data: bytes, most: int) -> None:
    """Refuse so many values that reading them would fill the memory."""
    if sum(map(data.count, (b",", b"[", b"{"))) > most:
        refuse(path, f"expected a description, found more than {most:,} parts of one")


def parse_object(path: Path, data: bytes, *, parts: int = _MOST_PARTS) -> dict[str, Any]:
    """The JSON object in a file's bytes, as `read_object` has it."""
    _check_parts(path, data, parts)
    try:
        content = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_number)
    except UnicodeDecodeError:
        refuse(path, "expected a JSON object in UTF-8, found a damaged file", "copy it again")
    except (ValueError, RecursionError, MemoryError) as error:
        problem = error.args[0] if isinstance(error, _ContradictionError) else "found a damaged file"
        refuse(path, f"expected a JSON object, {problem}", "copy it again")
    if not isinstance(content, dict):
        refuse(path, f"expected a JSON object, found {type(content).__name__}", "copy it again")
    if is_deeper(content, _DEEPEST):
        refuse(path, f"expected a JSON object, found one nested more than {_DEEPEST} deep", "copy it again")
    return content


def is_deeper(content: Any, most: int) -> bool:
    """Whether lists and objects are nested deeper than that."""
    level = [content]
    for _ in range(most):
        level = [part for one in level for part in (one.values() if isinstance(one, dict) else one) if _is_nest(part)]
        if not level:
            return False
    return True


class _ContradictionError(ValueError):
    """What JSON does not forbid and readers disagree on."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are all different: of two equal ones each reader takes another."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _ContradictionError("found the same key twice")
    return made


def _no_number(name: str) -> NoReturn:
    """Refuse `NaN` and `Infinity`, which are no JSON."""
    raise _ContradictionError(f"found {name} where a number belongs")


def _is_nest(content: Any) -> bool:
    return isinstance(content, (dict, list))


def _entries(place: Path) -> Iterable[os.DirEntry[str]]:
    """The entries of a folder, none if there is none."""
    if not place.is_dir():
        return
    with os.scandir(place) as entries:
        yield from entries


def _check_link(path: Path, home: str) -> None:
    """Refuse a link whose end lies outside."""
    target = os.path.realpath(path)
    if os.path.commonpath([home, target]) != home:
        refuse(
            path,
            f"expected a file, found a link out of the directory, to {shown(target, 200)}",
            "if you trust what it leads to, copy the directory with `cp -rL DIR COPY` and use the copy",
        )


def _kind_of(path: Path) -> str:
    """What an entry is, links followed."""
    try:
        mode = path.stat().st_mode
    except (OSError, RuntimeError):
        return "link"  # to nothing, or to itself: as good as missing
    kinds = {
        stat.S_IFREG: "file",
        stat.S_IFDIR: "folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")
