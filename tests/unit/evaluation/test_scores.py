"""Counting spans and scoring documents, on cases small enough to count by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from cardioner.data.documents import Annotations, Document, ImpossibleSpan, Span
from cardioner.errors import DataError
from cardioner.evaluation import CRITERIA, Averages, Counts, Pair, score
from cardioner.evaluation import scores as scoring

TEXT = "Severe mitral and aortic stenosis."


def count(gold: Sequence[Span], predicted: Sequence[Span], criterion: str) -> dict[str, Counts]:
    document = Document("note", TEXT, tuple(gold))
    return scoring.count(Pair(document, document.with_spans(predicted)), [criterion])[criterion]


def documents(*spans: tuple[Span, ...]) -> list[Document]:
    return [Document(f"note{number}", TEXT, found) for number, found in enumerate(spans)]


def test_a_span_is_right_only_with_both_offsets_and_the_label() -> None:
    gold = [Span(0, 6, "A")]
    wrong = [Span(0, 5, "A"), Span(1, 6, "A"), Span(0, 6, "B")]
    assert count(gold, wrong, "strict") == {"A": Counts(0, 2, 1), "B": Counts(0, 1, 0)}
    assert count(gold, [*wrong, *gold], "strict") == {"A": Counts(1, 2, 0), "B": Counts(0, 1, 0)}


def test_fragments_belong_to_the_span_and_scores_do_not() -> None:
    whole, parts = Span(7, 33, "A"), Span(7, 33, "A", fragments=((7, 13), (25, 33)))
    assert count([parts], [whole], "strict") == {"A": Counts(0, 1, 1)}
    assert count([parts, whole], [whole, Span(7, 33, "A", 0.5, parts.fragments)], "strict") == {"A": Counts(2, 0, 0)}


def test_a_duplicate_is_matched_as_often_as_it_is_on_both_sides() -> None:
    span = Span(0, 6, "A")
    assert count([span], [span] * 3, "strict") == {"A": Counts(1, 2, 0)}
    assert count([span] * 3, [span], "strict") == {"A": Counts(1, 0, 2)}


def test_shares_of_nothing_are_zero() -> None:
    assert (Counts().precision, Counts().recall, Counts().f1) == (0.0, 0.0, 0.0)
    scores = score([], [])
    assert (scores.documents, scores.strict.micro, scores.strict.macro) == (0, Counts(), Averages(0.0, 0.0, 0.0))


def test_precision_recall_and_f1_are_what_their_names_say() -> None:
    counts = Counts(true_positives=3, false_positives=1, false_negatives=2)
    assert (counts.precision, counts.recall) == (3 / 4, 3 / 5)
    assert counts.f1 == pytest.approx(2 * (3 / 4) * (3 / 5) / (3 / 4 + 3 / 5))


def test_the_same_offsets_in_another_document_are_no_match() -> None:
    span = (Span(0, 6, "A"),)
    assert score(documents(span, ()), documents((), span)).strict.micro == Counts(0, 1, 1)


def test_micro_adds_the_counts_and_macro_averages_the_types() -> None:
    gold = documents((Span(0, 6, "B"), Span(7, 13, "B"), Span(18, 24, "A")))
    predicted = documents((Span(0, 6, "B"), Span(18, 24, "C")))
    scores = score(gold, predicted)
    assert list(scores.strict.per_type.items()) == [
        ("A", Counts(0, 0, 1)),
        ("B", Counts(1, 0, 1)),
        ("C", Counts(0, 1, 0)),
    ]
    assert scores.strict.micro == Counts(1, 1, 2)
    assert scores.strict.macro == Averages(1 / 3, 0.5 / 3, pytest.approx(2 / 9))


def test_documents_without_entities_count_and_their_predictions_are_wrong() -> None:
    scores = score(documents((), ()), documents((), (Span(0, 6, "A"),)))
    assert (scores.documents, scores.strict.micro) == (2, Counts(0, 1, 0))


def test_the_report_is_exactly_this() -> None:
    scores = score(documents((Span(0, 6, "B"), Span(7, 13, "A"))), documents((Span(0, 6, "B"), Span(7, 10, "B"))))
    right = {"precision": 1.0, "recall": 1.0, "f1": 1.0, "tp": 1, "fp": 0, "fn": 0}
    none = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "tp": 0, "fp": 0, "fn": 1}
    half = {"precision": 0.5, "recall": 1.0, "f1": 2 / 3, "tp": 1, "fp": 1, "fn": 0}
    by_place = {
        "macro": {"precision": 0.25, "recall": 0.5, "f1": 1 / 3},
        "micro": {"precision": 0.5, "recall": 0.5, "f1": 0.5, "tp": 1, "fp": 1, "fn": 1},
        "per_type": {"A": none, "B": half},
    }
    partial = {
        "macro": {"precision": 0.75, "recall": 0.75, "f1": 0.75},
        "micro": {"precision": 0.75, "recall": 0.75, "f1": 0.75, "tp": 1, "fp": 0, "fn": 0, "partial": 1},
        "per_type": {
            "A": {"precision": 0.5, "recall": 0.5, "f1": 0.5, "tp": 0, "fp": 0, "fn": 0, "partial": 1},
            "B": {**right, "partial": 0},
        },
    }
    assert json.loads(json.dumps(scores.to_dict())) == {
        "documents": 1,
        "strict": by_place,
        "exact": by_place,
        "partial": partial,
        "type": by_place,
        "relaxed": by_place,
    }


def test_partial_credit_is_that_of_muc() -> None:
    gold = documents((Span(0, 6, "A"), Span(7, 13, "A"), Span(18, 24, "A"), Span(25, 33, "A")))
    predicted = documents((Span(0, 6, "B"), Span(7, 10, "A"), Span(14, 17, "A")))
    micro = score(gold, predicted).partial.micro
    assert (micro.precision, micro.recall) == (1.5 / 3, 1.5 / 4)  # one correct, one partial, one spurious, two missing
    assert micro == Counts(true_positives=1, partial=1, false_positives=1, false_negatives=2)


def test_a_match_of_other_labels_counts_for_the_type_of_the_gold_span() -> None:
    scores = score(documents((Span(0, 6, "A"),)), documents((Span(0, 6, "B"),)))
    assert dict(scores.exact.per_type) == {"A": Counts(1, 0, 0), "B": Counts()}
    assert dict(scores.strict.per_type) == {"A": Counts(0, 0, 1), "B": Counts(0, 1, 0)}


def test_relaxed_takes_neighbours_and_counts_repeated_spans_once() -> None:
    gold, predicted = [Span(0, 6, "A")] * 2, [Span(6, 7, "A")] * 3
    assert count(gold, predicted, "relaxed") == {"A": Counts(1, 0, 0)}
    assert count(gold, predicted, "type") == {"A": Counts(0, 3, 2)}


def test_relaxed_gives_each_gold_span_the_first_free_one_in_the_text() -> None:
    gold, predicted = [Span(7, 9, "A"), Span(0, 8, "A")], [Span(0, 8, "A"), Span(3, 7, "A")]
    assert count(gold, predicted, "relaxed") == {"A": Counts(2, 0, 0)}
    greedy = [Span(0, 4, "A"), Span(0, 9, "A")], [Span(2, 3, "A"), Span(1, 9, "A")]
    assert count(*greedy, "relaxed") == {"A": Counts(2, 0, 0)}


def test_documents_that_cannot_be_paired_are_refused_together() -> None:
    gold = [Document(name, TEXT) for name in ("same", "twice", "twice", *(f"missing{n:02}" for n in range(12)))]
    predicted = [Document("same", "Another text"), Document("twice", TEXT), Document("extra", TEXT)]
    with pytest.raises(DataError) as caught:
        score(gold, predicted)
    message = str(caught.value)
    assert "gold documents that appear more than once (1): twice" in message
    assert "gold documents without a prediction (12): missing00, " in message
    assert "missing09 and 2 more;" in message
    assert "predicted documents without a gold document (1): extra" in message
    assert "so that offsets cannot be compared (1): same" in message
    assert "Another" not in message


def test_what_can_be_no_span_counts_as_a_wrong_prediction_and_is_refused_in_gold() -> None:
    gold = [Annotations("note", (Span(0, 6, "A"),), (None,))]
    predicted = [Annotations("note", impossible=(ImpossibleSpan(6, 0, "A"), ImpossibleSpan(3, 3, "B")))]
    for criterion in CRITERIA:
        assert score(gold, predicted).by(criterion).per_type == {"A": Counts(0, 1, 1), "B": Counts(0, 1, 0)}
    with pytest.raises(DataError, match=r"gold documents that mark what cannot be a span \(1\): note"):
        score(predicted, gold)


def test_a_document_predicted_twice_is_refused() -> None:
    with pytest.raises(DataError, match=r"predicted documents that appear more than once \(1\): note0"):
        score(documents(()), documents(()) * 2)
