"""The notes that are to be tagged: the texts of any corpus, one at a time, without the spans marked in them."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, cast

from cardioner.data.documents import Document
from cardioner.data.formats import Reading, ReadOptions, ReadReport, detect_format, each_once, stream_corpus
from cardioner.data.formats.files import by_name, check_encoding, numbered, read_text
from cardioner.data.formats.jsonl import documents_of_lines
from cardioner.data.formats.recognition import count_others, likely_format_of
from cardioner.errors import DataError, UsageError, listed, many

if TYPE_CHECKING:
    import io
    from collections.abc import Iterable, Iterator

STANDARD_INPUT = Path("-")
_NAME = Path("stdin")
_BLANK = "\ufeff \t\r\n"  # a BOM is no content
_TABLES = {".tsv", ".tab"}


@dataclass(frozen=True)
class NoteSource:
    """Where notes are read from; checked when it is made, before anything is read.

    Attributes:
        paths: Folders and files in any format; `-` is standard input, which can be read once.
        encoding: Of the files.
        texts: The folder of the notes of a TSV file that lies elsewhere.
        format: A name in `FORMATS`; `None` finds it by the content. Standard input has its own.
        only: The ids of the notes that are meant; `None` for all.

    Raises:
        DataError: If nothing is at a path, or its format is not clear.
        UsageError: If standard input is named twice, or there is no such encoding.
    """

    paths: tuple[Path, ...]
    encoding: str = "utf-8"
    texts: Path | None = None
    format: str | None = None
    only: frozenset[str] | None = None
    _forms: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_encoding(self.encoding)
        if self.paths.count(STANDARD_INPUT) > 1:
            raise UsageError("standard input (-) can be read once; it is named more than once")
        forms = (
            "stdin" if path == STANDARD_INPUT else self.format or detect_format(path, self.encoding)
            for path in self.paths
        )
        object.__setattr__(self, "_forms", tuple(forms))

    def known_ids(self) -> tuple[list[str], bool]:
        """The ids of notes in `.txt` files, by the names of the files, and whether these are all notes.

        Raises:
            DataError: If two of them are the same, a folder holds no notes, or one of `only` is missing.
        """
        places = [path for path, form in zip(self.paths, self._forms, strict=True) if form == "brat"]
        ids = [name for path in places for name in _files_at(path, self._reading())]
        if repeated := [name for name, count in Counter(ids).items() if count > 1]:
            raise _repeated(repeated[0])
        complete = len(places) == len(self.paths)
        if complete:
            self._check_found(ids)
        return ids, complete

    def read(self, reports: list[tuple[str, ReadReport]]) -> Iterator[Document]:
        """The notes without spans, one at a time; those that cannot be read are left out, and the others go on.

        Args:
            reports: Gets the name of each place that was read to its end, and what came up there.

        Raises:
            DataError: If two notes have the same id, a place holds no notes at all, or one of `only` is missing.
        """
        ids = set[str]()
        for path, form in zip(self.paths, self._forms, strict=True):
            reading = self._reading()
            for document in _texts(path, form, reading):
                if document.id in ids:
                    raise _repeated(document.id)
                ids.add(document.id)
                yield document
            reports.append(("standard input" if path == STANDARD_INPUT else str(path), reading.report))
        if not any(report.malformed for _, report in reports):
            self._check_found(ids)

    def _check_found(self, ids: Iterable[str]) -> None:
        if unknown := (self.only or frozenset()).difference(ids):
            raise DataError(f"{many(len(unknown), 'note')} to tag are not in the input: {listed(unknown)}")

    def _reading(self) -> _TextReading:
        return _TextReading(
            ReadOptions(encoding=self.encoding, texts=self.texts, on_error="skip", texts_only=True), self.only
        )


def _repeated(name: str) -> DataError:
    return DataError(f"the document id {name!r} occurs in more than one input: rename one note, or leave out an input")


class _TextReading(Reading):
    """A reading that is only after texts, of some notes or all: a faulty row in a table of spans costs no note."""

    def __init__(self, options: ReadOptions, only: frozenset[str] | None) -> None:
        super().__init__(options)
        self._only = only

    def wants(self, name: str) -> bool:
        """Whether the note with this id is meant."""
        return self._only is None or name in self._only

    @contextmanager
    def guarded(self, path: Path, line: int = 0) -> Iterator[None]:
        if not (line and path.suffix.lower() in _TABLES):
            with super().guarded(path, line):
                yield
            return
        try:
            yield
        except DataError:
            self.add_issue("rows that are malformed, or lack their note", path, line)


def _texts(path: Path, form: str, reading: _TextReading) -> Iterator[Document]:
    """The notes at a place, without spans."""
    if form == "stdin":
        documents = _standard_input(reading)
    elif form == "brat":
        documents = _text_files(path, reading)
    else:
        documents = stream_corpus(path, form, reading=reading)
    for document in documents:
        if not reading.wants(document.id):
            continue
        if document.spans:
            reading.add_issue("spans that were there", document.id, count=len(document.spans))
        yield document.with_spans(())


# Folders -------------------------------------------------------------------------------------------------------------


def _text_files(path: Path, reading: _TextReading) -> Iterator[Document]:
    """The notes of `.txt` files, sorted by id."""
    for name, file in _files_at(path, reading).items():
        with reading.guarded(file):
            text = read_text(file, reading.options.encoding)
            if form := likely_format_of(text):
                reading.add_issue(f"notes that look like the format {form}, tagged as they are", file)
            yield Document(name, text)


def _files_at(path: Path, reading: _TextReading) -> dict[str, Path]:
    """The `.txt` files of a folder by id, its path there without the suffix, or a single one; others are counted."""
    if not path.is_dir():
        return {path.stem: path}
    notes, annotations = by_name(path, ".txt"), by_name(path, ".ann")
    for name, file in annotations.items():
        if reading.wants(name):
            reading.add_issue("annotations", file)
    count_others(path, {*notes.values(), *annotations.values()}, reading)
    if not notes:
        raise DataError(f"{path} holds no .txt file; expected a folder of notes, or of another format")
    return {name: notes[name] for name in sorted(notes) if reading.wants(name)}


# Standard input ------------------------------------------------------------------------------------------------------


def _standard_input(reading: _TextReading) -> Iterator[Document]:
    """The notes of a stream of JSON lines if its first character that is not blank is a brace; else the only note."""
    stream = cast("io.TextIOWrapper", sys.stdin)
    stream.reconfigure(encoding=reading.options.encoding, errors="strict", newline="\n")
    with reading.guarded(_NAME):
        head, text = _begin(stream)
        if text is not None:
            yield Document(str(_NAME), text)
            return
        lines = numbered(chain(head, stream), _NAME, reading.options.encoding)
        yield from each_once(documents_of_lines(lines, str(_NAME), _NAME, reading), _NAME, reading)


def _begin(stream: io.TextIOWrapper) -> tuple[list[str], str | None]:
    """The lines up to the first that is not blank and, unless that one begins a JSON object, the text of all lines."""
    head: list[str] = []
    try:
        while not (head and head[-1].strip(_BLANK)) and (line := stream.readline()):
            head.append(line)
        is_json = head and head[-1].lstrip(_BLANK).startswith("{")
        return head, None if is_json else "".join(head) + stream.read()
    except UnicodeDecodeError:
        pass
    raise DataError(f"{_NAME}: not valid {stream.encoding.upper()}; name the encoding (--encoding)")
