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
    """How spans differ from earlier ones: how many are at the same place, which were added, removed or changed.

    Of attributes that were changed there are names, not values.
    """
    earlier, later = ({place_of(span): span.attributes for span in spans} for spans in (before, after))
    old, new = earlier.keys(), later.keys()
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
        "attributes": [
            {**_described(*place), "changed": changed}
            for place in sorted(old & new)
            if (changed := sorted({name for name, _ in earlier[place].items() ^ later[place].items()}))
        ],
    }


Offsets: TypeAlias = "tuple[tuple[int, int], ...]"
Place: TypeAlias = tuple[Offsets, str]
"""Where a span stands, and its type."""


def place_of(span: Span) -> Place:
    """Where a span stands, and its type."""
    return span.fragments or ((span.start, span.end),), span.label


def _described(offsets: Offsets, label: str) -> dict[str, Any]:
    return {"offsets": offsets, "label": label}
