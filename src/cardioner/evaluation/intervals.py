"""How sure a score is: intervals by resampling documents.

Documents are resampled, not spans: spans of one note succeed and fail together. Counts are resampled, and figures are
taken of the sums, so that every figure has its interval from the same samples.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13 (percentile intervals).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cardioner.errors import UsageError
from cardioner.evaluation.matching import CRITERIA
from cardioner.evaluation.scores import FIGURES, count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cardioner.evaluation.pairing import Pair
    from cardioner.evaluation.scores import JsonValue

LEVEL = 0.95
"""The share of samples inside an interval."""

MICRO, MACRO = "micro", "macro"
_CELLS = 1 << 24
"""Most numbers that are held at a time."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Where 95 of 100 resampled figures lie: from `low` to `high`."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Intervals:
    """The interval of every figure.

    Attributes:
        samples: How many samples were drawn.
        seed: Of the random numbers.
        found: By criterion, row (`micro`, `macro`, `per_type/TYPE`) and figure.
    """

    samples: int
    seed: int
    found: Mapping[tuple[str, str, str], Interval]

    def of(self, criterion: str, row: str, figure: str) -> Interval:
        """One interval; a type's row is `per_type/TYPE`."""
        return self.found[criterion, row, figure]

    def to_dict(self) -> dict[str, JsonValue]:
        """Nested as the scores are, `[low, high]` for each figure; ready for JSON."""
        content: dict[str, Any] = {"level": LEVEL, "samples": self.samples, "seed": self.seed}
        return content | nested({place: [found.low, found.high] for place, found in self.found.items()})


def bootstrap(pairs: Sequence[Pair], *, samples: int = 1000, seed: int = 0) -> Intervals:
    """Percentile intervals of every figure, over resampled documents.

    Args:
        pairs: Documents and their predictions.
        samples: How many times as many documents are drawn, with repetition.
        seed: The same seed gives the same intervals.

    Raises:
        UsageError: If there are no documents, or fewer than one sample.
    """
    check_samples(len(pairs), samples)
    table, labels = count_table([pairs])
    flat = table[0].reshape(len(pairs), -1)
    drawn = [figures_of(sums, labels) for sums in resampled(flat, samples=samples, seed=seed)]
    return Intervals(samples, seed, {place: interval_of(values) for place, values in joined(drawn).items()})


def nested(found: Mapping[tuple[str, str, str], Any]) -> dict[str, Any]:
    """Figures by criterion, row and name as dictionaries in each other, as the scores have them."""
    content: dict[str, Any] = {}
    for (criterion, row, figure), value in found.items():
        at = content.setdefault(criterion, {})
        kind, _, label = row.partition("/")
        at = at.setdefault(kind, {})
        if label:
            at = at.setdefault(label, {})
        at[figure] = value
    return content


# Counts --------------------------------------------------------------------------------------------------------------


def check_samples(documents: int, samples: int) -> None:
    """Refuse to draw samples of no documents, and no samples."""
    if not documents:
        raise UsageError("there are no documents to draw samples of: both sides are empty")
    if samples < 1:
        raise UsageError(f"expected at least one sample, found {samples}")


def count_table(sides: Sequence[Sequence[Pair]]) -> tuple[NDArray[np.float64], list[str]]:
    """Counts `(sides, documents, criteria, types, 4)`: credit, gold, predicted and all spans marked; and the types."""
    pairs = [pair for side in sides for pair in side]
    labels = sorted({span.label for pair in pairs for span in pair.marked})
    column = {label: index for index, label in enumerate(labels)}
    table = np.zeros((len(sides), len(sides[0]), len(CRITERIA), len(labels), 4))
    for number, side in enumerate(sides):
        for row, pair in enumerate(side):
            for span in pair.marked:
                table[number, row, :, column[span.label], 3] += 1
            for place, found in enumerate(count(pair).values()):
                for label, counts in found.items():
                    credit = counts.true_positives + counts.partial / 2
                    table[number, row, place, column[label], :3] = credit, counts.gold, counts.predicted
    return table, labels


def resampled(flat: NDArray[np.float64], *, samples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Sums `(some samples, columns)` over documents drawn with repetition."""
    documents = len(flat)
    generator = np.random.default_rng(seed)
    for size in chunks(samples, documents + flat.shape[1]):
        weights = generator.multinomial(documents, np.full(documents, 1 / documents), size)
        yield weights @ flat


def chunks(samples: int, width: int) -> Iterator[int]:
    """Sizes that add up to the samples, none of which needs too much memory."""
    size = max(1, _CELLS // max(1, width))
    for start in range(0, samples, size):
        yield min(size, samples - start)


# Figures -------------------------------------------------------------------------------------------------------------


def figures_of(sums: NDArray[np.float64], labels: Sequence[str]) -> dict[tuple[str, str, str], NDArray[np.float64]]:
    """Every figure `(samples,)` of sums `(samples, criteria * types * 4)`."""
    counts = sums.reshape(len(sums), len(CRITERIA), len(labels), 4)
    found = {}
    for place, criterion in enumerate(CRITERIA):
        own = counts[:, place]
        there = own[:, :, 3] > 0  # a type that neither side has in a sample is none of its types
        for name, figure in _FIGURES.items():
            types = figure(own)
            found[criterion, MICRO, name] = figure(own.sum(1))
            found[criterion, MACRO, name] = _over(np.where(there, types, 0).sum(1), there.sum(1))
            for index, label in enumerate(labels):
                found[criterion, f"per_type/{label}", name] = types[:, index]
    return found


def _over(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = np.divide(part, whole, out=np.zeros(np.shape(part)), where=whole > 0)
    return shares


_FIGURES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "precision": lambda counts: _over(counts[..., 0], counts[..., 2]),
    "recall": lambda counts: _over(counts[..., 0], counts[..., 1]),
    "f1": lambda counts: _over(2 * counts[..., 0], counts[..., 1] + counts[..., 2]),
}
assert tuple(_FIGURES) == FIGURES


def joined(
    parts: Sequence[dict[tuple[str, str, str], NDArray[np.float64]]],
) -> dict[tuple[str, str, str], NDArray[np.float64]]:
    """Figures of several lots of samples, one lot after the other."""
    return {place: np.concatenate([part[place] for part in parts]) for place in parts[0]}


def interval_of(values: NDArray[np.float64]) -> Interval:
    """Where the middle 95 % of the values lie."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))
