"""Files as every format reads and writes them: strict, with newlines untouched, whole or not at all."""

from __future__ import annotations

import os
import unicodedata
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

from cardioner._io import check_no_file, publish, staging
from cardioner.errors import DataError, OutputError, UsageError, many

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from cardioner.data.documents import Document

_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{name}{number}" for name in ("COM", "LPT") for number in "0123456789¹²³")}
"""Names that Windows takes for devices, whatever suffix follows: https://learn.microsoft.com/windows/win32/fileio/naming-a-file"""
UTF8 = "utf-8"
ALONE = "notes without text, spans only"
"""The kind of issue under which notes are counted of which only the spans are read."""


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
        problem = f"{path}: byte {error.start} is not valid {encoding.upper()}; {_hint(encoding)}"
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
    try:
        with path.open(encoding=encoding, newline="\n") as file:
            yield from numbered(file, path, encoding)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def numbered(lines: Iterable[str], path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """Lines that are being decoded, as `read_lines` gives them."""
    number = 0
    try:
        for number, line in enumerate(lines, start=1):
            content = line.removesuffix("\n").removesuffix("\r")
            yield number, content.removeprefix("\ufeff") if number == 1 else content
        return
    except UnicodeDecodeError:
        problem = f"{path}:{number + 1}: not valid {encoding.upper()} on this line or soon after; {_hint(encoding)}"
    raise DataError(problem)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; a `DataError` for a key that occurs twice, of which JSON would keep the last."""
    if len({key for key, _ in pairs}) != len(pairs):
        raise DataError("a key occurs more than once in the same object")
    return dict(pairs)


def _hint(encoding: str) -> str:
    return f"convert the file to {encoding.upper()}, or name its encoding (--encoding)"


# Finding files -------------------------------------------------------------------------------------------------------


@contextmanager
def looking_at(path: Path, expected: str) -> Iterator[None]:
    """Turn a missing or unreadable path into a `DataError` that says what was expected there."""
    try:
        if not path.exists():
            raise DataError(f"{path} does not exist; {expected}")
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {expected}") from error


def files_below(folder: Path) -> list[Path]:
    """The files of a folder and its sub-folders, sorted; none if it is missing, a `DataError` if one cannot be read."""

    def refuse(error: OSError) -> None:
        if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from None

    return sorted(Path(place, name) for place, _, names in os.walk(folder, onerror=refuse) for name in names)


def is_hidden(file: Path, folder: Path) -> bool:
    """Whether the file, or a folder between it and the given one, has a name that starts with a dot."""
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def visible_below(folder: Path, *suffixes: str) -> list[Path]:
    """The files of a folder and its sub-folders that are not hidden and have one of the suffixes, sorted."""
    return [file for file in files_below(folder) if file.suffix.lower() in suffixes and not is_hidden(file, folder)]


def by_name(folder: Path, suffix: str) -> dict[str, Path]:
    """The visible files with a suffix in lower case, by their paths in the folder without it, sorted: ids of notes."""
    files = [file for file in visible_below(folder, suffix) if file.suffix == suffix]
    return {file.relative_to(folder).as_posix().removesuffix(suffix): file for file in files}


# Writing -------------------------------------------------------------------------------------------------------------


def encoded(text: str, name: str) -> bytes:
    """Text of a document in UTF-8; an `OutputError` if its id or a label, which may be in it, cannot be encoded."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        problem = f"document {name!r}: the id, a label or an attribute has half of a surrogate pair, which is no text"
    raise OutputError(problem)  # outside, as that error holds the text


@contextmanager
def writing_files(
    path: Path, suffixes: Sequence[str], *, overwrite: bool, taken: Sequence[str] | None = None
) -> Iterator[tuple[Path, Callable[[Document], Path]]]:
    """A folder to write files of notes to, and a function that gives the place of a note's own file there.

    All files appear in their place when the block ends well.

    Args:
        path: That place.
        suffixes: Of the files that each note has; the first is that of its own file, which has the text.
        overwrite: As in `check_folder`.
        taken: Suffixes of the annotations that may not be there already; by default that of a note's own file.
    """
    names = FileNames(*suffixes)
    with staging(path) as stage:

        def place_of(document: Document) -> Path:
            names.add(document.id)
            place = stage / f"{document.id}{suffixes[0]}"
            place.parent.mkdir(parents=True, exist_ok=True)
            return place

        yield stage, place_of
        notes = [f"{name}{suffixes[0]}" for name in names]
        made = {path / note: stage / note for note in notes}
        check_folder(path, made, suffixes=suffixes[:1] if taken is None else taken, overwrite=overwrite)
        # Annotations first: a note without them would count as one without spans.
        annotations = {file.relative_to(stage).as_posix() for file in files_below(stage)}.difference(notes)
        publish(stage, path, [*sorted(annotations), *notes])


@contextmanager
def writing_notes(
    path: Path, *, overwrite: bool, beside: Sequence[str] = (), taken: Sequence[str] = (".ann",)
) -> Iterator[tuple[Path, Callable[[Document], Path]]]:
    """As `writing_files`, and the function writes the text of the note to its file, a `.txt`.

    Args:
        path: The place.
        overwrite: As in `check_folder`.
        beside: Suffixes of the files that each note has beside its `.txt`.
        taken: Suffixes of the annotations that may not be there already.
    """
    with writing_files(path, [".txt", *beside], overwrite=overwrite, taken=taken) as (stage, place_of):

        def add(document: Document) -> Path:
            note = place_of(document)
            note.write_bytes(document.text.encode())
            return note

        yield stage, add


def check_folder(path: Path, notes: Mapping[Path, Path], *, suffixes: Sequence[str], overwrite: bool) -> None:
    """Refuse a folder that holds anything but some of the very notes that are to be written.

    Args:
        path: The folder to write to.
        notes: Each note's file there, and the file that is to replace it.
        suffixes: Of files with annotations.
        overwrite: Whether to write all the same; a file in the folder's place may not be replaced.

    Raises:
        OutputError: Naming what is in the way.
    """
    check_no_file(path)
    if overwrite:
        return
    if any(any(path.rglob(f"*{suffix}")) for suffix in suffixes):
        kinds = " or ".join(suffixes)
        raise OutputError(f"{path} already holds {kinds} files; choose another folder, or ask to overwrite them")
    for note, made in notes.items():
        if note.exists() and not (note.is_file() and note.read_bytes() == made.read_bytes()):
            raise OutputError(f"{note} exists and is not this note; choose another folder, or ask to overwrite it")
    if others := [file for file in files_below(path) if file not in notes and not is_hidden(file, path)]:
        raise OutputError(
            f"{path} holds {many(len(others), 'other file')}, such as {others[0].relative_to(path)}; choose another "
            "folder, or write beside them with --overwrite"
        )


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
        """Add one.

        Raises:
            OutputError: If it cannot be a file name here, if some file system would take it for another one, or if it
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
    return not odd and not PureWindowsPath(name).drive and all(map(_is_portable, steps))


def _is_portable(step: str) -> bool:
    """Whether a part of an id is a name that is visible here and can be copied to Windows, which changes some names."""
    device = step.partition(".")[0].rstrip().upper()
    return bool(step) and not step.startswith(".") and not step.endswith((".", " ")) and device not in _DEVICES


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
