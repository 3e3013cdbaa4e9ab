"""TSV: a table holds one span a row, the notes are `.txt` files beside it or elsewhere.

The header names the columns; the usual one is that of the MultiCardioNER task (https://temu.bsc.es/multicardioner/):
`filename`, `label`, `start_span`, `end_span`, `text`. The notes may be missing where the spans are enough.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cardioner._io import is_stream, writing
from cardioner.data.corpus import IssueCounter
from cardioner.data.documents import Annotations, Document, ImpossibleSpan, Span
from cardioner.data.formats.files import (
    ALONE,
    by_name,
    encoded,
    files_below,
    looking_at,
    read_text,
    visible_below,
    writing_notes,
)
from cardioner.data.formats.quotes import Quote, matching
from cardioner.data.formats.recognition import count_others
from cardioner.data.formats.tables import HEADER, Row, read_rows, row_text
from cardioner.errors import DataError, OutputError, many

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cardioner.data.corpus import Issue
    from cardioner.data.formats.reading import Reading

_SUFFIXES = (".tsv", ".tab")
_TABLE = "annotations.tsv"
_TEXT_FOLDERS = ("txt", "text", "texts", "text_files", "brat")
_EXPECTED = "expected a .tsv file of spans, or a folder with one and the .txt files of its notes"
_IMPOSSIBLE = "rows that cannot be a span, as they do not end after their start"


def read_tsv(path: Path, reading: Reading) -> Iterator[Document]:
    """Read the notes of a table, or of all tables of a folder, sorted by id; a note without rows has no spans.

    The id of a document is the path of its `.txt` relative to the folder of the notes, without the suffix and with `/`.
    That folder is the option `texts`; without it the notes are looked for beside the table, then in a sub-folder with
    a usual name (of a folder, all sub-folders count). Rows are kept until their note is read. Spans come in text order.
    """
    yield from _read_documents(path, _find(path, reading), reading)


def read_tsv_spans(path: Path, reading: Reading) -> Iterator[Document | Annotations]:
    """Read the notes of a table as `read_tsv` does, or only its spans if none of the notes that it names is found.

    Spans without notes come note by note, sorted by id, in text order, duplicates too, each with its mention, which is
    compared with nothing, as it may be cleaned; rows that cannot be a span are kept apart from the others. If some of
    the notes are found, or the option `texts` is given, every note must be there. A single table without rows names no
    note and gives nothing; in a folder its notes have no spans.
    """
    found = _find(path, reading)
    named = not found.rows.keys().isdisjoint(found.notes)
    of_folder = path.is_dir() and found.notes and not found.rows
    if named or of_folder or reading.options.texts is not None:
        yield from _read_documents(path, found, reading)
    else:
        yield from _read_spans_alone(path, found, reading)


def write_tsv(documents: Iterable[Document], path: Path, *, overwrite: bool = False) -> tuple[Issue, ...]:
    """Write one table, as MultiCardioNER takes it, to a path that ends in `.tsv`; else a folder of it and its notes.

    Discontinuous spans and scores are left out and counted; in a single table, texts and notes without spans too.

    Raises:
        OutputError: If the file exists, or the folder holds annotations or other text under the name of a note; if an
            id cannot be a file name; or if nothing can be written there.
    """
    counter = IssueCounter()
    if path.suffix.lower() in _SUFFIXES or is_stream(path):
        _write_table(documents, path, overwrite=overwrite, counter=counter)
    else:
        _write_folder(documents, path, overwrite=overwrite, counter=counter)
    return counter.issues


# Finding files -------------------------------------------------------------------------------------------------------


class _Found(NamedTuple):
    """What lies at a path: tables, their rows by note, and the notes by id."""

    tables: list[Path]
    rows: dict[str, list[Row]]
    notes: dict[str, Path]


def _find(path: Path, reading: Reading) -> _Found:
    tables = _find_tables(path)
    rows: dict[str, list[Row]] = {}
    for row in read_rows(tables, reading):
        rows.setdefault(row.document, []).append(row)
    return _Found(tables, rows, _find_notes(path, set(rows), reading.options.texts))


def _find_tables(path: Path) -> list[Path]:
    with looking_at(path, _EXPECTED):
        tables = visible_below(path, ".tsv") if path.is_dir() else [path]
    if not tables:
        raise DataError(f"{path} holds no .tsv file; {_EXPECTED}")
    return tables


def _find_notes(path: Path, names: set[str], texts: Path | None) -> dict[str, Path]:
    """The notes by id: of the first place that has all that the rows name, or else of the one that has most, if any."""
    best: dict[str, Path] = {}
    for notes in _places(path, names) if texts is None else [by_name(texts, ".txt")]:
        if notes and names <= notes.keys():
            return notes
        if not best or len(names & notes.keys()) > len(names & best.keys()):
            best = notes
    return best


def _places(path: Path, names: set[str]) -> Iterator[dict[str, Path]]:
    """The notes of the places where they may lie, the likeliest first."""
    folder = path if path.is_dir() else path.parent
    beside = {file.name.removesuffix(".txt") for file in folder.glob("[!.]*.txt") if file.is_file()}
    if path.is_dir():
        yield by_name(folder, ".txt") if beside else {}
    else:
        yield {name: folder / f"{name}.txt" for name in beside}
    for name in _TEXT_FOLDERS:
        yield by_name(folder / name, ".txt")
    if path.is_dir():
        yield by_name(folder, ".txt")
    elif any("/" in name for name in names):
        # Beside a single table any corpus may lie: only what the rows name tells that it is theirs.
        below = by_name(folder, ".txt")
        yield below if names <= below.keys() else {name: note for name, note in below.items() if name in names}


def _count_others(path: Path, used: set[Path], reading: Reading) -> None:
    """Report the files of the folders that were given which are neither a table nor a note."""
    for folder in (path, reading.options.texts):
        if folder is not None and folder.is_dir():
            count_others(folder, used, reading)
            used = used | set(files_below(folder))


# Reading -------------------------------------------------------------------------------------------------------------


def _read_documents(path: Path, found: _Found, reading: Reading) -> Iterator[Document]:
    rows, notes = found.rows, found.notes
    _refuse_no_notes(path, found, reading)
    _count_others(path, {*found.tables, *notes.values()}, reading)
    stopped = reading.options.on_error == "stop" and reading.report.problems
    if reading.options.require_annotations and rows.keys().isdisjoint(notes) and not stopped:
        raise DataError(
            f"{path}: expected annotations, but no row names a note ({many(len(notes), 'note')} found); "
            "compare the names, or give the folder of the notes (--texts DIR)"
        )
    _refuse_rows_without_note(rows, notes, reading)
    for name in sorted(notes):
        with reading.guarded(notes[name]):
            yield _read_document(name, notes[name], rows=rows.pop(name, []), reading=reading)


def _refuse_no_notes(path: Path, found: _Found, reading: Reading) -> None:
    if not found.notes and reading.options.texts is not None:
        raise DataError(
            f"{reading.options.texts}: expected the folder of the notes (--texts DIR), found no .txt file there"
        )
    if not found.notes:
        raise DataError(
            f"{path}: found no .txt file beside it, nor in a sub-folder {', '.join(_TEXT_FOLDERS)}; "
            "give the folder of its notes (--texts DIR)"
        )


def _refuse_rows_without_note(rows: Mapping[str, Sequence[Row]], notes: Mapping[str, Path], reading: Reading) -> None:
    lonely = [row for name in rows.keys() - notes.keys() for row in rows[name]]
    for row in sorted(lonely, key=lambda row: (row.path, row.line)):
        with reading.guarded(row.path, row.line):
            raise DataError(
                f"expected the note {row.document!r} as a .txt file, found none of this name; "
                "add it, or give the folder of the notes (--texts DIR)"
            )


def _read_document(name: str, note: Path, *, rows: Sequence[Row], reading: Reading) -> Document:
    text = read_text(note, reading.options.encoding)
    quotes = []
    for row in rows:
        with reading.guarded(row.path, row.line):
            if row.start >= row.end:
                raise DataError(f"a span needs start < end, found {row.start} to {row.end}")
            quotes.append(Quote(Span(row.start, row.end, row.label), row.mention, row.path, row.line))
    return Document(name, text, tuple(sorted(quote.span for quote in matching(quotes, text, "mention", reading))))


def _read_spans_alone(path: Path, found: _Found, reading: Reading) -> Iterator[Annotations]:
    _count_others(path, set(found.tables), reading)
    for row in found.rows.pop("", []):
        with reading.guarded(row.path, row.line):
            raise DataError("expected the name of a note in the column of the document, found none")
    for name in sorted(found.rows):
        rows = found.rows.pop(name)
        reading.add_issue(ALONE, rows[0].path, rows[0].line)
        rows.sort(key=lambda row: (row.start, row.end, row.label))
        possible, impossible = ([row for row in rows if (row.start < row.end) is kind] for kind in (True, False))
        for row in impossible:
            reading.add_issue(_IMPOSSIBLE, row.path, row.line)
        yield Annotations(
            name,
            tuple(Span(row.start, row.end, row.label) for row in possible),
            tuple(row.mention for row in possible),
            tuple(ImpossibleSpan(row.start, row.end, row.label, row.mention) for row in impossible),
        )


# Writing -------------------------------------------------------------------------------------------------------------


def _write_table(documents: Iterable[Document], path: Path, *, overwrite: bool, counter: IssueCounter) -> None:
    with writing(path, overwrite=overwrite) as file:
        file.write(row_text(HEADER).encode())
        for document in documents:
            rows = _encode_rows(document, counter)
            file.write(rows)
            counter.add("texts, not in a TSV file", document.id)
            if not rows:
                counter.add("documents without spans, not in a TSV file", document.id)


def _write_folder(documents: Iterable[Document], path: Path, *, overwrite: bool, counter: IssueCounter) -> None:
    with (
        writing_notes(path, overwrite=overwrite, taken=[".tsv", ".ann"]) as (stage, add),
        (stage / _TABLE).open("xb") as table,
    ):
        table.write(row_text(HEADER).encode())
        for document in documents:
            _refuse_table_name(document.id)
            add(document)
            table.write(_encode_rows(document, counter))


def _refuse_table_name(name: str) -> None:
    """Refuse an id that needs a folder of the name that the table has."""
    folder = unicodedata.normalize("NFC", name.partition("/")[0]).casefold()
    if "/" in name and folder == _TABLE:
        raise OutputError(f"the document id {name!r} needs a folder where the file {_TABLE} goes; rename it")


def _encode_rows(document: Document, counter: IssueCounter) -> bytes:
    """The rows of a note; what they cannot hold is counted."""
    # A reader takes one `.txt` off, which may be part of the id.
    name = f"{document.id}.txt" if document.id.endswith(".txt") else document.id
    counter.add_metadata(document)
    rows = [
        row_text((name, span.label, str(span.start), str(span.end), document.text_of(span)))
        for span in counter.bare(document)
    ]
    return encoded("".join(rows), document.id)
