"""JSON files of a directory that nobody vouches for: read in bounds, and refused in one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from cardioner.errors import CardioNERError, ModelError, first_line

SMALL = 16 << 20
"""Most bytes of a JSON file that describes something."""
LARGE = 48 << 20
"""Most bytes of a `tokenizer.json`: the largest that is known has 34 million."""
_MOST_PARTS = 500_000
"""Most commas and brackets in a small JSON file: each may cost a hundred times its own byte."""
_MOST_PARTS_OF_LARGE = 4_000_000
_DEEPEST = 64
_LONGEST_NAME = 200
_LONGEST_PATH = 4096
_LONGEST_REASON = 300
_COPY = "copy the whole directory again from whoever made it"


def refuse(place: Path, problem: str, advice: str = _COPY) -> NoReturn:
    """Raise a `ModelError` that says in one line what is wrong with a file, and what to do."""
    raise ModelError(f"{shown_path(place)}: {problem}: {advice}")


@contextmanager
def in_one_line(what: str, hint: str = "") -> Iterator[None]:
    """Turn whatever a library raises of damaged or hostile files into a `ModelError` of one line.

    Not only a few kinds of errors come: `tokenizers` raises `Exception` itself, strict configurations raise a class of
    their own, and what fails inside of Rust is no `Exception` at all.
    """
    try:
        yield
    except CardioNERError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ModelError(f"{what}: {shown(first_line(error), _LONGEST_REASON)} {hint}".rstrip()) from error


def check_name(path: Path, name: str) -> None:
    """Refuse a name without end, on which a pattern could be tried for ever."""
    if len(name) > _LONGEST_NAME:
        refuse(path, f"expected names of at most {_LONGEST_NAME} characters, found {shown(name)}")


def shown(value: Any, most: int = 80) -> str:
    """Something from a hostile file as a short text on one line."""
    if value is None or isinstance(value, (dict, list)):
        return "nothing" if value is None else "a list" if isinstance(value, list) else "an object"
    text = str(value)[: most + 1]
    text = text if text.isprintable() else text.encode("unicode_escape").decode()
    return text if len(text) <= most else f"{text[:most]}..."


def shown_path(path: Path) -> str:
    """A path as a text that any terminal and any JSON can hold."""
    return shown(path, _LONGEST_PATH)


def read_object(path: Path, *, most: int = SMALL) -> dict[str, Any]:
    """A JSON object of at most so many bytes, and no deeper than a description is.

    Raises:
        ModelError: If it is missing, too large, cut, no UTF-8, no JSON object, or has a key twice.
    """
    return parse_object(path, read_bounded(path, most), parts=_MOST_PARTS if most == SMALL else _MOST_PARTS_OF_LARGE)


def parse_object(path: Path, data: bytes, *, parts: int = _MOST_PARTS) -> dict[str, Any]:
    """The JSON object in a file's bytes, as `read_object` has it."""
    _check_parts(path, data, parts)
    try:
        content = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_number)
    except UnicodeDecodeError:
        refuse(path, "expected a JSON object in UTF-8, found a damaged file", "copy it again")
    except (ValueError, RecursionError, MemoryError) as error:
        problem = error.args[0] if isinstance(error, _AmbiguousError) else "found a damaged file"
        refuse(path, f"expected a JSON object, {problem}", "copy it again")
    if not isinstance(content, dict):
        refuse(path, f"expected a JSON object, found {type(content).__name__}", "copy it again")
    if is_deeper(content, _DEEPEST):
        refuse(path, f"expected a JSON object, found one nested more than {_DEEPEST} deep", "copy it again")
    return content


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of our own, empty where the file is missing, holds something else, or is too large to read."""
    try:
        data = read_bounded(path)
        _check_parts(path, data, _MOST_PARTS)
        content = json.loads(data)
    except (ModelError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def object_under(content: Any, key: str) -> dict[str, Any]:
    """A JSON object under a key, empty where there is none."""
    found = content.get(key) if isinstance(content, dict) else None
    return found if isinstance(found, dict) else {}


def is_deeper(content: Any, most: int) -> bool:
    """Whether lists and objects are nested deeper than that."""
    level = [content]
    for _ in range(most):
        parts = (part for one in level for part in (one.values() if isinstance(one, dict) else one))
        level = [part for part in parts if isinstance(part, (dict, list))]
        if not level:
            return False
    return True


def read_bounded(path: Path, most: int = SMALL) -> bytes:
    """A file's bytes, if they are no more than that."""
    try:
        if path.exists() and not path.is_file():
            refuse(path, "expected a file, found something else")
        if (size := path.stat().st_size) > most:
            refuse(path, f"expected at most {most:,} bytes, found {size:,}")
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        refuse(path, f"it cannot be read ({error.strerror})", "check the permissions")


def _check_parts(path: Path, data: bytes, most: int) -> None:
    """Refuse so many values that reading them would fill the memory."""
    if sum(map(data.count, (b",", b"[", b"{"))) > most:
        refuse(path, f"expected a description, found more than {most:,} parts of one")


class _AmbiguousError(ValueError):
    """What JSON does not forbid and readers disagree on."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are all different: of two equal ones each reader takes another."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _AmbiguousError("found the same key twice")
    return made


def _no_number(name: str) -> NoReturn:
    """Refuse `NaN` and `Infinity`, which are no JSON."""
    raise _AmbiguousError(f"found {name} where a number belongs")
