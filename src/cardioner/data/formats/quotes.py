"""The quote of a span in a file, compared with the text: a quote that does not match shows that offsets are wrong.

White space is compared loosely: tools write a space for a newline or a tab, and some add or drop it at the edges.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from cardioner.data.documents import Span
from cardioner.errors import DataError, many

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cardioner.data.formats.reading import Reading

    Pieces = Sequence[tuple[int, int]]
    Move = tuple[int, int]

_EDGES = "quotes with other white space at the edges"
_MEANINGS: dict[Move, str] = {
    (0, 1): "ends look inclusive: add 1 to them",
    (-1, 0): "offsets look counted from 1, with inclusive ends: subtract 1 from the starts",
    (-1, -1): "offsets look counted from 1: subtract 1 from them",
}
"""What it looks like if a quote matches the text elsewhere: by how much its start and its end are off."""
_NEARBY: tuple[Move, ...] = (*_MEANINGS, (1, 1), (-2, -2), (2, 2), (-3, -3), (3, 3), (0, -1), (1, 0), (1, 2))


class Quote(NamedTuple):
    """A span of a file, and what the file says that it reads.

    Attributes:
        span: The span.
        text: What the file says that it reads; `None` where it says nothing.
        path: The file.
        line: Its line, counted from 1.
        name: What the file calls the span.
        orders: The pieces of the span in each order in which the quote may have them; else those of the span.
        open_ended: Whether other fields may follow the quote, after a tab.
    """

    span: Span
    text: str | None
    path: Path
    line: int
    name: str = ""
    orders: Sequence[Pieces] = ()
    open_ended: bool = False

    def held(self, flat: str, move: Move = (0, 0)) -> list[str]:
        """What a text holds where the span is, each of its pieces moved by so much."""
        if self.span.start + move[0] < 0 or self.span.end + move[1] > len(flat):
            return []
        orders = self.orders or [self.span.fragments or [(self.span.start, self.span.end)]]
        return [" ".join([flat[start + move[0] : end + move[1]] for start, end in pieces]) for pieces in orders]

    def reads(self, held: str) -> bool:
        """Whether the quote is this, as it is."""
        text = self.text or ""
        whole = len(text) == len(held) or (self.open_ended and text[len(held) : len(held) + 1] == "\t")
        return whole and _flat(text[: len(held)]) == held

    def trimmed(self) -> set[str]:
        """What the quote may be without white space at its edges, alone or before other fields."""
        text = self.text or ""
        return {_flat(one).strip() for one in (text, text.partition("\t")[0] if self.open_ended else text)}


def span_of(label: str, pieces: Pieces, score: float | None = None) -> Span:
    """The span that consists of pieces in any order; those that touch are one.

    Raises:
        DataError: If one of them is empty, or they overlap.
    """
    joined: list[tuple[int, int]] = []
    for start, end in sorted(pieces):
        if start >= end:
            raise DataError(f"a span needs start < end, found {start} to {end}")
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    first, last = joined[0][0], max(end for _, end in joined)
    return Span(first, last, label, score, tuple(joined) if len(joined) > 1 else ())


def matching(quotes: Sequence[Quote], text: str, what: str, reading: Reading) -> list[Quote]:
    """Those that match the text of a note, or have nothing to compare; the others are collected as problems.

    A message says where the quote would match and, where many are off in the same way, what that looks like, but never
    what the quote is.

    Args:
        quotes: All spans of a note that one file has.
        text: The note.
        what: What the file calls a quote, for messages.
        reading: Collects the problems, and counts quotes with other white space at their edges.
    """
    flat = _flat(text)
    found, wrong = [], []
    for quote in quotes:
        with reading.guarded(quote.path, quote.line):
            if quote.span.end > len(text):
                start, end = quote.span.start, quote.span.end
                raise DataError(
                    f"the span {start} to {end} ends after the text, which has {many(len(text), 'character')}"
                )
            held = quote.held(flat)
            if quote.text is None or any(map(quote.reads, held)):
                found.append(quote)
            elif any(one.strip() in quote.trimmed() for one in held):
                reading.add_issue(_EDGES, quote.path, quote.line)
                found.append(quote)
            else:
                wrong.append(quote)
    moves = [_move(quote, flat) for quote in wrong]
    times = Counter(moves)
    for quote, move in zip(wrong, moves, strict=True):
        with reading.guarded(quote.path, quote.line):
            start, end = quote.span.start, quote.span.end
            hint = (
                _elsewhere(quote, flat) if move is None else f"it would match at {start + move[0]} to {end + move[1]}"
            )
            if move in _MEANINGS and 2 * times[move] >= len(quotes):
                share = "all" if times[move] == len(quotes) else f"{times[move]} of {len(quotes)}"
                hint += f"; {share} {_MEANINGS[move]}"
            raise DataError(f"the {what} does not match the text at {start} to {end} ({hint})")
    return found


def _move(quote: Quote, flat: str) -> Move | None:
    """By how much start and end are off, if it is little."""
    trimmed = quote.trimmed() - {""}

    def matches(move: Move) -> bool:
        return any(quote.reads(one) or one in trimmed for one in quote.held(flat, move))

    return next(filter(matches, _NEARBY), None)


def _elsewhere(quote: Quote, flat: str) -> str:
    """Where a text holds a quote that is not nearby: the place that is nearest."""
    wanted = _flat(quote.text or "").strip()
    if not wanted:
        return "it is empty"
    start = quote.span.start
    places = [place for place in (flat.rfind(wanted, 0, start + len(wanted)), flat.find(wanted, start)) if place >= 0]
    if not places:
        return "the text does not have it anywhere"
    nearest = min(places, key=lambda place: abs(place - start))
    return f"the nearest match is at {nearest} to {nearest + len(wanted)}"


def _flat(text: str) -> str:
    """As many characters, with a space for each newline and tab (`str.translate` is far slower)."""
    return text.replace("\r", " ").replace("\n", " ").replace("\t", " ")
