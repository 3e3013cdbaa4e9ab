"""Notes with gold and predicted spans beside each other, as the page of an evaluation shows them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from cardioner.evaluation.error_analysis import KINDS
from cardioner.reports import cut

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cardioner.data.documents import Span
    from cardioner.evaluation.error_analysis import Kind, Outcome
    from cardioner.evaluation.pairing import Pair
    from cardioner.reports import Mark, Segment, TypeStyle

_ROW = 400
"""Least characters of a row but the last: both columns begin anew with each, and so stay level."""

_MOST_MARKS = 20_000
"""Of both sides of a note, over all stretches of its text: with more, its spans are listed."""

Pieces = list[tuple[str, "tuple[Mark, ...]"]]
"""Stretches of text and the spans over each."""


class Detail(NamedTuple):
    """What a mark says beside type and offsets.

    Attributes:
        classes: CSS classes, each after a space: the kind of error, and the type of its counterpart if another one.
        words: The score, the kind of error, and where the counterpart is.
    """

    classes: str
    words: str


class Row(NamedTuple):
    """A stretch of a note, as both sides have it."""

    gold: Pieces
    predicted: Pieces


class Line(NamedTuple):
    """What became of a span, where there is no text to show it in.

    Attributes:
        classes: CSS classes of its kind and of its types.
        outcome: The spans.
    """

    classes: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Sheet:
    """A note on the page.

    Attributes:
        id: Its id.
        gold: How many gold spans it has.
        predicted: How many predicted ones.
        kinds: How many outcomes of each kind.
        rows: Its text, cut into rows; `None` where the text is not at hand, left out, or crowded.
        crowded: Whether too many spans lie over each other for the text to be shown.
        gold_details: Of each gold span.
        predicted_details: Of each predicted span.
        depth: The greatest lane on either side: with one height of line for both they stay level.
        lines: Its outcomes, in the order of the text.
    """

    id: str
    gold: int
    predicted: int
    kinds: Mapping[Kind, int]
    rows: tuple[Row, ...] | None
    crowded: bool
    gold_details: tuple[Detail, ...]
    predicted_details: tuple[Detail, ...]
    depth: int
    lines: tuple[Line, ...]

    @property
    def errors(self) -> int:
        """How many outcomes are not correct."""
        return sum(count for kind, count in self.kinds.items() if kind != "correct")


def lay_out(
    pair: Pair, outcomes: Sequence[Outcome], styles: Mapping[str, TypeStyle], *, with_text: bool = True
) -> Sheet:
    """Prepare a note for the page.

    Args:
        pair: The note on both sides.
        outcomes: What became of its spans.
        styles: Of each type.
        with_text: Whether its text may be shown.
    """
    counts = Counter(outcome.kind for outcome in outcomes)
    text = pair.text if with_text else None
    breaks = [] if text is None else _breaks(text)
    crowded = sum(_marks(side.spans, breaks) for side in (pair.gold, pair.predicted)) > _MOST_MARKS
    text = None if crowded else text
    sides = [] if text is None else [cut(len(text), side.spans, breaks=breaks) for side in (pair.gold, pair.predicted)]
    return Sheet(
        id=pair.id,
        gold=len(pair.gold.spans),
        predicted=len(pair.predicted.spans),
        kinds={kind: counts[kind] for kind in KINDS},
        rows=None if text is None else _rows(text, breaks, sides[0], sides[1]),
        crowded=crowded,
        gold_details=_details(pair.gold.spans, [(o.gold, o.predicted, o.kind) for o in outcomes], "predicted", styles),
        predicted_details=_details(
            pair.predicted.spans, [(o.predicted, o.gold, o.kind) for o in outcomes], "gold", styles
        ),
        depth=max((mark.lane for side in sides for segment in side for mark in segment.marks), default=0),
        lines=() if text is not None else tuple(Line(_classes(outcome, styles), outcome) for outcome in outcomes),
    )


def _breaks(text: str) -> list[int]:
    """Where rows begin and end: after a newline, as soon as a row is long enough."""
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


def _rows(text: str, breaks: Sequence[int], gold: Sequence[Segment], predicted: Sequence[Segment]) -> tuple[Row, ...]:
    columns = []
    for segments in (gold, predicted):
        row_of = {start: number for number, start in enumerate(breaks)}
        rows: list[Pieces] = [[] for _ in pairwise(breaks)]
        number = 0
        for segment in segments:
            number = row_of.get(segment.start, number)
            rows[number].append((text[segment.start : segment.end], segment.marks))
        columns.append(rows)
    return tuple(map(Row, *columns))


def _details(
    spans: Sequence[Span],
    fates: Sequence[tuple[Span | None, Span | None, Kind]],
    other_side: str,
    styles: Mapping[str, TypeStyle],
) -> tuple[Detail, ...]:
    """A detail for each span; which one of equal spans has which counterpart makes no difference."""
    waiting: dict[Span, list[Detail]] = {}
    for span, other, kind in fates:
        if span is not None:
            waiting.setdefault(span, []).append(_detail(span, other, kind, other_side, styles))
    return tuple(waiting[span].pop() for span in spans)


def _detail(span: Span, other: Span | None, kind: Kind, other_side: str, styles: Mapping[str, TypeStyle]) -> Detail:
    words = "" if span.score is None else f", score {span.score:.3f}"
    if kind == "correct":
        return Detail("", words)
    words += f"; {kind}"
    if other is None:
        return Detail(_kind_class(kind), words)
    words += f": {other_side} {other.label} {other.start}–{other.end}"
    return Detail(_kind_class(kind) + _counterpart_class(span, other, styles), words)


def _classes(outcome: Outcome, styles: Mapping[str, TypeStyle]) -> str:
    span = outcome.gold or outcome.predicted
    assert span is not None, "an outcome is of a span"
    other = outcome.predicted or span
    return styles[span.label].name + _kind_class(outcome.kind) + _counterpart_class(span, other, styles)


def _kind_class(kind: Kind) -> str:
    return f" k{KINDS.index(kind)}"


def _counterpart_class(span: Span, other: Span, styles: Mapping[str, TypeStyle]) -> str:
    return "" if other.label == span.label else f" p{styles[other.label].name[1:]}"
