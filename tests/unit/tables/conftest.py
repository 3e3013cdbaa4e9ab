"""A stand-in for a predictor, which finds words by their first letter, so that a test knows every span."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from cardioner.data.documents import Document, Span
from cardioner.multiclass.windows import Coverage
from cardioner.prediction.predictions import Predictions


class WordFinder:
    """Finds every word with a capital letter; its score says how long it is. A text with a tab cannot be tagged."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def predict(self, documents: Iterable[Document], *, batch_tokens: Any, advance: Any) -> Predictions:  # noqa: ARG002
        def find(group: list[Document], count: Callable[[Coverage], None]) -> list[Document]:
            if any("\t" in document.text for document in group):
                raise RuntimeError(group[0].text)
            self.read += [document.text for document in group]
            count(Coverage(len(group), len(group), 1, sum(len(document.text) for document in group)))
            return [document.with_spans(words_of(document.text)) for document in group]

        return Predictions(documents, find, advance)


def words_of(text: str) -> list[Span]:
    """The spans of a text."""
    return [Span(*word.span(), f"{word[0][0]}-WORD", 1 / len(word[0])) for word in re.finditer(r"\b[A-Z]\w*", text)]


@pytest.fixture
def finder() -> Any:
    """A predictor that reads nothing but letters."""
    return WordFinder()


@pytest.fixture
def spans_of() -> Callable[[str], list[dict[str, Any]]]:
    """What it finds, as rows have it."""
    return lambda text: [
        {"start": span.start, "end": span.end, "label": span.label, "score": span.score} for span in words_of(text)
    ]
