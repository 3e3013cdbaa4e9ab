"""Tagging a record batch: a row for each row, whatever types an engine hands over."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cardioner.errors import DataError, UsageError
from cardioner.tables.columns import SPAN_FIELDS, Columns
from cardioner.tables.shape import AsTagged
from cardioner.tables.source import Tagged
from cardioner.tables.tagging import above, exploded, tag_batch
from cardioner.tables.values import rows_of, values_of
from cardioner.tables.writers import write_table

TEXTS = ["Oedema, no Angina", None, "", "bad\tNote", "🫀 Syncope", "again"]
COLUMNS = Columns(keep=("ward",))


def notes(**replaced: Any) -> pa.RecordBatch:
    """Six rows with two columns beside the notes."""
    columns = {
        "other": pa.array([1.0] * 6),
        "note_text": pa.array(TEXTS),
        "ward": pa.array(["a", None, "b", "b", "c", "c"]),
        "note_id": pa.array([7, 8, 9, 10, 2**40, 12]),
    }
    columns |= replaced
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def test_every_row_keeps_its_place_and_says_what_was_found_or_why_not(
    finder: Any, spans_of: Callable[[str], Any]
) -> None:
    tagged = tag_batch(notes(), finder, COLUMNS, refused={5: "seen before"})
    assert tagged.schema.names == ["note_id", "ward", "spans", "problem"]
    assert tagged.column("note_id").to_pylist() == [7, 8, 9, 10, 2**40, 12]
    assert tagged.column("ward").to_pylist() == ["a", None, "b", "b", "c", "c"]
    found = tagged.column("spans").to_pylist()
    assert found == [spans_of("Oedema, no Angina"), None, [], None, spans_of("🫀 Syncope"), None]
    assert found[4][0]["start"] == 2  # code points
    problems = tagged.column("problem").to_pylist()
    assert problems[:3] == [None, "no text", None]
    assert problems[3] == "its 8 characters could not be tagged (RuntimeError)"
    assert problems[4:] == [None, "seen before"]
    assert "again" not in finder.read


@pytest.mark.parametrize(
    ("ids", "texts"),
    [
        (pa.array(list("abcdef")), pa.array(TEXTS, pa.large_string())),
        (pa.array(list("abcdef")).dictionary_encode(), pa.array(TEXTS).dictionary_encode()),
        (pa.array(list("abcdef"), pa.string_view()), pa.array(TEXTS, pa.string_view())),
        (pa.array(range(6), pa.uint8()), pa.array(TEXTS, pa.large_string()).dictionary_encode()),
    ],
    ids=["large", "dictionary", "view", "large dictionary"],
)
def test_text_and_ids_are_read_however_an_engine_stores_them(ids: pa.Array, texts: pa.Array, finder: Any) -> None:
    tagged = tag_batch(notes(note_id=ids, note_text=texts), finder, COLUMNS)
    assert tagged.column("spans").to_pylist() == tag_batch(notes(), finder, COLUMNS).column("spans").to_pylist()
    assert tagged.column("note_id").to_pylist() == ids.to_pylist()


@pytest.mark.parametrize(
    ("replaced", "said"),
    [
        ({"note_text": pa.array([1] * 6)}, "expected text in the column 'note_text', found int64"),
        ({"note_text": pa.array([b"x"] * 6)}, "found binary"),
        ({"note_id": pa.array([1.5] * 6)}, "expected text or whole numbers in the column 'note_id', found double"),
    ],
)
def test_columns_of_other_types_are_refused(replaced: dict[str, Any], said: str, finder: Any) -> None:
    with pytest.raises(DataError, match=said):
        tag_batch(notes(**replaced), finder, COLUMNS)
    with pytest.raises(DataError, match="has no column 'nix'; its columns are other, note_text, ward, note_id"):
        tag_batch(notes(), finder, Columns(text="nix"))


def test_a_note_that_is_no_utf_8_spoils_no_other(finder: Any) -> None:
    buffers = pa.array([b"An\xff", b"Ok"], pa.binary()).buffers()
    broken = pa.Array.from_buffers(pa.string(), 2, buffers)
    batch = pa.RecordBatch.from_arrays([pa.array([1, 2]), broken], names=["note_id", "note_text"])
    tagged = tag_batch(batch, finder, Columns())
    assert tagged.column("problem").to_pylist() == ["its text is no UTF-8", None]
    assert [len(spans or []) for spans in tagged.column("spans").to_pylist()] == [0, 1]


def test_spans_with_a_low_score_are_left_out(finder: Any) -> None:
    tagged = tag_batch(notes(), finder, COLUMNS)
    kept = above(tagged, 1 / 6)
    assert [spans and [span["label"] for span in spans] for spans in kept.column("spans").to_pylist()] == [
        ["O-WORD", "A-WORD"],
        None,
        [],
        None,
        [],
        None if TEXTS[5] is None else [],
    ]
    assert kept.schema.equals(tagged.schema)
    assert above(tagged, 0) is tagged


def test_exploded_a_note_has_a_row_for_each_span_and_one_without_any_keeps_its_row(finder: Any) -> None:
    tagged = tag_batch(notes(), finder, COLUMNS)
    rows = exploded(tagged).to_pylist()
    expected = []
    for row in tagged.to_pylist():
        spans, rest = row.pop("spans"), {"ward": row["ward"], "note_id": row["note_id"], "problem": row["problem"]}
        expected += [rest | span for span in spans or [dict.fromkeys(SPAN_FIELDS)]]
    assert rows == expected
    assert len(rows) == 7
    assert exploded(tagged).schema.field("end").type == pa.int32()


def test_attributes_are_maps_with_true_as_text_and_those_of_no_mention_have_scores(asserting: Any) -> None:
    batch = pa.RecordBatch.from_pydict({"note_id": [1, 2], "note_text": ["no Angina, once Oedema", ""]})
    tagged = tag_batch(batch, asserting, Columns())
    scores = {"Negation": 0.75, "Temporality": 0.5}
    first, second = values_of(tagged.column("spans"))[0]
    assert (first["attributes"], first["attribute_scores"]) == ({"Negation": "true"}, scores)
    assert (second["attributes"], second["attribute_scores"]) == ({"Temporality": "past"}, scores)
    rows = rows_of(exploded(tagged))
    assert [row["attributes"] for row in rows] == [{"Negation": "true"}, {"Temporality": "past"}, None]
    assert [row["attribute_scores"] for row in rows] == [scores, scores, None]
    assert above(tagged, 0.1).equals(tagged)


@pytest.mark.parametrize("explode", [False, True])
def test_attributes_are_objects_in_json_lines_and_in_csv(explode: bool, asserting: Any, tmp_path: Path) -> None:
    batch = pa.RecordBatch.from_pydict({"note_id": [1], "note_text": ["no Angina"]})
    rows = AsTagged(explode)(Tagged(batch, tag_batch(batch, asserting, Columns()), datetime.now(timezone.utc)))
    for form in ("jsonl", "csv", "parquet", "arrow"):
        write_table([rows], tmp_path / f"t.{form}", form)
    (from_json,) = map(json.loads, (tmp_path / "t.jsonl").read_text().splitlines())
    (from_csv,) = csv.DictReader((tmp_path / "t.csv").read_text().splitlines())
    (from_parquet,) = rows_of(pq.read_table(tmp_path / "t.parquet").to_batches()[0])
    name = "attributes" if explode else "spans"
    assert json.loads(from_csv[name]) == from_json[name] == from_parquet[name]
    said = from_json if explode else from_json["spans"][0]
    assert said["attributes"] == {"Negation": "true"}
    assert said["attribute_scores"] == {"Negation": 0.75, "Temporality": 0.5}


def test_maps_are_dicts_wherever_they_are() -> None:
    inner = pa.map_(pa.string(), pa.int64())
    values = [None, [], [{"a": 1, "b": None}], [{"a": None, "b": {"x": 1}}, None]]
    pairs = [None, [], [{"a": 1, "b": None}], [{"a": None, "b": [("x", 1)]}, None]]
    column = pa.array(pairs, pa.list_(pa.struct([("a", pa.int64()), ("b", inner)])))
    assert values_of(column) == values
    assert values_of(pa.array([1, None])) == [1, None]
    assert values_of(pa.array([None, [("a", 1)]], inner)) == [None, {"a": 1}]


def test_columns_that_would_clash_are_refused() -> None:
    with pytest.raises(UsageError, match="named score, spans"):
        Columns(keep=("spans", "score"))
    with pytest.raises(UsageError, match="kept once"):
        Columns(keep=("note_id",))
    with pytest.raises(DataError, match="more than one column 'a'"):
        Columns(keep=("a",)).check_names(["note_id", "note_text", "a", "a"], "x")
