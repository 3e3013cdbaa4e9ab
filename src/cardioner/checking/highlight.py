"""A text cut at every border of its spans, so that overlapping and nested ones can be drawn one below the other."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cardioner.documents import Span

_MOST_LANES = 6


class Mark(NamedTuple):
    """A span on a stretch of text.

    Attributes:
        span: The span.
        lane: How far below the text its line is drawn, from 0.
        closes: Whether the span ends with this stretch.
    """

    span: Span
    lane: int
    closes: bool


class Segment(NamedTuple):
    """A stretch of text that no span's border divides.

    Attributes:
        start: Offset of its first character: code points into the note.
        end: Offset behind its last one.
        marks: The spans that cover it, the one with the lowest line first.
    """

    start: int
    end: int
    marks: tuple[Mark, ...]


def cut(length: int, spans: Sequence[Span]) -> list[Segment]:
    """Cut a text at the borders of its spans; a discontinuous span covers its fragments alone.

    Args:
        length: Characters of the text.
        spans: Its spans, in any order.

    Returns:
        Segments from 0 to `length` without a gap; none for an empty text.
    """
    lanes = _lanes(spans)
    pieces = [
        (start, end, span, lane)
        for span, lane in zip(_ordered(spans), lanes, strict=True)
        for start, end in span.fragments or ((span.start, span.end),)
    ]
    opening: dict[int, list[tuple[int, Span, int]]] = {}
    for start, end, span, lane in pieces:
        opening.setdefault(start, []).append((end, span, lane))
    edges = sorted({0, length, *(edge for start, end, *_ in pieces for edge in (start, end))})
    segments = []
    active: list[tuple[int, Span, int]] = []
    for start, end in pairwise(edges):
        active = [piece for piece in active if piece[0] > start] + opening.get(start, [])
        marks = [Mark(span, lane, span.end == end) for _, span, lane in active]
        segments.append(Segment(start, end, tuple(sorted(marks, key=lambda mark: -mark.lane))))
    return segments


def _ordered(spans: Sequence[Span]) -> list[Span]:
    return sorted(spans, key=lambda span: (span.start, -span.end, span.label, span.fragments))


def _lanes(spans: Sequence[Span]) -> list[int]:
    """A lane for each span in order, the lowest that no overlapping span has; beyond the last lane they share it."""
    free_from: list[int] = []
    lanes = []
    for span in _ordered(spans):
        lane = next((index for index, free in enumerate(free_from) if free <= span.start), len(free_from))
        if lane == len(free_from):
            free_from.append(0)
        free_from[lane] = span.end
        lanes.append(min(lane, _MOST_LANES - 1))
    return lanes
