"""A text cut at the borders of its spans: nothing lost, nothing twice, and every span keeps its line."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest

from cardioner.data.documents import Document, Span
from cardioner.data.highlight import cut


def random_note(seed: int) -> Document:
    chance = random.Random(seed)
    text = "".join(chance.choice(["<b>", "&", "\r\n", " ", '"', "å", "心", "x"]) for _ in range(80))
    spans = []
    for _ in range(12):
        start, end = sorted(chance.sample(range(len(text) + 1), 2))
        fragments = ((start, start + 1), (end - 1, end)) if end - start > 3 and chance.random() < 0.3 else ()
        spans.append(Span(start, end, chance.choice(["A", "B&B", "C<"]), fragments=fragments))
    return Document(f"n{seed}", text, tuple(spans))


@pytest.mark.parametrize("seed", range(25))
def test_segments_cover_the_text_once_and_carry_the_spans_over_each_character(seed: int) -> None:
    document = random_note(seed)
    segments = cut(len(document.text), document.spans)
    assert [segment.start for segment in segments] == [0, *(segment.end for segment in segments[:-1])]
    assert segments[-1].end == len(document.text)
    for segment in segments:
        for offset in range(segment.start, segment.end):
            over = [
                span
                for span in document.spans
                if any(start <= offset < end for start, end in span.fragments or ((span.start, span.end),))
            ]
            assert Counter(mark.span for mark in segment.marks) == Counter(over)
        assert all(one.lane > other.lane or one.lane == other.lane == 5 for one, other in pairwise(segment.marks))
    closings = Counter(mark.span for segment in segments for mark in segment.marks if mark.closes)
    assert closings == Counter(document.spans)


def test_a_span_keeps_its_line_from_its_first_character_to_its_last() -> None:
    spans = [Span(0, 10, "A"), Span(2, 20, "B"), Span(12, 30, "C"), Span(2, 4, "D")]
    lanes: dict[Span, set[int]] = {}
    for segment in cut(40, spans):
        for mark in segment.marks:
            lanes.setdefault(mark.span, set()).add(mark.lane)
    assert lanes == {spans[0]: {0}, spans[1]: {1}, spans[2]: {0}, spans[3]: {2}}


def test_a_text_without_spans_is_one_segment_and_an_empty_one_none() -> None:
    assert [(segment.start, segment.end, segment.marks) for segment in cut(5, [])] == [(0, 5, ())]
    assert cut(0, []) == []


def test_equal_spans_are_told_apart_by_their_numbers() -> None:
    spans = [Span(3, 5, "B"), Span(0, 4, "A"), Span(0, 4, "A")]
    marks = [mark for segment in cut(6, spans) for mark in segment.marks]
    assert {mark.number for mark in marks if mark.span == Span(0, 4, "A")} == {1, 2}
    assert all(spans[mark.number] == mark.span for mark in marks)
