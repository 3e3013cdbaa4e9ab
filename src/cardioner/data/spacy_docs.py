"""Spans in docs of spaCy: whole tokens, with a record beside them of what was marked exactly.

A span of spaCy consists of whole tokens, and a mention may begin or end inside one. So its span has all tokens that it
touches, and a record under the key with which spaCy itself keeps data of a span, `("._.", NAME, start, end)`: there it
survives `DocBin`, `to_bytes`, `Doc.from_docs` and `Span.as_doc`. Offsets in records count from the start of the tokens,
as the last two move these.

Data of a span has no other key than its edges, and several spans may share these. So a record also names the label and,
if there is another one with the same label, the id of its span.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import chain
from typing import TYPE_CHECKING, Any

from cardioner.data.documents import Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from spacy.tokens import Doc
    from spacy.tokens import Span as TokenSpan

GROUP = "cardioner"
"""The group of spans that holds ours unless another one is chosen."""
RECORDS = "cardioner_records"
_UNDERSCORE = "._."
"""How the keys of extensions begin in `Doc.user_data`."""


def mark(doc: Doc, spans: Iterable[Span], group: str = GROUP) -> None:
    """Put spans into a group of a doc, in place of what the group had: each as the tokens that it touches.

    Args:
        doc: The doc, whose text is the one that the offsets count.
        spans: The spans.
        group: The key in `doc.spans`.
    """
    from spacy.tokens import Span as TokenSpan  # noqa: PLC0415 - an extra

    _forget(doc, group)
    starts = [token.idx for token in doc]
    ends = [token.idx + len(token) for token in doc]
    made = []
    for span in spans:
        first, last = _touched(starts, ends, span)
        records = _records(doc, starts[first], ends[last])
        same = sum(record["label"] == span.label for record in records)
        name = f"{GROUP}-{same + 1}" if same else ""
        records.append({"group": group, "id": name, **_record(span, starts[first])})
        made.append(TokenSpan(doc, first, last + 1, label=span.label, span_id=name))
    doc.spans[group] = made


def marked(span: TokenSpan) -> Span:
    """What a span of spaCy stands for: what was marked, or its own edges if nobody wrote down more.

    Raises:
        DataError: If it has no label.
    """
    record = record_of(span)
    if record is None:
        return Span(span.start_char, span.end_char, span.label_)
    start = span.start_char
    fragments = tuple((start + first, start + last) for first, last in record.get("fragments", ()))
    said = record.get("attributes", {}), record.get("attribute_scores", {})
    return Span(start + record["start"], start + record["end"], span.label_, record.get("score"), fragments, *said)


def record_of(span: TokenSpan) -> dict[str, Any] | None:
    """The record beside a span of spaCy, if it has one."""
    found = data_of(span.doc).get(_key(span.start_char, span.end_char), ())
    alike = [record for record in found if record["label"] == span.label_]
    return next((record for record in alike if record["id"] == span.id_), alike[0] if alike else None)


def is_exact(span: TokenSpan) -> bool:
    """Whether the edges of a span of spaCy are those of what was marked."""
    exact = marked(span)
    return (exact.start, exact.end) == (span.start_char, span.end_char)


def add_entities(doc: Doc, spans: Iterable[TokenSpan], *, keep: bool) -> None:
    """Make a flat choice of spans the entities of a doc.

    Args:
        doc: The doc.
        spans: What to choose from.
        keep: Whether the entities that are there stay, and nothing is chosen that overlaps them.
    """
    tokens = {marked(span): (span.start, span.end) for span in spans}
    by_mark = {marked(span): span for span in spans}
    there = list(doc.ents) if keep else []
    taken = [(span.start, span.end) for span in there]
    doc.set_ents([*there, *(by_mark[span] for span in flat_choice(tokens, tokens.__getitem__, taken=taken))])


def flat_choice(
    spans: Iterable[Span], place: Callable[[Span], tuple[int, int]], *, taken: Iterable[tuple[int, int]] = ()
) -> list[Span]:
    """Spans that share no place: the longest first, then those with the highest scores.

    Args:
        spans: What to choose from.
        place: Gives the places of a span, half-open: of its characters or tokens.
        taken: Places where nothing is to be chosen.
    """
    used = {one for start, end in taken for one in range(start, end)}
    chosen = []
    for span in sorted(spans, key=lambda span: (-span.length, -(span.score or 0), span)):
        places = range(*place(span))
        if used.isdisjoint(places):
            used.update(places)
            chosen.append(span)
    return chosen


def _touched(starts: Sequence[int], ends: Sequence[int], span: Span) -> tuple[int, int]:
    """The first and the last token that a span touches; for nothing but the space behind a token, this one."""
    first, last = bisect_right(ends, span.start), bisect_left(starts, span.end) - 1
    return (first, last) if first <= last else (last, last)


def _record(span: Span, start: int) -> dict[str, Any]:
    """What is written down of a span whose tokens begin at an offset."""
    record: dict[str, Any] = {"label": span.label, "start": span.start - start, "end": span.end - start}
    if span.score is not None:
        record["score"] = float(span.score)
    if span.fragments:
        record["fragments"] = [[first - start, last - start] for first, last in span.fragments]
    said = {"attributes": dict(span.attributes), "attribute_scores": dict(span.attribute_scores)}
    return record | {name: values for name, values in said.items() if values}


def _records(doc: Doc, start: int, end: int) -> list[dict[str, Any]]:
    """The records of these edges, to add to."""
    records = list(data_of(doc).get(_key(start, end), ()))  # a tuple in a doc that was read
    data_of(doc)[_key(start, end)] = records
    return records


def _forget(doc: Doc, group: str) -> None:
    """Remove the records of a group."""
    data = data_of(doc)
    for key in [key for key in data if is_of_records(key)]:
        kept = [record for record in data.pop(key) if record["group"] != group]
        if kept:
            data[key] = kept


def _key(start: int | None, end: int | None, name: str = RECORDS) -> tuple[str, str, int | None, int | None]:
    return _UNDERSCORE, name, start, end


def data_of(doc: Doc) -> dict[Any, Any]:
    """What components keep in a doc; its keys are of any type, whatever spaCy's own annotation says."""
    return doc.user_data


def is_of_records(key: Any) -> bool:
    """Whether a key in `Doc.user_data` is one of our records."""
    return isinstance(key, tuple) and key[1:2] == (RECORDS,)


def doc_key(name: str) -> tuple[str, str, int | None, int | None]:
    """The key of an extension of a whole doc in `Doc.user_data`."""
    return _key(None, None, name)


def every_span(doc: Doc) -> list[TokenSpan]:
    """The spans of all groups, sorted by the names of these, and the entities."""
    return [*chain.from_iterable(doc.spans[name] for name in sorted(doc.spans)), *doc.ents]
