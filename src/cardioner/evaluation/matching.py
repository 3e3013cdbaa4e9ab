"""Which predicted spans are gold spans, counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cardioner.documents import Span


@dataclass(frozen=True, slots=True)
class Counts:
    """Integer counts, which add up over documents and types.

    Attributes:
        true_positives: Predicted spans that are gold spans.
        false_positives: Predicted spans that are not.
        false_negatives: Gold spans that were not predicted.
    """

    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
        )

    @property
    def precision(self) -> float:
        """Share of the predicted spans that are right; 0.0 if nothing was predicted."""
        return _share(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Share of the gold spans that were found; 0.0 if there are none."""
        return _share(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0.0 if there is nothing to find and nothing was predicted."""
        return _share(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def match_strict(gold: Iterable[Span], predicted: Iterable[Span]) -> dict[str, Counts]:
    """Count the spans of one document that agree in every offset and in the label.

    A gold span is matched by at most one predicted span, and a predicted one by at most one gold span, so duplicates
    count as often as they appear on both sides. Neither order nor scores matter.

    Args:
        gold: The annotated spans.
        predicted: The predicted spans.

    Returns:
        The counts of every label that either side has, sorted by label.
    """
    wanted, found = Counter(map(_key, gold)), Counter(map(_key, predicted))
    hits = _per_label(wanted & found)
    missed, wrong = _per_label(wanted - found), _per_label(found - wanted)
    labels = sorted(hits.keys() | missed.keys() | wrong.keys())
    return {label: Counts(hits[label], wrong[label], missed[label]) for label in labels}


_Key = tuple[str, int, int, tuple[tuple[int, int], ...]]


def _key(span: Span) -> _Key:
    return span.label, span.start, span.end, span.fragments


def _per_label(keys: Counter[_Key]) -> Counter[str]:
    totals: Counter[str] = Counter()
    for key, count in keys.items():
        totals[key[0]] += count
    return totals
