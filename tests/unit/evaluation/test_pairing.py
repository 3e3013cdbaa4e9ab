"""Documents of both sides, paired by id, whether their texts are at hand or not."""

from __future__ import annotations

import pytest

from cardioner.data.documents import Annotations, Document, Span
from cardioner.errors import DataError
from cardioner.evaluation import pair_documents, score
from cardioner.evaluation.pairing import pair_with_each

SPAN = Span(0, 3, "A")


def alone(name: str, *spans: Span) -> Annotations:
    return Annotations(name, spans, ("HTA",) * len(spans))


def test_spans_alone_name_only_documents_that_have_some() -> None:
    found = pair_documents([Document("a", "HTA", (SPAN,)), Document("b", "HTA")], [alone("a", SPAN)])
    assert [(pair.id, len(pair.predicted.spans)) for pair in found.pairs] == [("a", 1), ("b", 0)]
    assert found.without_prediction == ("b",)
    assert score([alone("a", SPAN)], [alone("b", SPAN)]).strict.micro.f1 == 0.0
    assert pair_documents([alone("a", SPAN)], [alone("b", SPAN)]).without_gold == ("b",)


def test_an_empty_table_predicts_nothing() -> None:
    assert score([Document("a", "HTA", (SPAN,))], []).strict.micro.false_negatives == 1


def test_spans_alone_for_documents_that_gold_does_not_have_are_refused_or_left_out() -> None:
    gold, predicted = [Document("a", "HTA", (SPAN,))], [alone("a", SPAN), alone("x", SPAN)]
    with pytest.raises(DataError, match=r"predicted documents without a gold document \(1\): x"):
        pair_documents(gold, predicted)
    found = pair_documents(gold, predicted, leave_out_unknown=True)
    assert ([pair.id for pair in found.pairs], found.left_out) == (["a"], ("x",))


def test_spans_alone_must_fit_the_text_of_the_other_side() -> None:
    with pytest.raises(DataError, match=r"documents with spans that end after the text \(1\): a"):
        pair_documents([Document("a", "HTA", (SPAN,))], [alone("a", Span(0, 4, "A"))])


def test_the_same_texts_under_other_ids_are_paired_in_their_order() -> None:
    gold = [Document("gold-1", "HTA", (SPAN,)), Document("gold-2", "HTA")]
    predicted = [Document("tagged-1", "HTA"), Document("tagged-2", "HTA", (SPAN,))]
    found = pair_documents(gold, predicted)
    assert found.by_text
    assert [(pair.id, len(pair.predicted.spans)) for pair in found.pairs] == [("gold-1", 0), ("gold-2", 1)]
    for other in (predicted[:1], [*predicted[:1], Document("tagged-2", "TEP")], [*predicted[:1], gold[1]]):
        with pytest.raises(DataError, match="without a prediction"):
            pair_documents(gold, other)


def test_mentions_come_from_the_text_of_either_side() -> None:
    (pair,) = pair_documents([Document("a", "HTA", (SPAN,))], [Annotations("a", (SPAN,), (None,))]).pairs
    assert (pair.text, *pair.mentions) == ("HTA", ("HTA",), ("HTA",))
    (pair,) = pair_documents([alone("a", SPAN)], [Annotations("a", (SPAN,), (None,))]).pairs
    assert (pair.text, *pair.mentions) == (None, ("HTA",), (None,))


def test_several_predictions_get_the_same_documents() -> None:
    first, second = pair_with_each([alone("a", SPAN)], [alone("b", SPAN)], [alone("a", SPAN), alone("c", SPAN)])
    assert [pair.id for pair in first.pairs] == [pair.id for pair in second.pairs] == ["a", "b", "c"]
    assert [len(pair.predicted.spans) for pair in first.pairs] == [0, 1, 0]


def test_a_document_with_another_text_is_reported_once() -> None:
    gold, predicted = [Document("a", "HTA")], [Document("a", "HTA leve", (Span(0, 8, "A"),))]
    with pytest.raises(DataError) as caught:
        pair_documents(gold, predicted)
    assert "another text" in str(caught.value)
    assert "after the text" not in str(caught.value)


def test_predicted_spans_that_read_otherwise_than_the_gold_text_are_counted() -> None:
    gold = Document("a", "HTA  leve\n", (SPAN,))
    spans = (Span(0, 3, "A"), Span(0, 9, "A"), Span(4, 9, "A"), Span(1, 3, "A"))
    found = pair_documents([gold], [Annotations("a", spans, ("HTA", "HTA leve", "eve", None))])
    assert found.misquoted == 1
    assert pair_documents([gold], [gold]).misquoted == 0
