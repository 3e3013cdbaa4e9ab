"""JSON Lines: a JSON object for each note, one a line, with its text and the spans marked in it.

`{"id": "a", "text": "No oedema.", "tags": [{"start": 3, "end": 9, "tag": "SYMPTOM"}]}`; a tag may also have a `score`
(0 to 1), where it is discontinuous its `fragments` (`[[start, end], ...]`), `attributes` (`{"Negation": true}`) and
`attribute_scores`. Other keys are metadata of the note.
Lines are those of https://jsonlines.org, values those of RFC 8259. `json_rows` says what other tools write.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NoReturn

from cardioner.data.formats.files import read_lines, read_text, unique_keys
from cardioner.data.formats.json_rows import Row, read_row
from cardioner.data.formats.json_values import LISTS, either
from cardioner.data.formats.json_writing import attribute_keys, checked_score, encoded_row, write_rows
from cardioner.data.formats.label_studio import PREDICTED
from cardioner.data.formats.recognition import line_files
from cardioner.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from cardioner.data.corpus import Issue
    from cardioner.data.documents import Document, Span
    from cardioner.data.formats.reading import Reading

_WHOLE = re.compile(r"\s*(?:\[\s*(?:[\[{\]]|\Z)|\{\s*\Z)")
"""The first line of a file that is one JSON value: of a list of objects or lists, or of an object with others below."""
UNMARKED = "notes without tags"
"""The kind of issue under which notes without a list of spans are counted."""


def read_jsonl(path: Path, reading: Reading) -> Iterator[Document]:
    """Read a file of JSON objects, one a line or in one list, or such files in a folder and its sub-folders, sorted.

    The list of spans may be called `tags`, `spans` or `entities`, and their entity type `tag`, `label` or `type`; the
    forms that doccano, Prodigy, spaCy and Label Studio write are read too. Other keys become metadata. An id
    may be a whole number; a note without one is called `FILE-LINE` after the file, without its suffix, and the line. A
    note without a list of spans is refused where annotations are required; one with a problem is skipped whole.
    """
    for stem, file in line_files(path, "jsonl", reading):
        with reading.guarded(file):
            yield from _read_file(stem, file, reading)


def write_jsonl(documents: Iterable[Document], path: Path, *, overwrite: bool = False) -> tuple[Issue, ...]:
    """Write a file of JSON objects, from which `read_jsonl` gives back equal documents.

    Raises:
        OutputError: If the file exists and may not be replaced, a score is not from 0 to 1, an id or a label is not
            Unicode text, or the disk is full.
    """
    write_rows(documents, path, _row, overwrite=overwrite)
    return ()


def line_bytes(document: Document) -> bytes:
    """The line of a note.

    Raises:
        OutputError: As `write_jsonl`.
    """
    return encoded_row(_row(document), document)


# Reading -------------------------------------------------------------------------------------------------------------


def _read_file(stem: str, path: Path, reading: Reading) -> Iterator[Document]:
    """The notes of a file: of a JSON list or of one object on several lines, or else of JSON on each line."""
    lines = read_lines(path, reading.options.encoding)
    start = next((line for _, line in lines if line.strip(" \t\r")), "")
    if not _WHOLE.match(start):
        yield from documents_of_lines(read_lines(path, reading.options.encoding), stem, path, reading)
        return
    content = _decode(read_text(path, reading.options.encoding).removeprefix("\ufeff"))
    for number, value in enumerate(content if isinstance(content, list) else [content], start=1):
        with reading.guarded(path):
            try:
                yield from _note(value, f"{stem}-{number}", reading, where=(path, 0))
            except DataError as error:
                raise DataError(f"{path}: note {number}: {error}") from error


def documents_of_lines(lines: Iterable[tuple[int, str]], stem: str, path: Path, reading: Reading) -> Iterator[Document]:
    """The documents of numbered lines that come from a path; `stem` names those without an id."""
    for number, line in lines:
        if not line.strip(" \t\r"):
            reading.add_issue("blank lines", path, number)
            continue
        with reading.guarded(path, number):
            yield from _note(_decode(line), f"{stem}-{number}", reading, where=(path, number))


def _note(value: Any, fallback: str, reading: Reading, *, where: tuple[Path, int]) -> Iterator[Document]:
    """The note in a JSON value, if it is one to read; what is left out of it is reported."""
    row = read_row(value, fallback)
    if row is None:
        reading.add_issue("notes that were rejected or ignored", *where)
        return
    if not reading.options.texts_only:
        _check_marks(row, reading, where)
    for kind, count in row.issues.items():
        reading.add_issue(kind, *where, count=count)
    yield row.document


def _check_marks(row: Row, reading: Reading, where: tuple[Path, int]) -> None:
    """Refuse or report a note without annotations, or with what looks like some in another place."""
    if row.is_predicted:
        if reading.options.require_annotations:
            raise DataError("expected an annotation, found a prediction that nobody has corrected and submitted")
        reading.add_issue(PREDICTED, *where)
    elif row.is_marked:
        if row.suspect is not None:
            reading.add_issue("empty lists of spans beside what looks like spans", *where)
    elif row.suspect is not None:
        key = f", {row.suspect}," if row.suspect.isidentifier() and len(row.suspect) <= 20 else ""
        raise DataError(
            f"expected a list of spans under {either(LISTS)}, found another key{key} with what looks like spans: "
            "rename it, and its parts to start, end and tag"
        )
    elif reading.options.require_annotations:
        raise DataError(f"expected a list of spans under {either(LISTS)}; an empty one marks a note without any")
    else:
        reading.add_issue(UNMARKED, *where)


def _decode(content: str) -> Any:
    """A JSON value; what the parser has to say about it is not passed on, as it may quote the content."""
    try:
        return json.loads(content, object_pairs_hook=unique_keys, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        problem = f"expected one JSON object, found what is not JSON at character {error.pos}"
    except RecursionError:
        problem = "expected a JSON object with a list of spans, found one that is nested too deeply"
    except ValueError:  # Python's own limit
        problem = "expected numbers that are offsets or scores, found one with thousands of digits"
    raise DataError(problem)


def _refuse_constant(name: str) -> NoReturn:
    raise DataError(f"JSON has no number {name}")


# Writing -------------------------------------------------------------------------------------------------------------


def _row(document: Document) -> dict[str, Any]:
    return {"id": document.id, "text": document.text, "tags": [_item(span, document) for span in document.spans]}


def _item(span: Span, document: Document) -> dict[str, Any]:
    item: dict[str, Any] = {"start": span.start, "end": span.end, "tag": span.label}
    if (score := checked_score(span, document.id)) is not None:
        item["score"] = score
    if span.fragments:
        item["fragments"] = [list(fragment) for fragment in span.fragments]
    return item | attribute_keys(span)
