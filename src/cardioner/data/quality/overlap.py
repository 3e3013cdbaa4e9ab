"""Whether a corpus needs tags per type: how many of its spans one flat sequence of tags loses."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cardioner.data.quality.counting import FlatCount
from cardioner.data.quality.findings import Member
from cardioner.data.quality.tokens import words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cardioner.data.documents import Document
    from cardioner.data.labels import Overlap

LEAST_GAIN = 0.01
"""The share of all spans that tags per type must be able to carry beyond flat ones to be chosen."""


class OverlapChoice(NamedTuple):
    """The layout of tags that a corpus needs, and why.

    Attributes:
        overlap: The layout.
        spans: Spans of the corpus.
        flat: How many of them flat tags carry exactly.
        per_type: How many of them tags per type carry exactly.
    """

    overlap: Overlap
    spans: int
    flat: int
    per_type: int

    @property
    def gain(self) -> float:
        """The share of all spans that only tags per type carry."""
        return (self.per_type - self.flat) / self.spans if self.spans else 0.0


def choose_overlap(documents: Iterable[Document]) -> OverlapChoice:
    """Count what both layouts of tags carry, over words, and choose.

    Args:
        documents: The notes to learn from.

    Returns:
        `per-type` if it carries more than `LEAST_GAIN` of all spans beyond what flat tags carry, else `flat`.
    """
    count = FlatCount(words())
    for document in documents:
        count.add(Member("train", document.id), document)
    found = count.result()
    spans, flat, per_type = (sum(part.values()) for part in (found.gold, found.exact, found.exact_per_type))
    choice = OverlapChoice("flat", spans, flat, per_type)
    return choice._replace(overlap="per-type") if choice.gain > LEAST_GAIN else choice
