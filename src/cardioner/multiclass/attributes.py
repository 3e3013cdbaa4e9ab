"""Attributes of spans, such as a negation: what a model knows of them, and what its scores say of a span.

Standard library only: this file travels with every saved model.
"""

from __future__ import annotations

from math import exp
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Value = str | bool | None
"""What an attribute says of a span; `True` of one that is there or not, and no more; `None` where it says nothing."""


class AttributeGroup(NamedTuple):
    """An attribute that a model knows: of its values, a span has exactly one.

    Attributes:
        name: As in `Negation`.
        first: The place of its first value among those of all attributes; the others follow.
        values: In the order of a model's scores; the first one is `None`.
        temperature: Divides the scores of its values before they become probabilities.
    """

    name: str
    first: int
    values: tuple[Value, ...]
    temperature: float = 1.0

    @property
    def stop(self) -> int:
        """The place behind its last value."""
        return self.first + len(self.values)


class Said(NamedTuple):
    """What a model says of a span.

    Attributes:
        attributes: The attributes that apply, with their values.
        scores: For every attribute that the model knows, the probability of what it says, also of saying nothing.
    """

    attributes: tuple[tuple[str, str | bool], ...] = ()
    scores: tuple[tuple[str, float], ...] = ()


NOTHING_SAID = Said()


def attribute_groups(
    attributes: Mapping[str, Sequence[Value]] | None, temperatures: Mapping[str, float] | None = None
) -> tuple[AttributeGroup, ...]:
    """The attributes of a model's configuration.

    Args:
        attributes: The values of each attribute, `None` first, in the order of the model's scores.
        temperatures: Of some attributes; that of the others is 1.

    Raises:
        ValueError: If the values of an attribute do not begin with `None`, repeat, or are nothing else.
    """
    groups: list[AttributeGroup] = []
    for name, given in (attributes or {}).items():
        values = tuple(given)
        if len(values) < 2 or values[0] is not None or len({(type(value), value) for value in values}) < len(values):
            raise ValueError(f"attribute {name!r}: expected null, and behind it one value or more that differ")
        first = groups[-1].stop if groups else 0
        groups.append(AttributeGroup(name, first, values, (temperatures or {}).get(name, 1.0)))
    return tuple(groups)


def mean_groups(members: Sequence[tuple[AttributeGroup, ...]]) -> tuple[AttributeGroup, ...]:
    """The attributes of models that know the same, with the mean of their temperatures."""
    return tuple(
        one[0]._replace(temperature=sum(group.temperature for group in one) / len(one))
        for one in zip(*members, strict=True)
    )


def probabilities(scores: Sequence[float], group: AttributeGroup) -> list[float]:
    """The probability of each value of an attribute (softmax), from the scores of all values of all attributes."""
    own = [score / group.temperature for score in scores[group.first : group.stop]]
    peak = max(own)
    powers = [exp(score - peak) for score in own]
    return [power / sum(powers) for power in powers]


def said_of(scores: Sequence[float], groups: Sequence[AttributeGroup]) -> Said:
    """What a model says of a span: of each attribute the most probable value, and its probability.

    Args:
        scores: The mean, over the sub-tokens of the span, of the scores of all values of all attributes.
        groups: The attributes.
    """
    attributes, sure = [], []
    for group in groups:
        of_values = probabilities(scores, group)
        best = max(range(len(of_values)), key=of_values.__getitem__)
        value = group.values[best]
        sure.append((group.name, of_values[best]))
        if value is not None:
            attributes.append((group.name, value))
    return Said(tuple(attributes), tuple(sure))


def value_ids(attributes: Mapping[str, Any], groups: Sequence[AttributeGroup]) -> list[int]:
    """The place of a span's value among those of each attribute; a value that the model does not know counts as none.

    Args:
        attributes: Of the span.
        groups: The attributes of the model.
    """
    return [
        next((index for index, value in enumerate(group.values) if value == attributes.get(group.name)), 0)
        for group in groups
    ]
