"""Spans with random attributes and their scores."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from cardioner.data.documents import Document, Span

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
NAMES = st.sampled_from(["Negation", "Certainty", "Größe", "x-1"])
"""Attributes that every format holds that holds any."""
VALUES = st.sampled_from([True, True, "possible", "very likely", "é=1;#2"])
SCORES = st.floats(0, 1)


def said_of(
    span: Span, *, names: st.SearchStrategy[str] = NAMES, values: st.SearchStrategy[str | bool] = VALUES
) -> st.SearchStrategy[Span]:
    """A span with attributes, and scores of some of these and of some that are absent."""
    attributes = st.dictionaries(names, values, max_size=3)
    scores = st.dictionaries(names, SCORES, max_size=3)
    return st.builds(lambda one, other: replace(span, attributes=one, attribute_scores=other), attributes, scores)


def attributed(
    document: Document, *, names: st.SearchStrategy[str] = NAMES, values: st.SearchStrategy[str | bool] = VALUES
) -> st.SearchStrategy[Document]:
    """A document whose spans have attributes."""
    drawn = [said_of(span, names=names, values=values) for span in document.spans]
    return st.tuples(*drawn).map(document.with_spans)
