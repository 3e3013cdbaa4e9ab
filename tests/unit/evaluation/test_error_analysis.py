"""Errors sorted by kind, and counted by what may explain them."""

from __future__ import annotations

import json

from cardioner.data.documents import Document, Span
from cardioner.evaluation import Counts, Pair, analyse
from cardioner.evaluation.error_analysis import Outcome, outcomes_of
from cardioner.evaluation.evaluate import mentions_of

TEXT = "Severe mitral and aortic stenosis, on bisoprolol."


def test_each_error_has_its_kind() -> None:
    gold = [Span(0, 6, "A"), Span(7, 13, "A"), Span(14, 17, "A"), Span(18, 24, "A"), Span(25, 33, "A")]
    predicted = [Span(0, 6, "A"), Span(7, 12, "A"), Span(14, 17, "B"), Span(18, 22, "B"), Span(38, 48, "A")]
    kinds = {(one.kind, one.gold, one.predicted) for one in outcomes_of(gold, predicted)}
    assert kinds == {
        ("correct", gold[0], predicted[0]),
        ("boundary", gold[1], predicted[1]),
        ("type", gold[2], predicted[2]),
        ("both", gold[3], predicted[3]),
        ("missed", gold[4], None),
        ("spurious", None, predicted[4]),
    }


def test_a_span_is_used_once_and_the_better_match_goes_first() -> None:
    gold, predicted = [Span(0, 6, "A"), Span(0, 3, "A")], [Span(0, 6, "A")]
    assert outcomes_of(gold, predicted) == (
        Outcome("missed", gold[1], None),
        Outcome("correct", gold[0], predicted[0]),
    )


def test_groups_count_hits_by_gold_and_wrong_spans_by_their_own() -> None:
    gold = Document("note", TEXT, (Span(0, 6, "A"), Span(18, 33, "A")))
    predicted = gold.with_spans([Span(0, 6, "A"), Span(38, 48, "B")])
    trained = [Document("old", "SEVERE  x", (Span(0, 6, "A"),))]
    found = analyse([Pair(gold, predicted)], known=mentions_of(trained))
    assert {name: counts for name, counts in found.by_length.items() if counts != Counts()} == {
        "6 to 10": Counts(1, 1, 0),
        "11 to 20": Counts(0, 0, 1),
    }
    assert found.by_mention == {"seen in training": Counts(1, 0, 0), "not seen in training": Counts(0, 1, 1)}
    assert found.by_position is not None
    assert {name: counts for name, counts in found.by_position.items() if counts != Counts()} == {
        "0 to 10 %": Counts(1, 0, 0),
        "30 to 40 %": Counts(0, 0, 1),
        "70 to 80 %": Counts(0, 1, 0),
    }
    assert dict(found.matrix) == {("A", "A"): 1, ("A", None): 1, (None, "B"): 1}
    assert found.kinds["B"]["spurious"] == 1


def test_confusions_are_listed_by_frequency_with_ids_and_offsets_and_no_text() -> None:
    gold = [Document(f"note{number:02}", TEXT, (Span(0, 6, "A"),)) for number in range(12)]
    pairs = [Pair(document, document.with_spans([Span(0, 6, "B")])) for document in gold]
    pairs.append(Pair(Document("other", TEXT, (Span(7, 13, "A"),)), Document("other", TEXT)))
    found = analyse(pairs)
    first, second = found.confusions
    assert (first.kind, first.gold, first.predicted, first.count, len(first.first)) == ("type", "A", "B", 12, 10)
    assert (second.kind, second.gold, second.predicted, second.count) == ("missed", "A", None, 1)
    content = json.dumps(found.to_dict())
    assert '"document": "note00", "gold": [0, 6], "predicted": [0, 6]' in content
    assert "Severe" not in content
    assert "mitral" not in content


def test_wrong_values_of_right_spans_are_counted_with_their_places() -> None:
    text = "No fever, no cough, chest pain. Brother: stroke."
    said = {3: {"Negation": True}, 13: {"Negation": True}, 20: {}, 41: {"Experiencer": "family"}}
    ends = {3: 8, 13: 18, 20: 30, 41: 47}
    gold = Document("note", text, tuple(Span(at, ends[at], "X", attributes=said[at]) for at in said))
    predicted = gold.with_spans(
        [
            Span(3, 8, "X", attributes={"Odd": True}),  # not negated; no gold span knows the other
            Span(13, 18, "X"),
            Span(20, 30, "X", attributes={"Negation": True}),
            Span(41, 47, "Y"),  # another type: not a right span
        ]
    )
    found = analyse([Pair(gold, predicted)])
    assert [(one.attribute, one.gold, one.predicted, one.count) for one in found.wrong_values] == [
        ("Negation", "true", "—", 2),
        ("Negation", "—", "true", 1),
    ]
    assert [place.outcome.span.start for place in found.wrong_values[0].first] == [3, 13]
    assert found.to_dict()["wrong_values"] == [
        {
            "attribute": "Negation",
            "count": 2,
            "gold": "true",
            "predicted": "—",
            "first": [{"document": "note", "gold": [at, ends[at]], "predicted": [at, ends[at]]} for at in (3, 13)],
        },
        {
            "attribute": "Negation",
            "count": 1,
            "gold": "—",
            "predicted": "true",
            "first": [{"document": "note", "gold": [20, 30], "predicted": [20, 30]}],
        },
    ]
    assert "wrong_values" not in analyse([Pair(gold, gold)]).to_dict()
