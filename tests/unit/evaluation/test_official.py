"""The rules of official scorers, one by one; MultiCardioNER's own figures are tested where its data is at hand."""

from __future__ import annotations

import random

import pytest

from cardioner.data.documents import Annotations, Document, ImpossibleSpan, Span
from cardioner.errors import UsageError
from cardioner.evaluation import evaluate, pair_documents
from cardioner.evaluation.official import score_multicardioner, score_multiclinai
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


# MultiClinAI ---------------------------------------------------------------------------------------------------------


def spans_only(name: str, *spans: Span) -> Annotations:
    return Annotations(name, spans, (None,) * len(spans))


def as_published(gold: list[Annotations], predicted: list[Annotations], label: str | None) -> dict[str, object]:
    """What the definition of MultiClinAI's metrics gives, computed row by row over a whole table."""
    truth, found = (
        [(note.id, one.label, one.start, one.end) for note in side for one in note.spans if label in (None, one.label)]
        for side in (gold, predicted)
    )
    found = [row for index, row in enumerate(found) if row not in found[:index]]
    left = list(truth)
    for row in found:
        if row in left:
            left.remove(row)
    hits = len(truth) - len(left)

    def overlap(one: tuple[str, str, int, int], other: tuple[str, str, int, int]) -> float:
        common = len(set(range(*one[2:])) & set(range(*other[2:]))) if one[:2] == other[:2] else 0
        return 2 * common / (one[3] - one[2] + other[3] - other[2])

    def rounded(precision: float, recall: float) -> dict[str, float]:
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0
        return {"precision": round(precision, 4), "recall": round(recall, 4), "f1": round(f1, 4)}

    recalls = [max((overlap(row, other) for other in found), default=0) for row in truth]
    precisions = [max((overlap(row, other) for other in truth), default=0) for row in found]
    means = (sum(shares) / len(shares) if shares else 0 for shares in (precisions, recalls))
    strict = rounded(hits / len(found) if found else 0, hits / len(truth) if truth else 0)
    return {
        "strict": {**strict, "tp": hits, "fp": len(found) - hits, "fn": len(truth) - hits},
        "char_f1": {**rounded(*means), "n_gold": len(truth), "n_pred": len(found)},
    }


@pytest.mark.parametrize("seed", range(30))
def test_multiclinai_is_its_definition_for_all_types_and_for_each(seed: int) -> None:
    chance = random.Random(seed)

    def some(names: str) -> list[Annotations]:
        def span() -> Span:
            start = chance.randrange(30)
            return Span(start, start + chance.randrange(1, 9), chance.choice("AB"))

        return [spans_only(name, *(span() for _ in range(chance.randrange(9)))) for name in names]

    gold, predicted = some("abcd"), some("cdef")
    found = evaluate(gold, predicted, official="multiclinai").official
    assert found is not None
    content = found.to_dict()
    assert {name: content[name] for name in ("strict", "char_f1")} == as_published(gold, predicted, None)
    assert content["per_type"] == {label: as_published(gold, predicted, label) for label in "AB"}


def test_multiclinai_gives_the_figures_of_its_own_example() -> None:
    gold = [spans_only("doc1", Span(10, 18, "DISEASE")), spans_only("doc2", Span(5, 13, "DISEASE"))]
    predicted = [gold[0], spans_only("doc2", Span(5, 12, "DISEASE"), Span(100, 110, "DISEASE"))]
    assert score_multiclinai(pair_documents(gold, predicted).pairs).lines[:2] == (
        "all strict: precision 0.3333, recall 0.5, f1 0.4",
        "all char_f1: precision 0.6444, recall 0.9667, f1 0.7733",
    )


def test_multiclinai_counts_spans_of_files_without_gold_spans_as_wrong_and_drops_repeated_ones() -> None:
    found = evaluate([note("a", HIT)], [note("a", HIT, HIT), note("b", HIT)], official="multiclinai").official
    assert found is not None
    content = found.to_dict()
    assert content["strict"] == {"precision": 0.5, "recall": 1.0, "f1": 0.6667, "tp": 1, "fp": 1, "fn": 0}
    assert (content["repeated"], found.left_out) == (1, "1 repeated predicted span")


def test_multiclinai_refuses_a_row_written_backwards_as_its_scorer_does() -> None:
    backwards = Annotations("a", impossible=(ImpossibleSpan(5, 0, "X", "HTA"),))
    with pytest.raises(UsageError, match="document a: the official scorer refuses"):
        evaluate([note("a", Span(0, 5, "X"))], [backwards], official="multiclinai")
