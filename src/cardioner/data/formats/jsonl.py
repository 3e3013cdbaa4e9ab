"""JSON Lines: a JSON object for each note, one a line, with its text and the spans marked in it.

`{"id": "a", "text": "No oedema.", "tags": [{"start": 3, "end": 9, "tag": "SYMPTOM"}]}`; a tag may also have a `score`
(0 to 1) and, where it is discontinuous, its `fragments` (`[[start, end], ...]`). Lines are those of
https://jsonlines.org, values those of RFC 8259.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from cardioner._io import writing
from cardioner.data.documents import Document, Span
from cardioner.data.formats.files import encoded, read_lines, unique_keys
from cardioner.data.formats.recognition import line_files
from cardioner.errors import DataError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from cardioner.data.corpus import Issue
    from cardioner.data.formats.reading import Reading

_LISTS = ("tags", "spans", "entities")
_LABELS = ("tag", "label", "type")
UNMARKED = "notes without tags"
"""The kind of issue under which notes without a list of spans are counted."""


def read_jsonl(path: Path, reading: Reading) -> Iterator[Document]:
    """Read a file of JSON objects, or such files in a folder and its sub-folders, in sorted order.

    The list of spans may be called `tags`, `spans` or `entities`, and their entity type `tag`, `label` or `type`. An id
    may be a whole number; a note without one is called `FILE-LINE` after the file, without its suffix, and the line. A
    note without a list of spans is refused where annotations are required; one with a problem is skipped whole.
    """
    for stem, file in line_files(path, "jsonl", reading):
        with reading.guarded(file):
            yield from documents_of_lines(read_lines(file, reading.options.encoding), stem, file, reading)


def write_jsonl(documents: Iterable[Document], path: Path, *, overwrite: bool = False) -> tuple[Issue, ...]:
    """Write a file of JSON objects, from which `read_jsonl` gives back equal documents.

    Raises:
        OutputError: If the file exists and may not be replaced, a score is not from 0 to 1, an id or a label is not
            Unicode text, or the disk is full.
    """
    with writing(path, overwrite=overwrite) as file:
        for document in documents:
            file.write(_line(document))
    return ()


# Reading -------------------------------------------------------------------------------------------------------------


def documents_of_lines(lines: Iterable[tuple[int, str]], stem: str, path: Path, reading: Reading) -> Iterator[Document]:
    """The documents of numbered lines that come from a path; `stem` names those without an id."""
    for number, line in lines:
        if not line.strip(" \t\r"):
            reading.add_issue("blank lines", path, number)
            continue
        with reading.guarded(path, number):
            row = _decode(line)
            marked = _only(row, _LISTS, "a note")
            document, others = _document(row, marked, f"{stem}-{number}")
            _report_others(marked, others, reading, where=(path, number))
            yield document


def _report_others(marked: str | None, others: int, reading: Reading, *, where: tuple[Path, int]) -> None:
    if marked is None:
        if reading.options.require_annotations:
            raise DataError(f"expected a list of spans under {_either(_LISTS)}; an empty one marks a note without any")
        reading.add_issue(UNMARKED, *where)
    if others:
        reading.add_issue("other keys", *where, count=others)


def _decode(line: str) -> Mapping[str, Any]:
    """The object on a line; what the parser has to say about it is not passed on, as it may quote the line."""
    try:
        row = json.loads(line, object_pairs_hook=unique_keys, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        problem = f"expected one JSON object, found something else at character {error.pos}"
    except RecursionError:
        problem = "expected a JSON object with a list of spans, found one that is nested too deeply"
    except ValueError:  # Python's own limit
        problem = "expected numbers that are offsets or scores, found one with thousands of digits"
    else:
        if isinstance(row, dict):
            return row
        problem = f"expected one JSON object, found a value of type {type(row).__name__}"
    raise DataError(problem)


def _refuse_constant(name: str) -> NoReturn:
    raise DataError(f"JSON has no number {name}")


def _document(row: Mapping[str, Any], marked: str | None, fallback: str) -> tuple[Document, int]:
    """The document of an object, and how many keys in it mean nothing here."""
    if not isinstance(row.get("text"), str):
        raise DataError(f'expected a string under "text", found {_kind(row, "text")}')
    name = row.get("id", fallback)
    if not _is_unicode(name) and not _is_whole(name):
        raise DataError(f'expected a string or a whole number under "id", found {_kind(row, "id")}')
    others = len(row.keys() - {"id", "text", marked})
    items = [] if marked is None else row[marked]
    if not isinstance(items, list):
        raise DataError(f'expected a list under "{marked}", found {_kind(row, str(marked))}')
    spans = []
    for number, item in enumerate(items, start=1):
        span, more = _span(item, f"span {number}")
        spans.append(span)
        others += more
    return Document(str(name), row["text"], tuple(spans)), others


def _span(item: Any, where: str) -> tuple[Span, int]:
    """The span of an item, and how many keys in it mean nothing here."""
    if not isinstance(item, dict):
        raise DataError(f"{where}: expected an object, found a value of type {type(item).__name__}")
    key = _only(item, _LABELS, where)
    if key is None or not _is_unicode(item[key]):
        raise DataError(f"{where}: expected a string under {_either(_LABELS)}")
    for edge in ("start", "end"):
        if not _is_whole(item.get(edge)):
            raise DataError(f'{where}: expected a whole number under "{edge}", found {_kind(item, edge)}')
    span = Span(item["start"], item["end"], item[key], _score(item, where), _fragments(item, where))
    return span, len(item.keys() - {"start", "end", key, "score", "fragments"})


def _score(item: Mapping[str, Any], where: str) -> float | None:
    if "score" not in item:
        return None
    score = item["score"]
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not 0 <= score <= 1:
        raise DataError(f'{where}: expected a number from 0 to 1 under "score"')
    return float(score)


def _fragments(item: Mapping[str, Any], where: str) -> tuple[tuple[int, int], ...]:
    pieces = item.get("fragments", [])
    if not isinstance(pieces, list) or not all(_is_pair(piece) for piece in pieces):
        raise DataError(f'{where}: expected pairs of whole numbers under "fragments", as in [[0, 4], [9, 12]]')
    return tuple((start, end) for start, end in pieces)


def _is_pair(piece: Any) -> bool:
    return isinstance(piece, list) and len(piece) == 2 and all(map(_is_whole, piece))


def _only(row: Mapping[str, Any], names: Sequence[str], where: str) -> str | None:
    """The one of several names for the same thing that an object uses."""
    used = [name for name in names if name in row]
    if len(used) > 1:
        raise DataError(f"{where}: expected one of {_either(names)}, found {len(used)} of them")
    return used[0] if used else None


def _either(names: Sequence[str]) -> str:
    return " or ".join(f'"{name}"' for name in names)


def _kind(row: Mapping[str, Any], key: str) -> str:
    """What lies under a key, for a message: never the value."""
    if key not in row:
        return "nothing"
    broken = isinstance(row[key], str) and not _is_unicode(row[key])
    return "half of a surrogate pair" if broken else f"a value of type {type(row[key]).__name__}"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_unicode(value: Any) -> bool:
    """Whether a value is a string without half of a surrogate pair, which JSON's escapes can write."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


# Writing -------------------------------------------------------------------------------------------------------------


def _line(document: Document) -> bytes:
    tags = [_item(span, document.id) for span in document.spans]
    row = {"id": document.id, "text": document.text, "tags": tags}
    return encoded(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n", document.id)


def _item(span: Span, name: str) -> dict[str, Any]:
    item: dict[str, Any] = {"start": span.start, "end": span.end, "tag": span.label}
    if span.score is not None:
        if not 0 <= span.score <= 1:
            raise OutputError(f"document {name!r}: the score of the span {span.start} to {span.end} is not from 0 to 1")
        item["score"] = float(span.score)
    if span.fragments:
        item["fragments"] = [list(fragment) for fragment in span.fragments]
    return item
