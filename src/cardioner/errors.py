"""The exceptions a user can cause, each with the exit code the command line returns for it.

CardioNERError            1
├── UsageError            2   an argument or a combination of arguments that cannot work
├── DataError             3   a corpus, a file or a document that cannot be used as it is
│   └── FormatError       3   a malformed line, with file and line
├── ModelError            4   a model directory, an encoder or a tokenizer that cannot be used
├── OutputError           5   a place that cannot be written, or that would be overwritten
└── TrainingError         6   training that cannot go on
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_SHOWN = 10
_FRAMES = 4
"""Places in the code that are shown for an unexpected error."""


class CardioNERError(Exception):
    """Base of every error a user can cause; its message never holds a word of a note."""

    exit_code = 1


class UsageError(CardioNERError):
    """An argument, or a combination of arguments, that cannot work."""

    exit_code = 2


class DataError(CardioNERError):
    """A corpus, a file or a document that cannot be used as it is."""

    exit_code = 3


class FormatError(DataError):
    """A malformed line of a file.

    Attributes:
        path: The file.
        line: Its line, counted from 1.
    """

    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(f"{path}:{line}: {problem}")
        self.path = path
        self.line = line


class ModelError(CardioNERError):
    """A model directory, an encoder or a tokenizer that cannot be used."""

    exit_code = 4


class OutputError(CardioNERError):
    """A place that cannot be written, or that would be overwritten."""

    exit_code = 5


class TrainingError(CardioNERError):
    """Training that cannot go on."""

    exit_code = 6


def listed(names: Iterable[str]) -> str:
    """The first names in sorted order, and how many more there are."""
    every = sorted(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more


def wrong_type(what: str, expected: str, found: object) -> UsageError:
    """What to raise for a value of another type: the type, never the value."""
    return UsageError(f"{what} must be {expected}; found {type(found).__name__}")


def many(count: int, one: str, several: str = "") -> str:
    """A count and its noun: `1 note`, `2 notes`."""
    return f"{count} {one if count == 1 else several or one + 's'}"


_OF_TORCH = ("torch", "transformers", "accelerate", "safetensors", "huggingface_hub")
"""What the extra `torch` brings, by the names that are imported; without it there is no training and no loading."""


def missing_extra(what: str, error: ModuleNotFoundError) -> str | None:
    """What to install for something that failed because torch or a package beside it is not there; else `None`."""
    if (error.name or "").partition(".")[0] not in _OF_TORCH:
        return None
    packages = " ".join(name.replace("_", "-") for name in _OF_TORCH)
    return f"{what} needs torch and transformers, the extra `torch` of cardioner: pip install {packages}"


def missing_packages(what: str, packages: Sequence[str]) -> str:
    """That something needs packages which are not installed, and how to install them: by names that an index holds."""
    return f"{what} needs {' and '.join(packages)}: pip install {' '.join(packages)}"


@contextmanager
def needing(what: str, packages: Mapping[str, str]) -> Iterator[None]:
    """Say what to install if one of several packages is not there.

    Args:
        what: What needs them.
        packages: The names by which they are imported, to those by which they are installed.

    Raises:
        UsageError: If a module of theirs is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in packages:
            raise
        raise UsageError(missing_packages(what, sorted({*packages.values()}))) from error


def first_line(error: BaseException) -> str:
    """The first line of a library's message, and the next where it ends with a colon; else the name of its class."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])


def without_message(error: BaseException) -> str:
    """An error by its class and the places in the code that raised it: its message may quote a note."""
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    return f"{type(error).__name__} at {' < '.join(reversed(places[-_FRAMES:]))}"
