"""The page of an evaluation, where a note cannot be drawn or a span cannot exist."""

from __future__ import annotations

from cardioner.data.documents import Annotations, Document, ImpossibleSpan, Span
from cardioner.evaluation import evaluate
from cardioner.reports.evaluation.report import render


def test_a_note_with_too_many_spans_over_each_other_is_a_list() -> None:
    text = "dolor " * 200
    spans = tuple(Span(place, len(text) - place, "A") for place in range(400))
    crowded, plain = Document("crowded", text, spans), Document("plain", "syncope today", (Span(0, 7, "A"),))
    found = evaluate([crowded, plain], [crowded, plain])
    made = render(found)
    assert made == render(found)
    assert len(made) < 3_000_000
    assert made.count("too many overlapping spans to draw") == 1
    assert "dolor" not in made
    assert "A 399–801" in made
    assert "syncope</i> today" in made
    assert "contains the text of 1 note." in made
    assert "too many overlapping spans" not in render(found, ids_only=True)


def test_as_many_spans_beside_each_other_are_drawn() -> None:
    text = "dolor " * 400
    note = Document("note", text, tuple(Span(place, place + 5, "A") for place in range(0, len(text), 6)))
    made = render(evaluate([note], [note]))
    assert "too many overlapping spans" not in made
    assert made.count("dolor") == 800


def test_spans_that_cannot_exist_are_counted() -> None:
    gold = Document("note", "severe stenosis", (Span(0, 6, "A"),))
    predicted = Annotations("note", impossible=(ImpossibleSpan(6, 0, "A"),))
    assert "1 impossible predicted span (the end is not after the start)" in render(evaluate([gold], [predicted]))
    assert "impossible" not in render(evaluate([gold], [gold]))
