"""The errors by kind: what became of every span, counted by what may explain it."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

from cardioner.evaluation.attributes import gold_names, said_of
from cardioner.evaluation.matching import Sides, pair_attributed, pair_overlapping, pair_same_label
from cardioner.evaluation.scores import Counts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from cardioner.data.documents import Span
    from cardioner.evaluation.pairing import Pair
    from cardioner.evaluation.scores import JsonValue

Kind = Literal["correct", "boundary", "type", "both", "missed", "spurious"]

KINDS: tuple[Kind, ...] = ("correct", "boundary", "type", "both", "missed", "spurious")
"""Of outcomes: right; other offsets; another label; both, yet overlapping; not predicted; not there."""

ERRORS = KINDS[1:]

LENGTHS = (5, 10, 20, 40, 80)
"""The greatest lengths of the groups, in characters; the last group has none."""

POSITIONS = 10
"""Parts of equal length that a note is divided into."""

_SHOWN = 10


class Outcome(NamedTuple):
    """What became of a gold span, or of a predicted one that matches none: the one that is missing is `None`."""

    kind: Kind
    gold: Span | None
    predicted: Span | None

    @property
    def span(self) -> Span:
        """The gold span, or else the predicted one."""
        span = self.gold or self.predicted
        assert span is not None, "an outcome is of a span"
        return span

    @property
    def labels(self) -> tuple[str | None, str | None]:
        """The gold and the predicted label."""
        return _label(self.gold), _label(self.predicted)


def _label(span: Span | None) -> str | None:
    return None if span is None else span.label


class Place(NamedTuple):
    """An outcome, and the id of the note that it is in."""

    document: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Confusion:
    """Errors of one kind between the same types: how many, and the first of them by id and place in the text.

    The gold label of spurious spans is `None`, as is the predicted label of missed ones.
    """

    kind: Kind
    gold: str | None
    predicted: str | None
    count: int
    first: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class WrongValue:
    """Right spans of which another value of an attribute is predicted: how many, and the first of them."""

    attribute: str
    gold: str
    predicted: str
    count: int
    first: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Analysis:
    """The errors of a set of documents.

    Attributes:
        outcomes: Per document id, in the order of the text.
        kinds: How many outcomes of each kind each type has: the gold span's type, or of a spurious span its own.
        matrix: How many outcomes there are by gold label and predicted label; `None` where there is no span.
        by_length: Strict counts by the length of spans in characters.
        by_mention: Strict counts of spans whose text is, and is not, that of a training span; `None` if unknown.
        by_position: Strict counts by the tenth of the note in which a span begins; `None` without texts.
        confusions: The most frequent errors first.
        wrong_values: Of the attributes that gold spans have, the most frequent errors first.
    """

    outcomes: Mapping[str, tuple[Outcome, ...]]
    kinds: Mapping[str, Mapping[str, int]]
    matrix: Mapping[tuple[str | None, str | None], int]
    by_length: Mapping[str, Counts]
    by_mention: Mapping[str, Counts] | None
    by_position: Mapping[str, Counts] | None
    confusions: tuple[Confusion, ...]
    wrong_values: tuple[WrongValue, ...] = ()

    def to_dict(self) -> dict[str, JsonValue]:
        """Ready for JSON: labels, offsets and counts, never text."""
        return {
            **{name: _groups_to_list(getattr(self, name)) for name in ("by_length", "by_mention", "by_position")},
            "confusions": [_confusion_to_dict(confusion) for confusion in self.confusions],
            "kinds": {label: {**kinds} for label, kinds in self.kinds.items()},
            "matrix": [
                {"count": count, "gold": gold, "predicted": predicted}
                for (gold, predicted), count in self.matrix.items()
            ],
            **({"wrong_values": [_wrong_value_to_dict(one) for one in self.wrong_values]} if self.wrong_values else {}),
        }


def analyse(pairs: Sequence[Pair], *, known: Collection[str] | None = None) -> Analysis:
    """Sort every span of every document into what became of it.

    Args:
        pairs: Documents and their predictions.
        known: The mentions of the training notes, as `mention_key` has them.
    """
    outcomes = {pair.id: outcomes_of(pair.gold.spans, pair.predicted.spans) for pair in pairs}
    every = [Place(name, outcome) for name, found in outcomes.items() for outcome in found]
    return Analysis(
        outcomes=outcomes,
        kinds=_kinds(every),
        matrix=_matrix(every),
        by_length=_by_length(every),
        by_mention=None if known is None else _by_mention(every, pairs, known),
        by_position=_by_position(every, {pair.id: len(pair.text) for pair in pairs if pair.text is not None}),
        confusions=_confusions(every),
        wrong_values=_wrong_values(every, gold_names(pairs)),
    )


def outcomes_of(gold: Sequence[Span], predicted: Sequence[Span]) -> tuple[Outcome, ...]:
    """What became of the spans of one document, in the order of the text.

    Spans are paired one-to-one: those that are right first, then those with the same offsets, then overlapping ones of
    the same label, then overlapping ones; of what is left nothing overlaps.
    """
    sides = Sides(gold, predicted)
    kinds: dict[tuple[int, int], Kind] = dict.fromkeys(pair_attributed(sides), "correct")
    for pair in sides.exact:
        kinds.setdefault(pair, "type")
    kinds |= dict.fromkeys(pair_same_label(sides, *sides.unmatched(kinds)), "boundary")
    kinds |= dict.fromkeys(pair_overlapping(sides, *sides.unmatched(kinds)), "both")
    missed, spurious = sides.unmatched(kinds)
    found = [Outcome(kind, gold[index], predicted[other]) for (index, other), kind in kinds.items()]
    found += [Outcome("missed", gold[index], None) for index in missed]
    found += [Outcome("spurious", None, predicted[index]) for index in spurious]
    return tuple(sorted(found, key=lambda one: (one.span.start, one.span.end, one.span.label, one.kind)))


def mention_key(mention: str) -> str:
    """A mention without regard to case and white space."""
    return " ".join(mention.casefold().split())


# Counting ------------------------------------------------------------------------------------------------------------


def _kinds(every: Iterable[Place]) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for _, outcome in every:
        found[outcome.span.label][outcome.kind] += 1
    return {label: {kind: found[label][kind] for kind in KINDS} for label in sorted(found)}


def _matrix(every: Iterable[Place]) -> dict[tuple[str | None, str | None], int]:
    counts = Counter(outcome.labels for _, outcome in every)
    return dict(sorted(counts.items(), key=lambda item: _sortable(*item[0])))


def _sortable(*labels: str | None) -> tuple[tuple[bool, str], ...]:
    """Labels in order, the missing one last."""
    return tuple((label is None, label or "") for label in labels)


def _confusions(every: Iterable[Place]) -> tuple[Confusion, ...]:
    groups: dict[tuple[Kind, str | None, str | None], list[Place]] = {}
    for place in every:
        if place.outcome.kind != "correct":
            groups.setdefault((place.outcome.kind, *place.outcome.labels), []).append(place)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0][0], _sortable(*item[0][1:])))
    return tuple(Confusion(*key, len(places), tuple(places[:_SHOWN])) for key, places in ordered)


def _wrong_values(every: Iterable[Place], names: Sequence[str]) -> tuple[WrongValue, ...]:
    groups: dict[tuple[str, str, str], list[Place]] = {}
    for place in every:
        gold, predicted = place.outcome.gold, place.outcome.predicted
        if place.outcome.kind == "correct" and gold is not None and predicted is not None:
            for name in names:
                if (values := (said_of(gold, name), said_of(predicted, name)))[0] != values[1]:
                    groups.setdefault((name, *values), []).append(place)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(WrongValue(*key, len(places), tuple(places[:_SHOWN])) for key, places in ordered)


# Groups --------------------------------------------------------------------------------------------------------------


def _grouped(every: Iterable[Place], names: Iterable[str], group_of: Callable[[str, Span], str]) -> dict[str, Counts]:
    """Strict counts by group, which `group_of` takes from a note's id and a span; a hit is in its gold span's group."""
    matched, wrong, missed = Counter[str](), Counter[str](), Counter[str]()
    for name, (kind, gold, predicted) in every:
        if gold is not None:
            (matched if kind == "correct" else missed)[group_of(name, gold)] += 1
        if predicted is not None and kind != "correct":
            wrong[group_of(name, predicted)] += 1
    return {name: Counts(matched[name], wrong[name], missed[name]) for name in names}


def _by_length(every: Iterable[Place]) -> dict[str, Counts]:
    edges = [0, *LENGTHS]
    names = [f"{low + 1} to {high}" for low, high in pairwise(edges)] + [f"{edges[-1] + 1} and more"]
    return _grouped(every, names, lambda _, span: names[bisect_left(LENGTHS, span.length)])


def _by_mention(every: Iterable[Place], pairs: Iterable[Pair], known: Collection[str]) -> dict[str, Counts]:
    mentions: dict[tuple[str, Span], str | None] = {}
    for pair in pairs:
        spans = (*pair.gold.spans, *pair.predicted.spans)
        mentions |= zip([(pair.id, span) for span in spans], chain(*pair.mentions), strict=True)

    def group_of(name: str, span: Span) -> str:
        mention = mentions[name, span]
        if mention is None:
            return "text missing"
        return "seen in training" if mention_key(mention) in known else "not seen in training"

    found = _grouped(every, ("seen in training", "not seen in training", "text missing"), group_of)
    return {name: counts for name, counts in found.items() if name != "text missing" or counts != Counts()}


def _by_position(every: Iterable[Place], lengths: Mapping[str, int]) -> dict[str, Counts] | None:
    """By the tenth of the note that a span begins in; notes without text, which have no length, are left out."""
    width = 100 // POSITIONS
    names = [f"{part * width} to {(part + 1) * width} %" for part in range(POSITIONS)]
    with_text = [place for place in every if place.document in lengths]
    if not lengths:
        return None
    return _grouped(with_text, names, lambda name, span: names[span.start * POSITIONS // lengths[name]])


# JSON ----------------------------------------------------------------------------------------------------------------


def _groups_to_list(groups: Mapping[str, Counts] | None) -> list[JsonValue] | None:
    """A list, as the groups have an order that a dictionary with sorted keys would lose."""
    return None if groups is None else [{"group": name, **counts.to_dict()} for name, counts in groups.items()]


def _confusion_to_dict(confusion: Confusion) -> dict[str, JsonValue]:
    sides = {"gold": confusion.gold, "predicted": confusion.predicted}
    return {"count": confusion.count, "first": _places(confusion.first), "kind": confusion.kind, **sides}


def _wrong_value_to_dict(wrong: WrongValue) -> dict[str, JsonValue]:
    sides = {"gold": wrong.gold, "predicted": wrong.predicted}
    return {"attribute": wrong.attribute, "count": wrong.count, "first": _places(wrong.first), **sides}


def _places(first: Iterable[Place]) -> list[JsonValue]:
    return [
        {"document": name, "gold": _offsets(outcome.gold), "predicted": _offsets(outcome.predicted)}
        for name, outcome in first
    ]


def _offsets(span: Span | None) -> JsonValue:
    return None if span is None else [span.start, span.end]
