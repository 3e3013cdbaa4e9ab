"""Spans survive tags, or are reported, over the sub-tokens that real tokenizers make of hostile text."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardioner.data.documents import Span
from cardioner.data.labels import LabelSet
from cardioner.multiclass.encoding import encode_notes
from cardioner.multiclass.modeling import legal_transitions
from cardioner.multiclass.tagging import OUTSIDE, repair, run_offsets, to_runs, to_tags, trim_offsets

HOSTILE = [
    *"\ufeff\t\u00a0\u00ad\u200b\u200d\u0301\u2028\u2029\x85\x0b\x1c\x00 \n.-/",
    "\r\n",
    "\U0001fac0",
    "\U0001f468\u200d\u2695\ufe0f",
    "e\u0301",
    "İ",
    "ﬁ",
    "心",
    "<s>",
    "[SEP]",
]
WORDS = ["heart", "failure", "bisoprolol", "cardíaca", "2.5", "mg/12h", "ß"]
TEXTS = st.lists(st.sampled_from([*HOSTILE, *WORDS, " ", " "]) | st.characters(exclude_categories=["Cs"]), max_size=14)
LABELS = st.sampled_from("XYZ")
KINDS = st.sampled_from(["wordpiece", "byte-bpe", "unigram"])
EXAMPLES = settings(max_examples=150, deadline=None)


def sub_tokens(tokenizers: dict[str, Any], kind: str, parts: list[str]) -> tuple[str, list[tuple[int, int]]]:
    text = "".join(parts)
    return text, encode_notes(tokenizers[kind], [text])[0].offsets


def found(tags: list[str], offsets: list[tuple[int, int]]) -> list[Span]:
    pieces = [(run_offsets(run, offsets), run.label) for run in to_runs(tags)]
    return [Span(start, end, label) for (start, end), label in pieces if start < end]


def borders(offsets: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Where a span may start and end without cutting a sub-token."""
    uncut = {edge for pair in offsets for edge in pair if not any(start < edge < end for start, end in offsets)}
    solid = [(start, end) for start, end in offsets if start < end]
    return sorted(uncut & {start for start, _ in solid}), sorted(uncut & {end for _, end in solid})


@EXAMPLES
@given(KINDS, TEXTS, st.data())
def test_flat_spans_on_sub_token_borders_survive_the_tags(
    tokenizers: dict[str, Any], kind: str, parts: list[str], data: st.DataObject
) -> None:
    _, offsets = sub_tokens(tokenizers, kind, parts)
    starts, ends = borders(offsets)
    spans: list[Span] = []
    for start in starts:
        reachable = [end for end in ends if end > start]
        if reachable and start >= (spans[-1].end if spans else 0) and data.draw(st.booleans()):
            spans.append(Span(start, data.draw(st.sampled_from(reachable[:4])), data.draw(LABELS)))
    label_set = LabelSet.from_types("XYZ", scheme=data.draw(st.sampled_from(["BIO", "BIOES"]))).tags
    tags, losses = to_tags(data.draw(st.permutations(spans)), offsets, label_set)
    assert losses == []
    assert set(tags) <= set(label_set)
    assert found(tags, offsets) == spans
    assert repair(tags, label_set) == (tags, 0)


@EXAMPLES
@given(KINDS, TEXTS, st.data())
def test_every_span_is_carried_exactly_or_reported(
    tokenizers: dict[str, Any], kind: str, parts: list[str], data: st.DataObject
) -> None:
    text, offsets = sub_tokens(tokenizers, kind, parts)
    places = st.tuples(st.integers(0, len(text)), st.integers(0, len(text))).filter(lambda pair: pair[0] < pair[1])
    spans = (
        data.draw(st.lists(st.builds(lambda pair, label: Span(*pair, label), places, LABELS), max_size=8))
        if text
        else []
    )
    tags, losses = to_tags(spans, offsets)
    reported = Counter(Span(loss.start, loss.end, loss.label) for loss in losses)
    assert reported <= Counter(spans)
    assert Counter(spans) - reported <= Counter(found(tags, offsets))
    cut = {Span(loss.start, loss.end, loss.label) for loss in losses if loss.kind == "cut sub-token"}
    untagged = Counter(Span(loss.start, loss.end, loss.label) for loss in losses if loss.kind != "cut sub-token")
    tagged = sorted((Counter(spans) - untagged).elements())
    runs = [(*run_offsets(run, offsets), run.label) for run in to_runs(tags)]
    for span, run in zip(tagged, runs, strict=True):
        assert (run == (span.start, span.end, span.label)) == (span not in cut)
    assert to_tags(data.draw(st.permutations(spans)), offsets) == (tags, losses)
    assert repair(tags) == (tags, 0)


@EXAMPLES
@given(KINDS, TEXTS)
def test_offsets_are_ordered_in_range_and_free_of_white_space_at_the_edges(
    tokenizers: dict[str, Any], kind: str, parts: list[str]
) -> None:
    text, offsets = sub_tokens(tokenizers, kind, parts)
    assert all(0 <= start <= end <= len(text) for start, end in offsets)
    assert all(text[start:end] == text[start:end].strip() for start, end in offsets)
    assert [start for start, _ in offsets] == sorted(start for start, _ in offsets)
    assert [end for _, end in offsets] == sorted(end for _, end in offsets)
    assert trim_offsets(text, offsets) == offsets


@given(st.lists(st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y"]), max_size=12))
def test_repaired_tags_are_legal_and_hold_the_same_entities(tags: list[str]) -> None:
    repaired, changed = repair(tags)
    previous = [OUTSIDE, *repaired]
    assert all(tag[0] != "I" or before[1:] == tag[1:] for before, tag in zip(previous, repaired, strict=False))
    assert to_runs(repaired) == to_runs(tags)
    assert [tag[1:] for tag in repaired] == [tag[1:] for tag in tags]
    assert changed == sum(old != new for old, new in zip(tags, repaired, strict=True))


@given(st.lists(st.sampled_from(["O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in "XY")]), max_size=12))
def test_repaired_closed_tags_are_what_the_field_calls_legal_and_hold_the_same_entities(tags: list[str]) -> None:
    label_set = LabelSet.from_types("XY", scheme="BIOES").tags
    legal = legal_transitions(list(label_set))
    repaired, changed = repair(tags, label_set)
    ids = [label_set.index(tag) for tag in repaired]
    assert all(legal.transitions[before][after] for before, after in pairwise(ids))
    assert not ids or (legal.start[ids[0]] and legal.end[ids[-1]])
    assert to_runs(repaired) == to_runs(tags)
    assert changed == sum(old != new for old, new in zip(tags, repaired, strict=True))


def test_a_span_over_a_character_of_many_sub_tokens_takes_them_all(tokenizers: dict[str, Any]) -> None:
    text = "a \U0001fac0 b"
    note = encode_notes(tokenizers["byte-bpe"], [text])[0]
    shared = [offset for offset in note.offsets if offset == (2, 3)]
    tags, losses = to_tags([Span(2, 3, "X")], note.offsets)
    assert len(shared) > 1
    assert [tag for tag in tags if tag != OUTSIDE] == ["B-X", *["I-X"] * (len(shared) - 1)]
    assert losses == []


@pytest.mark.parametrize("kind", ["wordpiece", "byte-bpe", "unigram"])
def test_a_note_of_white_space_carries_no_span(tokenizers: dict[str, Any], kind: str) -> None:
    note = encode_notes(tokenizers[kind], [" \u00a0\r\n"])[0]
    tags, losses = to_tags([Span(0, 4, "X")], note.offsets)
    assert found(tags, note.offsets) == []
    assert len(losses) == 1
