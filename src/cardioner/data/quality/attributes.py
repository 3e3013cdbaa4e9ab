"""What a check shows of the attributes of spans: how many spans have which value, and what is odd about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cardioner.errors import listed

if TYPE_CHECKING:
    from cardioner.data.quality.findings import Part


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


def said_in(part: Part) -> list[Said]:
    """The values of all attributes, sorted.

    Odd is a value that one span alone has, and an attribute that fewer than half of the types have.
    """
    types: dict[str, set[str]] = {}
    for (name, _), counts in part.said.items():
        types.setdefault(name, set()).update(counts)
    rows = []
    for (name, value), counts in sorted(part.said.items()):
        odd = ["seen once"] if counts.total() == 1 else []
        if 2 * len(types[name]) < len(part.lengths):
            odd.append(f"only on {listed(types[name])}")
        rows.append(Said(name, value, counts.total(), ", ".join(odd)))
    return rows
