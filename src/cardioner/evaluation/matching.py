"""Which predicted spans match which gold spans of one note, by five criteria.

A match is one-to-one: a span of either side is matched with at most one span of the other.
Neither the order of spans nor their scores decide which figures come out. Nested and crossing spans are spans like any
others; a span that is there twice is two spans, to be found twice. The criteria follow SemEval-2013 task 9.1
(https://aclanthology.org/S13-2056/) and MUC-5 (https://aclanthology.org/M93-1007/); each takes the matching of most
credit, not the first one found.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, NamedTuple

from cardioner.data.attributes import value_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from cardioner.data.documents import Span

Pairs = list[tuple[int, int]]
"""Matched spans: index of the gold one, index of the predicted one."""


class Match(NamedTuple):
    """The matches of a note's spans by one criterion: pairs of full credit, and of half, which only `partial` has."""

    whole: Pairs
    half: Sequence[tuple[int, int]] = ()


class Sides:
    """The gold and the predicted spans of a note, ready to be matched.

    Attributes:
        gold: The annotated spans.
        predicted: The predicted spans.
        gold_order: Their indices in the order of the text.
        predicted_order: Their indices in the order of the text; of equal spans, the highest score first.
        strict: Pairs of the same offsets and label.
        exact: Those, and of the others the pairs of the same offsets.
    """

    def __init__(self, gold: Sequence[Span], predicted: Sequence[Span]) -> None:
        self.gold, self.predicted = gold, predicted
        gold_keys, predicted_keys = list(map(_key, gold)), list(map(_key, predicted))
        self.gold_order = sorted(range(len(gold)), key=gold_keys.__getitem__)
        by_score: Sequence[int] = range(len(predicted))
        if len(set(predicted_keys)) < len(predicted):
            by_score = sorted(by_score, key=lambda index: -_score(predicted[index]))
        self.predicted_order = sorted(by_score, key=predicted_keys.__getitem__)
        self.strict = _pair_equal(gold_keys, predicted_keys, self.gold_order, self.predicted_order)
        left, right = self.unmatched(self.strict)
        places = [key[:-1] for key in gold_keys], [key[:-1] for key in predicted_keys]
        self.exact = self.strict + _pair_equal(*places, left, right) if left and right else self.strict

    def unmatched(self, pairs: Collection[tuple[int, int]]) -> tuple[list[int], list[int]]:
        """The indices on both sides that are in no pair, in the order of the text."""
        left, right = map(set, zip(*pairs, strict=True)) if pairs else (set(), set())
        return (
            [index for index in self.gold_order if index not in left],
            [index for index in self.predicted_order if index not in right],
        )


def overlap(left: Span, right: Span) -> bool:
    """Whether two spans share a character; a discontinuous one has those of its fragments alone."""
    return any(
        start < stop and first < end
        for start, end in left.fragments or ((left.start, left.end),)
        for first, stop in right.fragments or ((right.start, right.end),)
    )


def match_strict(sides: Sides) -> Match:
    """Same offsets and same label. Of equal predicted spans, those with the highest scores are matched first."""
    return Match(sides.strict)


def match_exact(sides: Sides) -> Match:
    """Same offsets, whatever the label; where there is a choice, spans of the same label are matched."""
    return Match(sides.exact)


def match_partial(sides: Sides) -> Match:
    """Same offsets for full credit, a shared character for half of it, whatever the label.

    Spans of the same offsets are matched first. That loses no credit: whoever overlaps one of them overlaps the other.
    """
    return Match(sides.exact, pair_overlapping(sides, *sides.unmatched(sides.exact)))


def match_type(sides: Sides) -> Match:
    """Same label and a shared character; as many pairs as can be."""
    return Match(pair_same_label(sides, sides.gold_order, sides.predicted_order))


def match_relaxed(sides: Sides) -> Match:
    """Same label, and a shared or a neighbouring character: what the first CardioNER printed.

    Repeated spans are left out. Each gold span, in text order, takes the first predicted span in text order that is
    still free: not always the matching with most pairs.
    """
    gold, predicted = sides.gold, sides.predicted
    whole: Pairs = []
    # A predicted span that ends before a gold span begins is out of reach of all later ones; after the first that is
    # in reach they may wait: none of them is taken before it.
    for left, right in _by_label(sides, _distinct(gold, sides.gold_order), _distinct(predicted, sides.predicted_order)):
        waiting = deque(right)
        for index in left:
            while waiting and predicted[waiting[0]].end < gold[index].start:
                waiting.popleft()
            if waiting and predicted[waiting[0]].start <= gold[index].end:
                whole.append((index, waiting.popleft()))
    return Match(whole)


def match_attributes(sides: Sides) -> Match:
    """Same offsets, same label and the same attributes."""
    gold, predicted = ([(*_key(span), said(span)) for span in side] for side in (sides.gold, sides.predicted))
    return Match(_pair_equal(gold, predicted, sides.gold_order, sides.predicted_order))


CRITERIA: dict[str, Callable[[Sides], Match]] = {
    "strict": match_strict,
    "exact": match_exact,
    "partial": match_partial,
    "type": match_type,
    "relaxed": match_relaxed,
}
"""By name, the headline first."""

ATTRIBUTES = "attributes"
MATCHERS = {**CRITERIA, ATTRIBUTES: match_attributes}
"""Those, and the one that counts only where gold spans have attributes."""


def counted(sides: Sides, criterion: str) -> tuple[Sequence[int], Sequence[int]]:
    """The gold and predicted spans that a criterion counts: all, but for `relaxed`, which leaves out repeated ones."""
    if criterion == "relaxed":
        return _distinct(sides.gold, sides.gold_order), _distinct(sides.predicted, sides.predicted_order)
    return sides.gold_order, sides.predicted_order


# Pairs of equal spans ------------------------------------------------------------------------------------------------

_Key = tuple[Any, ...]


def pair_attributed(sides: Sides) -> Pairs:
    """As many pairs as strict ones: of equal spans, those of which the same is said are paired first."""
    same = match_attributes(sides).whole
    if len(same) == len(sides.strict):
        return same
    left, right = sides.unmatched(same)
    # Attributes decide between the others, not the order in which they are given.
    left.sort(key=lambda index: said(sides.gold[index]))
    right.sort(key=lambda index: said(sides.predicted[index]))
    return same + _pair_equal(list(map(_key, sides.gold)), list(map(_key, sides.predicted)), left, right)


def said(span: Span) -> tuple[tuple[str, str], ...]:
    """The attributes of a span, by name, with their values as text."""
    return tuple((name, value_text(value)) for name, value in span.attributes.items())


def _key(span: Span) -> _Key:
    """Where a span is, and last its label; equal for spans that no criterion tells apart."""
    return span.start, span.end, _pieces(span), span.label


def _pieces(span: Span) -> tuple[tuple[int, int], ...]:
    """The fragments of a span, those that touch joined; empty if it is one piece."""
    if len(span.fragments) < 2:
        return ()
    pieces = [span.fragments[0]]
    for start, end in span.fragments[1:]:
        if start == pieces[-1][1]:
            pieces[-1] = (pieces[-1][0], end)
        else:
            pieces.append((start, end))
    return tuple(pieces) if len(pieces) > 1 else ()


def _score(span: Span) -> float:
    return -1.0 if span.score is None else span.score


def _pair_equal(gold: Sequence[_Key], predicted: Sequence[_Key], left: Sequence[int], right: Sequence[int]) -> Pairs:
    """Pairs with the same key; those of a key are taken in the order given."""
    waiting: dict[_Key, list[int]] = {}
    for index in reversed(left):
        waiting.setdefault(gold[index], []).append(index)
    pairs = []
    for index in right:
        found = waiting.get(predicted[index])
        if found:
            pairs.append((found.pop(), index))
    return pairs


def _distinct(spans: Sequence[Span], order: Iterable[int]) -> list[int]:
    """Indices in the order given; of spans with the same edges and label the first."""
    first: dict[tuple[int, int, str], int] = {}
    for index in order:
        first.setdefault((spans[index].start, spans[index].end, spans[index].label), index)
    return list(first.values())


# Pairs of overlapping spans ------------------------------------------------------------------------------------------


def pair_same_label(sides: Sides, left: Sequence[int], right: Sequence[int]) -> Pairs:
    """As many pairs as can be of spans that overlap and have the same label: see `pair_overlapping`."""
    pairs: Pairs = []
    for same_left, same_right in _by_label(sides, left, right):
        pairs += pair_overlapping(sides, same_left, same_right)
    return pairs


def pair_overlapping(sides: Sides, left: Sequence[int], right: Sequence[int]) -> Pairs:
    """As many pairs as can be of these gold and these predicted spans that overlap, both in the order of the text."""
    if not left or not right:
        return []
    gold, predicted = sides.gold, sides.predicted
    if any(_pieces(spans[index]) for spans, ids in ((gold, left), (predicted, right)) for index in ids):
        return _augment(left, _neighbours(gold, predicted, left, right))
    return _sweep(gold, predicted, left, right)


def _neighbours(
    gold: Sequence[Span], predicted: Sequence[Span], left: Sequence[int], right: Sequence[int]
) -> dict[int, list[int]]:
    """The predicted spans that overlap each gold span, in the order of the text.

    A span is compared with those of the other side alone that have begun and not ended where it begins.
    """
    found: dict[int, list[int]] = {index: [] for index in left}
    spans = [(gold[index], 0, index) for index in left] + [(predicted[index], 1, index) for index in right]
    spans.sort(key=lambda entry: entry[0].start)  # stable: spans that begin together keep the order of the text
    opened: list[list[tuple[Span, int]]] = [[], []]
    for span, side, index in spans:
        other = 1 - side
        opened[other] = [entry for entry in opened[other] if entry[0].end > span.start]
        for one, place in opened[other]:
            if overlap(one, span):
                left_one, right_one = (index, place) if side == 0 else (place, index)
                found[left_one].append(right_one)
        opened[side].append((span, index))
    return found


def _by_label(sides: Sides, left: Iterable[int], right: Iterable[int]) -> list[tuple[list[int], list[int]]]:
    """The indices on both sides, apart for each label that both have; their order is kept."""
    labelled: dict[str, tuple[list[int], list[int]]] = {}
    for index in left:
        labelled.setdefault(sides.gold[index].label, ([], []))[0].append(index)
    for index in right:
        labelled.setdefault(sides.predicted[index].label, ([], []))[1].append(index)
    return [labelled[label] for label in sorted(labelled) if all(labelled[label])]


def _sweep(gold: Sequence[Span], predicted: Sequence[Span], left: Sequence[int], right: Sequence[int]) -> Pairs:
    """A largest matching of overlapping intervals.

    The interval that ends first takes, of those of the other side that overlap it, the one that ends first. All of
    them hold its last character, so that the one taken overlaps nothing that another of them does not.
    """
    sides = [(gold, left), (predicted, right)]
    spans = sorted(
        (side[index].end, side[index].start, number, rank)
        for number, (side, ids) in enumerate(sides)
        for rank, index in enumerate(ids)
    )
    opening = [sorted((span for span in spans if span[2] == number), key=lambda span: span[1]) for number in (0, 1)]
    opened, at = ([], []), [0, 0]  # type: tuple[list[Any], list[Any]], list[int]
    done = set[tuple[int, int]]()
    pairs = []
    for end, _, side, rank in spans:
        if (side, rank) in done:
            continue
        done.add((side, rank))
        other = 1 - side
        while at[other] < len(opening[other]) and opening[other][at[other]][1] < end:
            heappush(opened[other], opening[other][at[other]])
            at[other] += 1
        while opened[other] and opened[other][0][2:] in done:
            heappop(opened[other])
        if opened[other]:
            partner = heappop(opened[other])[3]
            done.add((other, partner))
            pairs.append((rank, partner) if side == 0 else (partner, rank))
    return [(left[rank], right[partner]) for rank, partner in pairs]


def _augment(left: Sequence[int], neighbours: dict[int, list[int]]) -> Pairs:
    """A largest matching of any bipartite graph, by augmenting paths."""
    partner: dict[int, int] = {}
    mates: dict[int, int] = {}
    for root in left:
        came_from: dict[int, int] = {}
        queue = deque([root])
        end = None
        while queue and end is None:
            node = queue.popleft()
            for other in neighbours[node]:
                if other in came_from:
                    continue
                came_from[other] = node
                if other not in partner:
                    end = other
                    break
                queue.append(partner[other])
        while end is not None:  # swap matched and free edges on the way back to the root
            node = came_from[end]
            partner[end], mates[node], end = node, end, mates.get(node)
    return [(index, other) for other, index in partner.items()]
