"""Spans have one total order that agrees with equality, whatever their scores."""

from __future__ import annotations

import random
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from cardioner.data.documents import Span

SCORES = st.sampled_from([None, 0.0, 0.5, 1.0])
FRAGMENTS = st.sampled_from([(), ((0, 1), (2, 3)), ((0, 3),)])


def spans(scores: st.SearchStrategy[float | None]) -> st.SearchStrategy[Span]:
    whole = st.builds(Span, st.integers(0, 2), st.integers(3, 5), st.sampled_from("AB"), scores)
    return whole | st.builds(Span, st.just(0), st.just(3), st.sampled_from("AB"), scores, FRAGMENTS)


@given(st.lists(spans(SCORES), max_size=6))
def test_of_two_spans_one_is_smaller_or_they_are_equal(marked: list[Span]) -> None:
    for one, other in product(marked, repeat=2):
        assert [one < other, one == other, one > other].count(True) == 1
        assert (one <= other) == (one < other or one == other)
        assert (one >= other) == (one > other or one == other)
        assert one != other or hash(one) == hash(other)


@given(st.lists(spans(SCORES), max_size=8), st.randoms(use_true_random=False))
def test_sorting_forgets_the_order_that_was(marked: list[Span], chance: random.Random) -> None:
    assert sorted(chance.sample(marked, len(marked))) == sorted(marked)


@given(st.lists(spans(st.none()), max_size=8) | st.lists(spans(st.sampled_from([0.0, 0.5, 1.0])), max_size=8))
def test_spans_that_all_have_a_score_or_none_sort_by_their_attributes(marked: list[Span]) -> None:
    bare = [(span.start, span.end, span.label, span.score or 0.0, span.fragments) for span in marked]
    found = [(span.start, span.end, span.label, span.score or 0.0, span.fragments) for span in sorted(marked)]
    assert found == sorted(bare)
