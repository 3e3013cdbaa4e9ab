"""Brat standoff: `NAME.txt` holds a note, `NAME.ann` beside it holds what is marked in it.

The format is described at https://brat.nlplab.org/standoff.html. Only text-bound annotations (`T` lines) become spans;
the other kinds of lines are counted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cardioner._io import publish, staging
from cardioner.data.documents import Document, Span
from cardioner.data.formats.files import FileNames, check_folder, read_text
from cardioner.errors import DataError, OutputError, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cardioner.data.corpus import Issue
    from cardioner.data.formats.reading import Reading

    Pieces = Sequence[tuple[int, int]]

_NEARBY = (-1, 1, -2, 2, -3, 3)
_EXPECTED = "expected a folder of NAME.txt and NAME.ann files, or one .txt file"
_EXTENT = re.compile(r"(\S+) ([0-9]{1,15} [0-9]{1,15}(?:;[0-9]{1,15} [0-9]{1,15})*)")
_SCORE = re.compile(r"#[0-9]+\tAnnotatorNotes (T[0-9]+)\tscore (0|1|0\.[0-9]+|1\.0|[0-9](?:\.[0-9]+)?e-[0-9]+)")
_OTHER_LINE = re.compile(r"(?:([ERAMN])[0-9]+\S*|([*]))(?:\s|$)|(#)")


def read_brat(path: Path, reading: Reading) -> Iterator[Document]:
    """Read a folder of brat files, or a single note, one document at a time, sorted by id.

    The id of a document is the path of its `.txt` relative to the folder, without the suffix and with `/`. A span whose
    fragments touch is contiguous. Spans come in text order.

    Args:
        path: The folder (sub-folders are read too), or one `.txt` file.
        reading: What is wanted; a `.txt` without an `.ann` is a note without spans, unless annotations are required.

    Raises:
        DataError: If there is no note, or annotations that are required are missing.
    """
    files = _find_files(path)
    if reading.options.require_annotations:
        _refuse_incomplete(files, path)
    _remark_on_files(files, reading)
    for name in sorted(files.notes):
        document = None
        with reading.guarded(files.notes[name]):
            document = _read_document(name, files, reading)
        if document is not None:
            yield document


def write_brat(documents: Iterable[Document], path: Path, *, overwrite: bool = False) -> tuple[Issue, ...]:
    """Write a folder of brat files, one document at a time; a note without spans gets an empty `.ann`.

    A score is written as an `AnnotatorNotes` line, which `read_brat` takes back. Files are made beside the folder and
    moved there when all of them are.

    Args:
        documents: The notes; a `/` in an id makes a sub-folder.
        path: The folder; it is made if it is missing.
        overwrite: Replace files that are there; files of other documents stay as they are.

    Returns:
        Nothing: brat holds all that a document has.

    Raises:
        OutputError: If the folder already holds `.ann` files or other text under the name of a note, if an id cannot be
            a file name in this folder, if the format cannot hold a label, or if the disk is full.
    """
    names = FileNames(".txt", ".ann")
    with staging(path) as stage:
        for document in documents:
            names.add(document.id)
            text, marked = _encode(document)
            note = stage / f"{document.id}.txt"
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_bytes(text)
            _annotations_of(note).write_bytes(marked)
        notes = {path / f"{name}.txt": stage / f"{name}.txt" for name in names}
        check_folder(path, notes, suffixes=[".ann"], overwrite=overwrite)
        # .ann first: a note without one would count as a note without spans
        publish(stage, path, (f"{name}{suffix}" for name in names for suffix in (".ann", ".txt")))
    return ()


def is_brat(path: Path) -> bool:
    """Whether a folder holds annotations of brat, or a path is a note."""
    return any(path.rglob("*.ann")) if path.is_dir() else path.suffix == ".txt"


# Reading -------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Files:
    """The files of a corpus: notes and annotations by document id, and the others."""

    notes: dict[str, Path] = field(default_factory=dict)
    annotations: dict[str, Path] = field(default_factory=dict)
    others: list[Path] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)

    def without_annotations(self) -> list[str]:
        return sorted(self.notes.keys() - self.annotations.keys())

    def without_note(self) -> list[str]:
        return sorted(self.annotations.keys() - self.notes.keys())


def _find_files(path: Path) -> _Files:
    try:
        if not path.exists():
            raise DataError(f"{path} does not exist; {_EXPECTED}")
        return _files_below(path) if path.is_dir() else _single_note(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {_EXPECTED}") from error


def _files_below(path: Path) -> _Files:
    files = _Files()
    for file in sorted(path.rglob("*")):
        if file.is_dir():
            continue
        if any(part.startswith(".") for part in file.relative_to(path).parts):
            files.hidden.append(file)
            continue
        name, suffix = file.relative_to(path).as_posix()[:-4], file.name[-4:]
        known = {".txt": files.notes, ".ann": files.annotations}.get(suffix if len(file.name) > 4 else "")
        if known is None:
            files.others.append(file)
        else:
            known[name] = file
    if not files.notes:
        raise DataError(f"{path} holds no .txt file; {_EXPECTED}")
    return files


def _single_note(path: Path) -> _Files:
    if path.suffix != ".txt":
        raise DataError(f"{path} is not a .txt file; {_EXPECTED}")
    annotations = _annotations_of(path)
    return _Files({path.stem: path}, {path.stem: annotations} if annotations.exists() else {})


def _annotations_of(note: Path) -> Path:
    return note.with_name(f"{note.name[:-4]}.ann")


def _refuse_incomplete(files: _Files, path: Path) -> None:
    problems = []
    if bare := files.without_annotations():
        problems.append(
            f"{len(bare)} notes have no .ann file ({listed(bare)}); an empty .ann file marks a note without entities"
        )
    if lonely := files.without_note():
        problems.append(f"{len(lonely)} .ann files have no .txt file ({listed(lonely)}); add the notes, or remove them")
    if problems:
        raise DataError(f"{path}: expected a .txt and an .ann file for each note, but " + ", and ".join(problems))


def _remark_on_files(files: _Files, reading: Reading) -> None:
    for name in files.without_annotations():
        reading.add_issue(".txt without .ann", files.notes[name])
    for name in files.without_note():
        reading.add_issue(".ann without .txt", files.annotations[name])
    for file in files.others:
        reading.add_issue("other files", file)
    for file in files.hidden:
        reading.add_issue("hidden files", file)


def _read_document(name: str, files: _Files, reading: Reading) -> Document:
    text = read_text(files.notes[name], reading.options.encoding)
    if name not in files.annotations:
        return Document(name, text)
    path = files.annotations[name]
    lines = read_text(path, reading.options.encoding).removeprefix("\ufeff").removesuffix("\n").split("\n")
    spans: list[tuple[str, Span]] = []
    scores: dict[str, float] = {}
    for number, line in enumerate(lines if lines != [""] else [], start=1):
        with reading.guarded(path, number):
            scored = _SCORE.fullmatch(line.removesuffix("\r"))
            found = _parse_line(line.removesuffix("\r"), text)
            if scored:
                scores[scored[1]] = float(scored[2])
            elif isinstance(found, Span):
                spans.append((line.partition("\t")[0], found))
            else:
                reading.add_issue(found, path, number)
    ordered = sorted(spans, key=lambda pair: (pair[1].start, pair[1].end, pair[1].label, pair[1].fragments))
    scored_spans = (replace(span, score=scores[tag]) if tag in scores else span for tag, span in ordered)
    return Document(name, text, tuple(scored_spans))


def _parse_line(line: str, text: str) -> Span | str:
    """The span of a `T` line; the kind of any other line."""
    if line.startswith("T"):
        return _parse_span(line, text)
    if not line.strip():
        return "blank lines"
    other = _OTHER_LINE.match(line)
    if other is None:
        raise DataError("expected a line that starts with T, E, R, A, M or N and a number, or with # or *")
    return f"{other[other.lastindex or 0]} lines"


def _parse_span(line: str, text: str) -> Span:
    name, *fields = line.split("\t", 2)
    if len(fields) != 2 or not re.fullmatch(r"T[0-9]+", name):
        raise DataError("expected T and a number, a tab, the label and its offsets, a tab, and the quote")
    extent = _EXTENT.fullmatch(fields[0])
    if extent is None:
        raise DataError('expected a label and its offsets in the second field, as in "LABEL 10 15" or "LABEL 1 5;8 9"')
    pieces = [(int(start), int(end)) for start, end in (piece.split() for piece in extent[2].split(";"))]
    span = _make_span(extent[1], pieces)
    if span.end > len(text):
        raise DataError(f"the span {span.start} to {span.end} ends behind the text, which has {len(text)} characters")
    _check_quote(fields[1], span, pieces, text)
    return span


def _make_span(label: str, pieces: Pieces) -> Span:
    joined: list[tuple[int, int]] = []
    for start, end in sorted(pieces):
        if start >= end:
            raise DataError(f"a span needs start < end, found {start} to {end}")
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    first, last = joined[0][0], max(end for _, end in joined)
    return Span(first, last, label, fragments=tuple(joined) if len(joined) > 1 else ())


def _check_quote(quote: str, span: Span, pieces: Pieces, text: str) -> None:
    """Refuse a quote that is not what the text holds; the message says where it would be, and never what it is."""
    # Tools write the fragments in their own order, in text order, or joined where they touch.
    readings = (pieces, sorted(pieces), span.fragments or ((span.start, span.end),))

    def matches(shift: int) -> bool:
        return any(_is_quoted(quote, _quote(text, reading, shift=shift)) for reading in readings)

    if matches(0):
        return
    inside = [shift for shift in _NEARBY if span.start + shift >= 0 and span.end + shift <= len(text)]
    nearby = [f"it would match at {span.start + shift} to {span.end + shift}" for shift in inside if matches(shift)]
    hint = nearby[0] if nearby else "nor within 3 characters of it"
    raise DataError(f"the quote does not match the text at {span.start} to {span.end} ({hint})")


def _is_quoted(field: str, quote: str) -> bool:
    """Whether the rest of a line is this quote, alone or with more fields after it (the quote may hold tabs)."""
    flat = _flat(field)
    return flat == quote or flat.startswith(f"{quote}\t")


def _quote(text: str, pieces: Pieces, *, shift: int = 0) -> str:
    """What brat writes behind the offsets: fragments joined by one space, a space for each newline character."""
    joined = " ".join([text[start + shift : end + shift] for start, end in pieces])
    return _flat(joined)


def _flat(text: str) -> str:
    """As many characters, with a space for each newline character (`str.translate` is far slower)."""
    return text.replace("\r", " ").replace("\n", " ")


# Writing -------------------------------------------------------------------------------------------------------------


def _encode(document: Document) -> tuple[bytes, bytes]:
    """The bytes of a note and of its annotations."""
    for label in {span.label for span in document.spans}:
        if re.search(r"\s", label):
            raise OutputError(f"document {document.id}: brat cannot hold the label {label!r}, it has white space")
    flat = _flat(document.text)  # once a note: as many characters as before
    lines = "".join([_lines(flat, span, number) for number, span in enumerate(document.spans, start=1)])
    try:
        return document.text.encode("utf-8"), lines.encode("utf-8")
    except UnicodeEncodeError as error:
        problem = f"document {document.id}: holds a character that UTF-8 cannot ({error.reason})"
    raise OutputError(problem)  # outside, as that error holds the text


def _lines(flat: str, span: Span, number: int) -> str:
    if span.fragments:
        offsets = ";".join([f"{start} {end}" for start, end in span.fragments])
        quote = " ".join([flat[start:end] for start, end in span.fragments])
    else:
        offsets, quote = f"{span.start} {span.end}", flat[span.start : span.end]
    line = f"T{number}\t{span.label} {offsets}\t{quote}\n"
    return line if span.score is None else f"{line}#{number}\tAnnotatorNotes T{number}\tscore {span.score!r}\n"
