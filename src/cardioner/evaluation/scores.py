"""Strict scores of predicted documents: character spans, never tokens."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from cardioner.errors import DataError, listed
from cardioner.evaluation.matching import Counts, match_strict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cardioner.documents import Document

JsonValue: TypeAlias = "int | float | dict[str, JsonValue]"


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
class Scores:
    """The scores of a set of documents; they add up over disjoint sets.

    Attributes:
        per_type: The counts of every entity type that is in the gold or in the predicted spans, sorted by type.
        documents: How many documents were compared, those without entities included.
    """

    per_type: Mapping[str, Counts]
    documents: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "per_type", dict(sorted(self.per_type.items())))

    def __add__(self, other: Scores) -> Scores:
        return Scores(_add(self.per_type, other.per_type), self.documents + other.documents)

    @property
    def micro(self) -> Counts:
        """The counts of all types together."""
        return sum(self.per_type.values(), Counts())

    @property
    def macro(self) -> Averages:
        """The means over all types, one that was only predicted included; 0.0 if there is none."""
        counts = self.per_type.values()
        return Averages(
            precision=_mean([count.precision for count in counts]),
            recall=_mean([count.recall for count in counts]),
            f1=_mean([count.f1 for count in counts]),
        )

    def to_dict(self) -> dict[str, JsonValue]:
        """The scores as plain dictionaries, always in the same order, ready for JSON."""
        macro = self.macro
        return {
            "documents": self.documents,
            "strict": {
                "macro": {"precision": macro.precision, "recall": macro.recall, "f1": macro.f1},
                "micro": _counts_to_dict(self.micro),
                "per_type": {label: _counts_to_dict(counts) for label, counts in self.per_type.items()},
            },
        }


def score_strict(gold: Iterable[Document], predicted: Iterable[Document]) -> Scores:
    """Score predicted spans: right only with every offset and the label of a gold span.

    Args:
        gold: The annotated documents.
        predicted: The same documents, in any order, with predicted spans.

    Returns:
        The counts of every entity type over all documents.

    Raises:
        DataError: If the two sides do not have the same ids, each once, or if the texts of an id differ.
    """
    gold, predicted = list(gold), list(predicted)
    _check_pairs(gold, predicted)
    by_id = {document.id: document for document in predicted}
    per_type: dict[str, Counts] = {}
    for document in gold:
        per_type = _add(per_type, match_strict(document.spans, by_id[document.id].spans))
    return Scores(per_type, documents=len(gold))


def _check_pairs(gold: Sequence[Document], predicted: Sequence[Document]) -> None:
    """Refuse documents that cannot be paired, naming all of them together."""
    wanted, found = {document.id: document.text for document in gold}, {d.id: d.text for d in predicted}
    differing = [name for name in wanted.keys() & found.keys() if wanted[name] != found[name]]
    problems = {
        "gold documents appear more than once": _repeated(gold),
        "predicted documents appear more than once": _repeated(predicted),
        "gold documents have no prediction": wanted.keys() - found.keys(),
        "predicted documents have no gold document": found.keys() - wanted.keys(),
        "documents have another text in the prediction, so their offsets cannot be compared": differing,
    }
    named = [f"{len(ids)} {problem} ({listed(ids)})" for problem, ids in problems.items() if ids]
    if named:
        raise DataError("expected each gold document once with one prediction of the same text: " + "; ".join(named))


def _repeated(documents: Sequence[Document]) -> list[str]:
    return [name for name, count in Counter(document.id for document in documents).items() if count > 1]


def _add(left: Mapping[str, Counts], right: Mapping[str, Counts]) -> dict[str, Counts]:
    nothing = Counts()
    return {label: left.get(label, nothing) + right.get(label, nothing) for label in left.keys() | right.keys()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _counts_to_dict(counts: Counts) -> dict[str, JsonValue]:
    return {
        "precision": counts.precision,
        "recall": counts.recall,
        "f1": counts.f1,
        "tp": counts.true_positives,
        "fp": counts.false_positives,
        "fn": counts.false_negatives,
    }
