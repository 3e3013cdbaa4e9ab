"""Tag one Arrow record batch: what runs under every engine that holds tables in batches, here or on a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from cardioner.data.attributes import value_text
from cardioner.data.documents import Document
from cardioner.tables.columns import PROBLEM, SPAN, SPAN_FIELDS, SPANS, Columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cardioner.data.documents import Span
    from cardioner.multiclass.windows import Coverage
    from cardioner.prediction.predictor import Predictor

NO_TEXT = "no text"
"""The problem of a row whose note is null."""

_NOT_UTF_8 = "its text is no UTF-8"


def tag_batch(
    batch: pa.RecordBatch,
    predictor: Predictor,
    columns: Columns,
    *,
    batch_tokens: int | None = None,
    advance: Callable[[Coverage], None] | None = None,
    refused: Mapping[int, str] | None = None,
) -> pa.RecordBatch:
    """The rows of a batch with the spans of their notes.

    Args:
        batch: Rows that have the columns; others are ignored.
        predictor: What tags the notes.
        columns: Which columns are ids and notes, and which are kept.
        batch_tokens: Most sub-tokens that the encoder reads at a time.
        advance: Called with what is covered of this batch.
        refused: Rows that are not to be tagged, and why.

    Returns:
        A row for each row, in order: the id and the kept columns as they are; `spans`, a list of `columns.SPAN` in text
        order; `problem`, which is null where the note was tagged. Where it says why a note could not be tagged, without
        a word of its text, `spans` is null.

    Raises:
        DataError: If a column is not there, or ids or notes have another type.
    """
    columns.check_types(batch.schema, "the table")
    plain, refused = columns.select(batch), refused or {}
    spans: list[list[dict[str, Any]] | None] = [None] * batch.num_rows
    problems: list[str | None] = [refused.get(row) for row in range(batch.num_rows)]
    notes = []
    for row, (text, problem) in enumerate(_texts(plain.column(columns.text))):
        problems[row] = problems[row] or problem
        if problems[row] is None:
            notes.append(Document(str(row), text))
    for group in predictor.predict(notes, batch_tokens=batch_tokens, advance=advance).groups():
        for document, problem in group:
            row = int(document.id)
            problems[row] = problem or None
            spans[row] = None if problem else list(map(_row, document.spans))
    kept = [columns.id, *columns.keep]
    arrays = [*map(plain.column, kept), pa.array(spans, pa.list_(SPAN)), pa.array(problems, pa.string())]
    return pa.RecordBatch.from_arrays(arrays, names=[*kept, SPANS, PROBLEM])


def _row(span: Span) -> dict[str, Any]:
    """A span as a struct."""
    said = [(name, value_text(value)) for name, value in span.attributes.items()]
    held = (span.start, span.end, span.label, span.score, said, list(span.attribute_scores.items()))
    return dict(zip(SPAN_FIELDS, held, strict=True))


def tagged_schema(given: pa.Schema, columns: Columns) -> pa.Schema:
    """The schema of what `tag_batch` gives for batches of a schema.

    Raises:
        DataError: As `tag_batch`.
    """
    columns.check_types(given, "the table")
    empty = pa.RecordBatch.from_arrays([pa.array([], kind) for kind in given.types], schema=given)
    plain = columns.select(empty).schema
    kept = [plain.field(name) for name in (columns.id, *columns.keep)]
    return pa.schema([*kept, pa.field(SPANS, pa.list_(SPAN)), pa.field(PROBLEM, pa.string())])


def above(tagged: pa.RecordBatch, min_score: float) -> pa.RecordBatch:
    """What `tag_batch` gives, without the spans whose score is lower."""
    if not min_score:
        return tagged
    kept = [
        None if spans is None else [span for span in spans if span["score"] is None or span["score"] >= min_score]
        for spans in tagged.column(SPANS).to_pylist()
    ]
    place = tagged.schema.get_field_index(SPANS)
    return tagged.set_column(place, SPANS, pa.array(kept, pa.list_(SPAN)))


def exploded(tagged: pa.RecordBatch) -> pa.RecordBatch:
    """What `tag_batch` gives, with a row for each span: its fields as columns in place of `spans`.

    A note without spans has one row, where these are null, so that it is seen that it was tagged, or why it was not.
    """
    rows, flat = [], []
    for row, spans in enumerate(tagged.column(SPANS).to_pylist()):
        for span in spans or [dict.fromkeys(SPAN_FIELDS)]:
            rows.append(row)
            flat.append(span)
    taken = tagged.drop_columns([SPANS, PROBLEM]).take(pa.array(rows, pa.int32()))
    parts = pa.array(flat, SPAN).flatten()
    problems = pc.take(tagged.column(PROBLEM), pa.array(rows, pa.int32()))
    return pa.RecordBatch.from_arrays(
        [*taken.columns, *parts, problems], names=[*taken.schema.names, *SPAN_FIELDS, PROBLEM]
    )


class _Text(NamedTuple):
    """A note, or why there is none."""

    text: str
    problem: str | None


def _texts(column: pa.Array) -> Iterator[_Text]:
    """The notes of a column, one at a time; what a file calls text need not be UTF-8."""
    for value in column:
        try:
            text = value.as_py()
        except UnicodeDecodeError:
            yield _Text("", _NOT_UTF_8)
            continue
        yield _Text("", NO_TEXT) if text is None else _Text(text, None)
