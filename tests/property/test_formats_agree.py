"""From any format to any other: what arrives is what both can hold, and the rest is counted."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from attributed import said_of
from hypothesis import given, settings
from hypothesis import strategies as st

from cardioner.data.documents import Document, Span
from cardioner.data.formats import read_corpus, write_corpus

PLACES = {"brat": "brat", "tsv": "tsv", "jsonl": "notes.jsonl", "conll": "notes.conll", "datasets": "saved"}
PLACES |= {
    "xmi": "xmi",
    "bioc": "n.xml",
    "docbin": "notes.spacy",
    "pubtator": "notes.txt",
    "doccano": "d.jsonl",
    "prodigy": "p.jsonl",
    "label-studio": "tasks.json",
}
WORDS = st.sampled_from(
    ["heart", "e\u0301cho", "2.5", "\U0001fac0", "Na+", '"', "mg/12h", "#", "NA", "-", "\ufeffx", "a\u200bb"]
)
LOSSY = {"conll", "datasets", "pubtator"}
"""Formats that change texts: two hold single spaces between words, one holds a title and an abstract on a line each."""


@st.composite
def plain_documents(draw: st.DrawFn, name: str) -> Document:
    """Words parted by one space, two lines, spans flat and of whole words: every format can hold it."""
    lines = draw(
        st.lists(st.lists(st.sampled_from(["heart", "failure", "mild", "42"]), min_size=1, max_size=5), max_size=2)
    )
    offsets, text, spans = [], "", []
    for line in lines:
        text += "\n" if text else ""
        for index, word in enumerate(line):
            text += " " if index else ""
            offsets.append((len(text), len(text) + len(word), len(lines)))
            text += word
    index = 0
    while index < len(offsets):
        length = draw(st.integers(0, 2))
        if (
            length
            and index + length <= len(offsets)
            and "\n" not in text[offsets[index][0] : offsets[index + length - 1][1]]
        ):
            spans.append(Span(offsets[index][0], offsets[index + length - 1][1], draw(st.sampled_from("XY"))))
        index += max(length, 1)
    return Document(name, text, tuple(spans))


@st.composite
def hostile_documents(draw: st.DrawFn, name: str) -> Document:
    """Any text, spans nested, crossing, twice, discontinuous, scored."""
    text = "".join(
        draw(st.lists(WORDS | st.sampled_from([" ", " ", "\n", "\r\n", "\t", "\u00a0", "\u2028"]), max_size=12))
    )
    spans = []
    for _ in range(draw(st.integers(0, 5)) if len(text) > 3 else 0):
        cuts = sorted(draw(st.sets(st.integers(0, len(text)), min_size=2, max_size=4)))
        pieces = tuple(zip(cuts[::2], cuts[1::2], strict=False)) if len(cuts) == 4 else ()
        score = draw(st.none() | st.floats(0, 1))
        spans.append(Span(cuts[0], cuts[-1], draw(st.sampled_from("XY")), score=score, fragments=pieces))
    return Document(name, text, tuple(sorted(draw(said_of(span)) for span in spans)))


def sorted_by_id(documents: Iterable[Document]) -> list[Document]:
    return sorted(documents, key=lambda document: document.id)


@settings(max_examples=25, deadline=None)
@given(st.tuples(plain_documents("a"), plain_documents("b")), st.permutations(sorted(PLACES)))
def test_what_every_format_holds_passes_through_all_of_them_in_any_order(
    documents: tuple[Document, ...], forms: list[str]
) -> None:
    passed: Iterable[Document] = documents
    with tempfile.TemporaryDirectory() as folder:
        for number, form in enumerate(forms):
            place = Path(folder, str(number), PLACES[form])
            write_corpus(passed, place, form)
            passed = read_corpus(place, form).documents
            if form == "datasets":  # which knows no lines
                documents = tuple(replace(note, text=note.text.replace("\n", " ")) for note in documents)
            assert sorted_by_id(passed) == list(documents), form


@pytest.mark.parametrize("new", PLACES)
@settings(max_examples=60, deadline=None)
@given(st.tuples(hostile_documents("a"), hostile_documents("b")))
def test_every_span_arrives_or_is_counted(new: str, documents: tuple[Document, ...]) -> None:
    gold = sum(len(document.spans) for document in documents)
    with tempfile.TemporaryDirectory() as folder:
        lost = {issue.kind: issue.count for issue in write_corpus(documents, Path(folder, PLACES[new]), new)}
        again = sorted_by_id(read_corpus(Path(folder, PLACES[new]), new).documents)
    left_out = sum(count for kind, count in lost.items() if "spans" in kind and "left out" in kind)
    assert sum(len(document.spans) for document in again) + left_out == gold
    if not left_out:
        attributes = sum(len(span.attributes) for document in documents for span in document.spans)
        kept = sum(len(span.attributes) for document in again for span in document.spans)
        assert kept + lost.get("attributes, left out", 0) == attributes
    if new not in LOSSY:
        assert [document.text for document in again] == [document.text for document in documents]
    if new in {"brat", "jsonl", "bioc", "docbin"}:
        assert lost == {}
        assert [sorted(note.spans) for note in again] == [sorted(note.spans) for note in documents]
    if new == "xmi":
        assert again == [
            document.with_spans(sorted(without(span, "x-1") for span in contiguous(document))) for document in documents
        ]


TOOLS = {"doccano", "prodigy", "label-studio"}


@pytest.mark.parametrize("predicted", [False, True])
@pytest.mark.parametrize("form", sorted(TOOLS))
@settings(max_examples=60, deadline=None)
@given(st.tuples(hostile_documents("a"), hostile_documents("\u0301/\U0001fac0")))
def test_tools_for_annotation_hold_contiguous_spans_and_where_they_can_scores(
    form: str, predicted: bool, documents: tuple[Document, ...]
) -> None:
    metadata = {"ward": "\U0001fac0", "visit": {"day": [1, None]}, "note": "x"}
    documents = tuple(replace(document, metadata=metadata) for document in documents)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, PLACES[form])
        write_corpus(documents, place, form, predicted=predicted)
        corpus = read_corpus(place)
    assert list(corpus.documents) == [
        document.with_spans(
            held_by(form, span, scores=scores_are_held(form, document, predicted=predicted))
            for span in contiguous(document)
        )
        for document in documents
    ]
    assert not corpus.report.malformed


def contiguous(document: Document) -> list[Span]:
    """The spans without a gap between two fragments."""
    return [
        replace(span, fragments=())
        for span in document.spans
        if all(left[1] == right[0] for left, right in pairwise(span.fragments))
    ]


def without(span: Span, name: str) -> Span:
    """A span without an attribute and its score."""
    said, scores = (
        {key: held for key, held in given.items() if key != name} for given in (span.attributes, span.attribute_scores)
    )
    return replace(span, attributes=said, attribute_scores=scores)


def held_by(form: str, span: Span, *, scores: bool) -> Span:
    """What a tool has of a span: Label Studio scores only attributes that are there, doccano has none."""
    if form == "doccano":
        return Span(span.start, span.end, span.label)
    if not scores:
        return replace(span, score=None, attribute_scores={})
    if form == "prodigy":
        return span
    there = {name: score for name, score in span.attribute_scores.items() if name in span.attributes}
    return replace(span, attribute_scores=there)


def scores_are_held(form: str, document: Document, *, predicted: bool) -> bool:
    """Label Studio has scores of predictions alone: of notes whose spans all have one, and where a model found them."""
    spans = contiguous(document)
    scored = bool(spans) and all(span.score is not None for span in spans)
    return form == "prodigy" or (form == "label-studio" and (predicted or scored))


@settings(max_examples=60, deadline=None)
@given(st.tuples(hostile_documents("a"), hostile_documents("12 b")))
def test_pubtator_holds_texts_with_a_space_for_each_further_line_break(documents: tuple[Document, ...]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(documents, Path(folder, "n.txt"), "pubtator")
        again = read_corpus(Path(folder, "n.txt"))
    for old, new in zip(documents, again.documents, strict=True):
        title, newline, abstract = old.text.partition("\n")
        assert new.text == newline.join(re.sub(r"[\r\n\t]", " ", line) for line in (title, abstract))
        assert new.spans == tuple(sorted(Span(span.start, span.end, span.label) for span in contiguous(old)))
