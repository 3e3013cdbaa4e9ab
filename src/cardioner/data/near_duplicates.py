"""Groups of texts that say the same: a copy of a training text among the test texts would flatter the scores."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from math import ceil
from typing import TYPE_CHECKING

from cardioner.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

RUN = 5
"""Words in a run."""

SKETCH = 128
"""Most hashes that are kept of a text."""

_WORD = re.compile(r"\w+")
_COUNTERS = 1 << 22
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Group:
    """Texts that are linked to each other by near-identity, some perhaps through others.

    Attributes:
        ids: Their ids, at least two, sorted.
        identical: Whether all of them are the same string.
    """

    ids: tuple[str, ...]
    identical: bool


def group_near_duplicates(texts: Iterable[tuple[str, str]], *, threshold: float = 0.8) -> tuple[Group, ...]:
    r"""Find texts that are the same or nearly so, in one pass over them.

    Two texts are near-identical if the Jaccard similarity of their sets of runs of 5 words is at least the threshold.
    Words are matches of `\w+`, casefolded; a text of fewer than 5 words has one run, all of its words. Groups are the
    connected components. The result depends neither on the order of the texts nor on the process.

    Of each text its 128 smallest 64-bit hashes of runs are kept (1 KiB, a bottom-k sketch: Broder 1997, "On the
    resemblance and containment of documents"). The similarity of two texts of at most 128 distinct runs is exact;
    where one has more it is an estimate whose standard error is at most sqrt(s * (1 - s) / 128) for a similarity s:
    0.035 at 0.8. No pair whose estimate reaches the threshold is missed, and equal texts always are in one group.
    Time grows with the texts, and with the pairs of texts that are nearly similar enough and in different groups.

    Args:
        texts: Ids, each once, with their texts; read once, and only hashes are kept.
        threshold: Above 0, up to 1.

    Returns:
        The groups of two texts or more, sorted by their first ids.

    Raises:
        DataError: If an id occurs twice.
        UsageError: If the threshold is out of range.
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"the threshold of similarity lies above 0 and up to 1; found {threshold}")
    shelf = _Shelf()
    for name, text in texts:
        shelf.add(name, text)
    groups = (shelf.group(members) for members in _components(shelf.sketches, threshold))
    return tuple(sorted((group for group in groups if len(group.ids) > 1), key=lambda group: group.ids))


@dataclass(frozen=True, slots=True)
class _Sketch:
    """The smallest hashes of a text's runs in rising order, and how many distinct runs it has."""

    hashes: array[int]
    runs: int

    @property
    def whole(self) -> bool:
        return self.runs == len(self.hashes)


@dataclass(slots=True)
class _Shelf:
    """What is kept of the texts: equal ones share an entry."""

    sketches: list[_Sketch] = field(default_factory=list)
    _ids: list[list[str]] = field(default_factory=list)
    _places: dict[bytes, int] = field(default_factory=dict)
    _known: set[str] = field(default_factory=set)

    def add(self, name: str, text: str) -> None:
        """Keep a text's hashes."""
        if name in self._known:
            raise DataError(f"expected each document id once; found more often: {name}")
        self._known.add(name)
        place = self._places.setdefault(blake2b(_encoded(text), digest_size=16).digest(), len(self.sketches))
        if place == len(self.sketches):
            self.sketches.append(_sketch(text))
            self._ids.append([])
        self._ids[place].append(name)

    def group(self, members: Sequence[int]) -> Group:
        """The texts of some entries."""
        return Group(tuple(sorted(name for member in members for name in self._ids[member])), len(members) == 1)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _sketch(text: str) -> _Sketch:
    """Hash every run of words; no run of 5 words equals the one run of a shorter text."""
    words = _encoded(" ".join(_WORD.findall(text)).casefold()).split(b" ")
    runs = zip(*(islice(words, first, None) for first in range(RUN)), strict=False) if len(words) >= RUN else (words,)
    hashes = sorted({blake2b(run, digest_size=8).digest() for run in map(b" ".join, runs)})
    return _Sketch(array("Q", (int.from_bytes(digest, "big") for digest in hashes[:SKETCH])), len(hashes))


def _similarity(first: _Sketch, second: _Sketch) -> float:
    """The Jaccard similarity: exact if both sketches are whole, else the share of the smallest hashes of both.

    It is never more than the numbers of runs allow.
    """
    merged = sorted([*first.hashes, *second.hashes])
    union = list(dict.fromkeys(merged))
    size = len(union) if first.whole and second.whole else min(len(union), SKETCH)
    share = (bisect_right(merged, union[size - 1]) - size) / size  # what is in both is in `merged` twice
    return min(share, min(first.runs, second.runs) / max(first.runs, second.runs))


def _key_lists(sketches: Sequence[_Sketch], threshold: float) -> Iterator[list[int]]:
    """Of each sketch some hashes such that two sketches that are similar enough have one in common.

    Such sketches share at least `threshold` of the hashes of each. Put in any order that holds for all sketches, their
    first shared hash is thus among the first `1 - threshold` of each, and one more. Rare hashes come first, so that a
    hospital's letterhead brings no pair together. They are counted in a table of fixed size, which may count too many.
    """
    counts = array("I", [0]) * _COUNTERS
    for sketch in sketches:
        for key in sketch.hashes:
            counts[key % _COUNTERS] += 1
    for sketch in sketches:
        rare_first = sorted(sketch.hashes, key=lambda key: (counts[key % _COUNTERS], key))
        first = rare_first[: len(rare_first) - ceil(threshold * len(rare_first) - _ROUNDING) + 1]
        yield [key for key in first if counts[key % _COUNTERS] > 1]


class _Components:
    """Union-find over numbers."""

    def __init__(self, count: int) -> None:
        self._parents = list(range(count))

    def root(self, member: int) -> int:
        """The number that stands for a member's component."""
        parents = self._parents
        while parents[member] != member:
            parents[member] = member = parents[parents[member]]
        return member

    def join(self, first: int, second: int) -> None:
        """Make one component of two."""
        self._parents[self.root(first)] = self.root(second)


def _components(sketches: Sequence[_Sketch], threshold: float) -> list[list[int]]:
    """The connected components of near-identical sketches, as places in the sequence."""
    components = _Components(len(sketches))
    # Each key's texts, in blocks of which each lies in one component: a text need not be compared with the block that
    # it belongs to already, or a thousand near-copies of a letter would take half a million comparisons.
    index: dict[int, list[list[int]]] = defaultdict(list)
    for member, keys in enumerate(_key_lists(sketches, threshold)):
        apart: set[int] = set()
        for key in keys:
            for block in index[key]:
                if components.root(block[0]) != components.root(member):
                    others = (other for other in block if other not in apart)
                    similar = _first_similar(member, others, sketches, threshold)
                    if similar is None:
                        apart.update(block)
                    else:
                        components.join(member, similar)
            _file(member, index[key], components)
    found: dict[int, list[int]] = defaultdict(list)
    for member in range(len(sketches)):
        found[components.root(member)].append(member)
    return list(found.values())


def _first_similar(member: int, others: Iterable[int], sketches: Sequence[_Sketch], threshold: float) -> int | None:
    """The first of the others that is near-identical with a text."""
    own = sketches[member]
    return next((other for other in others if _similarity(own, sketches[other]) >= threshold), None)


def _file(member: int, blocks: list[list[int]], components: _Components) -> None:
    """Put a text into the block of its component, and all blocks of that component together."""
    root = components.root(member)
    own = [block for block in blocks if components.root(block[0]) == root]
    if len(own) > 1:
        blocks[:] = [block for block in blocks if components.root(block[0]) != root]
        blocks.append([other for block in own for other in block])
        own = blocks[-1:]
    if own:
        own[0].append(member)
    else:
        blocks.append([member])
