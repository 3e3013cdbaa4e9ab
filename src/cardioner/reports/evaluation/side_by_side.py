"""Notes with gold and predicted spans beside each other, as the page of an evaluation shows them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

from cardioner.data.highlight import cut
from cardioner.evaluation.error_analysis import KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cardioner.data.documents import Span
    from cardioner.data.highlight import Mark, Segment
    from cardioner.evaluation.error_analysis import Kind, Outcome
    from cardioner.evaluation.pairing import Pair
    from cardioner.reports.html import TypeStyle

_ROW = 400
"""Least characters of a row but the last: both columns start afresh with each row, and so stay level."""

_MOST_MARKS = 20_000
"""On both sides of a note, over all stretches of its text: with more, its spans are listed."""

Pieces = list[tuple[str, "tuple[Mark, ...]", int]]
"""Stretches of text, the spans over each, and where it starts."""


class Detail(NamedTuple):
    """What a mark says beside type and offsets: its id if links lead to it, CSS classes after spaces, and words."""

    id: str
    classes: str
    words: str


class Row(NamedTuple):
    """A stretch of a note on both sides."""

    gold: Pieces
    predicted: Pieces


@dataclass(frozen=True, slots=True)
class Sheet:
    """A note on the page.

    Attributes:
        pair: Its spans on both sides.
        kinds: How many outcomes of each kind.
        rows: Its text, cut into rows; `None` where there is none, where it is left out, and where it is crowded.
        crowded: Whether too many spans overlap for the text to be shown.
        gold_details: Of each gold span.
        predicted_details: Of each predicted span.
        depth: The greatest lane on either side: with equal heights of lines both sides stay level.
        lines: Where no text is shown, each outcome in the order of the text, after its id and its CSS classes.
    """

    pair: Pair
    kinds: Mapping[Kind, int]
    rows: tuple[Row, ...] | None
    crowded: bool
    gold_details: tuple[Detail, ...]
    predicted_details: tuple[Detail, ...]
    depth: int
    lines: tuple[tuple[str, str, Outcome], ...]


def anchor(note: int, outcome: int) -> str:
    """The id on the page of an outcome, by its place in its note and the place of the note."""
    return f"n{note}o{outcome}"


def lay_out(
    pair: Pair,
    outcomes: Sequence[Outcome],
    styles: Mapping[str, TypeStyle],
    *,
    number: int = 0,
    with_text: bool = True,
) -> Sheet:
    """Prepare a note for the page.

    Args:
        pair: The note on both sides.
        outcomes: What became of its spans.
        styles: Of each type.
        number: The place of the note on the page.
        with_text: Whether its text may be shown.
    """
    counts = Counter(outcome.kind for outcome in outcomes)
    text = pair.text if with_text else None
    breaks = [] if text is None else _breaks(text)
    gold, predicted = pair.gold.spans, pair.predicted.spans
    crowded = _marks(gold, breaks) + _marks(predicted, breaks) > _MOST_MARKS
    text = None if crowded else text
    sides = [] if text is None else [cut(len(text), spans, breaks=breaks) for spans in (gold, predicted)]
    anchors = [anchor(number, place) for place in range(len(outcomes))]
    lines = [
        (target, styles[one.span.label].name + _classes(one.kind, one.span, one.predicted, styles), one)
        for one, target in zip(outcomes, anchors, strict=True)
    ]
    return Sheet(
        pair=pair,
        kinds={kind: counts[kind] for kind in KINDS},
        rows=None if text is None else tuple(map(Row, *(_pieces(text, breaks, side) for side in sides))),
        crowded=crowded,
        gold_details=_details(gold, outcomes, anchors, "gold", styles),
        predicted_details=_details(predicted, outcomes, anchors, "predicted", styles),
        depth=max((mark.lane for side in sides for segment in side for mark in segment.marks), default=0),
        lines=() if text is not None else tuple(lines),
    )


def _breaks(text: str) -> list[int]:
    """Where rows begin and end: after the first newline behind the least length."""
    breaks = [0]
    at = text.find("\n", _ROW - 1) + 1
    while at:
        breaks.append(at)
        at = text.find("\n", at + _ROW - 1) + 1
    return breaks if breaks[-1] == len(text) else [*breaks, len(text)]


def _marks(spans: Sequence[Span], breaks: Sequence[int]) -> int:
    """How many marks a side takes: one for each stretch under each span; none without a text."""
    if not breaks:
        return 0
    pieces = [piece for span in spans for piece in span.fragments or ((span.start, span.end),)]
    edges = sorted({*breaks, *(edge for piece in pieces for edge in piece)})
    return sum(bisect_left(edges, end) - bisect_left(edges, start) for start, end in pieces)


def _pieces(text: str, breaks: Sequence[int], segments: Sequence[Segment]) -> list[Pieces]:
    """The stretches of one side, row by row."""
    rows: list[Pieces] = [[] for _ in pairwise(breaks)]
    for segment in segments:
        row = bisect_right(breaks, segment.start) - 1
        rows[row].append((text[segment.start : segment.end], segment.marks, segment.start))
    return rows


def _details(
    spans: Sequence[Span],
    outcomes: Sequence[Outcome],
    anchors: Sequence[str],
    side: Literal["gold", "predicted"],
    styles: Mapping[str, TypeStyle],
) -> tuple[Detail, ...]:
    """A detail for each span; which of several equal spans has which counterpart makes no difference."""
    waiting: dict[Span, list[Detail]] = {}
    for outcome, target in zip(outcomes, anchors, strict=True):
        span, other, name = outcome.gold, outcome.predicted, "predicted"
        if side == "predicted":
            span, other, name = other, span, "gold"
        if span is None:
            continue
        leads_here = side == "gold" or outcome.gold is None  # a link leads to the gold span, if there is one
        words = said_of(span) + ("" if span.score is None else f", score {span.score:.3f}")
        if outcome.kind == "correct":
            detail = Detail(target if leads_here else "", "", words)
        else:
            found = "" if other is None else f": {name} {other.label} {other.start}–{other.end}"
            classes = _classes(outcome.kind, span, other, styles)
            detail = Detail(target if leads_here else "", classes, f"{words}; {outcome.kind}{found}")
        waiting.setdefault(span, []).append(detail)
    return tuple(waiting[span].pop() for span in spans)


def said_of(span: Span) -> str:
    """The attributes of a span, each after a comma."""
    return "".join(f", {name}" if value is True else f", {name}: {value}" for name, value in span.attributes.items())


def _classes(kind: Kind, span: Span, other: Span | None, styles: Mapping[str, TypeStyle]) -> str:
    """Of a kind of outcome, and of its counterpart's type if it is another one; each after a space."""
    counterpart = f" p{styles[other.label].name[1:]}" if other is not None and other.label != span.label else ""
    return f" k{KINDS.index(kind)}{counterpart}"
