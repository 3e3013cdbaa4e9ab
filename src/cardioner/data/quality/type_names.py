"""Names of entity types that may mean the same type."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_LEAST_LETTERS = 5
_PLURALS = ("s", "es", "en")
"""Of English, Spanish and Dutch nouns."""


class SimilarNames(NamedTuple):
    """Two names that look alike, sorted, and why."""

    names: tuple[str, str]
    why: str


def find_similar_names(names: Iterable[str]) -> tuple[SimilarNames, ...]:
    """Pairs of names that may mean the same type.

    Names are compared by their letters and digits, upper and lower case alike. Two look alike if these are equal; if
    one is the plural of the other; or if one edit of a letter leads from one to the other and both have five letters.
    Names that differ in a digit alone (`GRADE1`, `GRADE2`) are taken to be meant.

    Args:
        names: The types of all parts.

    Returns:
        The pairs, sorted; each pair once, with its first reason in the order above.
    """
    by_key: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        by_key[_key(name)].append(name)
    by_key.pop("", None)
    found = [
        SimilarNames(pair, "same letters and digits") for same in by_key.values() for pair in combinations(same, 2)
    ]
    for first, second in _candidates(by_key.keys()):
        why = _reason(first, second)
        if why:
            found += [SimilarNames(_ordered(one, other), why) for one in by_key[first] for other in by_key[second]]
    return tuple(sorted(found))


def _key(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def _ordered(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one < other else (other, one)


def _candidates(keys: Iterable[str]) -> set[tuple[str, str]]:
    """Pairs of keys that are worth a look: names within one edit of another share a form with one character less."""
    keys = set(keys)
    shared: dict[str, list[str]] = defaultdict(list)
    for key in sorted(keys):
        for form in {key, *(key[:index] + key[index + 1 :] for index in range(len(key)))}:
            shared[form].append(key)
    near = {pair for group in shared.values() for pair in combinations(group, 2)}
    return near | {_ordered(key, plural) for key in keys for plural in _plurals(key) if plural in keys}


def _plurals(key: str) -> list[str]:
    if len(key) < 3:
        return []
    return [*(key + ending for ending in _PLURALS), *([f"{key[:-1]}ies"] if key.endswith("y") else [])]


def _reason(first: str, second: str) -> str:
    """Why two different keys look alike; empty if they do not."""
    if second in _plurals(first) or first in _plurals(second):
        return "singular and plural"
    letters = [[character for character in key if character.isalpha()] for key in (first, second)]
    if min(map(len, letters)) < _LEAST_LETTERS or letters[0] == letters[1]:
        return ""
    return "one edit apart" if _within_one_edit(first, second) else ""


def _within_one_edit(first: str, second: str) -> bool:
    """Whether inserting, deleting or replacing one character at most leads from one to the other."""
    short, long = sorted((first, second), key=len)
    if len(long) - len(short) > 1:
        return False
    same = next((index for index, character in enumerate(short) if character != long[index]), len(short))
    return short[same:] == long[same + 1 :] or short[same + 1 :] == long[same + 1 :]
