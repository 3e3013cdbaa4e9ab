"""A stand-in for a predictor, which finds words by their first letter, so that a test knows every span."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from cardioner.data.documents import Document, Span
from cardioner.multiclass.windows import Coverage
from cardioner.prediction.predictions import Predictions

NOTHING_SAID: dict[str, Any] = {"attributes": [], "attribute_scores": []}
"""What Arrow has of a span without attributes."""


class WordFinder:
    """Finds every word with a capital letter; its score says how long it is. A text with a tab cannot be tagged.

    Args:
        asserts: Whether it knows that a word after "no" is negated, and one after "once" of the past.
    """

    def __init__(self, *, asserts: bool = False) -> None:
        self.read: list[str] = []
        self.asserts = asserts

    def predict(self, documents: Iterable[Document], *, batch_tokens: Any, advance: Any) -> Predictions:  # noqa: ARG002
        def find(group: list[Document], count: Callable[[Coverage], None]) -> list[Document]:
            if any("\t" in document.text for document in group):
                raise RuntimeError(group[0].text)
            self.read += [document.text for document in group]
            count(Coverage(len(group), len(group), 1, sum(len(document.text) for document in group)))
            spans = ((document, words_of(document.text)) for document in group)
            return [
                document.with_spans(asserted(document.text, found) if self.asserts else found)
                for document, found in spans
            ]

        return Predictions(documents, find, advance)


def words_of(text: str) -> list[Span]:
    """The spans of a text."""
    return [Span(*word.span(), f"{word[0][0]}-WORD", 1 / len(word[0])) for word in re.finditer(r"\b[A-Z]\w*", text)]


def asserted(text: str, spans: Iterable[Span]) -> Iterator[Span]:
    """Spans with what the word before them says."""
    for span in spans:
        before = text[: span.start].split()[-1:]
        said = {"Negation": before == ["no"], "Temporality": "past" if before == ["once"] else None}
        yield replace(span, attributes=said, attribute_scores={"Negation": 0.75, "Temporality": 0.5})


@pytest.fixture
def asserting() -> Any:
    """A finder that knows attributes."""
    return WordFinder(asserts=True)


@pytest.fixture
def finder() -> Any:
    """A predictor that reads nothing but letters."""
    return WordFinder()


@pytest.fixture
def spans_of() -> Callable[[str], list[dict[str, Any]]]:
    """What it finds, as rows have it."""
    return lambda text: [
        {"start": span.start, "end": span.end, "label": span.label, "score": span.score, **NOTHING_SAID}
        for span in words_of(text)
    ]
