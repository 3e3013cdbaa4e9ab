"""Offsets in UTF-16 units, which JavaScript, Java and C# count."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

_LAST_OF_ONE_UNIT = 0xFFFF


def utf16_offsets(text: str) -> Callable[[int], int]:
    """A function from offsets in code points into a text to offsets in UTF-16 units.

    Code points above U+FFFF take two units (The Unicode Standard, section 3.9, D91).
    """
    doubled = [] if text.isascii() else [place for place, one in enumerate(text) if ord(one) > _LAST_OF_ONE_UNIT]
    return lambda offset: offset + bisect_left(doubled, offset)
