"""Values of JSON as readers of notes take them: messages say what was expected and found, and never a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cardioner.errors import DataError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping, Sequence

LISTS = ("tags", "spans", "entities")
"""The keys under which spans are kept, whatever else is in the object."""
LABELS = ("tag", "label", "type")
STARTS, ENDS = ("start", "start_offset"), ("end", "end_offset")
OTHER = "other keys"
"""The kind of issue under which keys are counted that are not read."""
ODD_ATTRIBUTES = "attributes that are no text, number or truth value"
SPAN_KEYS = frozenset({*STARTS, *ENDS, *LABELS, "score", "fragments", "attributes", "attribute_scores"})
"""The keys of a span that are read."""


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
    if not _is_share(item["score"]):
        raise DataError(f'{where}: expected a number from 0 to 1 under "score"')
    return float(item["score"])


def attributes_in(item: Mapping[str, Any], where: str, issues: Counter[str]) -> dict[str, str | bool]:
    """The attributes of a span. Numbers become strings; lists, objects and what is no Unicode text are counted.

    Raises:
        DataError: If there is something else than an object of them.
    """
    given = _object_under("attributes", item, where)
    values = {name: str(value) if _is_number(value) else value for name, value in given.items()}
    found = {name: value for name, value in values.items() if name and is_unicode(name) and _is_value(value)}
    issues[ODD_ATTRIBUTES] += len(values) - len(found)
    return {name: value for name, value in found.items() if value}


def attribute_scores_in(item: Mapping[str, Any], where: str) -> dict[str, float]:
    """The scores of the attributes of a span.

    Raises:
        DataError: If they are no object of numbers from 0 to 1.
    """
    given = _object_under("attribute_scores", item, where)
    if not all(is_unicode(name) and name and _is_share(score) for name, score in given.items()):
        raise DataError(f'{where}: expected names and numbers from 0 to 1 under "attribute_scores"')
    return {name: float(score) for name, score in given.items()}


def _object_under(key: str, item: Mapping[str, Any], where: str) -> dict[str, Any]:
    held = item.get(key)
    if held is not None and not isinstance(held, dict):
        raise DataError(f'{where}: expected an object under "{key}", found {kind(held)}')
    return held or {}


def _is_value(value: Any) -> bool:
    return value is None or isinstance(value, bool) or is_unicode(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


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
