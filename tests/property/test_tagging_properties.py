"""Spans survive tags, or are reported, over the sub-tokens that real tokenizers make of hostile text."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any
from unicodedata import category, normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from cardioner.data.documents import Span
from cardioner.data.labels import LabelSet
from cardioner.multiclass.encoding import encode_notes, encode_with
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
    inexact = {"cut sub-token", "edge in no sub-token"}
    cut = {Span(loss.start, loss.end, loss.label) for loss in losses if loss.kind in inexact}
    untagged = Counter(Span(loss.start, loss.end, loss.label) for loss in losses if loss.kind not in inexact)
    tagged = sorted((Counter(spans) - untagged).elements())
    runs = [(*run_offsets(run, offsets), run.label) for run in to_runs(tags)]
    for span, run in zip(tagged, runs, strict=True):
        assert (run == (span.start, span.end, span.label)) == (span not in cut)
    assert to_tags(data.draw(st.permutations(spans)), offsets) == (tags, losses)
    assert repair(tags) == (tags, 0)


MARKED = st.sampled_from("aeiouAEnbkZ\u0915\u0937\u1112\uff76\u304b\u0628 .,-\u2764\u00e9\u1ebf") | st.sampled_from(
    "\u0301\u0308\u0327\u0323\u0345\u094d\u093f\u1161\u11ab\uff9e\u3099\u0651\u200c\u200d\ufe0f\u20e3"
)
NORMALIZERS = {
    "none": None,
    "BERT": normalizers.BertNormalizer(),
    "BERT cased": normalizers.BertNormalizer(strip_accents=False, lowercase=False),
    "NFC": normalizers.NFC(),
    "NFD": normalizers.NFD(),
    "NFKC": normalizers.NFKC(),
    "NFKD": normalizers.NFKD(),
    "stripped": normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]),
    "lower": normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]),
}


def left_out(text: str, offsets: list[tuple[int, int]]) -> list[int]:
    """The characters that are no white space and in no sub-token."""
    taken = {place for start, end in offsets for place in range(start, end)}
    return [place for place, character in enumerate(text) if place not in taken and not character.isspace()]


def has_no_letter(text: str, place: int) -> bool:
    """Whether marks and joiners begin the text, or stand behind white space: they belong to no sub-token then."""
    while place >= 0 and (category(text[place])[0] == "M" or text[place] in "\u200c\u200d"):
        place -= 1
    return place < 0 or text[place].isspace()


@EXAMPLES
@given(st.sampled_from(list(NORMALIZERS)), st.text(MARKED, max_size=24))
def test_sub_tokens_together_have_every_character_of_words(name: str, text: str) -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    if NORMALIZERS[name] is not None:
        tokenizer.normalizer = NORMALIZERS[name]
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    (note,) = encode_with(lambda texts: [(row.ids, row.offsets) for row in tokenizer.encode_batch(texts)], [text])
    assert [place for place in left_out(text, note.offsets) if not has_no_letter(text, place)] == []


@EXAMPLES
@given(KINDS, st.text(MARKED, max_size=24))
def test_words_in_any_form_of_unicode_are_in_reach(tokenizers: dict[str, Any], kind: str, text: str) -> None:
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        written = normalize(form, text)
        _, offsets = sub_tokens(tokenizers, kind, [written])
        assert [place for place in left_out(written, offsets) if not has_no_letter(written, place)] == []


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
