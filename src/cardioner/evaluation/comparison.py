"""Whether one prediction is better than another: the difference of every figure, its interval, and a test of it.

Intervals resample documents, the test swaps predictions: Yeh, More accurate tests for the statistical significance of
result differences (https://aclanthology.org/C00-2137/).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cardioner.data.formats import notes_of
from cardioner.errors import UsageError, many
from cardioner.evaluation.attributes import of_gold
from cardioner.evaluation.intervals import (
    LEVEL,
    MICRO,
    Interval,
    check_samples,
    chunks,
    count_tables,
    criteria_of,
    figures_of,
    intervals_of,
    nested,
    places_of,
    resampled,
)
from cardioner.evaluation.pairing import pair_with_each

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cardioner.data.formats import Notes
    from cardioner.evaluation.intervals import Place
    from cardioner.evaluation.pairing import Pair, Pairing
    from cardioner.evaluation.scores import JsonValue


@dataclass(frozen=True, slots=True)
class Difference:
    """How a figure of A differs from that of B.

    Attributes:
        first: The figure of A.
        second: The figure of B.
        interval: Of `first - second`, over resampled documents.
        p_value: How often predictions swapped at random between A and B, document by document, differ at least as
            much; never 0.
    """

    first: float
    second: float
    interval: Interval
    p_value: float

    def to_dict(self) -> dict[str, JsonValue]:
        """Ready for JSON."""
        return {
            "a": self.first,
            "b": self.second,
            "difference": self.first - self.second,
            "interval": list(self.interval),
            "p": self.p_value,
        }


@dataclass(frozen=True, slots=True, repr=False)
class Comparison:
    """The difference of every figure of two predictions of the same documents.

    Attributes:
        documents: How many documents were compared.
        samples: How many samples and swaps were drawn.
        seed: Of the random numbers.
        found: By criterion, row (`micro`, `macro`, `per_type/TYPE`) and figure.
        pairings: How the documents of A and of B were paired with the gold ones, where these were given.
    """

    documents: int
    samples: int
    seed: int
    found: Mapping[Place, Difference]
    pairings: tuple[Pairing, ...] = ()

    def __repr__(self) -> str:
        f1 = self.of("strict", MICRO, "f1")
        return (
            f"Comparison({many(self.documents, 'document')}: strict F1 of A {f1.first:.3f}, of B {f1.second:.3f}; "
            f"difference {f1.first - f1.second:+.3f}, 95 % interval {f1.interval.low:+.3f} to {f1.interval.high:+.3f}, "
            f"p = {f1.p_value:.4f})"
        )

    @property
    def types(self) -> tuple[str, ...]:
        """The entity types, sorted."""
        return tuple(sorted({row.partition("/")[2] for _, row, _ in self.found if "/" in row}))

    @property
    def criteria(self) -> tuple[str, ...]:
        """The criteria; the attributes are one if gold spans have any."""
        return tuple(dict.fromkeys(criterion for criterion, _, _ in self.found))

    def of(self, criterion: str, row: str, figure: str) -> Difference:
        """One difference; a type's row is `per_type/TYPE`."""
        return self.found[criterion, row, figure]

    def to_dict(self) -> dict[str, JsonValue]:
        """Nested as the scores are, ready for JSON."""
        content: dict[str, Any] = {"documents": self.documents, "samples": self.samples, "seed": self.seed}
        return content | {"level": LEVEL} | nested({place: found.to_dict() for place, found in self.found.items()})


def compare(a: Notes, b: Notes, *, gold: Notes, samples: int = 10_000, seed: int = 0) -> Comparison:
    """Compare two predictions of the same documents with the gold spans.

    Args:
        a: The documents with the spans that A predicted: a corpus, documents, or the path of a corpus.
        b: The documents with the spans that B predicted, in any order.
        gold: The annotated documents, in any order.
        samples: How many samples and how many random swaps are drawn.
        seed: The same seed gives the same figures.

    Raises:
        DataError: If the documents cannot be paired: see `pair_documents`.
        UsageError: If there are no documents, or fewer than one sample.
    """
    pairings = pair_with_each(notes_of(gold, "gold"), notes_of(a, "a"), notes_of(b, "b"))
    found = compare_pairs(*(pairing.pairs for pairing in pairings), samples=samples, seed=seed)
    return replace(found, pairings=pairings)


def compare_pairs(first: Sequence[Pair], second: Sequence[Pair], *, samples: int = 10_000, seed: int = 0) -> Comparison:
    """Compare two predictions of the same documents in the same order; see `compare`.

    Raises:
        UsageError: If there are no documents, fewer than one sample, or the documents differ.
    """
    check_samples(len(first), samples)
    if [pair.id for pair in first] != [pair.id for pair in second]:
        raise UsageError("only predictions of the same documents can be compared")
    criteria = criteria_of(first)
    tables, labels = count_tables(of_gold(first), of_gold(second), criteria=criteria)
    here, there = figures_of(tables.sum(1), labels)
    both = np.concatenate([*tables], axis=1)
    drawn, swapped = (
        np.concatenate([_differences(sums, labels) for sums in lots])
        for lots in (resampled(both, samples=samples, seed=seed), _swapped(tables, samples=samples, seed=seed))
    )
    # What was found counts as one of the swaps.
    as_far = (np.abs(swapped) >= np.abs(here - there) - 1e-12).sum(0) + 1
    columns = (here.tolist(), there.tolist(), intervals_of(drawn), (as_far / (samples + 1)).tolist())
    found = {place: Difference(*values) for place, *values in zip(places_of(labels, criteria), *columns, strict=True)}
    return Comparison(len(first), samples, seed, found)


def _swapped(tables: NDArray[np.float64], *, samples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Sums `(some samples, columns of both sides)` after swapping the predictions of random documents."""
    _, documents, columns = tables.shape
    generator = np.random.default_rng(seed)
    sums, gaps = tables.sum(1), tables[1] - tables[0]
    for size in chunks(samples, documents + 2 * columns):
        moved = generator.integers(0, 2, (size, documents)) @ gaps
        yield np.concatenate([sums[0] + moved, sums[1] - moved], axis=1)


def _differences(sums: NDArray[np.float64], labels: Sequence[str]) -> NDArray[np.float64]:
    """Every figure of the first half of the columns less that of the second."""
    first, second = (figures_of(half, labels) for half in np.split(sums, 2, axis=1))
    return first - second
