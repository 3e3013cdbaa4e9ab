"""How sure a score is: intervals by resampling documents.

Documents are resampled, not spans: spans of one note succeed and fail together. Counts are resampled, and figures are
taken of the sums, so that every figure has its interval from the same samples.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13 (percentile intervals).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from cardioner.errors import UsageError
from cardioner.evaluation.attributes import count_attributes, gold_names, of_gold
from cardioner.evaluation.matching import ATTRIBUTES, CRITERIA
from cardioner.evaluation.scores import FIGURES, Counts, TypeCounts, count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cardioner.evaluation.pairing import Pair
    from cardioner.evaluation.scores import JsonValue

LEVEL = 0.95
"""The share of samples inside an interval."""

MICRO, MACRO = "micro", "macro"
_CELLS = 1 << 24
"""Most numbers that are held at a time."""

Place: TypeAlias = "tuple[str, str, str]"
"""Of a figure: its criterion, its row (`micro`, `macro` or `per_type/TYPE`) and its name."""


class Interval(NamedTuple):
    """Where 95 of 100 resampled figures lie: from `low` to `high`."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Intervals:
    """The interval of every figure, from so many samples, drawn with this seed.

    Attributes:
        samples: How many.
        seed: Of the random numbers.
        found: By criterion, row and figure; `attributes` is among the criteria if gold spans have any.
        per_attribute: By the name of an attribute, then by `matched` or `end_to_end`, row (`micro`, `macro` or
            `per_value/VALUE`) and figure.
    """

    samples: int
    seed: int
    found: Mapping[Place, Interval]
    per_attribute: Mapping[str, Mapping[Place, Interval]] = field(default_factory=dict)

    def of(self, criterion: str, row: str, figure: str) -> Interval:
        """One interval; a type's row is `per_type/TYPE`."""
        return self.found[criterion, row, figure]

    def to_dict(self) -> dict[str, JsonValue]:
        """Nested as the scores are, `[low, high]` for each figure; ready for JSON."""
        content: dict[str, Any] = {"level": LEVEL, "samples": self.samples, "seed": self.seed}
        content |= _lists(self.found)
        if self.per_attribute:
            content[ATTRIBUTES]["per_attribute"] = {name: _lists(found) for name, found in self.per_attribute.items()}
        return content


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
    pairs, criteria = of_gold(pairs), criteria_of(pairs)
    (table,), labels = count_tables(pairs, criteria=criteria)

    def interval_of(table: NDArray[np.float64], rows: Sequence[str], places: Sequence[Place]) -> dict[Place, Interval]:
        drawn = np.concatenate([figures_of(sums, rows) for sums in resampled(table, samples=samples, seed=seed)])
        return dict(zip(places, intervals_of(drawn), strict=True))

    return Intervals(
        samples,
        seed,
        interval_of(table, labels, places_of(labels, criteria)),
        {
            name: interval_of(table, values, places_of(values, _PARTS, "per_value"))
            for name, (table, values) in _attribute_tables(pairs).items()
        },
    )


def criteria_of(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """The criteria; the attributes are one of them if gold spans have any."""
    return (
        (*CRITERIA, ATTRIBUTES) if any(span.attributes for pair in pairs for span in pair.gold.spans) else (*CRITERIA,)
    )


def _lists(found: Mapping[Place, Interval]) -> dict[str, Any]:
    return nested({place: list(interval) for place, interval in found.items()})


def nested(found: Mapping[Place, Any]) -> dict[str, Any]:
    """Figures by criterion, row and name as dictionaries in each other, as the scores have them."""
    content: dict[str, Any] = {}
    for (criterion, row, figure), value in found.items():
        at = content.setdefault(criterion, {})
        for name in row.split("/", 1):
            at = at.setdefault(name, {})
        at[figure] = value
    return content


# Counts --------------------------------------------------------------------------------------------------------------


def check_samples(documents: int, samples: int) -> None:
    """Refuse to draw samples of no documents, and no samples."""
    if not documents:
        raise UsageError("there are no documents to draw samples of: both sides are empty")
    if samples < 1:
        raise UsageError(f"expected at least one sample, found {samples}")


def count_tables(
    *sides: Sequence[Pair], criteria: Sequence[str] = tuple(CRITERIA)
) -> tuple[NDArray[np.float64], list[str]]:
    """Counts `(sides, documents, criteria * types * 4)`: credit, gold, predicted, all marked spans; and the types."""
    labels = sorted({span.label for side in sides for pair in side for span in pair.marked})
    column = {label: index for index, label in enumerate(labels)}
    table = np.zeros((len(sides), len(sides[0]), len(criteria), len(labels), 4))
    for number, side in enumerate(sides):
        for row, pair in enumerate(side):
            for span in pair.marked:
                table[number, row, :, column[span.label], 3] += 1
            for place, found in enumerate(count(pair, criteria).values()):
                for label, counts in found.items():
                    table[number, row, place, column[label], :3] = counts.credit, counts.gold, counts.predicted
    return table.reshape(*table.shape[:2], -1), labels


_PARTS = ("matched", "end_to_end")


def _attribute_tables(pairs: Sequence[Pair]) -> dict[str, tuple[NDArray[np.float64], list[str]]]:
    """By attribute: counts `(documents, parts * values * 4)`, credit, gold, predicted, and both; and the values."""
    names = gold_names(pairs)
    found = [count_attributes(pair, names) for pair in pairs]
    tables = {}
    for name in names:
        parts: list[list[TypeCounts]] = [[getattr(counts[name], part) for part in _PARTS] for counts in found]
        values = sorted({value for row in parts for counts in row for value in counts.per_type})
        table = np.array([[[_row(counts, value) for value in values] for counts in row] for row in parts])
        tables[name] = table.reshape(len(pairs), -1), values
    return tables


def _row(counts: TypeCounts, value: str) -> tuple[float, ...]:
    one = counts.per_type.get(value, Counts())
    return one.credit, one.gold, one.predicted, one.gold + one.predicted


def resampled(table: NDArray[np.float64], *, samples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Sums `(some samples, columns)` over documents drawn with repetition."""
    documents, columns = table.shape
    generator = np.random.default_rng(seed)
    for size in chunks(samples, documents + columns):
        weights = generator.multinomial(documents, np.full(documents, 1 / documents), size)
        yield weights @ table


def chunks(samples: int, width: int) -> Iterator[int]:
    """Sizes that add up to the samples, none of which needs too much memory."""
    size = max(1, _CELLS // max(1, width))
    for start in range(0, samples, size):
        yield min(size, samples - start)


# Figures -------------------------------------------------------------------------------------------------------------


def places_of(labels: Sequence[str], criteria: Sequence[str], rows: str = "per_type") -> list[Place]:
    """Of every figure, in the order of `figures_of`."""
    named = [MICRO, MACRO, *(f"{rows}/{label}" for label in labels)]
    return [(criterion, row, figure) for figure in FIGURES for criterion in criteria for row in named]


def figures_of(sums: NDArray[np.float64], labels: Sequence[str]) -> NDArray[np.float64]:
    """Every figure `(samples, figures * criteria * rows)` of sums `(samples, criteria * types * 4)`."""
    counts = sums.reshape(len(sums), -1, len(labels), 4) if labels else sums.reshape(len(sums), len(CRITERIA), 0, 4)
    there = counts[..., 3] > 0  # a type that neither side has in a sample is none of its types
    types = _figures(counts)  # (figures, samples, criteria, types)
    micro = _figures(counts.sum(2, keepdims=True))
    macro = _over(np.where(there, types, 0).sum(-1, keepdims=True), there.sum(-1, keepdims=True))
    return np.moveaxis(np.concatenate([micro, macro, types], -1), 0, 1).reshape(len(sums), -1)


def _figures(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Precision, recall and F1 `(3, …)` of counts `(…, 4)`."""
    credit, gold, predicted, _ = np.moveaxis(counts, -1, 0)
    return np.stack([_over(credit, predicted), _over(credit, gold), _over(2 * credit, gold + predicted)])


def _over(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
    return shares


def intervals_of(values: NDArray[np.float64]) -> Iterator[Interval]:
    """Where the middle 95 % of each column `(samples, columns)` lie."""
    edges = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return map(Interval, *edges.tolist())
