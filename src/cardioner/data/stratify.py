"""Deal documents into parts such that each part has its share of every entity type.

Iterative stratification: Sechidis, Tsoumakas and Vlahavas (2011), "On the stratification of multi-label data", ECML
PKDD. Here a document has a type as often as it has entities of it, documents that belong together are dealt as one,
and no part gets more documents than its share as long as another has room.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import blake2b
from math import isfinite, lcm
from typing import TYPE_CHECKING

from cardioner.data.near_duplicates import group_near_duplicates
from cardioner.errors import DataError, UsageError, listed, many

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cardioner.data.documents import Document
    from cardioner.data.near_duplicates import Group

WITHOUT = ""
"""Stands for a type in documents without entities; no span has an empty label."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Documents that go to the same part.

    Attributes:
        ids: Their ids, sorted.
        counts: How many entities of each type they have; under `WITHOUT` how many of them have none.
    """

    ids: tuple[str, ...]
    counts: Mapping[str, int]

    @property
    def size(self) -> int:
        """Number of documents."""
        return len(self.ids)


def gather(documents: Iterable[Document], groups: Iterable[Group] | None = None) -> tuple[Unit, ...]:
    """The units of a corpus, sorted by their first ids.

    Args:
        documents: The corpus, read once; no text is kept.
        groups: Documents that belong together; found by `group_near_duplicates` without.

    Raises:
        DataError: If an id occurs twice in the corpus or in the groups, or a group has an id that the corpus lacks.
    """
    counts: dict[str, Counter[str]] = {}
    texts = _counted(documents, counts)
    if groups is None:
        groups = group_near_duplicates(texts)
    else:
        deque(texts, maxlen=0)
    together = [group.ids for group in groups]
    grouped = Counter(name for ids in together for name in ids)
    if unknown := grouped.keys() - counts.keys():
        raise DataError(f"{many(len(unknown), 'id')} of the groups not in the corpus: {listed(unknown)}")
    if repeated := [name for name, count in grouped.items() if count > 1]:
        raise DataError(f"each document may be in one group, once; found more often: {listed(repeated)}")
    together += [(name,) for name in counts if name not in grouped]
    return tuple(
        Unit(tuple(sorted(ids)), sum((counts[name] for name in ids), Counter()))
        for ids in sorted(map(sorted, together))
    )


def _counted(documents: Iterable[Document], counts: dict[str, Counter[str]]) -> Iterator[tuple[str, str]]:
    """Ids and texts, one at a time, while the entities of each document are counted."""
    for document in documents:
        if document.id in counts:
            raise DataError(f"expected each document id once in the corpus; found more often: {document.id}")
        counts[document.id] = Counter(span.label for span in document.spans) or Counter([WITHOUT])
        yield document.id, document.text


def deal(units: Sequence[Unit], ratios: Sequence[float], *, seed: int) -> list[tuple[str, ...]]:
    """Deal units into parts.

    Larger units come first, as they fit in fewer places. If all units are single documents, a part has as many as its
    ratio says, rounded up or down, but one at least. The result does not depend on the order of the units.

    Args:
        units: What is dealt.
        ratios: The share of each part, in any measure; a part with ratio 0 stays empty.
        seed: Decides what types and sizes leave open.

    Returns:
        The ids of each part, sorted.

    Raises:
        DataError: If there are fewer units than parts to fill.
        UsageError: If the ratios cannot be shares.
    """
    weights = _weights(ratios)
    if len(units) < sum(weight > 0 for weight in weights):
        raise DataError(
            f"expected at least {sum(weight > 0 for weight in weights)} groups of documents, one for each part; found "
            f"{len(units)} in {sum(unit.size for unit in units)} documents, where near-identical ones are one group"
        )
    parts = _parts(units, weights)
    order = {unit.ids: _random(seed, unit) for unit in units}
    left = len(units)
    for size in sorted({unit.size for unit in units}, reverse=True):
        fitting = sorted((unit for unit in units if unit.size == size), key=lambda unit: order[unit.ids])
        for label, unit in _rarest_first(fitting):
            empty = [part for part in parts if not part.ids]
            part = _choose(empty if len(empty) == left else parts, label, unit, order[unit.ids])
            part.take(unit, sum(weights))
            left -= 1
    filled = {part.number: tuple(sorted(part.ids)) for part in parts}
    return [filled.get(number, ()) for number in range(len(weights))]


@dataclass(slots=True)
class _Part:
    """A part that is being filled.

    Attributes:
        number: Its place among the parts.
        room: How many documents it still takes.
        wanted: How many entities of each type it still wants, times the sum of the weights, which keeps them whole.
        ids: What it holds.
    """

    number: int
    room: int
    wanted: dict[str, int]
    ids: list[str] = field(default_factory=list)

    def take(self, unit: Unit, scale: int) -> None:
        """Put a unit into the part."""
        self.ids += unit.ids
        self.room -= unit.size
        for label, count in unit.counts.items():
            self.wanted[label] -= scale * count


def _parts(units: Iterable[Unit], weights: Sequence[int]) -> list[_Part]:
    """The parts to fill, empty as yet."""
    total: Counter[str] = sum((Counter(unit.counts) for unit in units), Counter())
    quotas = _quotas(sum(unit.size for unit in units), weights)
    return [
        _Part(number, quota, {label: weight * count for label, count in total.items()})
        for number, (quota, weight) in enumerate(zip(quotas, weights, strict=True))
        if weight
    ]


def _rarest_first(units: Sequence[Unit]) -> Iterator[tuple[str, Unit]]:
    """Units with the type that decides: the one that fewest of the units left have; those with most of it first."""
    while units:
        holders = Counter(label for unit in units for label in unit.counts)
        rarest = min(holders, key=lambda label: (holders[label], label))
        having = [unit for unit in units if rarest in unit.counts]
        yield from ((rarest, unit) for unit in sorted(having, key=lambda unit: -unit.counts[rarest]))
        units = [unit for unit in units if rarest not in unit.counts]


def _choose(parts: Sequence[_Part], label: str, unit: Unit, chance: int) -> _Part:
    """The part that wants most of a type, of those with room for a unit, or else with most room."""
    room = min(unit.size, max(part.room for part in parts))
    able = [part for part in parts if part.room >= room]
    return max(able, key=lambda part: (part.wanted[label], part.room, (part.number + chance) % len(parts)))


def _weights(ratios: Sequence[float]) -> list[int]:
    """The ratios as whole numbers, for which sums and comparisons are exact."""
    if not all(isfinite(ratio) and ratio >= 0 for ratio in ratios) or not any(ratios):
        raise UsageError(f"ratios are numbers of 0 or more, and not all 0; found {', '.join(map(str, ratios))}")
    exact = [Fraction(str(ratio)) for ratio in ratios]
    return [int(ratio * lcm(*(ratio.denominator for ratio in exact))) for ratio in exact]


def _quotas(count: int, weights: Sequence[int]) -> list[int]:
    """How many of the documents go to each part: the largest remainders are rounded up, and no part is left out."""
    shares = [divmod(weight * count, sum(weights)) for weight in weights]
    quotas = [whole for whole, _ in shares]
    by_remainder = sorted(range(len(weights)), key=lambda number: -shares[number][1])
    for number in by_remainder[: count - sum(quotas)]:
        quotas[number] += 1
    for number, weight in enumerate(weights):
        if weight and not quotas[number]:
            quotas[quotas.index(max(quotas))] -= 1
            quotas[number] = 1
    return quotas


def _random(seed: int, unit: Unit) -> int:
    """A number that the seed and the unit decide, the same in every process and release."""
    name = f"{seed}:{unit.ids[0]}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "big")
