"""Scores of predicted spans: integer counts that add up, and what follows from them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from cardioner.evaluation.matching import CRITERIA, MATCHERS, Sides, counted
from cardioner.evaluation.pairing import pair_documents

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from cardioner.data.documents import Annotations, Document
    from cardioner.evaluation.pairing import Pair

JsonValue: TypeAlias = "int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

FIGURES = ("precision", "recall", "f1")


@dataclass(frozen=True, slots=True)
class Counts:
    """Integer counts, which add up over documents and types.

    Attributes:
        true_positives: Predicted spans that match a gold span, for full credit.
        false_positives: Predicted spans that match none.
        false_negatives: Gold spans that no predicted span matches.
        partial: Predicted spans that match a gold span for half credit; only the criterion `partial` has any.
    """

    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0
    partial: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
            self.partial + other.partial,
        )

    @property
    def gold(self) -> int:
        """Gold spans that were counted."""
        return self.true_positives + self.partial + self.false_negatives

    @property
    def predicted(self) -> int:
        """Predicted spans that were counted; of one type, those that match a gold span of it, and the wrong ones."""
        return self.true_positives + self.partial + self.false_positives

    @property
    def precision(self) -> float:
        """Credit for each predicted span; 0.0 if nothing was predicted."""
        return _share(self.credit, self.predicted)

    @property
    def recall(self) -> float:
        """Credit for each gold span; 0.0 if there are none."""
        return _share(self.credit, self.gold)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0.0 if there is nothing to find and nothing was predicted."""
        return _share(2 * self.credit, self.gold + self.predicted)

    @property
    def credit(self) -> float:
        """What matches are worth: 1, or half of it."""
        return self.true_positives + self.partial / 2

    def to_dict(self, *, half_credit: bool = False) -> dict[str, JsonValue]:
        """Figures and counts, ready for JSON; `partial` among them on request."""
        return {
            **{name: getattr(self, name) for name in FIGURES},
            "tp": self.true_positives,
            "fp": self.false_positives,
            "fn": self.false_negatives,
            **({"partial": self.partial} if half_credit else {}),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Counts:
        """The counts that `to_dict` wrote."""
        return cls(content["tp"], content["fp"], content["fn"], content.get("partial", 0))


_NOTHING = Counts()


def _share(part: float, whole: int) -> float:
    return part / whole if whole else 0.0


class Averages(NamedTuple):
    """Unweighted means over the entity types; `f1` is the mean of the types' F1, not the F1 of the other two."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class TypeCounts:
    """The counts of one criterion.

    Attributes:
        per_type: By entity type, sorted: every type that is in the gold or in the predicted spans. Where the label
            plays no part (exact and partial), a match counts for the type of the gold span.
    """

    per_type: Mapping[str, Counts]

    def __post_init__(self) -> None:
        object.__setattr__(self, "per_type", dict(sorted(self.per_type.items())))

    def __add__(self, other: TypeCounts) -> TypeCounts:
        mine, others = self.per_type, other.per_type
        return TypeCounts(
            {label: mine.get(label, _NOTHING) + others.get(label, _NOTHING) for label in mine.keys() | others.keys()}
        )

    @property
    def micro(self) -> Counts:
        """The counts of all types together."""
        return sum(self.per_type.values(), _NOTHING)

    @property
    def macro(self) -> Averages:
        """The means over all types, one that was only predicted included; 0.0 if there is none."""
        counts = self.per_type.values()
        sums = (sum(getattr(count, name) for count in counts) for name in FIGURES)
        return Averages(*(_share(total, len(counts)) for total in sums))

    def to_dict(self, *, half_credit: bool = False, rows: str = "per_type") -> dict[str, JsonValue]:
        """Micro, macro and every type, ready for JSON; the types under the name given."""
        return {
            "macro": {**self.macro._asdict()},
            "micro": self.micro.to_dict(half_credit=half_credit),
            rows: {label: counts.to_dict(half_credit=half_credit) for label, counts in self.per_type.items()},
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> TypeCounts:
        """The counts that `to_dict` wrote."""
        return cls({label: Counts.from_dict(counts) for label, counts in content["per_type"].items()})


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of a set of documents; they add up over disjoint sets.

    Attributes:
        documents: How many documents were compared, those without entities included.
        strict: Same offsets and label: the headline.
        exact: Same offsets.
        partial: A shared character, for half credit unless the offsets are the same.
        type: A shared character and the same label.
        relaxed: A shared or neighbouring character and the same label, repeated spans left out.
    """

    documents: int
    strict: TypeCounts
    exact: TypeCounts
    partial: TypeCounts
    type: TypeCounts
    relaxed: TypeCounts

    def __add__(self, other: Scores) -> Scores:
        sums = (self.by(name) + other.by(name) for name in CRITERIA)
        return Scores(self.documents + other.documents, *sums)

    def by(self, criterion: str) -> TypeCounts:
        """The counts of a criterion by its name."""
        found: TypeCounts = getattr(self, criterion)
        return found

    def to_dict(self) -> dict[str, JsonValue]:
        """The scores as plain dictionaries, always in the same order, ready for JSON."""
        return {
            "documents": self.documents,
            **{name: self.by(name).to_dict(half_credit=name == "partial") for name in CRITERIA},
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Scores:
        """The scores that `to_dict` wrote.

        Raises:
            KeyError: If they are another version's.
        """
        return cls(content["documents"], *(TypeCounts.from_dict(content[name]) for name in CRITERIA))


assert [field.name for field in fields(Scores)] == ["documents", *CRITERIA]


def score(gold: Iterable[Document | Annotations], predicted: Iterable[Document | Annotations]) -> Scores:
    """Score predicted spans by every criterion.

    Args:
        gold: The annotated documents.
        predicted: The same documents, in any order, with predicted spans.

    Raises:
        DataError: If the two sides cannot be paired: see `pair_documents`.
    """
    return score_pairs(pair_documents(gold, predicted).pairs)


def score_pairs(pairs: Sequence[Pair]) -> Scores:
    """Score documents that are paired already."""
    return Scores(len(pairs), *_count_types(pairs, CRITERIA))


def count_types(pairs: Sequence[Pair], criterion: str) -> TypeCounts:
    """The counts of paired documents by one criterion, named as in `MATCHERS`."""
    (found,) = _count_types(pairs, [criterion])
    return found


def _count_types(pairs: Sequence[Pair], criteria: Collection[str]) -> list[TypeCounts]:
    sums: dict[str, dict[str, Counts]] = {name: {} for name in criteria}
    for pair in pairs:
        for name, counts in count(pair, criteria).items():
            for label, one in counts.items():
                sums[name][label] = sums[name].get(label, _NOTHING) + one
    return [TypeCounts(sums[name]) for name in criteria]


def count(pair: Pair, criteria: Iterable[str] = tuple(CRITERIA)) -> dict[str, dict[str, Counts]]:
    """The counts of one document, by criteria named as in `MATCHERS`, for every type that either side has."""
    sides = Sides(pair.gold.spans, pair.predicted.spans)
    return {name: _count(pair, sides, name) for name in criteria}


def _count(pair: Pair, sides: Sides, criterion: str) -> dict[str, Counts]:
    whole, half = MATCHERS[criterion](sides)
    left, right = {index for index, _ in [*whole, *half]}, {index for _, index in [*whole, *half]}
    wanted, found = counted(sides, criterion)
    gold, predicted = sides.gold, sides.predicted
    matched = Counter(gold[index].label for index, _ in whole)
    partial = Counter(gold[index].label for index, _ in half)
    missed = Counter(gold[index].label for index in wanted if index not in left)
    wrong = Counter(predicted[index].label for index in found if index not in right)
    wrong.update(span.label for span in pair.impossible)
    # A type may occur only in a prediction that matches a gold span of another type: it gets a row too.
    labels = dict.fromkeys(span.label for span in pair.marked)
    return {label: Counts(matched[label], wrong[label], missed[label], partial[label]) for label in labels}
