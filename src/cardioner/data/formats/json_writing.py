"""Notes as JSON objects, with their metadata beside what is ours."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cardioner._io import writing
from cardioner.data.formats.files import encoded
from cardioner.data.formats.json_values import LISTS
from cardioner.errors import OutputError, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

    from cardioner.data.documents import Document, Span

NOTE_KEYS = frozenset({"id", "text", *LISTS})
"""The keys that readers of JSON take for something else than metadata."""


def write_rows(
    documents: Iterable[Document],
    path: Path,
    row: Callable[[Document], Mapping[str, Any]],
    *,
    overwrite: bool,
    reserved: Collection[str] = NOTE_KEYS,
) -> None:
    """Write a JSON object for each note, one a line.

    Args:
        documents: The notes.
        path: A file.
        row: Gives the object of a note without its metadata, which are put beside it.
        overwrite: Replace the file.
        reserved: The keys that metadata cannot have.

    Raises:
        OutputError: If the file exists and may not be replaced, metadata are not JSON, a string is not Unicode text, or
            the disk is full.
    """
    with writing(path, overwrite=overwrite) as file:
        for document in documents:
            file.write(encoded_row(row(document), document, reserved))


def encoded_row(row: Mapping[str, Any], document: Document, reserved: Collection[str] = NOTE_KEYS) -> bytes:
    """An object as a line, with the metadata of a note.

    Raises:
        OutputError: If metadata are not JSON, or a string is not Unicode text.
    """
    return encoded(json_text(row, document, reserved) + "\n", document.id)


def json_text(row: Mapping[str, Any], document: Document, reserved: Collection[str]) -> str:
    """An object as JSON, with the metadata of a note.

    Raises:
        OutputError: If they are not JSON, or have one of the reserved keys.
    """
    content = None
    if document.metadata.keys().isdisjoint(reserved):
        with suppress(TypeError, ValueError, RecursionError):
            content = json.dumps({**row, **document.metadata}, ensure_ascii=False, allow_nan=False)
    if content is None:
        raise OutputError(
            f"document {document.id!r}: its metadata is not JSON, or has one of the keys {listed(reserved)}"
        )
    return content


def checked_score(span: Span, name: str) -> float | None:
    """The score of a span as readers take it.

    Raises:
        OutputError: If it, or that of an attribute, is not from 0 to 1.
    """
    if not all(0 <= score <= 1 for score in (span.score or 0, *span.attribute_scores.values())):
        raise OutputError(f"document {name!r}: the score of the span {span.start} to {span.end} is not from 0 to 1")
    return None if span.score is None else float(span.score)


def attribute_keys(span: Span) -> dict[str, Any]:
    """The keys of a span for its attributes and their scores, where it has some."""
    scores = {attribute: float(score) for attribute, score in span.attribute_scores.items()}
    keys = {"attributes": dict(span.attributes), "attribute_scores": scores}
    return {key: held for key, held in keys.items() if held}
