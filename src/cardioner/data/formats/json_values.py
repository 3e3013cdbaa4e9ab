"""Values of JSON as readers of notes take them: messages say what was expected and found, and never a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cardioner.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LISTS = ("tags", "spans", "entities")
"""The keys under which spans are kept, whatever else is in the object."""
LABELS = ("tag", "label", "type")
STARTS, ENDS = ("start", "start_offset"), ("end", "end_offset")
OTHER = "other keys"
"""The kind of issue under which keys are counted that are not read."""


def only(row: Mapping[str, Any], names: Sequence[str], where: str) -> str | None:
    """The one of several names for the same thing that an object uses.

    Raises:
        DataError: If it uses several.
    """
    used = [name for name in names if name in row]
    if len(used) > 1:
        raise DataError(f"{where}: expected one of {either(names)}, found {len(used)} of them")
    return used[0] if used else None


def under(row: Mapping[str, Any], names: Sequence[str], where: str) -> Any:
    """What lies under one of several names for the same thing."""
    name = only(row, names, where)
    return None if name is None else row[name]


def edge(item: Mapping[str, Any], names: Sequence[str], where: str) -> int:
    """An offset.

    Raises:
        DataError: If it is no whole number.
    """
    value = under(item, names, where)
    if not is_whole(value):
        raise DataError(f'{where}: expected a whole number under "{names[0]}", found {kind(value)}')
    return int(value)


def score_in(item: Mapping[str, Any], where: str) -> float | None:
    """The score of a span, if it has one.

    Raises:
        DataError: If it is no number from 0 to 1.
    """
    if "score" not in item:
        return None
    score = item["score"]
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not 0 <= score <= 1:
        raise DataError(f'{where}: expected a number from 0 to 1 under "score"')
    return float(score)


def either(names: Sequence[str]) -> str:
    """Names as a message has them."""
    return " or ".join(f'"{name}"' for name in names)


def kind(value: Any) -> str:
    """What a value is, for a message: never the value itself."""
    if value is None:
        return "nothing"
    broken = isinstance(value, str) and not is_unicode(value)
    return "half of a surrogate pair" if broken else f"a value of type {type(value).__name__}"


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number; JSON's truth values are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_unicode(value: Any) -> bool:
    """Whether a value is a string without half of a surrogate pair, which JSON's escapes can write."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)
