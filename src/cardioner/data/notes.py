"""The notes that are to be tagged: the texts of any corpus, one at a time, whatever is marked in them put aside."""

from __future__ import annotations

import io
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from cardioner.data.documents import Document
from cardioner.data.formats import Issue, Reading, ReadOptions, detect_format, each_once, stream_corpus
from cardioner.data.formats.files import check_encoding, read_text
from cardioner.data.formats.jsonl import read_jsonl
from cardioner.errors import DataError, FormatError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

STANDARD_INPUT = Path("-")
_NAME = "stdin"
_BLANK = b"\xef\xbb\xbf \t\r\n"  # a BOM is no content
_TABLES = {".tsv", ".tab"}
_PROBLEMS_SHOWN = 20
_CHUNK = 1 << 16


@dataclass(slots=True)
class Ledger:
    """What was met in one reading of all the notes.

    Attributes:
        notes: How many could be read.
        characters: How many characters these have.
        problems: The first notes or lines that could not be read: the place and the reason, without a word of a text.
        problem_count: How many there are in all.
        remarks: Per input, what was put aside.
    """

    notes: int = 0
    characters: int = 0
    problems: list[str] = field(default_factory=list)
    problem_count: int = 0
    remarks: list[tuple[str, tuple[Issue, ...]]] = field(default_factory=list)


class Notes(NamedTuple):
    """Places of notes, to be read as often as asked.

    Attributes:
        paths: Folders and files in any format; `-` is standard input, which can be read once.
        encoding: Of the files.
        texts: The folder of the notes of a TSV file that lies elsewhere.
    """

    paths: tuple[Path, ...]
    encoding: str = "utf-8"
    texts: Path | None = None

    @property
    def only_once(self) -> bool:
        """Whether standard input is among the places."""
        return STANDARD_INPUT in self.paths

    def check(self) -> None:
        """Refuse places that are not there, before the work begins.

        Raises:
            DataError: If nothing is at a place, or what is there looks like no format.
            UsageError: If standard input is named twice, or there is no such encoding.
        """
        check_encoding(self.encoding)
        if self.paths.count(STANDARD_INPUT) > 1:
            raise UsageError("standard input (-) can be read once; it is named more than once")
        for path in self.paths:
            if path != STANDARD_INPUT:
                detect_format(path)

    def read(self, ledger: Ledger) -> Iterator[Document]:
        """The notes without spans, one at a time; what cannot be read is put into the ledger, and the others go on.

        Raises:
            DataError: If two notes have the same id, or a place holds no notes at all.
        """
        ids = set[str]()
        for path in self.paths:
            reading = _TextReading(ReadOptions(None, self.encoding, self.texts, "skip"), ledger=ledger)
            for document in _texts(path, reading):
                if document.id in ids:
                    raise DataError(
                        f"the document id {document.id!r} occurs in more than one input: predict them apart"
                    )
                ids.add(document.id)
                ledger.notes += 1
                ledger.characters += len(document.text)
                yield document
            ledger.remarks.append(("standard input" if path == STANDARD_INPUT else str(path), reading.report.issues))


@dataclass
class _TextReading(Reading):
    """A reading that wants texts: problems of a table of spans are put aside, other problems are those of notes."""

    ledger: Ledger = field(default_factory=Ledger)

    @contextmanager
    def guarded(self, path: Path, line: int = 0) -> Iterator[None]:
        try:
            yield
        except DataError as error:
            if line and path.suffix.lower() in _TABLES:
                self.add_issue("rows that are malformed, or lack their note", path, line)
                return
            placed = FormatError(path, line, str(error)) if line and not isinstance(error, FormatError) else error
            self.ledger.problem_count += 1
            if len(self.ledger.problems) < _PROBLEMS_SHOWN:
                self.ledger.problems.append(str(placed))


def _texts(path: Path, reading: _TextReading) -> Iterator[Document]:
    """The notes at a place, without spans."""
    if path == STANDARD_INPUT:
        documents = _standard_input(reading)
    elif detect_format(path) == "brat":
        documents = _text_files(path, reading)
    else:
        documents = stream_corpus(path, reading=reading)
    for document in documents:
        if document.spans:
            reading.add_issue("spans that were there", document.id, count=len(document.spans))
        yield document.with_spans(())


# Folders -------------------------------------------------------------------------------------------------------------


def _text_files(path: Path, reading: _TextReading) -> Iterator[Document]:
    """The `.txt` files of a folder by id, which is the path in the folder without the suffix; or a single one."""
    names = _names_below(path, reading) if path.is_dir() else [path.stem]
    if not names:
        raise DataError(f"{path} holds no .txt file; expected a folder of notes, or of another format")
    folder = path if path.is_dir() else path.parent
    for name in names:
        file = folder / f"{name}.txt"
        document = None
        with reading.guarded(file):
            document = Document(name, read_text(file, reading.options.encoding))
        if document is not None:
            yield document


def _names_below(folder: Path, reading: _TextReading) -> list[str]:
    """The ids of the notes in a folder, sorted; other files are counted."""
    names = []
    for place, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = Path(place).relative_to(folder)
        for file in sorted(files):
            if file.startswith("."):
                reading.add_issue("hidden files", Path(place, file))
            elif file.endswith(".txt"):
                names.append((inside / file).as_posix()[:-4])
            else:
                reading.add_issue("annotations" if file.endswith(".ann") else "other files", Path(place, file))
    return sorted(names)


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from None


# Standard input ------------------------------------------------------------------------------------------------------


def _standard_input(reading: _TextReading) -> Iterator[Document]:
    """The notes of a stream of JSON lines if its first character that is not blank is a brace; else the only note."""
    source = cast("io.BufferedReader", sys.stdin.buffer)
    head = b""
    while not head.lstrip(_BLANK) and (piece := source.read1(_CHUNK)):
        head += piece
    if head.lstrip(_BLANK).startswith(b"{"):
        documents = read_jsonl(cast("Path", _Stream(head, source)), reading)
        yield from each_once(documents, Path(_NAME), reading)
        return
    document = None
    with reading.guarded(Path(_NAME)):
        document = Document(_NAME, _decoded(head + source.read(), reading.options.encoding))
    if document is not None:
        yield document


def _decoded(content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        problem = f"{_NAME}: expected {encoding}, found another byte at offset {error.start}"
    raise DataError(problem)


class _Stream:
    """Standard input in the place of a file: as much of a path as the reader of JSON lines asks for."""

    stem = _NAME
    suffix = ".jsonl"

    def __init__(self, head: bytes, rest: io.BufferedReader) -> None:
        self._bytes = _Joined(head, rest)

    def __str__(self) -> str:
        return _NAME

    def exists(self) -> bool:
        return True

    def is_dir(self) -> bool:
        return False

    def open(self, *, encoding: str, newline: str) -> io.TextIOWrapper:
        return io.TextIOWrapper(io.BufferedReader(self._bytes), encoding=encoding, newline=newline)


class _Joined(io.RawIOBase):
    """Bytes that were read ahead, and those that follow them."""

    def __init__(self, head: bytes, rest: io.BufferedReader) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._head[: len(buffer)] or self._rest.read1(len(buffer))
        self._head = self._head[len(piece) :]
        buffer[: len(piece)] = piece
        return len(piece)
