"""What the tests of clusters share: a word that no log may hold, and rows to compare."""

from __future__ import annotations

from typing import Any

CANARY = "zyxwvcanary"
"""A word of every note."""


def by_id(rows: Any) -> list[dict[str, Any]]:
    """Rows in the order of their ids, with scores as far as they agree whatever notes share a batch."""
    kept = [
        {
            **row,
            "spans": row["spans"]
            and [
                (*(span[name] for name in ("start", "end", "label", "attributes")), round(span["score"], 3))
                for span in row["spans"]
            ],
        }
        for row in rows
    ]
    return sorted(kept, key=lambda row: row["note_id"])
