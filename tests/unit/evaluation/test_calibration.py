"""Scores against truth: bins, thresholds and errors that can be counted by hand."""

from __future__ import annotations

import pytest

from cardioner.data.documents import Document, Span
from cardioner.errors import DataError
from cardioner.evaluation import Pair, calibrate

TEXT = "x" * 100


def pairs_of(*scored: tuple[float | None, bool], missed: int = 0) -> list[Pair]:
    """One span each with its score, right or wrong; and gold spans that nobody predicted."""
    predicted = [Span(place, place + 1, "A", score) for place, (score, _) in enumerate(scored)]
    gold = [Span(place, place + 1, "A") for place, (_, right) in enumerate(scored) if right]
    gold += [Span(place, place + 1, "A") for place in range(50, 50 + missed)]
    document = Document("note", TEXT, tuple(gold))
    return [Pair(document, document.with_spans(predicted))]


def test_perfect_scores_have_no_error() -> None:
    found = calibrate(pairs_of((1.0, True), (0.0, False)))
    assert found is not None
    assert (found.error, found.brier) == (0.0, 0.0)


def test_error_is_the_mean_distance_of_score_and_truth_over_bins() -> None:
    found = calibrate(pairs_of((0.92, True), (0.98, False), (0.25, False), (0.25, True)))
    assert found is not None
    assert [(part.low, part.spans) for part in found.bins] == [(0.2, 2), (0.9, 2)]
    assert found.error == pytest.approx((abs(0.25 - 0.5) * 2 + abs(0.95 - 0.5) * 2) / 4)
    assert found.brier == pytest.approx((0.08**2 + 0.98**2 + 0.25**2 + 0.75**2) / 4)


def test_thresholds_tell_what_is_accepted_found_and_left_to_people() -> None:
    found = calibrate(pairs_of((0.95, True), (0.85, True), (0.85, False), (0.3, False), missed=2))
    assert found is not None
    row = next(row for row in found.thresholds if row.score == 0.8)
    assert (row.accepted, row.precision, row.recall, row.review) == (3, pytest.approx(2 / 3), 0.5, 0.25)
    everything = found.thresholds[0]
    assert (everything.score, everything.accepted, everything.recall, everything.review) == (0.0, 4, 0.5, 0.0)


def test_spans_without_a_score_are_counted_apart() -> None:
    assert calibrate(pairs_of((None, True))) is None
    found = calibrate(pairs_of((None, True), (0.5, True)))
    assert found is not None
    assert (found.spans, found.without_score) == (1, 1)


def test_of_equal_spans_the_one_with_the_highest_score_is_the_right_one() -> None:
    gold = Document("note", TEXT, (Span(0, 1, "A"),))
    twice = gold.with_spans([Span(0, 1, "A", 0.2), Span(0, 1, "A", 0.9)])
    found = calibrate([Pair(gold, twice)])
    assert found is not None
    assert [(part.low, part.right) for part in found.bins] == [(0.2, 0.0), (0.9, 1.0)]


@pytest.mark.parametrize("score", [-0.1, 1.5, float("nan"), float("inf")])
def test_a_score_that_is_no_probability_is_refused(score: float) -> None:
    with pytest.raises(DataError, match=r"document note: the score of the span 1 to 2 is .*, not a probability"):
        calibrate(pairs_of((0.5, True), (score, False)))
