"""Prodigy's tasks and annotations (https://prodi.gy/docs/api-interfaces#ner_manual): JSON lines.

`{"text": "No oedema.", "spans": [{"start": 3, "end": 9, "label": "SYMPTOM"}], "answer": "accept"}`. Offsets count code
points. Tasks to annotate have no answer; predicted spans have a `score`. Prodigy keeps that and
other keys of spans, among them `attributes` and `attribute_scores`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cardioner.data.corpus import IssueCounter
from cardioner.data.formats.json_writing import NOTE_KEYS, attribute_keys, checked_score, write_rows

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cardioner.data.corpus import Issue
    from cardioner.data.documents import Document


def write_prodigy(
    documents: Iterable[Document], path: Path, *, overwrite: bool = False, predicted: bool = False
) -> tuple[Issue, ...]:
    """Write a file of annotated notes, or of tasks with the spans that a model found.

    Args:
        documents: The notes.
        path: A file.
        overwrite: Replace the file.
        predicted: Whether the spans are predictions: then there is no answer yet.

    Raises:
        OutputError: As `write_jsonl`.
    """
    counter = IssueCounter()

    def row(document: Document) -> dict[str, Any]:
        spans = [
            {"start": span.start, "end": span.end, "label": span.label}
            | ({} if (score := checked_score(span, document.id)) is None else {"score": score})
            | attribute_keys(span)
            for span in counter.contiguous(document)
        ]
        answer = {} if predicted else {"answer": "accept"}
        return {"id": document.id, "text": document.text, "spans": spans, **answer}

    write_rows(documents, path, row, overwrite=overwrite, reserved=NOTE_KEYS | {"answer", "tokens"})
    return counter.issues
