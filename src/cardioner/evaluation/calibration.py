"""How well the scores of predicted spans are calibrated, and what accepting only high ones would mean.

A span is right if it is strictly matched. Expected calibration error as in Guo et al., On Calibration of Modern Neural
Networks (https://arxiv.org/abs/1706.04599): ten bins of equal width.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from cardioner.errors import DataError
from cardioner.evaluation.matching import Sides

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cardioner.evaluation.pairing import Pair
    from cardioner.evaluation.scores import JsonValue

BINS = 10
THRESHOLDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


class Bin(NamedTuple):
    """Spans with scores from `low` to below `high`: how many, the mean of their scores, and the share that is right."""

    low: float
    high: float
    spans: int
    mean_score: float
    right: float


class Threshold(NamedTuple):
    """What comes of accepting spans with at least this score, and having people review the others.

    It says how many are accepted, their precision and recall, and the share of predicted spans that is left to review.
    """

    score: float
    accepted: int
    precision: float
    recall: float
    review: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """How scores agree with the share of spans that is right.

    Attributes:
        spans: Predicted spans that have a score.
        without_score: Predicted spans that have none; nothing below counts them.
        error: The expected calibration error: the mean distance between a bin's score and its share of right spans.
        brier: The mean of the squared distance between a span's score and 1 or 0.
        bins: Those that hold spans, in order.
        thresholds: In order.
    """

    spans: int
    without_score: int
    error: float
    brier: float
    bins: tuple[Bin, ...]
    thresholds: tuple[Threshold, ...]

    def to_dict(self) -> dict[str, JsonValue]:
        """Ready for JSON."""
        return {
            "spans": self.spans,
            "without_score": self.without_score,
            "expected_calibration_error": self.error,
            "brier": self.brier,
            "bins": [part._asdict() for part in self.bins],
            "thresholds": [row._asdict() for row in self.thresholds],
        }


def calibrate(pairs: Sequence[Pair]) -> Calibration | None:
    """Compare scores with the share of spans that is right; `None` if no predicted span has a score.

    Raises:
        DataError: If a score is not a probability.
    """
    found = sorted(one for pair in pairs for one in _judged(pair))
    if not found:
        return None
    gold = sum(len(pair.gold.spans) for pair in pairs)
    predicted = sum(len(pair.predicted.spans) + len(pair.impossible) for pair in pairs)
    bins = _bins(found)
    return Calibration(
        spans=len(found),
        without_score=predicted - len(found),
        error=sum(part.spans * abs(part.mean_score - part.right) for part in bins) / len(found),
        brier=sum((score - right) ** 2 for score, right in found) / len(found),
        bins=bins,
        thresholds=tuple(_threshold(found, score, gold) for score in THRESHOLDS),
    )


def _judged(pair: Pair) -> Iterator[tuple[float, bool]]:
    """The score of every predicted span that has one, and whether the span is right."""
    right = {index for _, index in Sides(pair.gold.spans, pair.predicted.spans).strict}
    for index, span in enumerate(pair.predicted.spans):
        if span.score is None:
            continue
        if not 0 <= span.score <= 1:
            place = f"document {pair.id}: the score of the span {span.start} to {span.end}"
            raise DataError(f"{place} is {span.score}, not a probability")
        yield span.score, index in right


def _bins(found: Iterable[tuple[float, bool]]) -> tuple[Bin, ...]:
    """Bins of equal width over sorted scores."""
    bins = []
    for index, members in groupby(found, key=lambda one: min(BINS - 1, int(one[0] * BINS))):
        scores, right = zip(*members, strict=True)
        spans = len(scores)
        bins.append(Bin(index / BINS, (index + 1) / BINS, spans, sum(scores) / spans, sum(right) / spans))
    return tuple(bins)


def _threshold(found: Sequence[tuple[float, bool]], least: float, gold: int) -> Threshold:
    accepted = [right for score, right in found if score >= least]
    hits = sum(accepted)
    return Threshold(
        score=least,
        accepted=len(accepted),
        precision=hits / len(accepted) if accepted else 0.0,
        recall=hits / gold if gold else 0.0,
        review=1 - len(accepted) / len(found),
    )
