"""Cut notes of any length into overlapping windows in which every sub-token has exactly one owner.

    |<------- window ------->|
    | left |   OWNED  | right |

A window's context on either side gives the encoder something to read; its predictions count only for the sub-tokens
it owns, each of which lies where it is most central. Standard library only: this file travels with every saved model.
"""

from __future__ import annotations

from bisect import bisect
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Sequence

T = TypeVar("T")
R = TypeVar("R")

READ_AHEAD = 64
"""Most notes that are held at a time."""

READ_AHEAD_CHARACTERS = 1 << 19
"""No further note is taken to those that are held once they have so many characters."""


_LEAST_SHARE = 6
"""Windows that are cut where the content says own at least this part of what they have room for."""


class Coverage(NamedTuple):
    """What the encoder has read and answered for.

    Attributes:
        documents: Whole notes.
        windows: Windows.
        tokens: Sub-tokens, each counted once, special ones not among them.
        characters: Characters of the notes, those that no sub-token stands for among them.
    """

    documents: int = 0
    windows: int = 0
    tokens: int = 0
    characters: int = 0

    def plus(self, other: Coverage) -> Coverage:
        """Both together."""
        return Coverage(*(one + more for one, more in zip(self, other, strict=True)))


class Window(NamedTuple):
    """A stretch of a note: all four are indices of the note's sub-tokens, half-open.

    Attributes:
        start: First sub-token that the encoder reads.
        stop: Behind the last one.
        own_start: First sub-token whose prediction counts.
        own_stop: Behind the last one.
    """

    start: int
    stop: int
    own_start: int
    own_stop: int


def cut(count: int, *, length: int, context: int, special: int = 0, aligned: int = 1) -> list[Window]:
    """Cut `count` sub-tokens into windows of equal length, as few as the context allows, and no longer than needed.

    What is needed may be rounded up to a multiple of positions, where `length` allows it: processors read rows of some
    lengths faster, attention in bfloat16 by a fifth, and windows of many notes need no padding beside each other.

    Args:
        count: Sub-tokens of the note.
        length: Most sub-tokens in a window, special ones not counted.
        context: Least sub-tokens that neighbouring windows share on each side of the border between what they own.
        special: Positions that every window has beside its sub-tokens.
        aligned: What the positions of a window are a multiple of, the special ones among them.

    Returns:
        The windows in order. Together they own 0 to `count`, each index once. A note without sub-tokens has one empty
        window, so that it still gets a (wholly special) row of its own.

    Raises:
        ValueError: If the context leaves no room for owned sub-tokens.
    """
    _check_room(length, context)
    if count <= length:
        return [Window(0, count, 0, count)]
    pieces = -(-(count - 2 * context) // (length - 2 * context))
    size = -(-(count + 2 * context * (pieces - 1)) // pieces)
    size = min(length, -(-(size + special) // aligned) * aligned - special)
    starts = [index * (count - size) // (pieces - 1) for index in range(pieces)]
    borders = [0, *((before + size + after) // 2 for before, after in pairwise(starts)), count]
    return [Window(start, start + size, *own) for start, own in zip(starts, pairwise(borders), strict=True)]


def cut_at(count: int, places: Iterable[int], closed: Container[int], *, length: int, context: int) -> list[Window]:
    """Cut `count` sub-tokens where their content says, so that a passage is cut alike wherever it stands.

    A place becomes a border if the stretch around it is still too long for a window, unless it is too close to a border
    that a better place has become. So what is cut between two borders depends on nothing but what lies between them:
    in a passage that was pasted into another note, all borders are the same but those nearest to its ends.

    Args:
        count: Sub-tokens of the note.
        places: Each number from 1 to `count` - 1, the best first: a border there lies before that sub-token.
        closed: Places where both sides are read without the other.
        length: Most sub-tokens in a window, special ones not counted.
        context: Sub-tokens that neighbouring windows share on each side of a border that is not closed.

    Returns:
        The windows in order, of unlike length. Together they own 0 to `count`, each index once. A note that
        fits is one window.

    Raises:
        ValueError: If the context leaves no room for owned sub-tokens.
    """
    _check_room(length, context)
    most = length - 2 * context
    least = max(1, most // _LEAST_SHARE)
    borders = [0, count]
    for place in places if count > length else ():
        index = bisect(borders, place)
        before, behind = borders[index - 1], borders[index]
        if behind - before > most and least <= place - before and least <= behind - place:
            borders.insert(index, place)

    def shared(border: int) -> int:
        return 0 if border in closed else context

    return [
        Window(max(0, start - shared(start)), min(count, stop + shared(stop)), start, stop)
        for start, stop in pairwise(borders)
    ]


def _check_room(length: int, context: int) -> None:
    """Refuse windows that are all context."""
    if context < 0 or length <= 2 * context:
        raise ValueError(f"a window of {length} sub-tokens has no room between two contexts of {context}")


def in_groups(items: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """Group notes in the order they come: what is read ahead, and what shares batches.

    Where a group ends depends on nothing but the items since the last one ended, so whoever begins at such a border
    gets the same groups, and with them the same batches and the very same scores.

    Args:
        items: The notes.
        size: The number of characters of one.
    """
    group: list[T] = []
    characters = 0
    for item in items:
        group.append(item)
        characters += size(item)
        if len(group) == READ_AHEAD or characters >= READ_AHEAD_CHARACTERS:
            yield group
            group, characters = [], 0
    if group:
        yield group


def apart(items: list[T], work: Callable[[list[T]], Sequence[R]]) -> list[R | Exception]:
    """What becomes of items that are worked on together or, if that fails, each by itself: one spoils no other.

    Args:
        items: The items.
        work: Gives a result per item.

    Returns:
        Per item its result, or the error that it causes.
    """
    try:
        return [*work(items)]
    except Exception as error:  # noqa: BLE001 - whatever one item does to a library, the others go on
        if len(items) == 1:
            return [error]
    return [found for item in items for found in apart([item], work)]


def reason_of(error: Exception) -> str:
    """Why a note could not be tagged, without a word of it: most libraries' messages may quote it."""
    return str(error) if isinstance(error, FloatingPointError) else type(error).__name__


def in_batches(items: Iterable[T], size: Callable[[T], int], budget: int) -> Iterator[list[T]]:
    """Group items of similar size, the smallest first, so that none is padded more than it needs.

    Args:
        items: What is computed together, in any order.
        size: The size of one.
        budget: Most that a batch may hold, each of its items padded to the largest; a larger item is a batch of its
            own.
    """
    batch: list[T] = []
    for item in sorted(items, key=size):
        if batch and (len(batch) + 1) * size(item) > budget:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch
