"""What a check shows of the attributes of spans: how many spans have which value, and what is odd about it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from cardioner.errors import listed, many

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST_VALUES = 20
"""Values of an attribute that are named: with more of them, it may be a comment, which may be text of a note."""


class Said(NamedTuple):
    """A value of an attribute.

    Attributes:
        name: Of the attribute.
        value: As text; `true` of one that is there or not.
        spans: How many have it.
        odd: What is unusual about it; empty if nothing is.
    """

    name: str
    value: str
    spans: int
    odd: str


def by_value(said: Mapping[tuple[str, str], Counter[str]]) -> dict[tuple[str, str], Counter[str]]:
    """Counts per attribute and value, sorted; of an attribute with too many values only how many these are."""
    values = Counter(name for name, _ in said)
    shown: dict[tuple[str, str], Counter[str]] = {}
    for (name, value), counts in sorted(said.items()):
        key = value if values[name] <= _MOST_VALUES else many(values[name], "value")
        shown[name, key] = shown.get((name, key), Counter()) + counts
    return shown


def said_in(said: Mapping[tuple[str, str], Counter[str]], types: int) -> list[Said]:
    """The values of all attributes, sorted.

    Odd is a value that one span alone has, and an attribute that fewer than half of the types have.

    Args:
        said: Per attribute and value, how many spans of which type have it.
        types: How many types there are.
    """
    having: dict[str, set[str]] = {}
    for (name, _), counts in said.items():
        having.setdefault(name, set()).update(counts)
    rows = []
    for (name, value), counts in by_value(said).items():
        odd = ["seen once"] if counts.total() == 1 else []
        if 2 * len(having[name]) < types:
            odd.append(f"only on {listed(having[name])}")
        rows.append(Said(name, value, counts.total(), ", ".join(odd)))
    return rows
