"""Brat standoff: `NAME.txt` holds a note, `NAME.ann` beside it holds what is marked in it.

The format is described at https://brat.nlplab.org/standoff.html. Text-bound annotations (`T` lines) become spans, and
attributes of these (`A` and `M` lines) their attributes; the other kinds of lines are counted.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cardioner.data.corpus import IssueCounter
from cardioner.data.documents import Annotations, Document, Span
from cardioner.data.formats.files import (
    ALONE,
    by_name,
    encoded,
    looking_at,
    read_text,
    writing_notes,
)
from cardioner.data.formats.quotes import Quote, matching, span_of
from cardioner.data.formats.recognition import WITHOUT_NOTE, count_others, likely_format_of
from cardioner.errors import DataError, OutputError, listed, many

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cardioner.data.corpus import Issue
    from cardioner.data.formats.reading import Reading

    Pieces = Sequence[tuple[int, int]]

_EXPECTED = "expected a folder of NAME.txt and NAME.ann files, or one .txt file"
_EXTENT = re.compile(r"(\S+) ([0-9]{1,15} [0-9]{1,15}(?:;[0-9]{1,15} [0-9]{1,15})*)")
_SHARE = r"(?:0|1|0\.[0-9]+|1\.0|[0-9](?:\.[0-9]+)?e-[0-9]+)"
_SCORES = re.compile(rf"#[0-9]+\tAnnotatorNotes (T[0-9]+)\tscore(?: ({_SHARE}))?((?: \S+={_SHARE})*)")
"""The score of a span, and those of its attributes."""
_ATTRIBUTE = re.compile(r"[AM][0-9]+\S*\s+\S+\s+\S")
"""How the line of an attribute starts: with its name, and with what has it."""
_SEVERAL = "attributes with a second value, left out"
_KINDS = {"E": "events", "R": "relations", "A": "attributes of no span", "N": "normalizations"}
_KINDS |= {"M": _KINDS["A"]}
_KINDS |= {"*": "equivalences", "#": "comments"}
"""What the lines are that are not read, by how they start."""
_OTHER_LINE = re.compile(r"(?:([ERAMN])[0-9]+\S*|([*]))(?:\s|$)|(#)")


def read_brat(path: Path, reading: Reading) -> Iterator[Document]:
    """Read a folder of brat files and its sub-folders, or one `.txt` note, sorted by id.

    The id of a document is the path of its `.txt` relative to the folder, without the suffix and with `/`. A span whose
    fragments touch is contiguous. Spans come in text order. A `.txt` without an `.ann` is a note without spans, unless
    annotations are required.
    """
    notes, annotations = _find_files(path, reading)
    for name in sorted(notes):
        with reading.guarded(notes[name]):
            yield _read_document(name, notes[name], annotations.get(name), reading)


def read_brat_spans(path: Path, reading: Reading) -> Iterator[Document | Annotations]:
    """Read brat files as `read_brat` does, or only the spans of a folder that holds `.ann` files and no `.txt` at all.

    That is how several shared tasks take predictions. Such spans come note by note, sorted by id, each with its quote,
    which is compared with nothing here.
    """
    alone = by_name(path, ".ann") if path.is_dir() else {}
    if not alone or by_name(path, ".txt"):
        yield from read_brat(path, reading)
        return
    count_others(path, set(alone.values()), reading)
    for name in sorted(alone):
        with reading.guarded(alone[name]):
            reading.add_issue(ALONE, alone[name])
            marked = _read_spans(alone[name], None, reading)
            yield Annotations(name, tuple(quote.span for quote in marked), tuple(quote.text for quote in marked))


def write_brat(documents: Iterable[Document], path: Path, *, overwrite: bool = False) -> tuple[Issue, ...]:
    """Write a folder of brat files; a note without spans gets an empty `.ann`, and a `/` in an id makes a sub-folder.

    The scores of a span and of its attributes are written as an `AnnotatorNotes` line, which `read_brat` takes back.
    Brat holds all that a document has but its metadata, and attributes whose name has white space or whose value has
    some at its edges or more than one line; these are counted.

    Raises:
        OutputError: If the folder already holds `.ann` files or other text under the name of a note, if an id cannot be
            a file name in this folder, if the format cannot hold a label, or if the disk is full.
    """
    counter = IssueCounter()
    with writing_notes(path, overwrite=overwrite, beside=[".ann"]) as (_, add):
        for document in documents:
            _annotations_of(add(document)).write_bytes(annotations_bytes(document, counter))
            counter.add_metadata(document)
    return counter.issues


def annotations_bytes(document: Document, counter: IssueCounter) -> bytes:
    """The bytes of a note's `.ann` file; attributes that it cannot hold are counted.

    Raises:
        OutputError: If the format cannot hold a label.
    """
    for label in {span.label for span in document.spans}:
        if re.search(r"\s", label):
            raise OutputError(f"document {document.id}: brat cannot hold the label {label!r}, it has white space")
    flat = document.text.replace("\r", " ").replace("\n", " ")  # as many characters as before
    lines, said = list[str](), 0
    for number, span in enumerate(document.spans, start=1):
        span = counter.with_attributes(document, span, _is_writable)  # noqa: PLW2901
        lines += [_line(flat, span, number), *_attribute_lines(span, number, said), _score_line(span, number)]
        said += len(span.attributes)
    return encoded("".join(lines), document.id)


# Reading -------------------------------------------------------------------------------------------------------------


def _find_files(path: Path, reading: Reading) -> tuple[dict[str, Path], dict[str, Path]]:
    """Notes and annotations by document id; what is missing among them, and other files, are reported."""
    with looking_at(path, _EXPECTED):
        if not path.is_dir():
            return _single_note(path, reading)
        notes, annotations = by_name(path, ".txt"), by_name(path, ".ann")
        if not notes:
            model = " (it has a config.json, as model directories do)" if (path / "config.json").is_file() else ""
            raise DataError(f"{path} holds no .txt file{model}; {_EXPECTED}")
        _check_pairs(path, notes, annotations, reading)
        count_others(path, {*notes.values(), *annotations.values()}, reading)
        return notes, annotations


def _single_note(path: Path, reading: Reading) -> tuple[dict[str, Path], dict[str, Path]]:
    if path.suffix != ".txt":
        raise DataError(f"{path} is not a .txt file; {_EXPECTED}")
    notes, marked = {path.stem: path}, _annotations_of(path)
    annotations = {path.stem: marked} if marked.exists() else {}
    _check_pairs(path, notes, annotations, reading)
    return notes, annotations


def _annotations_of(note: Path) -> Path:
    return note.with_name(f"{note.name[:-4]}.ann")


def _check_pairs(path: Path, notes: Mapping[str, Path], annotations: Mapping[str, Path], reading: Reading) -> None:
    """Report notes without annotations and annotations without a note, or refuse them if annotations are required."""
    bare, alone = sorted(notes.keys() - annotations.keys()), sorted(annotations.keys() - notes.keys())
    if not reading.options.require_annotations:
        for name in bare:
            reading.add_issue(".txt without .ann", notes[name])
        for name in alone:
            reading.add_issue(WITHOUT_NOTE, annotations[name])
        return
    problems = []
    if bare:
        problems.append(
            f"{many(len(bare), 'note')} without an .ann file ({listed(bare)}): an empty .ann file marks a note without "
            "entities"
        )
    if alone:
        problems.append(
            f"{many(len(alone), '.ann file')} without a .txt file ({listed(alone)}): add the notes, or remove them"
        )
    if problems:
        raise DataError(f"{path}: expected a .txt and an .ann file for each note; found {', and '.join(problems)}")


def _read_document(name: str, note: Path, path: Path | None, reading: Reading) -> Document:
    text = read_text(note, reading.options.encoding)
    if path is None:
        if form := likely_format_of(text):
            raise DataError(
                f"{note}: expected a note, found what looks like the format {form}; read it with --from {form}, or add "
                "an .ann file if it is a note (an empty one marks a note without entities)"
            )
        return Document(name, text)
    return Document(name, text, tuple(quote.span for quote in _read_spans(path, text, reading)))


def _read_spans(path: Path, text: str | None, reading: Reading) -> list[Quote]:
    """The spans of an `.ann` file in text order, each with its quote, which is checked if there is a text."""
    lines = read_text(path, reading.options.encoding).removeprefix("\ufeff").removesuffix("\n").split("\n")
    quotes: list[Quote] = []
    said = defaultdict[str, _Said](_Said)
    for number, line in enumerate(lines if lines != [""] else [], start=1):
        with reading.guarded(path, number):
            line = line.removesuffix("\r")  # noqa: PLW2901
            if scores := _SCORES.fullmatch(line):
                said[scores[1]].take_scores(scores[2], scores[3])
            elif _ATTRIBUTE.match(line):
                _, attribute, name, *value = line.rstrip().split(None, 3)
                said[name].attributes.append((number, attribute, value[0] if value else True))
            elif line.startswith("T"):
                quotes.append(_parse_span(line, (path, number)))
            else:
                reading.add_issue(_kind_of(line), path, number)
    found = quotes if text is None else matching(quotes, text, "quote", reading)
    whole = [quote._replace(span=said[quote.name].about(quote.span, path, reading)) for quote in found]
    others = said.keys() - {quote.name for quote in quotes}
    for number in sorted(number for name in others for number, _, _ in said[name].attributes):
        reading.add_issue(_KINDS["A"], path, number)
    return sorted(whole, key=lambda quote: (quote.span.start, quote.span.end, quote.span.label, quote.span.fragments))


@dataclass(slots=True)
class _Said:
    """What the other lines of a file say of a span.

    Attributes:
        attributes: The line of each of its attributes, with its name and value.
        score: Its own score.
        attribute_scores: Those of its attributes.
    """

    attributes: list[tuple[int, str, str | bool]] = field(default_factory=list)
    score: float | None = None
    attribute_scores: dict[str, float] = field(default_factory=dict)

    def take_scores(self, score: str | None, others: str) -> None:
        """Take what an `AnnotatorNotes` line says."""
        self.score = None if score is None else float(score)
        pairs = (pair.rpartition("=") for pair in others.split())
        self.attribute_scores = {name: float(value) for name, _, value in pairs}

    def about(self, span: Span, path: Path, reading: Reading) -> Span:
        """The span with all of it; of an attribute with several values, the first is taken."""
        attributes: dict[str, str | bool] = {}
        for number, name, value in self.attributes:
            if attributes.setdefault(name, value) != value:
                reading.add_issue(_SEVERAL, path, number)
        return replace(span, score=self.score, attributes=attributes, attribute_scores=self.attribute_scores)


def _kind_of(line: str) -> str:
    """The kind of a line that is no `T` line."""
    if not line.strip():
        return "blank lines"
    other = _OTHER_LINE.match(line)
    if other is None:
        raise DataError("expected a line that starts with T, E, R, A, M or N and a number, or with # or *")
    return _KINDS[other[other.lastindex or 0]]


def _parse_span(line: str, place: tuple[Path, int]) -> Quote:
    """The span of a `T` line, and its quote."""
    name, *fields = line.split("\t", 2)
    if len(fields) != 2 or not re.fullmatch(r"T[0-9]+", name):
        raise DataError("expected T and a number, a tab, the label and its offsets, a tab, and the quote")
    extent = _EXTENT.fullmatch(fields[0])
    if extent is None:
        raise DataError('expected a label and its offsets in the second field, as in "LABEL 10 15" or "LABEL 1 5;8 9"')
    pieces = [(int(start), int(end)) for start, end in (piece.split() for piece in extent[2].split(";"))]
    span = span_of(extent[1], pieces)
    # Tools write the fragments in their own order, in text order, or joined where they touch.
    orders = (pieces, sorted(pieces), span.fragments or [(span.start, span.end)])
    return Quote(span, fields[1], *place, name=name, orders=orders, open_ended=True)


# Writing -------------------------------------------------------------------------------------------------------------


def _is_writable(name: str, value: str | bool) -> bool:
    return re.search(r"\s", name) is None and (
        not isinstance(value, str) or (value == value.strip() and "\n" not in value)
    )


def _line(flat: str, span: Span, number: int) -> str:
    if span.fragments:
        offsets = ";".join([f"{start} {end}" for start, end in span.fragments])
        quote = " ".join([flat[start:end] for start, end in span.fragments])
    else:
        offsets, quote = f"{span.start} {span.end}", flat[span.start : span.end]
    return f"T{number}\t{span.label} {offsets}\t{quote}\n"


def _attribute_lines(span: Span, number: int, before: int) -> Iterator[str]:
    """The lines of the attributes of a span; so many of others are before them."""
    for own, (name, value) in enumerate(span.attributes.items(), start=before + 1):
        yield f"A{own}\t{name} T{number}{'' if value is True else f' {value}'}\n"


def _score_line(span: Span, number: int) -> str:
    """The line of the scores of a span; nothing if it has none."""
    scores = [] if span.score is None else [repr(float(span.score))]
    scores += [f"{name}={float(score)!r}" for name, score in span.attribute_scores.items()]
    return f"#{number}\tAnnotatorNotes T{number}\tscore {' '.join(scores)}\n" if scores else ""
