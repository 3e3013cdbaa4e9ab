"""Laws of strict scoring, and a brute-force oracle for its matching."""

from __future__ import annotations

from itertools import permutations
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from cardioner.documents import Document, Span
from cardioner.evaluation import Counts, match_strict, score_strict

TEXT = "abcd"
PARTS = ((0, 1), (2, 4))
SPANS = st.one_of(
    st.builds(Span, st.integers(0, 1), st.integers(2, 3), st.sampled_from("XY")),
    st.builds(Span, st.just(0), st.just(4), st.just("X"), st.none() | st.just(0.5), st.sampled_from([(), PARTS])),
)
PAIRS = st.lists(st.tuples(st.lists(SPANS, max_size=6), st.lists(SPANS, max_size=6)), max_size=5)


def as_documents(pairs: list[tuple[list[Span], list[Span]]], start: int = 0) -> tuple[list[Document], list[Document]]:
    gold = [Document(f"note{number}", TEXT, tuple(pair[0])) for number, pair in enumerate(pairs, start)]
    return gold, [document.with_spans(pair[1]) for document, pair in zip(gold, pairs, strict=True)]


@given(PAIRS, st.randoms())
def test_no_order_matters(pairs: list[tuple[list[Span], list[Span]]], random: Random) -> None:
    gold, predicted = as_documents(pairs)
    expected = score_strict(gold, predicted)

    def shuffled(documents: list[Document]) -> list[Document]:
        mixed = [document.with_spans(random.sample(document.spans, len(document.spans))) for document in documents]
        return random.sample(mixed, len(mixed))

    again = score_strict(shuffled(gold), shuffled(predicted))
    assert again == expected
    assert str(again.to_dict()) == str(expected.to_dict())


@given(PAIRS, PAIRS)
def test_scores_of_disjoint_documents_add_up(
    left: list[tuple[list[Span], list[Span]]], right: list[tuple[list[Span], list[Span]]]
) -> None:
    apart = score_strict(*as_documents(left)) + score_strict(*as_documents(right, start=len(left)))
    assert score_strict(*as_documents(left + right)) == apart


@given(PAIRS)
def test_swapping_gold_and_predicted_swaps_precision_and_recall(pairs: list[tuple[list[Span], list[Span]]]) -> None:
    gold, predicted = as_documents(pairs)
    there, back = score_strict(gold, predicted), score_strict(predicted, gold)
    assert there.per_type.keys() == back.per_type.keys()
    for counts, swapped in [
        (there.micro, back.micro),
        *((there.per_type[t], back.per_type[t]) for t in there.per_type),
    ]:
        assert (counts.precision, counts.recall, counts.f1) == (swapped.recall, swapped.precision, swapped.f1)


@given(PAIRS)
def test_gold_scored_against_itself_is_perfect(pairs: list[tuple[list[Span], list[Span]]]) -> None:
    gold, _ = as_documents(pairs)
    scores = score_strict(gold, gold)
    assert scores.micro == Counts(true_positives=sum(len(document.spans) for document in gold))


@given(st.lists(SPANS, max_size=5), st.lists(SPANS, max_size=5))
def test_matching_is_the_best_one_to_one_pairing_of_all(gold: list[Span], predicted: list[Span]) -> None:
    counts = sum(match_strict(gold, predicted).values(), Counts())
    best = _best_pairing(gold, predicted)
    assert counts == Counts(best, len(predicted) - best, len(gold) - best)


def _best_pairing(gold: list[Span], predicted: list[Span]) -> int:
    """The most agreeing pairs that any assignment of the longer list to the shorter one has."""
    short, long = sorted((gold, predicted), key=len)
    return max(sum(map(_agree, short, chosen)) for chosen in permutations(long, len(short)))


def _agree(one: Span, other: Span) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in ("start", "end", "label", "fragments"))
