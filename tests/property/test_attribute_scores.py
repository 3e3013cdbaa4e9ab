"""Scores of attributes against counting by hand, and laws of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import permutations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardioner.data.documents import Document, Span
from cardioner.evaluation import Pair, score_pairs
from cardioner.evaluation.attributes import NOT_SAID, AttributeScores, score_attributes

SAID = st.fixed_dictionaries(
    {},
    optional={
        "Negation": st.just(True),
        "Time": st.sampled_from(["past", "later"]),
        "Odd": st.sampled_from(["a/b", NOT_SAID]),
    },
)
APART = st.builds(
    lambda place, label, said: Span(place, place + 1, label, attributes=said),
    st.integers(0, 2),
    st.sampled_from("XY"),
    SAID,
)
PAIRS = st.lists(
    st.tuples(
        *[st.lists(APART, max_size=5, unique_by=lambda span: (span.start, span.label))] * 2  # no span occurs twice
    ),
    max_size=4,
)
EQUAL = st.lists(SAID.map(lambda said: Span(0, 2, "X", attributes=said)), max_size=4)

Drawn = list[tuple[list[Span], list[Span]]]


def paired(drawn: Drawn) -> list[Pair]:
    gold = [Document(f"note{number}", "abcdefgh", tuple(spans)) for number, (spans, _) in enumerate(drawn)]
    return [Pair(one, one.with_spans(spans)) for one, (_, spans) in zip(gold, drawn, strict=True)]


def scored(drawn: Drawn) -> AttributeScores:
    found = score_attributes(paired(drawn))
    return found or AttributeScores(score_pairs([]).strict, {}, {}, ())


def value(span: Span, name: str) -> str:
    said = span.attributes.get(name)
    if said == NOT_SAID:
        return f'"{said}"'
    return NOT_SAID if said is None else said if isinstance(said, str) else "true"


def by_hand(drawn: Drawn, name: str) -> list[tuple[str | None, str | None]]:
    """The gold and the predicted value of every matched span, and of every other with `None` on the other side."""
    rows: list[tuple[str | None, str | None]] = []
    for gold, predicted in drawn:
        there = {(span.start, span.label): span for span in predicted}
        for span in gold:
            match = there.pop((span.start, span.label), None)
            rows.append((value(span, name), match and value(match, name)))
        rows += [(None, value(span, name)) for span in there.values()]
    return rows


@given(PAIRS)
def test_counts_are_those_counted_by_hand(drawn: Drawn) -> None:
    found = scored(drawn)
    assert set(found.per_attribute) == {name for gold, _ in drawn for span in gold for name in span.attributes}
    for name, counts in found.per_attribute.items():
        rows = by_hand(drawn, name)
        matched = [row for row in rows if None not in row]
        for part, counted in ((matched, counts.matched), (rows, counts.end_to_end)):
            for one, own in counted.per_type.items():
                assert own.true_positives == sum(row == (one, one) for row in part)
                assert own.gold == sum(row[0] == one for row in part)
                assert own.predicted == sum(row[1] == one for row in part)
        values = {one for row in matched for one in row}
        assert set(counts.matched.per_type) == values
        assert set(counts.end_to_end.per_type) == {one for row in rows for one in row} - {None, NOT_SAID}
        if matched:
            assert counts.accuracy == pytest.approx(sum(a == b for a, b in matched) / len(matched))
            f1s = [
                2 * sum(a == b == one for a, b in matched) / sum([*row].count(one) for row in matched) for one in values
            ]
            assert counts.matched.macro.f1 == pytest.approx(sum(f1s) / len(f1s))


@given(PAIRS)
def test_whole_spans_are_right_if_everything_that_gold_spans_know_of_is(drawn: Drawn) -> None:
    names = {name for gold, _ in drawn for span in gold for name in span.attributes}

    def keys(spans: list[Span]) -> Counter[object]:
        return Counter((span.start, span.label, *(value(span, name) for name in sorted(names))) for span in spans)

    hits = sum((keys(gold) & keys(predicted)).total() for gold, predicted in drawn)
    if (found := score_attributes(paired(drawn))) is not None:
        micro = found.whole.micro
        assert (micro.true_positives, micro.gold) == (hits, sum(len(gold) for gold, _ in drawn))
        assert micro.predicted == sum(len(predicted) for _, predicted in drawn)


@given(PAIRS)
def test_attributes_of_one_side_alone_are_named(drawn: Drawn) -> None:
    gold, predicted = (
        Counter(name for pair in drawn for span in pair[side] for name in span.attributes) for side in (0, 1)
    )
    found = score_attributes(paired(drawn))
    if found is None:
        assert not gold
        assert not predicted
    else:
        assert found.left_out == {name: count for name, count in predicted.items() if name not in gold}
        assert set(found.not_predicted) == set(gold) - set(predicted)
        assert [*found.per_attribute] == sorted(gold)


@given(PAIRS)
def test_what_is_perfect_scores_one_and_nothing_said_scores_as_absent(drawn: Drawn) -> None:
    for counts in scored([(gold, gold) for gold, _ in drawn]).per_attribute.values():
        assert counts.accuracy == counts.end_to_end.macro.f1 == counts.matched.macro.f1 == 1.0
    silent = scored([(gold, [replace(span, attributes={}) for span in gold]) for gold, _ in drawn])
    for counts in silent.per_attribute.values():
        assert counts.end_to_end.micro.credit == 0
        assert counts.matched.per_type[NOT_SAID].recall == (1.0 if counts.matched.per_type[NOT_SAID].gold else 0.0)


@given(PAIRS, PAIRS)
def test_scores_of_disjoint_documents_add_up(left: Drawn, right: Drawn) -> None:
    both, apart = scored(left + right), [scored(left), scored(right)]
    for name, counts in both.per_attribute.items():
        known = [one.per_attribute[name].matched for one in apart if name in one.per_attribute]
        if len(known) == 2:
            assert counts.matched == known[0] + known[1]


@given(EQUAL, EQUAL, st.randoms())
def test_equal_spans_are_paired_by_what_is_said_of_them_in_any_order(
    gold: list[Span], predicted: list[Span], random: Random
) -> None:
    names = {name for span in gold for name in span.attributes}
    drawn = [(gold, predicted)]
    found = scored(drawn)
    mixed = [(random.sample(gold, len(gold)), random.sample(predicted, len(predicted)))]
    assert scored(mixed) == found
    if names:
        small, large = sorted((gold, predicted), key=len)
        known = [[tuple(value(span, name) for name in sorted(names)) for span in side] for side in (small, large)]
        best = max(sum(a == b for a, b in zip(known[0], order, strict=False)) for order in permutations(known[1]))
        assert found.whole.micro.true_positives == best
        assert {counts.matched.micro.gold for counts in found.per_attribute.values()} == {len(small)}
