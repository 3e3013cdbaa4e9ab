"""A note and the spans marked in it: frozen, and checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cardioner.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """An entity mention.

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

    @property
    def length(self) -> int:
        """Number of characters from `start` to `end`."""
        return self.end - self.start


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
        try:
            self.text.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"document {self.id}: the character at {error.start} is half of a pair, no text") from None
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


def rename_labels(documents: Iterable[Document], mapping: dict[str, str]) -> list[Document]:
    """Rename entity types, or drop those whose new name is empty.

    Args:
        documents: The notes.
        mapping: Old name to new name; a type that it lacks stays as it is.

    Returns:
        The notes, in order, with the renamed spans.
    """
    renamed = []
    for document in documents:
        named = [(span, mapping.get(span.label, span.label)) for span in document.spans]
        renamed.append(document.with_spans(replace(span, label=label) for span, label in named if label))
    return renamed
