"""What a check of corpora found, as frozen records that know how to become plain JSON."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, fields, is_dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from cardioner.data.attributes import value_text
from cardioner.data.corpus import ReadReport
from cardioner.data.formats.recognition import LOOKS_LIKE, WITHOUT_NOTE
from cardioner.data.quality.attributes import Said, by_value, said_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cardioner.data.documents import Document
    from cardioner.data.quality.type_names import SimilarNames


@dataclass(frozen=True, slots=True)
class Spread:
    """How whole numbers are spread.

    Attributes:
        least: The smallest.
        median: The middle one, or the mean of the two in the middle.
        mean: Their mean.
        p95: The smallest that 95 % of them do not exceed (nearest rank).
        most: The largest.
    """

    least: int
    median: float
    mean: float
    p95: int
    most: int


def spread_of(counts: Mapping[int, int]) -> Spread | None:
    """How numbers are spread of which it is known how often each occurs; `None` if there is none."""
    numbers = sorted(Counter(counts).elements())
    if not numbers:
        return None
    p95 = numbers[-(-95 * len(numbers) // 100) - 1]
    return Spread(numbers[0], median(numbers), sum(numbers) / len(numbers), p95, numbers[-1])


@dataclass(slots=True)
class Part:
    """The figures of one part; they add up over disjoint parts.

    Attributes:
        name: Its path, or its name in the splits.
        documents: How many there are.
        without_entities: How many of them have no span.
        characters: Of their texts.
        lengths: Per entity type, how many entities have which length in characters (from first to last).
        per_document: How many documents have which number of entities.
        said: Per attribute and value, as text, how many entities of which type have it.
    """

    name: str
    documents: int = 0
    without_entities: int = 0
    characters: int = 0
    lengths: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    per_document: Counter[int] = field(default_factory=Counter)
    said: defaultdict[tuple[str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, document: Document) -> None:
        """Count a document."""
        self.documents += 1
        self.without_entities += not document.spans
        self.characters += len(document.text)
        self.per_document[len(document.spans)] += 1
        for span in document.spans:
            self.lengths[span.label][span.length] += 1
            for name, value in span.attributes.items():
                self.said[name, value_text(value)][span.label] += 1

    @property
    def per_type(self) -> dict[str, int]:
        """Entities of each type, sorted by type."""
        return {label: self.lengths[label].total() for label in sorted(self.lengths)}

    @property
    def entities(self) -> int:
        """Entities of all types."""
        return self.all_lengths.total()

    @property
    def all_lengths(self) -> Counter[int]:
        """How many entities of any type have which length."""
        return sum(self.lengths.values(), Counter())

    @property
    def attributes(self) -> list[Said]:
        """The values of all attributes, and what is odd about them."""
        return said_in(self.said, len(self.lengths))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "name": self.name,
            "documents": self.documents,
            "documents_without_entities": self.without_entities,
            "characters": self.characters,
            "entities": self.entities,
            "entities_per_type": self.per_type,
            "entities_per_document": _plain(spread_of(self.per_document)),
            "entity_characters": _plain(spread_of(self.all_lengths)),
            "entity_characters_per_type": {label: _plain(spread_of(self.lengths[label])) for label in self.per_type},
            "attributes": [
                {"name": name, "value": value, "entities": counts.total(), "per_type": dict(sorted(counts.items()))}
                for (name, value), counts in by_value(self.said).items()
            ],
        }


def total_of(parts: Iterable[Part]) -> Part:
    """The figures of several parts together."""
    total = Part("all")
    for part in parts:
        total.documents += part.documents
        total.without_entities += part.without_entities
        total.characters += part.characters
        total.per_document += part.per_document
        for label, lengths in part.lengths.items():
            total.lengths[label] += lengths
        for key, counts in part.said.items():
            total.said[key] += counts
    return total


@dataclass(frozen=True, slots=True)
class Source(ReadReport):
    """How the reading of one corpus went.

    Attributes:
        path: The corpus.
    """

    path: str = ""


@dataclass(frozen=True, slots=True)
class FlatTags:
    """What one tag per token can hold of the spans, and what one tag per token and entity type can.

    Attributes:
        unit: The tokens: words, or the sub-tokens of a named tokenizer.
        window: Most of them that a model reads at a time.
        gold: Spans per type.
        exact: Those whose characters and type come back exactly from the tags, per type.
        exact_per_type: The same for tags per type, with which spans of different types may overlap.
        losses: How many spans are not carried as they are, by why and type. One of them may come back all the same, by
            the tags of another span: of two that differ in white space at their edges alone, both are reported.
        beyond_window: Spans of more tokens than a window, per type; the tags hold them all the same.
        unread: Documents with spans on which the tokenizer fails.
    """

    unit: str
    window: int
    gold: Mapping[str, int]
    exact: Mapping[str, int]
    exact_per_type: Mapping[str, int]
    losses: Mapping[tuple[str, str], int]
    beyond_window: Mapping[str, int]
    unread: tuple[Member, ...] = ()

    def ceiling(self, label: str | None = None, *, per_type: bool = False) -> float | None:
        """The best recall that a tagger can reach, of a type or of all; `None` without spans.

        Args:
            label: The type.
            per_type: Whether it has tags per type, and not flat ones.
        """
        carried = self.exact_per_type if per_type else self.exact
        gold = sum(self.gold.values()) if label is None else self.gold.get(label, 0)
        exact = sum(carried.values()) if label is None else carried.get(label, 0)
        return exact / gold if gold else None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        figures = [
            {
                "spans": self.gold[label],
                "exact": self.exact.get(label, 0),
                "recall_ceiling": self.ceiling(label),
                "recall_ceiling_of_tags_per_type": self.ceiling(label, per_type=True),
            }
            for label in sorted(self.gold)
        ]
        return {
            "unit": self.unit,
            "window": self.window,
            "spans": sum(self.gold.values()),
            "exact": sum(self.exact.values()),
            "recall_ceiling": self.ceiling(),
            "exact_with_tags_per_type": sum(self.exact_per_type.values()),
            "recall_ceiling_of_tags_per_type": self.ceiling(per_type=True),
            "per_type": dict(zip(sorted(self.gold), figures, strict=True)),
            "losses": [
                {"kind": kind, "type": label, "spans": count} for (kind, label), count in sorted(self.losses.items())
            ],
            "longer_than_a_window": dict(sorted(self.beyond_window.items())),
            "unread": [_plain(member) for member in self.unread],
        }


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """A document in a group: its part and its id."""

    part: str
    id: str


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """Documents with the same text, or nearly the same one.

    Attributes:
        members: The documents, in the order of the corpora.
        identical: Whether the texts are equal.
    """

    members: tuple[Member, ...]
    identical: bool

    @property
    def is_leak(self) -> bool:
        """Whether the documents are in more than one part."""
        return len({member.part for member in self.members}) > 1


@dataclass(frozen=True, slots=True)
class Repeated:
    """A span that a document has more than once: the offsets of its characters, and how often it is there."""

    member: Member
    start: int
    end: int
    label: str
    times: int


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All that a check found.

    Attributes:
        parts: The figures of each part, in the order given.
        sources: How the reading of each corpus went.
        flat_tags: What one tag per token cannot hold.
        near_duplicates: Groups of equal or nearly equal texts.
        repeated: How many spans of each type repeat another one of the same document.
        first_repeated: The first of them.
        similar_names: Type names that may mean the same type.
        examples: The first documents with entities, for the page; `to_dict` leaves them out, as they hold text.
    """

    parts: tuple[Part, ...]
    sources: tuple[Source, ...]
    flat_tags: FlatTags
    near_duplicates: tuple[NearDuplicates, ...]
    repeated: Mapping[str, int]
    first_repeated: tuple[Repeated, ...]
    similar_names: tuple[SimilarNames, ...]
    examples: tuple[tuple[Member, Document], ...] = field(default=(), repr=False)

    @property
    def total(self) -> Part:
        """The figures of all parts together."""
        return total_of(self.parts)

    @property
    def malformed(self) -> int:
        """How many files, lines or documents could not be used."""
        return sum(source.malformed for source in self.sources)

    @property
    def unread(self) -> int:
        """How many files seem to hold annotations that no reader took."""
        issues = (issue for source in self.sources for issue in source.issues)
        return sum(issue.count for issue in issues if issue.kind.startswith((WITHOUT_NOTE, LOOKS_LIKE)))

    @property
    def leaks(self) -> tuple[NearDuplicates, ...]:
        """The groups whose documents are in different parts."""
        return tuple(group for group in self.near_duplicates if group.is_leak)

    @property
    def missing_types(self) -> dict[str, tuple[str, ...]]:
        """For each part that lacks types of another part, those types, sorted."""
        every = self.total.lengths.keys()
        missing = {part.name: tuple(sorted(every - part.lengths.keys())) for part in self.parts}
        return {name: labels for name, labels in missing.items() if labels}

    @property
    def short_names(self) -> dict[str, str]:
        """A shorter name for each part, for tables and plots: the steps that all paths begin with are left out."""
        steps = [part.name.replace("\\", "/").rstrip("/").split("/") for part in self.parts]
        shared = min(map(len, steps)) - 1
        while shared and len({tuple(path[:shared]) for path in steps}) > 1:
            shared -= 1
        return {part.name: "/".join(path[shared:]) for part, path in zip(self.parts, steps, strict=True)}

    def parts_with(self, label: str) -> tuple[str, ...]:
        """The names of the parts that have entities of a type."""
        return tuple(part.name for part in self.parts if label in part.lengths)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, the same for the same corpora; no word of a note is in it."""
        return {
            "parts": [part.to_dict() for part in self.parts],
            "all": self.total.to_dict(),
            "malformed": self.malformed,
            "unread": self.unread,
            "sources": _plain(self.sources),
            "flat_tags": self.flat_tags.to_dict(),
            "near_duplicates": [{"leakage": group.is_leak, **_plain(group)} for group in self.near_duplicates],
            "leakage": len(self.leaks),
            "repeated_spans": {
                "count": sum(self.repeated.values()),
                "per_type": dict(sorted(self.repeated.items())),
                "first": [_plain(one) | _plain(one.member) for one in self.first_repeated],
            },
            "similar_names": [
                {**_plain(pair._asdict()), "parts": {name: [*self.parts_with(name)] for name in pair.names}}
                for pair in self.similar_names
            ],
            "missing_types": {name: [*labels] for name, labels in self.missing_types.items()},
        }


def _plain(value: Any) -> Any:
    """Records, mappings and tuples as plain JSON types."""
    if is_dataclass(value):
        value = {part.name: getattr(value, part.name) for part in fields(value) if part.name != "member"}
    if isinstance(value, dict):
        return {key: _plain(found) for key, found in value.items()}
    return [*map(_plain, value)] if isinstance(value, tuple) else value
