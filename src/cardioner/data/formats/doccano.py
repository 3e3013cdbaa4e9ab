"""doccano's datasets for sequence labelling (https://doccano.github.io/doccano): JSON lines.

`{"id": "a", "text": "No oedema.", "label": [[3, 9, "SYMPTOM"]]}`. Offsets count code points. Other keys are metadata,
which an export gives back; so it does the id, in whose place it would else put its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cardioner.data.corpus import IssueCounter
from cardioner.data.formats.json_writing import NOTE_KEYS, write_rows

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cardioner.data.corpus import Issue
    from cardioner.data.documents import Document


def write_doccano(documents: Iterable[Document], path: Path, *, overwrite: bool = False) -> tuple[Issue, ...]:
    """Write a file to import into a project for sequence labelling; it cannot hold scores or attributes.

    Raises:
        OutputError: As `write_jsonl`.
    """
    counter = IssueCounter()

    def row(document: Document) -> dict[str, Any]:
        spans = counter.bare(document)
        return {
            "id": document.id,
            "text": document.text,
            "label": [[span.start, span.end, span.label] for span in spans],
        }

    write_rows(documents, path, row, overwrite=overwrite, reserved=NOTE_KEYS | {"label", "labels"})
    return counter.issues
