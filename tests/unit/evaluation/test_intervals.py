"""Intervals and tests of differences, against scoring each sample and exact enumeration."""

from __future__ import annotations

import itertools
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from cardioner.data.documents import Document, Span
from cardioner.errors import UsageError
from cardioner.evaluation import CRITERIA, Pair, score_attributes, score_pairs
from cardioner.evaluation.comparison import compare_pairs
from cardioner.evaluation.intervals import LEVEL, bootstrap, resampled

TEXT = "x" * 60


def pairs_of(*hits: tuple[int, int, int], label: str = "A") -> list[Pair]:
    """Documents with so many right, wrong and missed spans."""
    pairs = []
    for number, (right, wrong, missed) in enumerate(hits):
        spans = [Span(place, place + 1, label) for place in range(right + wrong + missed)]
        gold = Document(f"note{number}", TEXT, tuple(spans[:right] + spans[right + wrong :]))
        pairs.append(Pair(gold, gold.with_spans(spans[: right + wrong])))
    return pairs


def drawn(seed: int, documents: int = 12) -> list[Pair]:
    random = Random(seed)
    hits = [(random.randint(0, 4), random.randint(0, 3), random.randint(0, 3)) for _ in range(documents)]
    mixed = [random.choice("AB") for _ in hits]
    return [
        pairs_of(*[(0, 0, 0)] * number, hit, label=label)[number]
        for number, (hit, label) in enumerate(zip(hits, mixed, strict=True))
    ]


def redrawn(pairs: list[Pair], samples: int, seed: int) -> list[list[Pair]]:
    """The documents of each sample, by the same draws."""
    shares = np.full(len(pairs), 1 / len(pairs))
    draws = np.random.default_rng(seed).multinomial(len(pairs), shares, samples)
    return [[pair for pair, times in zip(pairs, row, strict=True) for _ in range(times)] for row in draws]


def edges(figures: list[float]) -> tuple[float, float]:
    """Where the middle 95 % of figures lie."""
    low, high = np.quantile(figures, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def test_a_sample_is_as_many_documents_drawn_one_by_one_with_repetition() -> None:
    times = np.concatenate([*resampled(np.eye(7), samples=40_000, seed=3)])
    random = Random(4)
    plain = np.array([np.bincount(random.choices(range(7), k=7), minlength=7) for _ in range(40_000)])
    assert times.shape == plain.shape
    assert set(times.sum(1)) == {7}
    assert times.mean(0) == pytest.approx(plain.mean(0), abs=0.03)
    assert np.cov(times.T) == pytest.approx(np.cov(plain.T), abs=0.03)


def test_intervals_are_those_of_scoring_resampled_documents_one_by_one() -> None:
    pairs, samples = drawn(1), 200
    found = bootstrap(pairs, samples=samples, seed=3)
    scored = [score_pairs(documents) for documents in redrawn(pairs, samples, seed=3)]
    for criterion in CRITERIA:
        for row in ("micro", "macro"):
            for figure in ("precision", "recall", "f1"):
                figures = [getattr(getattr(scores.by(criterion), row), figure) for scores in scored]
                assert found.of(criterion, row, figure) == pytest.approx(edges(figures))


def test_every_figure_of_a_sample_is_that_of_its_scores() -> None:
    pairs = drawn(2, documents=1)  # one document can only be drawn as itself
    found, scores = bootstrap(pairs, samples=5), score_pairs(pairs)
    for criterion in ("strict", "exact", "partial", "type", "relaxed"):
        own = scores.by(criterion)
        rows = {"micro": own.micro, "macro": own.macro, **{f"per_type/{t}": c for t, c in own.per_type.items()}}
        for row, figures in rows.items():
            for figure in ("precision", "recall", "f1"):
                interval = found.of(criterion, row, figure)
                assert interval.low == interval.high == pytest.approx(getattr(figures, figure))


def test_the_same_seed_gives_the_same_bytes_and_another_one_others() -> None:
    pairs = drawn(5)
    first, again, other = (bootstrap(pairs, samples=50, seed=seed).to_dict() for seed in (1, 1, 2))
    assert str(first) == str(again)
    assert first["strict"] != other["strict"]


def test_the_p_value_is_that_of_all_swaps() -> None:
    first = pairs_of((3, 0, 1), (2, 1, 0), (4, 0, 0), (1, 1, 1), (2, 0, 0), (3, 1, 0))
    worse = [Pair(pair.gold, pair.predicted.with_spans(pair.predicted.spans[1:])) for pair in first[:5]] + first[5:]
    found = compare_pairs(first, worse, samples=20_000, seed=0).of("strict", "micro", "f1")
    gap = abs(score_pairs(first).strict.micro.f1 - score_pairs(worse).strict.micro.f1)
    as_far = 0
    for swaps in itertools.product((False, True), repeat=len(first)):
        here = [b if swap else a for a, b, swap in zip(first, worse, swaps, strict=True)]
        there = [a if swap else b for a, b, swap in zip(first, worse, swaps, strict=True)]
        as_far += abs(score_pairs(here).strict.micro.f1 - score_pairs(there).strict.micro.f1) >= gap - 1e-12
    assert found.p_value == pytest.approx(as_far / 2 ** len(first), abs=0.02)
    assert found.first - found.second == pytest.approx(gap)
    assert found.interval.low <= gap <= found.interval.high


def test_a_prediction_does_not_differ_from_itself() -> None:
    found = compare_pairs(drawn(6), drawn(6), samples=100)
    assert {
        (one.first - one.second, one.p_value, one.interval.low, one.interval.high) for one in found.found.values()
    } == {(0.0, 1.0, 0.0, 0.0)}


def test_comparing_the_other_way_round_changes_the_sign() -> None:
    first, second = drawn(7), [Pair(pair.gold, pair.predicted.with_spans(())) for pair in drawn(7)]
    there, back = (
        compare_pairs(*sides, samples=200).of("strict", "micro", "recall")
        for sides in ((first, second), (second, first))
    )
    assert there.first - there.second == -(back.first - back.second) > 0
    assert (there.interval.low, there.interval.high) == pytest.approx((-back.interval.high, -back.interval.low))
    assert there.p_value < 0.05


def test_what_cannot_be_resampled_is_refused() -> None:
    with pytest.raises(UsageError, match="no documents"):
        bootstrap([], samples=10)
    with pytest.raises(UsageError, match="at least one sample, found 0"):
        bootstrap(drawn(1), samples=0)
    with pytest.raises(UsageError, match="same documents"):
        compare_pairs(drawn(1), drawn(1)[1:])


def test_a_type_that_only_answers_gold_spans_of_another_one_is_in_every_macro() -> None:
    gold = Document("note", TEXT, (Span(0, 5, "A"),))
    pairs = [Pair(gold, gold.with_spans([Span(0, 5, "B")]))]
    for criterion in ("exact", "partial"):
        interval = bootstrap(pairs, samples=3).of(criterion, "macro", "f1")
        compared = compare_pairs(pairs, pairs, samples=3).of(criterion, "macro", "f1")
        found = {score_pairs(pairs).by(criterion).macro.f1, interval.low, interval.high}
        assert found | {compared.first, compared.second} == {0.5}


def attributed(seed: int, documents: int) -> list[Pair]:
    """Documents with spans of which something is said, often wrongly."""
    random = Random(seed)
    said = ({}, {"Negation": True}, {"Time": "past"}, {"Time": "later", "Negation": True})
    pairs = []
    for number in range(documents):
        gold = [Span(place, place + 1, "AB"[place % 2], attributes=random.choice(said)) for place in range(8)]
        found = [span if random.random() < 0.6 else replace(span, attributes=random.choice(said)) for span in gold]
        note = Document(f"note{number}", TEXT, tuple(gold))
        pairs.append(Pair(note, note.with_spans(span for span in found if random.random() < 0.8)))
    return pairs


def test_intervals_of_attributes_are_those_of_scoring_resampled_documents_one_by_one() -> None:
    pairs, samples = attributed(1, 12), 100
    found = bootstrap(pairs, samples=samples, seed=3)
    scored = [score_attributes(documents) for documents in redrawn(pairs, samples, seed=3)]
    own = [scores.per_attribute["Time"] for scores in scored if scores is not None]
    for place, figures in (
        (("matched", "micro", "precision"), [counts.accuracy for counts in own]),
        (("matched", "macro", "f1"), [counts.matched.macro.f1 for counts in own]),
        (("end_to_end", "per_value/past", "f1"), [counts.end_to_end.per_type["past"].f1 for counts in own]),
    ):
        assert found.per_attribute["Time"][place] == pytest.approx(edges(figures))
    whole = [scores.whole.micro.f1 for scores in scored if scores is not None]
    assert found.of("attributes", "micro", "f1") == pytest.approx(edges(whole))


def test_every_figure_of_an_attribute_in_a_sample_is_that_of_its_scores() -> None:
    pairs = attributed(2, 1)  # one document can only be drawn as itself
    found, scores = bootstrap(pairs, samples=5), score_attributes(pairs)
    assert scores is not None
    for name, counts in scores.per_attribute.items():
        for (part, row, figure), interval in found.per_attribute[name].items():
            own = getattr(counts, part)
            rows = {"micro": own.micro, "macro": own.macro} | {f"per_value/{v}": c for v, c in own.per_type.items()}
            assert interval == pytest.approx((getattr(rows[row], figure) if row in rows else 0.0,) * 2)


def test_attributes_are_compared_where_gold_has_some_and_nothing_else_changes() -> None:
    pairs = attributed(3, 6)
    other = [Pair(pair.gold, pair.gold) for pair in pairs]
    found = compare_pairs(pairs, other, samples=50)
    assert found.of("attributes", "micro", "f1").second == 1.0
    assert found.of("attributes", "micro", "f1").first < found.of("strict", "micro", "f1").first

    def bare(pairs: list[Pair]) -> list[Pair]:
        sides = [
            [replace(span, attributes={}) for span in one.spans]
            for pair in pairs
            for one in (pair.gold, pair.predicted)
        ]
        return [
            Pair(pair.gold.with_spans(sides[2 * n]), pair.predicted.with_spans(sides[2 * n + 1]))
            for n, pair in enumerate(pairs)
            if isinstance(pair.gold, Document) and isinstance(pair.predicted, Document)
        ]

    without = compare_pairs(bare(pairs), bare(other), samples=50)
    assert "attributes" not in without.criteria
    assert without.found == {place: one for place, one in found.found.items() if place[0] != "attributes"}
