"""From any format to any other: what arrives is what both can hold, and the rest is counted."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardioner.data.documents import Document, Span
from cardioner.data.formats import read_corpus, write_corpus

PLACES = {"brat": "brat", "tsv": "tsv", "jsonl": "notes.jsonl", "conll": "notes.conll", "datasets": "saved"}
WORDS = st.sampled_from(
    ["heart", "e\u0301cho", "2.5", "\U0001fac0", "Na+", '"', "mg/12h", "#", "NA", "-", "\ufeffx", "a\u200bb"]
)
LOSSY = {"conll", "datasets"}
"""Formats of words: they hold flat spans of whole words, and single spaces between words."""


@st.composite
def plain_documents(draw: st.DrawFn, name: str) -> Document:
    """Words parted by one space, lines by one newline, spans flat and of whole words: every format can hold it."""
    lines = draw(
        st.lists(st.lists(st.sampled_from(["heart", "failure", "mild", "42"]), min_size=1, max_size=5), max_size=3)
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
    ordered = sorted(spans, key=lambda span: (span.start, span.end, span.label, span.fragments, span.score or 0))
    return Document(name, text, tuple(ordered))


def sorted_by_id(documents: tuple[Document, ...]) -> list[Document]:
    return sorted(documents, key=lambda document: document.id)


@pytest.mark.parametrize(("old", "new"), list(product(PLACES, PLACES)))
@settings(max_examples=8, deadline=None)
@given(st.tuples(plain_documents("a"), plain_documents("b")))
def test_what_every_format_holds_passes_through_all_of_them(
    old: str, new: str, documents: tuple[Document, ...]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "1", PLACES[old]), Path(folder, "2", PLACES[new])
        write_corpus(documents, first, old)
        write_corpus(read_corpus(first, old).documents, second, new)
        found = sorted_by_id(read_corpus(second, new).documents)
    if "datasets" in {old, new}:  # which knows no lines
        documents = tuple(replace(document, text=document.text.replace("\n", " ")) for document in documents)
    assert found == list(documents)


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
    if new not in LOSSY:
        assert [document.text for document in again] == [document.text for document in documents]
    if new in {"brat", "jsonl"}:
        assert lost == {}
        assert again == list(documents)
