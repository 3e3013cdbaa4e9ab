"""Spans of characters to tags of sub-tokens and back, with a report of what the tags cannot express.

Tags are BIO; for a type whose label set has closing tags, BIOES: `E-X` ends an entity, `S-X` is a whole one.

Flat tags give each sub-token one tag; tags per type give it one for each entity type (see `tag_groups`). Of spans that
claim the same tag of a sub-token the longest is kept (of equally long ones the first, then the one whose label sorts
first), and every other one is reported.
Standard library only: this file travels with every saved model.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import chain
from math import isfinite
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping, Sequence

    from .attributes import Said

OUTSIDE = "O"


class SpanLike(Protocol):
    """What is read of a span: characters, half-open, into the note's text."""

    @property
    def start(self) -> int:
        """Offset of its first character."""

    @property
    def end(self) -> int:
        """Offset behind its last character."""

    @property
    def label(self) -> str:
        """Its entity type."""

    @property
    def fragments(self) -> tuple[tuple[int, int], ...]:
        """The parts of a discontinuous span; empty for a contiguous one."""


class Loss(NamedTuple):
    """A span that the tags do not carry as it is.

    Attributes:
        kind: `discontinuous`, `duplicate`, `same span`, `nested`, `crossing`, `shared sub-token` or `no sub-token`
            for a span that has no tags; of those that have, `cut sub-token` if the tags cover more than its characters,
            and `edge in no sub-token` if they lack some of them, such as white space.
        label: Its entity type.
        start: Offset of its first character.
        end: Offset behind its last character.
    """

    kind: str
    label: str
    start: int
    end: int


class Run(NamedTuple):
    """Consecutive sub-tokens of one entity: `first` to `stop`, half-open, and the entity's type."""

    first: int
    stop: int
    label: str


class TagGroup(NamedTuple):
    """Tags of which a sub-token has exactly one: all flat tags, or those of one entity type.

    Attributes:
        label: The entity type; `None` for flat tags, which are of all types.
        first: The id of its first tag; those of the others follow.
        tags: In the order of their ids; the tag of what is outside is `O` in all groups.
    """

    label: str | None
    first: int
    tags: tuple[str, ...]


def tag_groups(tags: Sequence[str]) -> tuple[TagGroup, ...]:
    """The groups in which a model's tags exclude each other.

    Flat tags are one group and have an `O`. Tags per type have one for each type: for each `X` in turn `O-X`, `B-X`,
    `I-X` and, in BIOES, `E-X` and `S-X`, in the same order for all types. Emissions have the same order.

    Args:
        tags: In the order of their ids.

    Raises:
        ValueError: If tags per type are in another order, or some are missing.
    """
    if OUTSIDE in tags or not any(tag.startswith("O-") for tag in tags):
        return (TagGroup(None, 0, tuple(tags)),)
    labels = [tag[2:] for tag in tags if tag.startswith("O-")]
    size = len(tags) // len(labels)
    prefixes = [tag[:2] for tag in tags[:size]]
    if list(tags) != [f"{prefix}{label}" for label in labels for prefix in prefixes] or prefixes[0] != "O-":
        raise ValueError("expected tags per type: O-X, B-X, I-X (and E-X, S-X) for each type X, all in the same order")
    return tuple(
        TagGroup(label, index * size, (OUTSIDE, *(f"{prefix}{label}" for prefix in prefixes[1:])))
        for index, label in enumerate(labels)
    )


class Legality(NamedTuple):
    """Which tags may come where, by tag id.

    Attributes:
        start: Whether a tag may come first.
        transitions: Per tag and next tag, whether the second may follow the first.
        end: Whether a tag may come last.
        continues: Per tag and next tag, whether the second continues the span of the first.
    """

    start: tuple[bool, ...]
    transitions: tuple[tuple[bool, ...], ...]
    end: tuple[bool, ...]
    continues: tuple[tuple[bool, ...], ...]


def legal_transitions(tags: list[str]) -> Legality:
    """The rules of BIO and BIOES, applied to each entity type according to the tags that it has.

    `I-X` and `E-X` follow only `B-X` or `I-X`; where there is an `E-X`, nothing else may follow these two, and they may
    not come last. A type that has no `B-X` may open with `I-X` (the IO scheme).
    """
    openable = {tag[2:] for tag in tags if tag.startswith("B-")}
    closable = openable & {tag[2:] for tag in tags if tag.startswith("E-")}

    def continues(before: str, tag: str) -> bool:
        return before[:2] in {"B-", "I-"} and tag[:2] in {"I-", "E-"} and before[2:] == tag[2:]

    def may_follow(before: str, tag: str) -> bool:
        unfinished = before[:2] in {"B-", "I-"} and before[2:] in closable
        bound = tag[:2] in {"I-", "E-"} and tag[2:] in openable
        return continues(before, tag) or not (unfinished or bound)

    return Legality(
        start=tuple(may_follow("", tag) for tag in tags),
        transitions=tuple(tuple(may_follow(before, tag) for tag in tags) for before in tags),
        end=tuple(may_follow(tag, "") for tag in tags),
        continues=tuple(tuple(continues(before, tag) for tag in tags) for before in tags),
    )


def tag_names(tags: Sequence[str]) -> dict[int, str]:
    """Tags by id, that of what is outside as `O` in every group."""
    return {group.first + place: tag for group in tag_groups(tags) for place, tag in enumerate(group.tags)}


def types_of(tags: Sequence[str]) -> list[str]:
    """The entity types of a model's tags, sorted."""
    return sorted({split_tag(tag)[1] for tag in tag_names(tags).values() if tag != OUTSIDE})


class Entity(NamedTuple):
    """A predicted span: characters, half-open, into the note's text, its type, its probability, and what is said of it.

    Attributes and their scores are as `attributes.Said` has them.
    """

    start: int
    end: int
    label: str
    score: float
    attributes: tuple[tuple[str, str | bool], ...] = ()
    attribute_scores: tuple[tuple[str, float], ...] = ()


def trim_offsets(text: str, offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Take white space off the edges of sub-tokens; one that is nothing else becomes empty, at its end.

    Tokenizers differ in whether a sub-token holds the blank before its word; spans never should.
    """
    trimmed = []
    for start, end in offsets:
        while start < end and text[start].isspace():
            start += 1  # noqa: PLW2901 - moving the edge is the point
        while start < end and text[end - 1].isspace():
            end -= 1  # noqa: PLW2901
        trimmed.append((start, end))
    return trimmed


def to_tags(
    spans: Sequence[SpanLike], offsets: Sequence[tuple[int, int]], label_set: Container[str] = ()
) -> tuple[list[str], list[Loss]]:
    """Tag every sub-token that shares a character with a span.

    Args:
        spans: The spans of a note, in any order.
        offsets: The characters of each sub-token, trimmed.
        label_set: The tags of the model; BIO without.

    Returns:
        A tag per sub-token, and the spans that the tags do not carry as they are.
    """
    tags = [OUTSIDE] * len(offsets)
    starts, ends = [start for start, _ in offsets], [end for _, end in offsets]
    kept: list[SpanLike] = []
    losses = []
    for span in sorted(spans, key=lambda span: (span.start - span.end, span.start, span.label)):
        first, stop = bisect_right(ends, span.start), bisect_left(starts, span.end)
        kind = _obstacle(span, kept, tags[first:stop])
        if kind is None:
            tags[first:stop] = run_tags(stop - first, span.label, label_set)
            kept.append(span)
            if starts[first] < span.start or ends[stop - 1] > span.end:
                kind = "cut sub-token"
            elif (starts[first], ends[stop - 1]) != (span.start, span.end):
                kind = "edge in no sub-token"
        if kind is not None:
            losses.append(Loss(kind, span.label, span.start, span.end))
    return tags, losses


def to_sequences(
    spans: Sequence[SpanLike], offsets: Sequence[tuple[int, int]], groups: Sequence[TagGroup]
) -> tuple[list[list[str]], list[Loss]]:
    """Tag every sub-token once in each group, by the spans of its type.

    Args:
        spans: The spans of a note, in any order.
        offsets: The characters of each sub-token, trimmed.
        groups: As `tag_groups` has them.

    Returns:
        Per group a tag per sub-token, and the spans that the tags do not carry as they are.
    """
    tagged = [
        to_tags([span for span in spans if group.label in (None, span.label)], offsets, group.tags) for group in groups
    ]
    return [tags for tags, _ in tagged], [loss for _, losses in tagged for loss in losses]


def _obstacle(span: SpanLike, kept: Sequence[SpanLike], tags: Sequence[str]) -> str | None:
    """Why a span cannot have these tags, or `None` if it can."""
    if span.fragments:
        return "discontinuous"
    if not tags:
        return "no sub-token"
    if all(tag == OUTSIDE for tag in tags):
        return None
    rivals = [other for other in kept if other.start < span.end and span.start < other.end]
    if labels := {other.label for other in rivals if (other.start, other.end) == (span.start, span.end)}:
        return "duplicate" if span.label in labels else "same span"
    if any(other.start <= span.start and span.end <= other.end for other in rivals):
        return "nested"
    return "crossing" if rivals else "shared sub-token"


def run_tags(length: int, label: str, label_set: Container[str] = ()) -> list[str]:
    """The tags of an entity of so many sub-tokens."""
    tags = [f"B-{label}", *[f"I-{label}"] * (length - 1)]
    closing = f"{'S' if length == 1 else 'E'}-{label}"
    return [*tags[:-1], closing] if closing in label_set else tags


def split_tag(tag: str) -> tuple[str, str]:
    """A tag's position (`B`, `I`, `E`, `S` or `O`) and entity type; a bare type counts as inside."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    prefix, dash, label = tag.partition("-")
    return (prefix, label) if dash and prefix in {"B", "I", "E", "S"} else ("I", tag)


def to_runs(tags: Sequence[str]) -> list[Run]:
    """Entities as runs of sub-tokens; an inside or ending tag that continues nothing opens one."""
    runs: list[Run] = []
    continuing: str | None = None  # the type of the entity that the tag before left open
    for index, tag in enumerate(tags):
        if tag == OUTSIDE:  # most are
            continuing = None
            continue
        position, label = split_tag(tag)
        if position in {"I", "E"} and continuing == label:
            runs[-1] = runs[-1]._replace(stop=index + 1)
        else:
            runs.append(Run(index, index + 1, label))
        continuing = label if position in {"B", "I"} else None
    return runs


def run_offsets(run: Run, offsets: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The characters a run covers, half-open; equal numbers if its sub-tokens hold nothing but white space."""
    pieces = [(start, end) for start, end in offsets[run.first : run.stop] if start < end]
    return (pieces[0][0], pieces[-1][1]) if pieces else (0, 0)


def runs_in(names: Sequence[str], offsets: Sequence[tuple[int, int]]) -> list[tuple[Run, tuple[int, int]]]:
    """Entities in the tags of a note: their sub-tokens, and the characters that these cover, at least one."""
    runs = [(run, run_offsets(run, offsets)) for run in to_runs(names)]
    return [(run, covered) for run, covered in runs if covered[0] < covered[1]]


def entities_in(
    notes: Sequence[tuple[str, Sequence[tuple[int, int]]]],
    tags: Sequence[Sequence[Sequence[int]]],
    names: Mapping[int, str],
    score: Callable[[list[list[tuple[int, list[int]]]]], Sequence[Sequence[float]]],
    describe: Callable[[list[list[tuple[int, list[int]]]]], Sequence[Sequence[Said]]],
    *,
    opening: int = 0,
) -> list[list[Entity]]:
    """Turn the tags of many notes into spans, in the order of the text.

    Args:
        notes: Per note its text and the characters of each sub-token, trimmed.
        tags: Per note and group the tag ids of its rows: those of the special ids before it, of its sub-tokens, and of
            the special ids behind it.
        names: Tags by id, as `tag_names` has them.
        score: Gives the probability of each span, from its first row and its tag ids, note by note.
        describe: Gives what is said of each span, from the same.
        opening: How many special rows stand before the sub-tokens.

    Raises:
        FloatingPointError: If a probability is not a finite number.
    """
    found = [
        [runs_in([names[tag] for tag in row[opening : opening + len(offsets)]], offsets) for row in rows]
        for (_, offsets), rows in zip(notes, tags, strict=True)
    ]
    spans = [
        [
            (run.first + opening, list(row[run.first + opening : run.stop + opening]))
            for runs, row in zip(groups, rows, strict=True)
            for run, _ in runs
        ]
        for groups, rows in zip(found, tags, strict=True)
    ]
    probabilities, described = score(spans), describe(spans)
    said = (score for row in described for one in row for _, score in one.scores)
    if not all(map(isfinite, chain(chain.from_iterable(probabilities), said))):
        raise FloatingPointError("the model computed probabilities that are not finite numbers")
    scored = zip(notes, found, probabilities, described, strict=True)
    return [_merged(text, groups, iter(zip(scores, said, strict=True))) for (text, _), groups, scores, said in scored]


def _merged(
    text: str, groups: Sequence[Sequence[tuple[Run, tuple[int, int]]]], known: Iterator[tuple[float, Said]]
) -> list[Entity]:
    """The spans of a note in all groups; the probabilities, and what is said of each, follow each other."""
    found = [_entities(text, runs, [next(known) for _ in runs]) for runs in groups]
    return found[0] if len(found) == 1 else sorted(entity for entities in found for entity in entities)


def _entities(
    text: str, runs: Sequence[tuple[Run, tuple[int, int]]], known: Sequence[tuple[float, Said]]
) -> list[Entity]:
    """The spans of a note; where two sub-tokens share a character, the first span has it."""
    entities: list[Entity] = []
    for (run, (start, end)), (score, said) in zip(runs, known, strict=True):
        free = max(start, entities[-1].end) if entities else start
        ((begin, stop),) = trim_offsets(text, [(free, max(free, end))])
        if begin < stop:
            entities.append(Entity(begin, stop, run.label, score, *said))
    return entities


def repair(tags: Sequence[str], label_set: Container[str] = ()) -> tuple[list[str], int]:
    """Write the entities that the tags hold as legal tags: an inside tag that continues nothing becomes an opening one.

    Returns:
        The legal tags, and how many of them were changed.
    """
    repaired = [OUTSIDE] * len(tags)
    for run in to_runs(tags):
        repaired[run.first : run.stop] = run_tags(run.stop - run.first, run.label, label_set)
    return repaired, sum(old != new for old, new in zip(tags, repaired, strict=True))
