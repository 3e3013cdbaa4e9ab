"""`DocBin` of spaCy (https://spacy.io/api/docbin): docs with their tokens, groups of spans and entities in one file.

Ours are in the group `cardioner`, with records of what was marked exactly (see `spacy_docs`), and a flat choice of them
are the entities, so that the file can be trained on. Of files that others wrote, the spans of all groups and the
entities are read.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from cardioner._io import writing
from cardioner.data.documents import Document
from cardioner.data.formats.json_writing import json_text
from cardioner.data.formats.jsonl import UNMARKED
from cardioner.data.formats.recognition import line_files
from cardioner.data.spacy_docs import (
    GROUP,
    add_entities,
    data_of,
    doc_key,
    every_span,
    is_of_records,
    mark,
    marked,
)
from cardioner.errors import DataError, OutputError, UsageError, needing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from spacy.tokens import Doc

    from cardioner.data.corpus import Issue
    from cardioner.data.formats.reading import Reading

_ID, _METADATA = doc_key("cardioner_id"), doc_key("cardioner_metadata")
_OTHER_ID = doc_key("note_id")
"""Where edsnlp keeps the name of a note."""
_DAMAGE = (ValueError, KeyError, TypeError, IndexError, AttributeError, DataError, UsageError)
"""What spaCy, and our own classes, raise of a file that is damaged or of something else."""
_EXPECTED = "expected a DocBin of spaCy, found something else, or a damaged one"


def read_docbin(path: Path, reading: Reading) -> Iterator[Document]:
    """Read a file, or the `.spacy` files of a folder and its sub-folders, in sorted order.

    A note without an id is called `FILE-NUMBER`. Equal spans of several groups or of the entities are one.

    Raises:
        UsageError: If spaCy is not installed.
    """
    with needing("a DocBin", {"spacy": "spacy"}):
        import spacy  # noqa: F401, PLC0415 - an extra
    for stem, file in line_files(path, "docbin", reading):
        with reading.guarded(file):
            for number, doc in enumerate(_docs(file), start=1):
                with reading.guarded(file):
                    yield _document(doc, f"{stem}-{number}", file, reading)


def write_docbin(documents: Iterable[Document], path: Path, *, overwrite: bool = False) -> tuple[Issue, ...]:
    """Write a file from which `read_docbin` gives back equal documents; it is put together in memory.

    Raises:
        OutputError: If the file exists and may not be replaced, metadata are not JSON, an id or a label is not Unicode
            text, the notes are too many for one file, or the disk is full.
        UsageError: If spaCy is not installed.
    """
    with needing("a DocBin", {"spacy": "spacy"}):
        import spacy  # noqa: PLC0415 - an extra
        from spacy.tokens import DocBin  # noqa: PLC0415
    made, tokenizer = DocBin(store_user_data=True), spacy.blank("xx").tokenizer
    with writing(path, overwrite=overwrite) as file:
        for document in documents:
            made.add(_doc(document, tokenizer(document.text)))
        try:
            file.write(made.to_bytes())
        except ValueError as error:
            raise OutputError(f"{path}: too many notes for one DocBin: write several") from error
    return ()


# Reading -------------------------------------------------------------------------------------------------------------


class _Parts(NamedTuple):
    """What a doc holds: the note, what is left out of it, and whether anyone marked spans in it."""

    document: Document
    left_out: Mapping[str, int]
    is_marked: bool


def _docs(file: Path) -> Iterator[Doc]:
    """The docs of a file."""
    from spacy.tokens import DocBin  # noqa: PLC0415 - an extra
    from spacy.vocab import Vocab  # noqa: PLC0415

    try:
        yield from DocBin().from_bytes(file.read_bytes()).get_docs(Vocab())
        return
    except OSError as error:
        problem = f"{file}: cannot be read ({error.strerror})"
    except _DAMAGE:
        problem = f"{file}: {_EXPECTED}"
    raise DataError(problem)  # outside, as that error may quote the file


def _document(doc: Doc, fallback: str, file: Path, reading: Reading) -> Document:
    """The note in a doc; what is left out of it is reported."""
    try:
        parts = _parts(doc, fallback)
    except _DAMAGE:
        parts = None
    if parts is None:
        raise DataError(f"{file}: {_EXPECTED}")
    for kind, count in parts.left_out.items():
        if count:
            reading.add_issue(kind, file, count=count)
    if not (parts.is_marked or reading.options.texts_only):
        if reading.options.require_annotations:
            name = parts.document.id
            raise DataError(f"{file}: the note {name!r} has neither groups of spans nor entities: annotate it")
        reading.add_issue(UNMARKED, file)
    return parts.document


def _parts(doc: Doc, fallback: str) -> _Parts:
    ours, data = GROUP in doc.spans, data_of(doc)
    every = every_span(doc)
    marks = [marked(span) for span in (doc.spans[GROUP] if ours else every) if span.label]
    spans = marks if ours else sorted(dict.fromkeys(marks))
    kept = {(span.start, span.end, span.label) for span in spans}
    others = {(one.start, one.end, one.label) for one in (marked(span) for span in every if span.label)} - kept
    left_out = {
        "spans without a label": sum(not span.label for span in every),
        f"spans outside of the group {GROUP}": len(others),
        "ids in a knowledge base": sum(bool(span.kb_id) for span in every),
        "categories of notes": len(doc.cats),
        "data of extensions": sum(not (key in (_ID, _METADATA, _OTHER_ID) or is_of_records(key)) for key in data),
    }
    name = str(data.get(_ID, data.get(_OTHER_ID, fallback)))
    document = Document(name, doc.text, tuple(spans), json.loads(data.get(_METADATA, "{}")))
    return _Parts(document, left_out, ours or bool(doc.spans) or doc.has_annotation("ENT_IOB"))


# Writing -------------------------------------------------------------------------------------------------------------


def _doc(document: Document, doc: Doc) -> Doc:
    """A doc with the spans of a note, its id and its metadata."""
    problem = f"document {document.id!r}: the id or a label holds half of a surrogate pair, which is not text"
    try:
        mark(doc, document.spans)
        data_of(doc)[_ID] = document.id.encode().decode()
    except UnicodeEncodeError:
        raise OutputError(problem) from None
    add_entities(doc, doc.spans[GROUP], keep=False)
    if document.metadata:
        data_of(doc)[_METADATA] = json_text({}, document, ())
    return doc
