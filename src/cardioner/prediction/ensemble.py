"""Several models as one: the mean of those with the same tags, or side by side those with other entity types."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from cardioner.errors import ModelError
from cardioner.prediction.engines import Engine, entity_types

_EXPECTED = (
    "expected models with the same tags and the same tokenizer, to be averaged, or models without an entity type in "
    "common, whose spans are united"
)


def join(named: Sequence[tuple[str, Engine]]) -> list[Engine]:
    """Models that go together: one that averages those with the same tags, or those with other types side by side.

    Args:
        named: Models, each with what to call it in a message.

    Raises:
        ModelError: If there is none, or two of them neither have the same tags nor wholly different types.
    """
    if not named:
        raise ModelError(f"{_EXPECTED}; found none")
    if len(named) == 1:
        return [named[0][1]]
    if all(entity_types(one) & entity_types(other) for (_, one), (_, other) in combinations(named, 2)):
        for name, engine in named[1:]:
            _check_alike(named[0], (name, engine))
        engines = [engine for _, engine in named]
        return [type(engines[0]).averaged(engines)]
    for (name, one), (other_name, other) in combinations(named, 2):
        if shared := entity_types(one) & entity_types(other):
            raise ModelError(
                f"{_EXPECTED}; of several types, {name} and {other_name} share {', '.join(sorted(shared))}"
            )
    return [engine for _, engine in named]


def _check_alike(first: tuple[str, Engine], other: tuple[str, Engine]) -> None:
    """Refuse models whose emissions do not mean the same.

    Raises:
        ModelError: Saying what differs.
    """
    (name, one), (other_name, two) = first, other
    pair = f"{name} and {other_name}"
    if list(one.tags) != list(two.tags):
        shared = ", ".join(sorted(entity_types(one) & entity_types(two)))
        raise ModelError(f"{_EXPECTED}; {pair} share {shared}, but have not the same tags in the same order")
    if one.uses_crf != two.uses_crf:
        bare = name if two.uses_crf else other_name
        raise ModelError(f"expected models that all have a CRF, or none; of {pair}, {bare} has none")
    if one.identity != two.identity:
        raise ModelError(f"{_EXPECTED}; {pair} have different tokenizers")
