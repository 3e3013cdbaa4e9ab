"""Documents as displaCy of spaCy draws them: `displacy.render(displacy_of(document), style="span", manual=True)`."""

from __future__ import annotations

import re
from typing import Any, Literal

from cardioner.data.documents import Document
from cardioner.data.highlight import cut
from cardioner.data.spacy_docs import flat_choice
from cardioner.errors import UsageError

_WORD = re.compile(r"\s+|\w+|[^\w\s]")


def displacy_of(document: Document, *, style: Literal["ent", "span"] = "span") -> dict[str, Any]:
    """What displaCy takes for a document.

    Args:
        document: The document.
        style: `span` has all spans, each fragment by itself, in lines below the text; the text is cut at the edges of
            words and spans, so that these are exact. `ent` has a flat choice: the longest spans first, then those with
            the highest scores.

    Raises:
        UsageError: For another style.
    """
    if style == "ent":
        chosen = sorted(flat_choice(document.spans, lambda span: (span.start, span.end)))
        ents = [{"start": span.start, "end": span.end, "label": span.label} for span in chosen]
        return {"text": document.text, "ents": ents, "title": document.id}
    if style != "span":
        raise UsageError(f"the style must be ent or span; found {style!r}")
    breaks = [found.start() for found in _WORD.finditer(document.text)]
    segments = cut(len(document.text), document.spans, breaks=breaks)
    first = {segment.start: index for index, segment in enumerate(segments)}
    last = {segment.end: index + 1 for index, segment in enumerate(segments)}
    spans = [
        {"start_token": first[start], "end_token": last[end], "label": span.label}
        for span in document.spans
        for start, end in span.fragments or ((span.start, span.end),)
    ]
    tokens = [document.text[segment.start : segment.end] for segment in segments]
    return {"text": document.text, "tokens": tokens, "spans": spans, "title": document.id}
