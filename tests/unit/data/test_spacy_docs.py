"""Spans in docs of spaCy: every one arrives as whole tokens, and nothing of what was marked is lost."""

from __future__ import annotations

from typing import Any

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc
from spacy.tokens import Span as TokenSpan

from cardioner.data.documents import Span
from cardioner.data.spacy_docs import add_entities, is_exact, mark, marked

TEXT = "Bisoprolol 2.5mg o.d. since 2019;  no oedema."
NLP = spacy.blank("en")


def doc_of(text: str, *spans: Span, group: str = "cardioner") -> Doc:
    doc = NLP(text)
    mark(doc, spans, group)
    return doc


def around(text: str, words: str, label: str = "X", **others: Any) -> Span:
    start = text.index(words)
    return Span(start, start + len(words), label, **others)


def test_a_span_inside_of_a_token_gets_the_whole_token_and_keeps_its_edges() -> None:
    span = around(TEXT, "edem", score=0.25)
    doc = doc_of(TEXT, span)
    (made,) = doc.spans["cardioner"]
    assert (made.text, made.label_) == ("oedema", "X")
    assert marked(made) == span
    assert not is_exact(made)


def test_a_span_of_whole_tokens_is_exact() -> None:
    doc = doc_of(TEXT, around(TEXT, "Bisoprolol 2.5mg"))
    (made,) = doc.spans["cardioner"]
    assert made.text == "Bisoprolol 2.5mg"
    assert is_exact(made)


@given(st.data())
def test_whatever_is_marked_comes_back_and_its_tokens_cover_it(data: st.DataObject) -> None:
    piece = st.sampled_from(["heart", " ", "  ", "\n", "2.5mg", ";", "\u00e9cho", "\U0001fac0", "\u00a0", "can't"])
    text = "".join(data.draw(st.lists(piece, min_size=1, max_size=8)))
    edges = st.lists(st.integers(0, len(text)), min_size=2, max_size=4, unique=True).map(sorted)
    drawn = data.draw(st.lists(st.tuples(edges, st.sampled_from("XY"), st.none() | st.floats(0, 1)), max_size=5))
    spans = []
    for cuts, label, score in drawn:
        pieces = tuple(zip(cuts[::2], cuts[1::2], strict=True)) if len(cuts) == 4 else ()
        attributes = {"Negation": True, "Temporality": "past"} if score else {}
        spans.append(Span(cuts[0], cuts[-1], label, score, pieces, attributes, dict.fromkeys(attributes, 0.5)))
    doc = doc_of(text, *spans)
    assert doc.text == text
    made = list(doc.spans["cardioner"])
    assert [marked(span) for span in made] == spans
    for span, exact in zip(made, spans, strict=True):
        covered = text[exact.start : exact.end].strip()
        assert covered in span.text
    again = Doc(NLP.vocab).from_bytes(doc.to_bytes())
    assert [marked(span) for span in again.spans["cardioner"]] == spans


def test_spans_that_share_their_tokens_are_told_apart() -> None:
    spans = [around(TEXT, "2.5mg", "A", score=0.5), around(TEXT, "2.5", "B"), around(TEXT, "2.5", "A", score=0.1)]
    spans += [around(TEXT, "5m", "A", score=0.2)]
    doc = Doc(NLP.vocab, words=["Bisoprolol", "2.5mg"], spaces=[True, False])
    mark(doc, spans)
    assert {(span.start, span.end) for span in doc.spans["cardioner"]} == {(1, 2)}
    assert [marked(span) for span in doc.spans["cardioner"]] == spans


def test_two_groups_of_a_doc_do_not_disturb_each_other_and_a_new_mark_replaces_the_old_one() -> None:
    doc = doc_of(TEXT, around(TEXT, "oedem", score=0.1), group="one")
    mark(doc, [around(TEXT, "oedem", score=0.9)], "two")
    assert [marked(span).score for name in ("one", "two") for span in doc.spans[name]] == [0.1, 0.9]
    mark(doc, [], "two")
    assert [marked(span).score for span in doc.spans["one"]] == [0.1]
    mark(doc, [around(TEXT, "oed", score=0.4)], "one")
    assert [marked(span) for span in doc.spans["one"]] == [around(TEXT, "oed", score=0.4)]


def test_a_span_of_another_component_stands_for_its_tokens() -> None:
    doc = doc_of(TEXT, around(TEXT, "edem", score=0.5))
    (ours,) = doc.spans["cardioner"]
    other = TokenSpan(doc, ours.start, ours.end, label="OTHER")
    assert marked(other) == Span(ours.start_char, ours.end_char, "OTHER")


def test_offsets_move_with_docs_that_are_joined_and_cut() -> None:
    first, second = doc_of("No oedema.", around("No oedema.", "oedem")), doc_of(TEXT, around(TEXT, "edem", score=0.5))
    joined = Doc.from_docs([first, second])
    assert joined is not None
    assert [joined.text[one.start : one.end] for one in map(marked, joined.spans["cardioner"])] == ["oedem", "edem"]
    (span,) = second.spans["cardioner"]
    alone = second[span.start - 1 : span.end].as_doc(copy_user_data=True)
    copied = TokenSpan(alone, 1, 2, label="X")
    assert alone.text[marked(copied).start : marked(copied).end] == "edem"


def test_entities_are_the_longest_then_the_most_probable_and_share_no_token() -> None:
    spans = [
        around(TEXT, "Bisoprolol", "DRUG", score=0.9),
        around(TEXT, "Bisoprolol 2.5mg", "ORDER", score=0.1),
        around(TEXT, "oedema", "LESS", score=0.2),
        around(TEXT, "oedema", "MORE", score=0.3),
        around(TEXT, "2019", "DATE"),
    ]
    doc = doc_of(TEXT, *spans)
    add_entities(doc, doc.spans["cardioner"], keep=False)
    assert [(ent.text, ent.label_) for ent in doc.ents] == [
        ("Bisoprolol 2.5mg", "ORDER"),
        ("2019", "DATE"),
        ("oedema", "MORE"),
    ]
    assert [marked(ent).score for ent in doc.ents] == [0.1, None, 0.3]


@pytest.mark.parametrize(("keep", "labels"), [(True, ["EARLIER", "X"]), (False, ["ORDER", "X"])])
def test_entities_that_are_there_stay_or_go(keep: bool, labels: list[str]) -> None:
    doc = doc_of(TEXT, around(TEXT, "Bisoprolol 2.5mg", "ORDER"), around(TEXT, "oedema"))
    doc.ents = [TokenSpan(doc, 0, 1, label="EARLIER")]
    add_entities(doc, doc.spans["cardioner"], keep=keep)
    assert [ent.label_ for ent in doc.ents] == labels
