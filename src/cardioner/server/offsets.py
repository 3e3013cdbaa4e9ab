"""Offsets in UTF-16 units, which JavaScript, Java and C# count."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

_LAST_OF_ONE_UNIT = 0xFFFF


def utf16_offsets(text: str) -> Callable[[int], int]:
    """A function from offsets in code points into a text to offsets in UTF-16 units.

    Code points above U+FFFF take two units (The Unicode Standard, section 3.9, D91).
    """
    doubled = _doubled(text)
    return lambda offset: offset + bisect_left(doubled, offset)


def code_point_offsets(text: str) -> Callable[[int], int]:
    """The inverse: a function from offsets in UTF-16 units to offsets in code points.

    It raises a `ValueError` for an offset between the two units of one character.
    """
    second = [place + number for number, place in enumerate(_doubled(text), start=1)]  # units that end a character

    def place(offset: int) -> int:
        before = bisect_left(second, offset)
        if before < len(second) and second[before] == offset:
            raise ValueError(f"the offset {offset} divides a character of two UTF-16 units")
        return offset - before

    return place


def _doubled(text: str) -> list[int]:
    """Where the code points are that take two units."""
    return [] if text.isascii() else [place for place, one in enumerate(text) if ord(one) > _LAST_OF_ONE_UNIT]
