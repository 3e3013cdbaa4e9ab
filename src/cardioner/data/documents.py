"""A note and the spans marked in it: frozen, and checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import total_ordering
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from cardioner.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable


@total_ordering
@dataclass(frozen=True, slots=True)
class Span:
    """An entity mention. Spans sort by their attributes in this order; one without a score comes first.

    Attributes:
        start: Offset of its first character: code points into `Document.text`.
        end: Offset behind its last character.
        label: Its entity type, such as `DISEASE`.
        score: The model's probability of exactly this span; `None` for an annotated one.
        fragments: The parts of a discontinuous span as `(start, end)` in text order; empty for a contiguous one.

    Raises:
        DataError: If the span has no length, starts before the text, has no label, or its fragments do not fit it.
    """

    start: int
    end: int
    label: str
    score: float | None = None
    fragments: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if self.start < 0 or self.end <= self.start:
            raise DataError(f"a span needs 0 <= start < end, found {self.start} to {self.end}")
        if not self.label:
            raise DataError(f"the span {self.start} to {self.end} has no label")
        if self.fragments:
            _check_fragments(self)

    def __lt__(self, other: object) -> bool:
        return _sort_key(self) < _sort_key(other) if isinstance(other, Span) else NotImplemented

    @property
    def length(self) -> int:
        """Number of characters from `start` to `end`."""
        return self.end - self.start


def _sort_key(span: Span) -> tuple[object, ...]:
    return span.start, span.end, span.label, span.score is not None, span.score or 0.0, span.fragments


def _check_fragments(span: Span) -> None:
    """Refuse fragments that are empty, out of order, overlapping, or do not reach the span's edges."""
    edges = [offset for fragment in span.fragments for offset in fragment]
    in_order = all(start < end for start, end in span.fragments) and edges == sorted(edges)
    if not in_order or (edges[0], edges[-1]) != (span.start, span.end):
        raise DataError(
            f"the fragments of the span {span.start} to {span.end} must be in text order, "
            "apart from each other, and reach its edges"
        )


@dataclass(frozen=True, slots=True)
class Document:
    """A note.

    Attributes:
        id: Its name, unique in a corpus.
        text: The untouched text.
        spans: The mentions marked in it.

    Raises:
        DataError: If a span ends behind the text, or the text holds a lone surrogate.
    """

    id: str
    text: str
    spans: tuple[Span, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "spans", tuple(self.spans))
        half = _half_of_a_pair(self.text)
        if half is not None:
            raise DataError(f"document {self.id}: the character at {half} is half of a pair, no text")
        for span in self.spans:
            if span.end > len(self.text):
                raise DataError(
                    f"document {self.id}: the span {span.start} to {span.end} ends behind the text, "
                    f"which has {len(self.text)} characters"
                )

    def with_spans(self, spans: Iterable[Span]) -> Document:
        """The same note with other spans."""
        return replace(self, spans=tuple(spans))

    def text_of(self, span: Span) -> str:
        """The characters a span covers; a discontinuous span's fragments are joined by one space."""
        pieces = span.fragments or ((span.start, span.end),)
        return " ".join(self.text[start:end] for start, end in pieces)


def _half_of_a_pair(text: str) -> int | None:
    """Where a lone surrogate is; the error that tells it holds the whole text, and must not be the cause of another."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None


class ImpossibleSpan(NamedTuple):
    """What a file marks as a span although it does not end behind its start: as a prediction it is wrong.

    Attributes:
        start: Offset of its first character, as the file says.
        end: Offset behind its last character, as the file says; not more than `start`.
        label: Its entity type.
        mention: What it reads, as the file says; `None` where the file does not.
    """

    start: int
    end: int
    label: str
    mention: str | None = None


@dataclass(frozen=True, slots=True)
class Annotations:
    """The spans of a note whose text is not at hand: enough for every score that needs no text.

    Attributes:
        id: The name of the note, unique in a corpus.
        spans: The mentions marked in it.
        mentions: What each span reads, as its file says; `None` where the file does not.
        impossible: What is marked and can be no span: a prediction may hold some, and they count as wrong.

    Raises:
        DataError: If there is not one mention for each span.
    """

    id: str
    spans: tuple[Span, ...] = ()
    mentions: tuple[str | None, ...] = ()
    impossible: tuple[ImpossibleSpan, ...] = ()

    def __post_init__(self) -> None:
        if len(self.mentions) != len(self.spans):
            raise DataError(f"document {self.id}: {len(self.spans)} spans, but {len(self.mentions)} mentions")


Note = TypeVar("Note", bound=Document | Annotations)
"""A note, with its text or without: what takes one kind gives the same kind back."""


def fingerprint(parts: Iterable[Iterable[object]]) -> str:
    """A digest of parts of a corpus, by which interrupted work knows its data again.

    It is of everything at once: no single note can be looked for in it.

    Args:
        parts: Documents, or other values that say all about themselves when printed.
    """
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(b"part")
        for row in part:
            content = repr(row).encode("utf-8", "surrogatepass")
            digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


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
