"""A note and the spans marked in it: frozen, and checked when they are made. Their `repr` never shows text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import total_ordering
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from cardioner.data.attributes import NO_ATTRIBUTES, NO_SCORES, Attributes, FrozenMapping, shown
from cardioner.data.highlight import highlighted
from cardioner.errors import DataError, many, wrong_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@total_ordering
@dataclass(frozen=True, slots=True, repr=False)
class Span:
    """An entity mention. Spans sort by what they hold, in this order; one without a score comes first.

    Attributes:
        start: Offset of its first character: code points into `Document.text`.
        end: Offset after its last character.
        label: Its entity type, such as `DISEASE`.
        score: The model's probability of exactly this span; `None` for an annotated one.
        fragments: The parts of a discontinuous span as `(start, end)` in text order; empty for a contiguous one.
        attributes: Its properties besides the type, such as negation; any mapping of names to values becomes
            `Attributes`.
        attribute_scores: For each attribute that the model knows, the probability of its value or of its absence.

    Raises:
        DataError: If the span has no length, starts before the text, has no label, or its fragments do not fit it.
        UsageError: If an attribute has another type.
    """

    start: int
    end: int
    label: str
    score: float | None = None
    fragments: tuple[tuple[int, int], ...] = ()
    attributes: Mapping[str, str | bool] = NO_ATTRIBUTES
    attribute_scores: Mapping[str, float] = NO_SCORES

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            if not hasattr(getattr(self, name), "__index__"):  # numpy's integers are welcome
                raise wrong_type("a span's " + name, "an int", getattr(self, name))
        if not isinstance(self.label, str):
            raise wrong_type("a span's label", "a str", self.label)
        if self.start < 0 or self.end <= self.start:
            raise DataError(f"a span needs 0 <= start < end, found {self.start} to {self.end}")
        if not self.label:
            raise DataError(f"the span {self.start} to {self.end} has no label")
        if self.fragments:
            _check_fragments(self)
        _freeze(self, "attributes", Attributes)
        _freeze(self, "attribute_scores", FrozenMapping)

    def __lt__(self, other: object) -> bool:
        return _sort_key(self) < _sort_key(other) if isinstance(other, Span) else NotImplemented

    def __repr__(self) -> str:
        score = "" if self.score is None else f", score={self.score:.4g}"
        fragments = f", fragments={self.fragments}" if self.fragments else ""
        attributes = f", attributes={self.attributes}" if self.attributes else ""
        return f"Span({self.start}, {self.end}, {self.label!r}{score}{fragments}{attributes})"

    @property
    def length(self) -> int:
        """Number of characters from `start` to `end`."""
        return self.end - self.start


def _freeze(span: Span, name: str, kind: type[FrozenMapping[Any]]) -> None:
    """Make a mapping that was given one of the kind that a span has."""
    given = getattr(span, name)
    if not isinstance(given, Mapping):
        raise wrong_type(f"a span's {name}", "a mapping", given)
    if not isinstance(given, kind):
        object.__setattr__(span, name, kind(given))


def _sort_key(span: Span) -> tuple[object, ...]:
    said = tuple((name, str(value)) for name, value in span.attributes.items()), tuple(span.attribute_scores.items())
    return span.start, span.end, span.label, span.score is not None, span.score or 0.0, span.fragments, *said


def _check_fragments(span: Span) -> None:
    """Refuse fragments that are empty, out of order, overlapping, or do not reach the span's edges."""
    edges = [offset for fragment in span.fragments for offset in fragment]
    in_order = all(start < end for start, end in span.fragments) and edges == sorted(edges)
    if not in_order or (edges[0], edges[-1]) != (span.start, span.end):
        raise DataError(
            f"the fragments of the span {span.start} to {span.end} must be in text order, "
            "apart from each other, and reach its edges"
        )


@dataclass(frozen=True, slots=True, repr=False)
class Document:
    """A note.

    Attributes:
        id: Its name, unique in a corpus.
        text: The untouched text.
        spans: The mentions marked in it.
        metadata: What else is known of it, such as a date: keys and JSON values, to be left as they are.

    Raises:
        DataError: If a span ends after the text, or the text holds a lone surrogate.
        UsageError: If an attribute has another type.
    """

    id: str
    text: str
    spans: tuple[Span, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name in ("id", "text"):
            if not isinstance(getattr(self, name), str):
                raise wrong_type("a document's " + name, "a str", getattr(self, name))
        if not isinstance(self.metadata, Mapping):
            raise wrong_type("a document's metadata", "a dict", self.metadata)
        object.__setattr__(self, "spans", tuple(self.spans))
        object.__setattr__(self, "metadata", dict(self.metadata))  # later changes of the caller's do not come through
        surrogate = _find_surrogate(self.text)
        if surrogate is not None:
            raise DataError(f"document {self.id}: the character at {surrogate} is half of a surrogate pair, not text")
        for span in self.spans:
            if not isinstance(span, Span):
                raise wrong_type(f"document {self.id}: each of the spans", "a Span", span)
            if span.end > len(self.text):
                raise DataError(
                    f"document {self.id}: the span {span.start} to {span.end} ends after the text, "
                    f"which has {many(len(self.text), 'character')}"
                )

    def __repr__(self) -> str:
        return f"Document({self.id!r}, {many(len(self.text), 'character')}, {many(len(self.spans), 'span')})"

    def _repr_html_(self) -> str:
        """The text with its spans and their attributes highlighted, for notebooks."""
        names = [", ".join([span.label, *shown(span.attributes)]) for span in self.spans]
        return highlighted(self.text, self.spans, names, title=self.id)

    def with_spans(self, spans: Iterable[Span]) -> Document:
        """The same note with other spans."""
        return replace(self, spans=tuple(spans))

    def text_of(self, span: Span) -> str:
        """The characters a span covers; a discontinuous span's fragments are joined by one space."""
        pieces = span.fragments or ((span.start, span.end),)
        return " ".join(self.text[start:end] for start, end in pieces)


def _find_surrogate(text: str) -> int | None:
    """Where a lone surrogate is; Python's own error holds the whole text, so it must not be the cause of another."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None


class ImpossibleSpan(NamedTuple):
    """What a file marks as a span although it does not end after its start: a predicted one counts as wrong.

    Attributes:
        start: Offset of its first character, as the file says.
        end: Offset after its last character, as the file says; not more than `start`.
        label: Its entity type.
        mention: Its text, as the file says; `None` where the file does not.
    """

    start: int
    end: int
    label: str
    mention: str | None = None

    def __repr__(self) -> str:
        return f"ImpossibleSpan({self.start}, {self.end}, {self.label!r})"


@dataclass(frozen=True, slots=True)
class Annotations:
    """The spans of a note whose text is missing: enough for every score that needs no text.

    Attributes:
        id: The name of the note, unique in a corpus.
        spans: The mentions marked in it.
        mentions: The text of each span, as its file says; `None` where the file does not.
        impossible: What is marked and cannot be a span: a prediction may hold some, and they count as wrong.

    Raises:
        DataError: If there is not one mention for each span.
    """

    id: str
    spans: tuple[Span, ...] = ()
    mentions: tuple[str | None, ...] = field(default=(), repr=False)
    impossible: tuple[ImpossibleSpan, ...] = ()

    def __post_init__(self) -> None:
        if len(self.mentions) != len(self.spans):
            raise DataError(
                f"document {self.id}: {many(len(self.spans), 'span')}, but {many(len(self.mentions), 'mention')}"
            )


Note = TypeVar("Note", bound=Document | Annotations)
"""A note, with its text or without: what takes one kind gives the same kind back."""


def check_unique(documents: Iterable[Note]) -> Iterator[Note]:
    """Pass documents through, and refuse the second one with the same id.

    Raises:
        DataError: Naming the id, and the places of both, counted from 1.
    """
    places: dict[str, int] = {}
    for place, document in enumerate(documents, start=1):
        if not isinstance(document, (Document, Annotations)):
            raise wrong_type(f"item {place} of the documents", "a Document", document)
        if (first := places.setdefault(document.id, place)) != place:
            raise DataError(f"documents {first} and {place} have the same id, {document.id!r}: each needs its own")
        yield document


def fingerprint(parts: Iterable[Iterable[object]]) -> str:
    """A digest of parts of a corpus, by which interrupted work recognises its data.

    It is of everything at once: no single note can be looked for in it. Runs of earlier releases are resumed by it, so
    what is digested of a document must not change.

    Args:
        parts: Documents, or other values whose `repr` holds all that they are.
    """
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(b"part")
        for row in part:
            content = (_spelled_out(row) if isinstance(row, Document) else repr(row)).encode("utf-8", "surrogatepass")
            digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


def _spelled_out(document: Document) -> str:
    """Everything that a document holds, in a form of its own: `repr` is for people."""
    spans = [
        f"Span(start={span.start!r}, end={span.end!r}, label={span.label!r}, score={span.score!r}, "
        f"fragments={span.fragments!r}{_said_of(span)})"
        for span in document.spans
    ]
    listed = ", ".join(spans) + "," * (len(spans) == 1)
    return f"Document(id={document.id!r}, text={document.text!r}, spans=({listed}))"


def _said_of(span: Span) -> str:
    """The attributes of a span as a digest takes them; nothing for one that has none, as in earlier releases."""
    return "".join(
        f", {name}={value!r}"
        for name, value in (("attributes", span.attributes), ("attribute_scores", span.attribute_scores))
        if value
    )


def rename_labels(documents: Iterable[Note], mapping: dict[str, str]) -> list[Note]:
    """Rename entity types, or drop those whose new name is empty.

    Args:
        documents: The notes, with their texts or without.
        mapping: Old name to new name; a type that it lacks stays as it is.

    Returns:
        The notes, in order, with the renamed spans, and the mentions of those that stay.
    """
    return [_renamed(document, mapping) for document in documents]


def _renamed(document: Note, mapping: dict[str, str]) -> Note:
    named = [mapping.get(span.label, span.label) for span in document.spans]
    spans = tuple(replace(span, label=label) for span, label in zip(document.spans, named, strict=True) if label)
    if isinstance(document, Annotations):
        mentions = tuple(mention for mention, label in zip(document.mentions, named, strict=True) if label)
        labelled = [(span, mapping.get(span.label, span.label)) for span in document.impossible]
        impossible = tuple(span._replace(label=label) for span, label in labelled if label)
        return replace(document, spans=spans, mentions=mentions, impossible=impossible)
    return replace(document, spans=spans)
