"""Rows of a table of spans: tab-separated fields under a header that names the columns.

The usual header is that of the MultiCardioNER task (https://temu.bsc.es/multicardioner/). A field may stand in
quotation marks as in RFC 4180, and then hold tabs, newlines, and quotation marks that are doubled.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, NamedTuple

from cardioner.data.formats.files import read_text
from cardioner.errors import DataError, FormatError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from cardioner.data.formats.reading import Reading

HEADER = ("filename", "label", "start_span", "end_span", "text")
"""The columns of a table as it is written."""

_ROLES = {
    "document": ("filename", "file", "name", "doc_id", "document", "id"),
    "label": ("label", "tag", "type", "entity"),
    "start": ("start_span", "start", "off0", "begin"),
    "end": ("end_span", "end", "off1"),
    "mention": ("text", "span", "mention"),
}
_NEEDED = ("document", "label", "start", "end")
_FIELD = re.compile(r'(?:"(?P<quoted>[^"]*(?:""[^"]*)*)"|(?P<plain>[^\t\n]*?))(?P<separator>\t|\r?\n|\r?\Z)')
_MISREAD = re.compile(r'\A"|[\t\r\n]')
_WHOLE_NUMBER = re.compile(r"[0-9]{1,15}")
_MARK = '"'


class Row(NamedTuple):
    """A span as a table has it, not yet compared with its note.

    Attributes:
        document: The id of its note, without `.txt`.
        start: Offset of its first character in the note: code points.
        end: Offset after its last character; not yet known to be greater.
        label: Its entity type.
        mention: What the table says that it reads; `None` without such a column.
        path: The table.
        line: The first line of the row, counted from 1.
    """

    document: str
    start: int
    end: int
    label: str
    mention: str | None
    path: Path
    line: int


def read_rows(tables: Iterable[Path], reading: Reading) -> Iterator[Row]:
    r"""The rows of tables, one at a time.

    Only `\n` ends a row, and one `\r` before it goes with it; a BOM at the very beginning is taken off. Malformed rows
    are reported to `reading`; blank lines and other columns are counted there, a column once for each name.

    Raises:
        DataError: If a file cannot be read, or has no header.
    """
    others = set[str]()
    for path in tables:
        yield from _rows_of_table(path, reading, others)


def row_text(fields: Iterable[str]) -> str:
    """A row with its newline; fields stand in quotation marks where they would be misread without."""
    marked = (f'"{field.replace(_MARK, _MARK * 2)}"' if _MISREAD.search(field) else field for field in fields)
    return "\t".join(marked) + "\n"


# Header and fields ---------------------------------------------------------------------------------------------------


class _Columns(NamedTuple):
    """Where a row has what."""

    width: int
    document: int
    label: int
    start: int
    end: int
    mention: int | None

    def mention_of(self, fields: Sequence[str]) -> str | None:
        return None if self.mention is None else fields[self.mention]

    def offsets_of(self, fields: Sequence[str]) -> tuple[int, int] | None:
        found = fields[self.start], fields[self.end]
        return (int(found[0]), int(found[1])) if all(map(_WHOLE_NUMBER.fullmatch, found)) else None

    def fit(self, fields: Sequence[str]) -> bool:
        """Whether the mention has the length that the offsets say."""
        if len(fields) != self.width or self.mention is None or (offsets := self.offsets_of(fields)) is None:
            return False
        return len(fields[self.mention]) == offsets[1] - offsets[0]


def _rows_of_table(path: Path, reading: Reading, others: set[str]) -> Iterator[Row]:
    content = read_text(path, reading.options.encoding).removeprefix("\ufeff")
    columns = None
    at, line = 0, 1
    while at < len(content):
        cut = _cut_literally(content, at) if columns is None else _cut(content, at, columns)
        if not "".join(cut.fields).strip():
            reading.add_issue("blank lines", path, line)
        elif columns is None:
            columns = _columns(cut.fields, path, line)
            names = {name for number, name in enumerate(_names(cut.fields)) if number not in columns[1:]}
            if new := names - others:
                others |= new
                reading.add_issue("other columns", path, line, count=len(new))
        else:
            with reading.guarded(path, line):
                yield _row(cut.fields, columns, place=(path, line))
        line += content.count("\n", at, cut.end)
        at = cut.end
    if columns is None:
        raise DataError(f"{path}: {_expected_header()}, found no row")


def _columns(fields: Sequence[str], path: Path, line: int) -> _Columns:
    """The columns that a header names, whatever their order."""
    names = _names(fields)
    at = {role: next((names.index(known) for known in _ROLES[role] if known in names), -1) for role in _ROLES}
    missing = [role for role in _NEEDED if at[role] < 0]
    if missing:
        raise FormatError(path, line, f"{_expected_header()}, found none for the {', the '.join(missing)}")
    mention = at.pop("mention")
    return _Columns(len(names), **at, mention=mention if mention >= 0 else None)


def _names(fields: Sequence[str]) -> list[str]:
    return [field.strip().strip(_MARK).casefold() for field in fields]


def _expected_header() -> str:
    ways = ", ".join(f"the {role} ({' or '.join(_ROLES[role])})" for role in _NEEDED)
    return f"expected tab-separated columns and a header that names those for {ways}"


def _row(fields: Sequence[str], columns: _Columns, *, place: tuple[Path, int]) -> Row:
    """A row that has all that a span needs."""
    if len(fields) != columns.width:
        raise DataError(f"expected {columns.width} tab-separated fields, as in the header, found {len(fields)}")
    if (offsets := columns.offsets_of(fields)) is None:
        raise DataError("expected whole numbers in the columns of the start and the end")
    start, end = offsets
    if not fields[columns.label]:
        raise DataError(f"the span {start} to {end} has no label")
    label = sys.intern(fields[columns.label])
    document = sys.intern(fields[columns.document].removesuffix(".txt"))
    return Row(document, start, end, label, columns.mention_of(fields), *place)


# Rows and quotation marks --------------------------------------------------------------------------------------------


class _Cut(NamedTuple):
    """The fields of a row, and the offset after its newline."""

    fields: list[str]
    end: int


def _cut(content: str, at: int, columns: _Columns) -> _Cut:
    """The row at an offset.

    A mention may begin with a quotation mark that quotes nothing: then the next one, maybe many rows further on, does
    not close it. The length of the mention tells which of the two readings is meant; where it tells nothing, no
    reading may swallow a line that looks like a row.
    """
    literal = _cut_literally(content, at)
    if not any(field.startswith(_MARK) for field in literal.fields):
        return literal
    quoted = _cut_quoted(content, at)
    if len(quoted.fields) != columns.width:
        return literal
    fits = columns.fit(quoted.fields), columns.fit(literal.fields)
    if fits == (False, True):
        return literal
    same_mention = fits[1] and columns.mention_of(quoted.fields) == columns.mention_of(literal.fields)
    if fits[0] and not same_mention:
        return quoted
    swallowed = content[literal.end : quoted.end].split("\n")
    return literal if any(line.count("\t") + 1 == columns.width for line in swallowed) else quoted


def _cut_literally(content: str, at: int) -> _Cut:
    newline = content.find("\n", at)
    end = len(content) if newline < 0 else newline
    return _Cut(content[at:end].removesuffix("\r").split("\t"), end + 1)


def _cut_quoted(content: str, at: int) -> _Cut:
    """The row whose fields may stand in quotation marks; a mark that is not closed is a character."""
    fields = []
    while True:
        field = _FIELD.match(content, at)
        assert field is not None  # an empty one, if nothing else
        fields.append(field["plain"] if field["quoted"] is None else field["quoted"].replace(_MARK * 2, _MARK))
        at = field.end()
        if field["separator"] != "\t":
            return _Cut(fields, at)
