"""Scores of attributes of spans: how often each is right, on matched spans and end to end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cardioner.data.attributes import value_text
from cardioner.evaluation.matching import ATTRIBUTES, Sides, pair_attributed
from cardioner.evaluation.scores import Counts, TypeCounts, count_types

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from cardioner.data.documents import Span
    from cardioner.evaluation.matching import Pairs
    from cardioner.evaluation.pairing import Annotated, Pair
    from cardioner.evaluation.scores import JsonValue

NOT_SAID = "—"
"""What stands for the value of an attribute that a span does not have."""


@dataclass(frozen=True, slots=True)
class AttributeCounts:
    """The counts of one attribute by its values, which add up over documents.

    Attributes:
        matched: Of strictly matched spans, `NOT_SAID` being one of the values.
        end_to_end: Of all spans that have the attribute: that of a gold span that is not matched is missed, that of a
            predicted one that is not matched is wrong.
    """

    matched: TypeCounts
    end_to_end: TypeCounts

    def __add__(self, other: AttributeCounts) -> AttributeCounts:
        return AttributeCounts(self.matched + other.matched, self.end_to_end + other.end_to_end)

    @property
    def accuracy(self) -> float:
        """The share of matched spans with the right value; 0.0 if no span is matched."""
        return self.matched.micro.precision

    def to_dict(self) -> dict[str, JsonValue]:
        """Ready for JSON."""
        parts = {name: getattr(self, name).to_dict(rows="per_value") for name in ("matched", "end_to_end")}
        return {"accuracy": self.accuracy, **parts}


@dataclass(frozen=True, slots=True)
class AttributeScores:
    """The scores of the attributes that gold spans have.

    Attributes:
        whole: By entity type, the counts of spans with the offsets, the label and all attributes of a gold span.
        per_attribute: By name, sorted.
        left_out: Attributes that no gold span has, and how many predicted spans have them: they are not scored.
        not_predicted: Attributes that no predicted span has: scored as if nothing were said.
    """

    whole: TypeCounts
    per_attribute: Mapping[str, AttributeCounts]
    left_out: Mapping[str, int]
    not_predicted: tuple[str, ...]

    def to_dict(self) -> dict[str, JsonValue]:
        """Ready for JSON."""
        return {
            **self.whole.to_dict(),
            "per_attribute": {name: counts.to_dict() for name, counts in self.per_attribute.items()},
            "left_out": {**self.left_out},
            "not_predicted": [*self.not_predicted],
        }


def score_attributes(pairs: Sequence[Pair]) -> AttributeScores | None:
    """Score attributes; `None` if neither side has any."""
    names = gold_names(pairs)
    predicted = Counter(name for pair in pairs for span in pair.predicted.spans for name in span.attributes)
    if not names and not predicted:
        return None
    scored, sums = of_gold(pairs), dict.fromkeys(names, _NONE)
    for pair in scored:
        for name, counts in count_attributes(pair, sums).items():
            sums[name] += counts
    return AttributeScores(
        whole=count_types(scored, ATTRIBUTES),
        per_attribute=sums,
        left_out={name: count for name, count in sorted(predicted.items()) if name not in names},
        not_predicted=tuple(name for name in names if name not in predicted),
    )


def gold_names(pairs: Iterable[Pair]) -> list[str]:
    """The attributes that gold spans have, sorted."""
    return sorted({name for pair in pairs for span in pair.gold.spans for name in span.attributes})


def of_names(pairs: Sequence[Pair], names: Collection[str]) -> list[Pair]:
    """The same documents without other attributes than those of some names, on both sides."""

    def side(document: Annotated) -> Annotated:
        kept = ({name: value for name, value in span.attributes.items() if name in names} for span in document.spans)
        spans = (replace(span, attributes=said) for span, said in zip(document.spans, kept, strict=True))
        return replace(document, spans=tuple(spans))

    return [replace(pair, gold=side(pair.gold), predicted=side(pair.predicted)) for pair in pairs]


def of_gold(pairs: Sequence[Pair]) -> list[Pair]:
    """The same documents without those attributes that no gold span of any of them has."""
    return of_names(pairs, set(gold_names(pairs)))


def count_attributes(pair: Pair, names: Iterable[str]) -> dict[str, AttributeCounts]:
    """The counts of some attributes in one document."""
    sides = Sides(pair.gold.spans, pair.predicted.spans)
    pairs = pair_attributed(sides)
    return {name: _count(sides, pairs, name) for name in names}


def _count(sides: Sides, pairs: Pairs, name: str) -> AttributeCounts:
    gold, predicted = ([said_of(span, name) for span in side] for side in (sides.gold, sides.predicted))
    matched = [(gold[index], predicted[other]) for index, other in pairs]
    right = [value for value, other in matched if value == other]
    return AttributeCounts(
        matched=_counts([value for value, _ in matched], [other for _, other in matched], right),
        end_to_end=_counts(*([value for value in part if value != NOT_SAID] for part in (gold, predicted, right))),
    )


def said_of(span: Span, name: str) -> str:
    """The value of an attribute of a span, or `NOT_SAID`; a value that is a dash itself stands in quotes."""
    if name not in span.attributes:
        return NOT_SAID
    text = value_text(span.attributes[name])
    return f'"{text}"' if text == NOT_SAID else text


def _counts(gold: Sequence[str], predicted: Sequence[str], right: Sequence[str]) -> TypeCounts:
    wanted, found, hits = Counter(gold), Counter(predicted), Counter(right)
    return TypeCounts(
        {
            value: Counts(hits[value], found[value] - hits[value], wanted[value] - hits[value])
            for value in wanted.keys() | found.keys()
        }
    )


_NONE = AttributeCounts(TypeCounts({}), TypeCounts({}))
