"""Laws of scores by every criterion, and a brute-force oracle for their matchings."""

from __future__ import annotations

from itertools import permutations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardioner.data.documents import Document, Span
from cardioner.evaluation import CRITERIA, Counts, Pair, analyse, pair_documents, score
from cardioner.evaluation.matching import Sides, _neighbours
from cardioner.evaluation.scores import count

TEXT = "abcdefghij"
FRAGMENTS = st.sampled_from([(), ((0, 2), (5, 9)), ((0, 4), (7, 9)), ((0, 4), (4, 9)), ((0, 2), (2, 4), (7, 9))])
PLAIN = st.builds(
    lambda start, size, label: Span(start, start + size, label),
    st.integers(0, 6),
    st.integers(1, 4),
    st.sampled_from("XY"),
)
CUT = st.builds(Span, st.just(0), st.just(9), st.sampled_from("XY"), st.none() | st.just(0.5), FRAGMENTS)
SPANS = st.one_of(PLAIN, PLAIN, PLAIN, CUT)
PAIRS = st.lists(st.tuples(st.lists(SPANS, max_size=6), st.lists(SPANS, max_size=6)), max_size=5)
BEST = ("strict", "exact", "partial", "type")
"""Criteria whose matching is one of most credit; `relaxed` takes the first that fits."""

Drawn = list[tuple[list[Span], list[Span]]]


def as_documents(pairs: Drawn, start: int = 0) -> tuple[list[Document], list[Document]]:
    gold = [Document(f"note{number}", TEXT, tuple(pair[0])) for number, pair in enumerate(pairs, start)]
    return gold, [document.with_spans(pair[1]) for document, pair in zip(gold, pairs, strict=True)]


@given(PAIRS, st.randoms())
def test_no_order_matters(pairs: Drawn, random: Random) -> None:
    gold, predicted = as_documents(pairs)
    expected = score(gold, predicted)

    def shuffled(documents: list[Document]) -> list[Document]:
        mixed = [document.with_spans(random.sample(document.spans, len(document.spans))) for document in documents]
        return random.sample(mixed, len(mixed))

    again = score(shuffled(gold), shuffled(predicted))
    assert again == expected
    assert str(again.to_dict()) == str(expected.to_dict())


@given(PAIRS, PAIRS)
def test_scores_of_disjoint_documents_add_up(left: Drawn, right: Drawn) -> None:
    apart = score(*as_documents(left)) + score(*as_documents(right, start=len(left)))
    assert score(*as_documents(left + right)) == apart


@pytest.mark.parametrize("criterion", BEST)
@given(PAIRS)
def test_swapping_gold_and_predicted_swaps_precision_and_recall(criterion: str, pairs: Drawn) -> None:
    gold, predicted = as_documents(pairs)
    there, back = score(gold, predicted).by(criterion), score(predicted, gold).by(criterion)
    rows = [(there.micro, back.micro)]
    if criterion in ("strict", "type"):  # elsewhere a match counts for the type of the gold span
        rows += [(there.per_type[label], back.per_type[label]) for label in there.per_type]
    for counts, swapped in rows:
        assert (counts.precision, counts.recall, counts.f1) == (swapped.recall, swapped.precision, swapped.f1)


@given(PAIRS)
def test_gold_scored_against_itself_is_perfect(pairs: Drawn) -> None:
    gold, _ = as_documents(pairs)
    scores = score(gold, gold)
    for criterion in BEST:
        assert scores.by(criterion).micro == Counts(true_positives=sum(len(document.spans) for document in gold))
    assert scores.relaxed.micro.false_positives == scores.relaxed.micro.false_negatives


@given(PAIRS)
def test_a_stricter_criterion_never_gives_more(pairs: Drawn) -> None:
    scores = score(*as_documents(pairs))
    for figure in ("precision", "recall", "f1"):
        strict, exact, partial, type_ = (getattr(scores.by(name).micro, figure) for name in BEST)
        assert strict <= exact <= partial
        assert strict <= type_
        for label in scores.strict.per_type:
            assert getattr(scores.strict.per_type[label], figure) <= getattr(scores.type.per_type[label], figure)


@pytest.mark.parametrize("criterion", CRITERIA)
@given(PAIRS)
def test_types_and_totals_count_the_same_spans(criterion: str, pairs: Drawn) -> None:
    gold, predicted = as_documents(pairs)
    micro = score(gold, predicted).by(criterion).micro

    def spans(documents: list[Document]) -> int:
        if criterion != "relaxed":
            return sum(len(document.spans) for document in documents)
        return sum(len({(span.start, span.end, span.label) for span in document.spans}) for document in documents)

    assert (micro.gold, micro.predicted) == (spans(gold), spans(predicted))


@pytest.mark.parametrize("criterion", BEST)
@given(st.lists(SPANS, max_size=5), st.lists(SPANS, max_size=5))
def test_matching_has_the_most_credit_of_all_one_to_one_pairings(
    criterion: str, gold: list[Span], predicted: list[Span]
) -> None:
    document = Document("note", TEXT, tuple(gold))
    counts = sum(count(Pair(document, document.with_spans(predicted)))[criterion].values(), Counts())
    assert counts.true_positives + counts.partial / 2 == _most_credit(gold, predicted, criterion)
    assert counts.true_positives + counts.partial + counts.false_negatives == len(gold)
    assert counts.true_positives + counts.partial + counts.false_positives == len(predicted)


@given(PAIRS)
def test_every_span_has_one_outcome_and_outcomes_agree_with_strict_counts(pairs: Drawn) -> None:
    gold, predicted = as_documents(pairs)
    analysis = analyse(pair_documents(gold, predicted).pairs)
    for document, prediction in zip(gold, predicted, strict=True):
        found = analysis.outcomes[document.id]
        assert sorted(map(repr, document.spans)) == sorted(repr(one.gold) for one in found if one.gold)
        assert sorted(map(repr, prediction.spans)) == sorted(repr(one.predicted) for one in found if one.predicted)
        for kind, one, other in found:
            assert (kind == "missed") == (other is None)
            assert (kind == "spurious") == (one is None)
            if one is not None and other is not None:
                assert (kind in ("correct", "type")) == _same_place(one, other)
                assert (kind in ("correct", "boundary")) == (one.label == other.label)
                assert _overlap(one, other)
    strict = score(gold, predicted).strict
    assert {label: kinds["correct"] for label, kinds in analysis.kinds.items() if kinds["correct"]} == {
        label: counts.true_positives for label, counts in strict.per_type.items() if counts.true_positives
    }
    assert sum(analysis.by_length.values(), Counts()) == strict.micro
    if gold:
        assert analysis.by_position is not None
        assert sum(analysis.by_position.values(), Counts()) == strict.micro


def _most_credit(gold: list[Span], predicted: list[Span], criterion: str) -> float:
    """The most that any assignment of the shorter list to the longer one has."""
    short, long = sorted((gold, predicted), key=len)
    return max(
        sum(_credit(one, other, criterion) for one, other in zip(short, chosen, strict=True))
        for chosen in permutations(long, len(short))
    )


def _credit(one: Span, other: Span, criterion: str) -> float:
    """What a pair is worth, from the definitions."""
    same, label, overlap = _same_place(one, other), one.label == other.label, _overlap(one, other)
    return {
        "strict": float(same and label),
        "exact": float(same),
        "partial": 1.0 if same else 0.5 if overlap else 0.0,
        "type": float(overlap and label),
    }[criterion]


def _characters(span: Span) -> set[int]:
    return {place for start, end in span.fragments or ((span.start, span.end),) for place in range(start, end)}


def _same_place(one: Span, other: Span) -> bool:
    return _characters(one) == _characters(other)


def _overlap(one: Span, other: Span) -> bool:
    return bool(_characters(one) & _characters(other))


@given(PAIRS)
def test_relaxed_takes_for_each_gold_span_the_first_free_one_that_touches(pairs: Drawn) -> None:
    gold, predicted = as_documents(pairs)
    for pair in pair_documents(gold, predicted).pairs:
        counts = sum(count(pair, ["relaxed"])["relaxed"].values(), Counts())
        wanted, free = ({(s.start, s.end, s.label) for s in side.spans} for side in (pair.gold, pair.predicted))
        hits = 0
        for start, end, label in sorted(wanted):
            touching = (one for one in sorted(free) if one[2] == label and one[0] <= end and one[1] >= start)
            first = next(touching, None)
            if first is not None:
                free.remove(first)
                hits += 1
        assert counts == Counts(hits, len(free), len(wanted) - hits)


@given(st.lists(SPANS, max_size=6), st.lists(SPANS, max_size=6))
def test_comparing_nearby_spans_alone_finds_every_pair_that_overlaps(gold: list[Span], predicted: list[Span]) -> None:
    sides = Sides(gold, predicted)
    expected = {i: [j for j in sides.predicted_order if _overlap(gold[i], predicted[j])] for i in sides.gold_order}
    assert _neighbours(gold, predicted, sides.gold_order, sides.predicted_order) == expected
