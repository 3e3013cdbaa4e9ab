"""What is written for a batch of tagged notes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from cardioner.tables.tagging import exploded

if TYPE_CHECKING:
    import pyarrow as pa

    from cardioner.tables.source import Tagged


class Shape(Protocol):
    """Makes the rows that are written.

    Attributes:
        name: What to call it.
        left_out: What it cannot hold, counted.
    """

    left_out: Counter[str]

    @property
    def name(self) -> str:
        """What to call it."""

    def __call__(self, batch: Tagged) -> pa.RecordBatch:
        """The rows for a batch."""


@dataclass
class AsTagged:
    """The rows as `tag_batch` makes them: one for each note, or with `explode` one for each span."""

    explode: bool = False
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        """What to call it."""
        return "a row for each span" if self.explode else "a row for each note"

    def __call__(self, batch: Tagged) -> pa.RecordBatch:
        """The rows for a batch."""
        return exploded(batch.tagged) if self.explode else batch.tagged
