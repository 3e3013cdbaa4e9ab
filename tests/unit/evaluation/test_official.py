"""The MultiCardioNER scorer's rules, one by one; its published figures are tested where the data is at hand."""

from __future__ import annotations

import pytest

from cardioner.data.documents import Annotations, Document, ImpossibleSpan, Span
from cardioner.errors import UsageError
from cardioner.evaluation import evaluate, pair_documents
from cardioner.evaluation.official import score_multicardioner
from cardioner.evaluation.scores import FIGURES

HIT = Span(0, 3, "ENFERMEDAD")


def score(gold: list[Annotations], predicted: list[Annotations]) -> tuple[object, ...]:
    found = score_multicardioner(pair_documents(gold, predicted).pairs)
    return tuple(found.to_dict()[name] for name in FIGURES)


def note(name: str, *spans: Span, reads: str = "HTA") -> Annotations:
    return Annotations(name, spans, (reads,) * len(spans))


def test_repeated_predictions_are_dropped_first() -> None:
    assert score([note("a", HIT)], [note("a", HIT, HIT, HIT)]) == (1.0, 1.0, 1.0)


def test_a_repeated_gold_span_has_to_be_found_twice_and_cannot() -> None:
    assert score([note("a", HIT, HIT)], [note("a", HIT, HIT)]) == (1.0, 0.5, 0.6667)


def test_a_hit_needs_the_same_text_and_the_first_of_its_place_decides() -> None:
    assert score([note("a", HIT)], [note("a", HIT, reads="hta")]) == (0.0, 0.0, 0)
    both = Annotations("a", (HIT, HIT), ("HTA", "hta"))
    assert score([note("a", HIT)], [both]) == (1.0, 1.0, 1.0)
    other_way = Annotations("a", (HIT, HIT), ("hta", "HTA"))
    assert score([note("a", HIT)], [other_way]) == (0.0, 0.0, 0)


def test_documents_without_gold_spans_count_for_nothing_officially_and_are_wrong_honestly() -> None:
    found = evaluate([note("a", HIT)], [note("a", HIT), note("b", HIT)], official="multicardioner")
    assert found.official is not None
    assert (found.official.found["precision"], found.official.found["ignored"]) == (1.0, 1)
    assert found.scores.strict.micro.precision == 0.5
    assert found.pairing.without_gold == ("b",)


def test_figures_are_rounded_and_a_whole_zero_stays_whole() -> None:
    gold, predicted = [note("a", *(Span(n, n + 1, "X") for n in range(3)))], [note("a", Span(0, 1, "X"))]
    found = score_multicardioner(pair_documents(gold, predicted).pairs)
    assert found.lines[1:] == ("Micro-average recall: 0.3333", "Micro-average F-score: 0.5")
    nothing = score_multicardioner(pair_documents(gold, [note("a", Span(0, 2, "X"))]).pairs)
    assert [line.rpartition(" ")[2] for line in nothing.lines] == ["0.0", "0.0", "0"]


def test_text_comes_from_the_note_where_there_is_one() -> None:
    gold = [Document("a", "HTA\nleve", (Span(0, 8, "X"),))]
    assert score(gold, [note("a", Span(0, 8, "X"), reads="HTA leve")]) == (1.0, 1.0, 1.0)  # type: ignore[arg-type]


def test_unknown_text_and_unknown_scorers_are_refused() -> None:
    silent = [Annotations("a", (HIT,), (None,))]
    with pytest.raises(UsageError, match=r"document a: .*text column"):
        evaluate(silent, silent, official="multicardioner")
    with pytest.raises(UsageError, match="no official scorer 'other'"):
        evaluate(silent, silent, official="other")


def test_a_row_written_backwards_is_a_hit_officially_and_wrong_honestly() -> None:
    backwards = Annotations("a", impossible=(ImpossibleSpan(5, 0, "X", "HTA"),))
    found = evaluate([note("a", Span(0, 5, "X"))], [backwards], official="multicardioner")
    assert found.official is not None
    assert (found.official.found["tp"], found.official.found["fp"]) == (1, 0)
    micro = found.scores.strict.micro
    assert (micro.true_positives, micro.false_positives, micro.false_negatives) == (0, 1, 1)
    assert found.to_dict()["impossible"] == found.pairing.impossible == 1
