"""Scores of predicted spans: integer counts that add up, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeAlias

from cardioner.evaluation.matching import CRITERIA, Sides, counted
from cardioner.evaluation.pairing import pair_documents

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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
        return _share(self._credit, self.predicted)

    @property
    def recall(self) -> float:
        """Credit for each gold span; 0.0 if there are none."""
        return _share(self._credit, self.gold)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0.0 if there is nothing to find and nothing was predicted."""
        return _share(2 * self._credit, self.gold + self.predicted)

    @property
    def _credit(self) -> float:
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


def _share(part: float, whole: int) -> float:
    return part / whole if whole else 0.0


@dataclass(frozen=True, slots=True)
class Averages:
    """Unweighted means over the entity types.

    Attributes:
        precision: Mean of the types' precision.
        recall: Mean of the types' recall.
        f1: Mean of the types' F1, not the F1 of the other two.
    """

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
        nothing = Counts()
        labels = self.per_type.keys() | other.per_type.keys()
        return TypeCounts(
            {label: self.per_type.get(label, nothing) + other.per_type.get(label, nothing) for label in labels}
        )

    @property
    def micro(self) -> Counts:
        """The counts of all types together."""
        return sum(self.per_type.values(), Counts())

    @property
    def macro(self) -> Averages:
        """The means over all types, one that was only predicted included; 0.0 if there is none."""
        counts = self.per_type.values()
        return Averages(*(_mean([getattr(count, name) for count in counts]) for name in FIGURES))

    def to_dict(self, *, half_credit: bool = False) -> dict[str, JsonValue]:
        """Micro, macro and every type, ready for JSON."""
        macro = self.macro
        return {
            "macro": {name: getattr(macro, name) for name in FIGURES},
            "micro": self.micro.to_dict(half_credit=half_credit),
            "per_type": {label: counts.to_dict(half_credit=half_credit) for label, counts in self.per_type.items()},
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> TypeCounts:
        """The counts that `to_dict` wrote."""
        return cls({label: Counts.from_dict(counts) for label, counts in content["per_type"].items()})


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


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
    sums: dict[str, dict[str, Counts]] = {name: {} for name in CRITERIA}
    for pair in pairs:
        for name, counted_spans in count(pair).items():
            for label, counts in counted_spans.items():
                known = sums[name].get(label)
                sums[name][label] = counts if known is None else known + counts
    return Scores(len(pairs), *(TypeCounts(sums[name]) for name in CRITERIA))


def count(pair: Pair, criteria: Iterable[str] = tuple(CRITERIA)) -> dict[str, dict[str, Counts]]:
    """The counts of one document, by criterion and for every type that either side has.

    Args:
        pair: The document.
        criteria: Names in `CRITERIA`.
    """
    sides = Sides(pair.gold.spans, pair.predicted.spans)
    return {name: _count(pair, sides, name) for name in criteria}


def _count(pair: Pair, sides: Sides, criterion: str) -> dict[str, Counts]:
    whole, half = CRITERIA[criterion](sides)
    gold, predicted = sides.gold, sides.predicted
    pairs = [*whole, *half] if half else whole
    left, right = {index for index, _ in pairs}, {index for _, index in pairs}
    wanted, found = counted(sides, criterion)
    columns = (
        [gold[index].label for index, _ in whole],
        [predicted[index].label for index in found if index not in right],
        [gold[index].label for index in wanted if index not in left],
        [gold[index].label for index, _ in half],
    )
    # A type may occur only in a prediction that matches a gold span of another type: it gets a row too.
    rows = {span.label: [0, 0, 0, 0] for span in pair.marked}
    for column, labels in enumerate(columns):
        for label in labels:
            rows[label][column] += 1
    for span in pair.impossible:
        rows[span.label][1] += 1
    return {label: Counts(*row) for label, row in rows.items()}
