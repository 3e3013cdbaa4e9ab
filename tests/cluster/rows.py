"""What the tests of clusters share: a word that no log may hold, and rows to compare."""

from __future__ import annotations

from typing import Any

CANARY = "zyxwvcanary"
"""A word of every note."""


def by_id(rows: Any) -> list[dict[str, Any]]:
    """Rows in the order of their ids, with scores as far as they agree whatever notes share a batch."""
    kept = [{**row, "spans": row["spans"] and [*map(_span, row["spans"])]} for row in rows]
    return sorted(kept, key=lambda row: row["note_id"])


def _span(span: Any) -> tuple[Any, ...]:
    """A span to compare; pyarrow gives maps as lists of pairs, Spark as dictionaries."""
    said = sorted(dict(span["attributes"] or ()).items())
    return span["start"], span["end"], span["label"], said, round(span["score"], 3)
