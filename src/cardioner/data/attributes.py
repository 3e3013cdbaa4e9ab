"""Attributes of a mention: its properties besides the type, such as negation, experiencer and time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from cardioner.errors import DataError, wrong_type

Value = TypeVar("Value")


class FrozenMapping(Mapping[str, Value]):
    """Names and values that never change, in the order of the names; equal to a dict of the same."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Value] | Iterable[tuple[str, Value]] = ()) -> None:
        self._values = dict(sorted(dict(values).items()))

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(tuple(self._values.items()))

    def __repr__(self) -> str:
        return repr(self._values)


class Attributes(FrozenMapping["str | bool"]):
    """The attributes of a mention, such as `{"Negation": True, "Certainty": "possible"}`.

    The value of an attribute that is there or not, and no more, is `True`. One that does not apply is not there:
    `False` and `None` are left out.

    Raises:
        UsageError: If a name is no str, or a value is neither a str nor a bool nor `None`.
        DataError: If a name or a value is empty.
    """

    __slots__ = ()

    def __init__(self, values: Mapping[str, str | bool | None] | Iterable[tuple[str, str | bool | None]] = ()) -> None:
        given = dict(values)
        for name, value in given.items():
            if not isinstance(name, str):
                raise wrong_type("the name of a span's attribute", "a str", name)
            if not (value is None or isinstance(value, (str, bool))):
                raise wrong_type(f"the value of a span's attribute {name!r}", "a str or True", value)
            if "" in (name, value):
                raise DataError("a span has an attribute without a name, or with an empty value")
        super().__init__((name, value) for name, value in given.items() if value)


TRUE = "true"


def shown(attributes: Mapping[str, str | bool]) -> list[str]:
    """Attributes as people read them: `Negation`, or `Certainty: possible`."""
    return [f"{name}: {value}" if isinstance(value, str) else name for name, value in attributes.items()]


def value_text(value: str | bool) -> str:
    """A value where every value is text: `True` is written as `true`."""
    return value if isinstance(value, str) else TRUE


def value_of(text: str) -> str | bool:
    """The value that `value_text` gives a text for."""
    return text == TRUE or text


NO_ATTRIBUTES = Attributes()
NO_SCORES: FrozenMapping[float] = FrozenMapping()
