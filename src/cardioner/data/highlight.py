"""A text cut at every border of its spans, so that overlapping and nested ones can be drawn one below the other."""

from __future__ import annotations

from hashlib import blake2b
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cardioner.multiclass.tagging import SpanLike

_MOST_LANES = 6


class Mark(NamedTuple):
    """A span on a stretch of text.

    Attributes:
        span: The span.
        number: Which one of the given spans it is: counted from 0, so that equal ones can be distinguished.
        lane: How far below the text its line is drawn, from 0.
        closes: Whether the span ends with this stretch.
    """

    span: SpanLike
    number: int
    lane: int
    closes: bool


class Segment(NamedTuple):
    """A stretch of text that no span's border divides.

    Attributes:
        start: Offset of its first character: code points into the note.
        end: Offset after its last one.
        marks: The spans that cover it, the one with the lowest line first.
    """

    start: int
    end: int
    marks: tuple[Mark, ...]


def cut(length: int, spans: Sequence[SpanLike], *, breaks: Iterable[int] = ()) -> list[Segment]:
    """Cut a text at the borders of its spans; a discontinuous span covers its fragments alone.

    Args:
        length: Characters of the text.
        spans: Its spans, in any order.
        breaks: Offsets to cut at as well, from 0 to `length`.

    Returns:
        Segments from 0 to `length` without a gap; none for an empty text.
    """
    pieces = [
        (start, end, index, lane)
        for index, lane in _lanes(spans)
        for start, end in spans[index].fragments or ((spans[index].start, spans[index].end),)
    ]
    opening: dict[int, list[tuple[int, int, int]]] = {}
    for start, end, index, lane in pieces:
        opening.setdefault(start, []).append((end, index, lane))
    edges = sorted({0, length, *breaks, *(edge for start, end, *_ in pieces for edge in (start, end))})
    segments = []
    active: list[tuple[int, int, int]] = []
    for start, end in pairwise(edges):
        active = [piece for piece in active if piece[0] > start] + opening.get(start, [])
        marks = [Mark(spans[index], index, lane, spans[index].end == end) for _, index, lane in active]
        segments.append(Segment(start, end, tuple(sorted(marks, key=lambda mark: -mark.lane))))
    return segments


def _lanes(spans: Sequence[SpanLike]) -> list[tuple[int, int]]:
    """Indices in order, each with the lowest lane that no overlapping span has; beyond the last one they share it."""
    ordered = sorted(enumerate(spans), key=lambda item: (item[1].start, -item[1].end, item[1].label, item[1].fragments))
    free_from: list[int] = []
    lanes = []
    for index, span in ordered:
        lane = next((lane for lane, free in enumerate(free_from) if free <= span.start), len(free_from))
        if lane == len(free_from):
            free_from.append(0)
        free_from[lane] = span.end
        lanes.append((index, min(lane, _MOST_LANES - 1)))
    return lanes


def highlighted(text: str, spans: Sequence[SpanLike], names: Sequence[str], *, title: str) -> str:
    """A text with its spans highlighted, as HTML that needs no style sheet; text, names and title are escaped.

    Args:
        text: The text.
        spans: Its spans.
        names: What to call each of them.
        title: What stands above.
    """
    pieces = [
        _highlighted_segment(text[segment.start : segment.end], segment.marks, names)
        for segment in cut(len(text), spans)
    ]
    return (
        f'<figure style="margin:0"><figcaption><b>{escape(title)}</b></figcaption>'
        f'<div style="white-space:pre-wrap;line-height:2.2">{"".join(pieces)}</div></figure>'
    )


def _highlighted_segment(text: str, marks: Iterable[Mark], names: Sequence[str]) -> str:
    html = escape(text).replace("\r", "&#13;")  # a bare one would be read as a newline
    for mark in reversed(tuple(marks)):  # from the highest line to the lowest, which encloses the others
        label, place = escape(names[mark.number]), f"{mark.span.start}–{mark.span.end}"
        hue = int.from_bytes(blake2b(mark.span.label.encode("utf-8", "replace"), digest_size=2).digest(), "big") % 360
        style = f"background:hsl({hue},70%,88%);color:#111;border-bottom:2px solid hsl({hue},70%,35%)"
        tag = f'<sub style="font-size:.65em"> {label}</sub>' if mark.closes else ""
        padding = f";padding-bottom:{3 * mark.lane}px" if mark.lane else ""
        html = f'<mark title="{label} {place}" style="{style}{padding}">{html}{tag}</mark>'
    return html
