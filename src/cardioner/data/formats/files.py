"""Files as every format reads and writes them: strict, with newlines untouched, whole or not at all."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING

from cardioner.errors import DataError, OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

UTF8 = "utf-8"


def check_encoding(name: str) -> str:
    """The name, if there is such an encoding.

    Raises:
        UsageError: If there is none.
    """
    try:
        "".encode(name)
    except (LookupError, ValueError, TypeError):
        raise UsageError(f"there is no encoding {name!r}: expected a name such as utf-8, latin-1 or cp1252") from None
    return name


def read_text(path: Path, encoding: str = UTF8) -> str:
    """Read a file without changing a character: no newline is translated, and a BOM stays character 0.

    Raises:
        DataError: If the file cannot be read, or is not in this encoding.
    """
    try:
        return path.read_bytes().decode(encoding)
    except UnicodeDecodeError as error:
        problem = _not_in(encoding, path, error.start)
    except OSError as error:
        problem = f"{path}: cannot be read ({error.strerror})"
    raise DataError(problem)


def read_lines(path: Path, encoding: str = UTF8) -> Iterator[tuple[int, str]]:
    r"""Lines and their numbers, one at a time, without the newline; a BOM at the very beginning is taken off.

    Only `\n` ends a line, and one `\r` before it goes with it: other characters that Python takes for newlines occur
    in notes.

    Raises:
        DataError: If the file cannot be read, or a line is not in this encoding.
    """
    number = 0
    try:
        with path.open(encoding=encoding, newline="\n") as file:
            for number, line in enumerate(file, start=1):
                content = line.removesuffix("\n").removesuffix("\r")
                yield number, content.removeprefix("\ufeff") if number == 1 else content
        return
    except UnicodeDecodeError:
        problem = f"{path}:{number + 1}: expected {encoding} from here on, found another byte; {_hint(encoding)}"
    except OSError as error:
        problem = f"{path}: cannot be read ({error.strerror})"
    raise DataError(problem)


def _not_in(encoding: str, path: Path, offset: int) -> str:
    return f"{path}: expected {encoding.upper()}, found another byte at offset {offset}; {_hint(encoding)}"


def _hint(encoding: str) -> str:
    return f"convert the file to {encoding.upper()}, or name its encoding (--encoding)"


def check_folder(path: Path, notes: Mapping[Path, Path | bytes], *, suffixes: Sequence[str], overwrite: bool) -> None:
    """Refuse a folder with annotations in it, and one where a note's file holds something else.

    Args:
        path: The folder to write to.
        notes: Per note's file there, what would stand in it: bytes, or a file that holds them.
        suffixes: Of files with annotations.
        overwrite: Whether anything goes but a file in the folder's place.

    Raises:
        OutputError: Naming what is in the way.
    """
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file; expected a folder, or a place for a new one")
    if overwrite:
        return
    if any(any(path.rglob(f"*{suffix}")) for suffix in suffixes):
        kinds = " or ".join(suffixes)
        raise OutputError(f"{path} already holds {kinds} files; choose another folder, or ask to overwrite them")
    for note, made in notes.items():
        if note.exists() and not (note.is_file() and note.read_bytes() == _bytes_of(made)):
            raise OutputError(f"{note} exists and is not this note; choose another folder, or ask to overwrite it")


def _bytes_of(made: Path | bytes) -> bytes:
    return made if isinstance(made, bytes) else made.read_bytes()


class FileNames:
    """Document ids that become file names in one folder, in the order they came."""

    def __init__(self, *suffixes: str) -> None:
        self._suffixes = suffixes
        self._names: dict[str, str] = {}
        self._files = set[str]()
        self._folders = set[str]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names.values())

    def add(self, name: str) -> None:
        """Take one more.

        Raises:
            OutputError: If it is no file name in the folder, if some file system takes it for another one's, or if it
                needs a folder where a file goes.
        """
        if not _is_file_name(name):
            raise OutputError(f"the document id {name!r} cannot be the name of a file in the folder; rename it")
        key = _fold(name)
        if key in self._names:
            raise OutputError(
                f"the document ids {self._names[key]!r} and {name!r} give the same file names; rename one"
            )
        steps = key.split("/")
        folders = {"/".join(steps[:depth]) for depth in range(1, len(steps))}
        files = {f"{key}{suffix}" for suffix in self._suffixes}
        if folders & self._files or files & self._folders:
            raise OutputError(
                f"the document id {name!r} needs a folder where a file of another document goes, or the other way "
                "round; rename one"
            )
        self._names[key] = name
        self._files |= files
        self._folders |= folders


def _is_file_name(name: str) -> bool:
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    steps = name.split("/")
    odd = any(character == "\\" or ord(character) < 32 for character in name)
    return not odd and not PureWindowsPath(name).drive and all(step and not step.startswith(".") for step in steps)


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
