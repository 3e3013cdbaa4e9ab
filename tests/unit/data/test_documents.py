"""Spans and documents refuse what cannot be, and show text only when asked."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest

from cardioner.data.documents import Annotations, Document, Span, fingerprint, rename_labels
from cardioner.errors import DataError, UsageError

TEXT = "Severe mitral and aortic stenosis."


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (3, 3), (4, 3)])
def test_a_span_without_length_or_before_the_text_is_refused(start: int, end: int) -> None:
    with pytest.raises(DataError, match=f"found {start} to {end}"):
        Span(start, end, "A")


def test_a_span_without_label_is_refused() -> None:
    with pytest.raises(DataError, match="has no label"):
        Span(0, 3, "")


@pytest.mark.parametrize(
    "fragments",
    [
        ((7, 13), (25, 34)),  # beyond the end
        ((8, 13), (25, 33)),  # behind the start
        ((25, 33), (7, 13)),  # out of order
        ((7, 26), (25, 33)),  # overlapping
        ((7, 7), (25, 33)),  # empty
    ],
)
def test_fragments_that_do_not_fit_the_span_are_refused(fragments: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(DataError, match="the fragments of the span 7 to 33"):
        Span(7, 33, "A", fragments=fragments)


def test_a_span_behind_the_text_is_refused_without_showing_the_text() -> None:
    with pytest.raises(DataError, match=r"document note: .* 34 characters") as caught:
        Document("note", TEXT, (Span(25, 35, "A"),))
    assert "stenosis" not in str(caught.value)


def test_the_text_of_a_span_is_its_characters_or_its_fragments() -> None:
    document = Document("note", TEXT)
    assert document.text_of(Span(7, 13, "A")) == "mitral"
    assert document.text_of(Span(7, 33, "A", fragments=((7, 13), (25, 33)))) == "mitral stenosis"


def test_other_spans_make_another_document() -> None:
    document = Document("note", TEXT, (Span(0, 6, "A"),))
    assert document.with_spans([Span(7, 13, "B")]) == Document("note", TEXT, (Span(7, 13, "B"),))
    assert document.spans == (Span(0, 6, "A"),)


def test_labels_are_renamed_dropped_or_kept() -> None:
    spans = (Span(0, 6, "A"), Span(7, 13, "B", 0.5), Span(18, 24, "C"))
    renamed = rename_labels([Document("note", TEXT, spans)], {"A": "", "B": "X"})
    assert renamed == [Document("note", TEXT, (Span(7, 13, "X", 0.5), Span(18, 24, "C")))]


def test_mentions_follow_the_spans_that_stay_when_labels_are_renamed() -> None:
    spans = (Span(0, 6, "A"), Span(7, 13, "B", 0.5), Span(18, 24, "C"))
    renamed = rename_labels([Annotations("note", spans, ("Severe", "mitral", None))], {"A": "", "B": "X"})
    assert renamed == [Annotations("note", (Span(7, 13, "X", 0.5), Span(18, 24, "C")), ("mitral", None))]


def test_notes_with_text_and_without_are_renamed_together() -> None:
    whole, alone = Document("a", TEXT, (Span(0, 6, "A"),)), Annotations("b", (Span(0, 6, "A"),), ("Severe",))
    notes: list[Document | Annotations] = [whole, alone]
    assert rename_labels(notes, {"A": "B"}) == [
        Document("a", TEXT, (Span(0, 6, "B"),)),
        Annotations("b", (Span(0, 6, "B"),), ("Severe",)),
    ]
    assert notes == [whole, alone]


def test_annotations_need_one_mention_for_each_span() -> None:
    with pytest.raises(DataError, match="document a: 1 span, but 2 mentions"):
        Annotations("a", (Span(0, 6, "A"),), (None, "mitral"))


def test_spans_with_and_without_score_sort_and_differ() -> None:
    bare, nought, half = Span(0, 6, "A"), Span(0, 6, "A", 0.0), Span(0, 6, "A", 0.5)
    assert sorted([half, nought, bare]) == [bare, nought, half]
    assert len({bare, nought, half}) == 3
    assert bare != nought
    assert bare < nought <= half > bare


def test_a_span_is_not_compared_with_anything_else() -> None:
    with pytest.raises(TypeError, match="not supported"):
        assert Span(0, 6, "A") < (0, 6, "A")


def test_lone_surrogates_are_refused_by_place_and_not_by_text() -> None:
    with pytest.raises(DataError, match="document a: the character at 3 "):
        Document("a", "xyz\ud800")


PART = [Document("a", "chest pain", (Span(0, 10, "SYMPTOM"),)), Document("b", "x")]


@pytest.mark.parametrize(
    "other",
    [
        [PART[:1]],
        [PART[::-1]],
        [[*PART, Document("c", "")]],
        [PART[:1], PART[1:]],
        [PART, []],
        [[Document("a", "chest pain", (Span(0, 5, "SYMPTOM"),)), PART[1]]],
        [[Document("a", "chest pain", (Span(0, 10, "SYMPTOM"), Span(0, 5, "SYMPTOM"))), PART[1]]],
        [[Document("a", "chest  pain", (Span(0, 10, "SYMPTOM"),)), PART[1]]],
        [[Document("d", "chest pain", (Span(0, 10, "SYMPTOM"),)), PART[1]]],
    ],
)
def test_any_other_note_mark_or_division_has_another_fingerprint(other: list[list[Document]]) -> None:
    assert fingerprint(other) != fingerprint([PART])
    assert fingerprint(other) == fingerprint(tuple(map(tuple, other)))


def test_a_fingerprint_is_what_earlier_releases_computed_so_that_their_runs_are_resumed() -> None:
    marked = Document("c", "chest pain", (Span(0, 5, "S", 0.25), Span(0, 10, "T", fragments=((0, 5), (6, 10)))))
    assert fingerprint([[marked]]) == "ae140c236e5acac04b8f8b1cb678e1b3"


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Document(3, "x"), "a document's id must be a str; found int"),  # type: ignore[arg-type]
        (lambda: Document("a", None), "a document's text must be a str; found NoneType"),  # type: ignore[arg-type]
        (lambda: Document("a", b"x"), "a document's text must be a str; found bytes"),  # type: ignore[arg-type]
        (lambda: Document("a", "x", ((0, 1, "A"),)), "each of the spans must be a Span; found tuple"),  # type: ignore[arg-type]
        (lambda: Span("0", 1, "A"), "a span's start must be an int; found str"),  # type: ignore[arg-type]
        (lambda: Span(0, 1.5, "A"), "a span's end must be an int; found float"),  # type: ignore[arg-type]
        (lambda: Span(0, 1, None), "a span's label must be a str; found NoneType"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_type_is_one_clear_sentence(make: Callable[[], object], expected: str) -> None:
    with pytest.raises(UsageError, match=f"{expected}$"):
        make()


def test_in_a_notebook_a_note_is_shown_with_its_spans_and_everything_is_escaped() -> None:
    note = Document("<a>", "pain & <b>\rx", (Span(0, 4, "<S>"), Span(0, 10, "T"), Span(7, 10, "U")))
    page = note._repr_html_()
    shown = re.sub(r"<sub[^>]*>[^<]*</sub>|<[^>]*>", "", page)
    assert unescape(shown.replace("&#13;", "\r")) == note.id + note.text
    assert [unescape(label) for label in re.findall(r"<sub[^>]*> ([^<]*)</sub>", page)] == ["<S>", "T", "U"]
    assert page.count("<mark") == page.count("</mark>") == 2 + 1 + 2
    assert "<b>\r" not in page
    assert "\r" not in page


def test_a_notebook_shows_what_is_said_of_a_span() -> None:
    said = {"Negation": True, "Certainty": "<low>"}
    page = Document("note", "No oedema.", (Span(3, 9, "SYMPTOM", attributes=said),))._repr_html_()
    assert "SYMPTOM, Certainty: &lt;low&gt;, Negation" in page


def test_attributes_of_a_span_are_frozen_sorted_and_without_those_that_do_not_apply() -> None:
    given: dict[str, str | bool | None] = {"Negation": True, "Certainty": "possible", "Experiencer": None, "Old": False}
    span = Span(0, 6, "A", attributes=given)  # type: ignore[arg-type]  # any mapping is taken
    given.clear()
    assert span.attributes == {"Certainty": "possible", "Negation": True}
    assert list(span.attributes) == ["Certainty", "Negation"]
    assert span == Span(0, 6, "A", attributes={"Negation": True, "Certainty": "possible"}) != Span(0, 6, "A")
    assert len({span, pickle.loads(pickle.dumps(span)), Span(0, 6, "A")}) == 2
    assert Span(0, 6, "A") < span < Span(1, 6, "A")
    assert repr(span) == "Span(0, 6, 'A', attributes={'Certainty': 'possible', 'Negation': True})"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["Negation"], "a span's attributes must be a mapping; found list"),
        ({1: True}, "the name of a span's attribute must be a str; found int"),
        ({"Negation": 2}, "the value of a span's attribute 'Negation' must be a str or True; found int"),
    ],
)
def test_attributes_of_other_types_are_refused(given: Any, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        Span(0, 6, "A", attributes=given)


@pytest.mark.parametrize("given", [{"": True}, {"Certainty": ""}])
def test_empty_names_and_values_of_attributes_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(DataError, match="without a name, or with an empty value"):
        Span(0, 6, "A", attributes=given)


def test_a_digest_tells_attributes_apart_and_is_as_before_without_them() -> None:
    plain, said = (Document("note", TEXT, (Span(0, 6, "A", attributes=given),)) for given in ({}, {"Negation": True}))
    assert fingerprint([[plain]]) != fingerprint([[said]])
    assert fingerprint([[plain]]) == "2579aa6fae03d9ab5f892802ca15d7d6"
