"""Counting spans and scoring documents, on cases small enough to count by hand."""

from __future__ import annotations

import json

import pytest

from cardioner.documents import Document, Span
from cardioner.errors import DataError
from cardioner.evaluation import Averages, Counts, match_strict, score_strict

TEXT = "Severe mitral and aortic stenosis."


def documents(*spans: tuple[Span, ...]) -> list[Document]:
    return [Document(f"note{number}", TEXT, found) for number, found in enumerate(spans)]


def test_a_span_is_right_only_with_both_offsets_and_the_label() -> None:
    gold = [Span(0, 6, "A")]
    wrong = [Span(0, 5, "A"), Span(1, 6, "A"), Span(0, 6, "B")]
    assert match_strict(gold, wrong) == {"A": Counts(0, 2, 1), "B": Counts(0, 1, 0)}
    assert match_strict(gold, [*wrong, *gold]) == {"A": Counts(1, 2, 0), "B": Counts(0, 1, 0)}


def test_fragments_belong_to_the_span_and_scores_do_not() -> None:
    whole, parts = Span(7, 33, "A"), Span(7, 33, "A", fragments=((7, 13), (25, 33)))
    assert match_strict([parts], [whole]) == {"A": Counts(0, 1, 1)}
    assert match_strict([parts, whole], [whole, Span(7, 33, "A", 0.5, parts.fragments)]) == {"A": Counts(2, 0, 0)}


def test_a_duplicate_is_matched_as_often_as_it_is_on_both_sides() -> None:
    span = Span(0, 6, "A")
    assert match_strict([span], [span] * 3) == {"A": Counts(1, 2, 0)}
    assert match_strict([span] * 3, [span]) == {"A": Counts(1, 0, 2)}


def test_shares_of_nothing_are_zero() -> None:
    assert (Counts().precision, Counts().recall, Counts().f1) == (0.0, 0.0, 0.0)
    scores = score_strict([], [])
    assert (scores.documents, scores.micro, scores.macro) == (0, Counts(), Averages(0.0, 0.0, 0.0))


def test_precision_recall_and_f1_are_what_their_names_say() -> None:
    counts = Counts(true_positives=3, false_positives=1, false_negatives=2)
    assert (counts.precision, counts.recall) == (3 / 4, 3 / 5)
    assert counts.f1 == pytest.approx(2 * (3 / 4) * (3 / 5) / (3 / 4 + 3 / 5))


def test_the_same_offsets_in_another_document_are_no_match() -> None:
    span = (Span(0, 6, "A"),)
    assert score_strict(documents(span, ()), documents((), span)).micro == Counts(0, 1, 1)


def test_micro_adds_the_counts_and_macro_averages_the_types() -> None:
    gold = documents((Span(0, 6, "B"), Span(7, 13, "B"), Span(18, 24, "A")))
    predicted = documents((Span(0, 6, "B"), Span(18, 24, "C")))
    scores = score_strict(gold, predicted)
    assert list(scores.per_type.items()) == [("A", Counts(0, 0, 1)), ("B", Counts(1, 0, 1)), ("C", Counts(0, 1, 0))]
    assert scores.micro == Counts(1, 1, 2)
    assert scores.macro == Averages(1 / 3, 0.5 / 3, pytest.approx(2 / 9))


def test_documents_without_entities_count_and_their_predictions_are_wrong() -> None:
    scores = score_strict(documents((), ()), documents((), (Span(0, 6, "A"),)))
    assert (scores.documents, scores.micro) == (2, Counts(0, 1, 0))


def test_the_report_is_exactly_this() -> None:
    scores = score_strict(documents((Span(0, 6, "B"), Span(7, 13, "A"))), documents((Span(0, 6, "B"),)))
    half = {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert json.loads(json.dumps(scores.to_dict())) == {
        "documents": 1,
        "strict": {
            "macro": half,
            "micro": {"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "tp": 1, "fp": 0, "fn": 1},
            "per_type": {
                "A": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "tp": 0, "fp": 0, "fn": 1},
                "B": {"precision": 1.0, "recall": 1.0, "f1": 1.0, "tp": 1, "fp": 0, "fn": 0},
            },
        },
    }


def test_documents_that_cannot_be_paired_are_refused_together() -> None:
    gold = [Document(name, TEXT) for name in ("same", "twice", "twice", *(f"missing{n:02}" for n in range(12)))]
    predicted = [Document("same", "Another text"), Document("twice", TEXT), Document("extra", TEXT)]
    with pytest.raises(DataError) as caught:
        score_strict(gold, predicted)
    message = str(caught.value)
    assert "1 gold documents appear more than once (twice)" in message
    assert "12 gold documents have no prediction (missing00, " in message
    assert "missing09 and 2 more)" in message
    assert "1 predicted documents have no gold document (extra)" in message
    assert "so their offsets cannot be compared (same)" in message
    assert "Another" not in message


def test_a_document_predicted_twice_is_refused() -> None:
    with pytest.raises(DataError, match=r"1 predicted documents appear more than once \(note0\)"):
        score_strict(documents(()), documents(()) * 2)
