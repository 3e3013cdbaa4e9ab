"""What a person changed in the spans of a note: counts and offsets, never text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal, TypeAlias

from cardioner.data.documents import Span

Action = Literal["accepted", "withdrawn"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who corrected a note, and what was corrected.

    Attributes:
        user: The name that the person gave; empty for none.
        model: The model whose spans were shown; `None` for none.
        digest: Of that model, as `ServedModel` has it.
    """

    user: str = ""
    model: str | None = None
    digest: str | None = None


def audit_line(action: Action, note: str, author: Author, before: Iterable[Span], after: Iterable[Span]) -> bytes:
    """A line of JSON: when, which note, by whom, of which model, and the changes.

    Args:
        action: What was done to the note.
        note: Its id.
        author: Who did it.
        before: The spans that the person began with.
        after: The spans that the note has now.
    """
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    row = {
        "time": now,
        "action": action,
        "note": note,
        "user": author.user,
        "model": author.model,
        "digest": author.digest,
        **changes(before, after),
    }
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def changes(before: Iterable[Span], after: Iterable[Span]) -> dict[str, Any]:
    """How spans differ from earlier ones: how many are the same, which were added, removed or given another type."""
    old, new = _places(before), _places(after)
    removed, added = sorted(old - new), sorted(new - old)
    made = dict(added)  # of several types at one place, one
    retyped = [(offsets, label, made[offsets]) for offsets, label in removed if offsets in made]
    told = {(offsets, label) for offsets, *labels in retyped for label in labels}
    return {
        "spans": len(new),
        "kept": len(old & new),
        "added": [_described(*one) for one in added if one not in told],
        "removed": [_described(*one) for one in removed if one not in told],
        "retyped": [{"offsets": offsets, "from": old, "to": new} for offsets, old, new in retyped],
    }


Offsets: TypeAlias = "tuple[tuple[int, int], ...]"


def _described(offsets: Offsets, label: str) -> dict[str, Any]:
    return {"offsets": offsets, "label": label}


def _places(spans: Iterable[Span]) -> set[tuple[Offsets, str]]:
    return {(span.fragments or ((span.start, span.end),), span.label) for span in spans}
