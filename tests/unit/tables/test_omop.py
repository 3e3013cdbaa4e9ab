"""Spans as rows of OMOP's note_nlp: nothing invented, ids that stay, and what the table cannot hold counted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cardioner.errors import DataError
from cardioner.tables.columns import SPAN, Columns
from cardioner.tables.omop import NARROW, SCHEMA, WIDE, NoteNlp, note_nlp_id, read_concepts, with_free_ids
from cardioner.tables.source import Tagged
from cardioner.tables.tagging import tag_batch

WHEN = datetime(2024, 5, 6, 7, 8, 9, tzinfo=timezone.utc)
LONG = "B" * 300


def tagged(finder: Any, *, ids: Sequence[Any] = (5, 6, 7)) -> Tagged:
    """Three notes, one of them null."""
    rows = [f"No Angina, {LONG}", None, "no  Angina  pectoris"]
    notes = pa.RecordBatch.from_pydict({"note_id": pa.array(ids), "note_text": pa.array(rows)})
    return Tagged(notes, tag_batch(notes, finder, Columns()), WHEN)


def test_a_row_says_where_a_mention_stands_and_who_found_it(finder: Any) -> None:
    concepts = {("A-WORD", ""): 4, ("N-WORD", "no"): 9}
    shape = NoteNlp(Columns(), "cardioner 1, model ab", concepts)
    batch = shape(tagged(finder))
    assert batch.schema.equals(SCHEMA)
    rows = batch.to_pylist()
    assert [(row["note_id"], row["offset"], row["lexical_variant"], row["note_nlp_concept_id"]) for row in rows] == [
        (5, "0", "No", 9),
        (5, "3", "Angina", 4),
        (5, "11", LONG[:250], 0),
        (7, "4", "Angina", 4),
    ]
    for row in rows:
        assert row["nlp_system"] == "cardioner 1, model ab"
        assert row["nlp_date"] == WHEN.date()
        assert row["nlp_datetime"] == WHEN.replace(tzinfo=None)
        assert row["note_nlp_source_concept_id"] == 0
        empty = ("section_concept_id", "snippet", "term_exists", "term_temporal", "term_modifiers")
        assert [row[name] for name in empty] == [None] * 5
    assert +shape.left_out == {
        "notes that were not tagged": 1,
        "the type B-WORD of spans without a concept": 1,
        "characters of spans that are longer than 250": 50,
    }


def test_attributes_say_whether_a_finding_is_there_and_when(asserting: Any) -> None:
    notes = pa.RecordBatch.from_pydict({"note_id": [1], "note_text": ["no Angina, once Syncope, Oedema"]})
    rows = NoteNlp(Columns(), "x")(Tagged(notes, tag_batch(notes, asserting, Columns()), WHEN)).to_pylist()
    assert [(row["term_exists"], row["term_temporal"], row["term_modifiers"]) for row in rows] == [
        ("N", "present", "Negation=true"),
        ("Y", "past", "Temporality=past"),
        ("Y", "present", None),
    ]


def test_modifiers_fit_into_their_column() -> None:
    notes = pa.RecordBatch.from_pydict({"note_id": pa.array([1]), "note_text": pa.array(["abc"])})
    said = [("A", "x" * 3000), ("B", "\0")]
    spans = pa.array([[{"start": 0, "end": 3, "label": "X", "score": 0.5, "attributes": said}]], pa.list_(SPAN))
    found = pa.RecordBatch.from_arrays([pa.array([1]), spans], names=["note_id", "spans"])
    shape = NoteNlp(Columns(), "x", {("X", ""): 1})
    (row,) = shape(Tagged(notes, found, WHEN)).to_pylist()
    assert row["term_modifiers"] == f"A={'x' * 1998}"
    assert +shape.left_out == {"characters of modifiers beyond 2000": 1007}


def test_a_snippet_is_copied_only_on_request_and_fits(finder: Any) -> None:
    rows = NoteNlp(Columns(), "x", snippet=True)(tagged(finder)).to_pylist()
    assert rows[3]["snippet"] == "no  Angina  pectoris"
    assert rows[0]["snippet"] == f"No Angina, {LONG}"[:62]
    assert all(len(row["snippet"]) <= 250 for row in rows)


def test_a_character_that_postgresql_cannot_hold_is_replaced_and_counted() -> None:
    notes = pa.RecordBatch.from_pydict({"note_id": pa.array([1]), "note_text": pa.array(["a\0b c"])})
    spans = pa.array([[{"start": 0, "end": 3, "label": "X", "score": 0.5}]], pa.list_(SPAN))
    found = pa.RecordBatch.from_arrays([pa.array([1]), spans], names=["note_id", "spans"])
    shape = NoteNlp(Columns(), "x", {("X", ""): 1}, snippet=True)
    (row,) = shape(Tagged(notes, found, WHEN)).to_pylist()
    assert (row["lexical_variant"], row["snippet"]) == ("a\ufffdb", "a\ufffdb c")
    assert +shape.left_out == {"NUL characters": 1}


def test_ids_are_the_same_in_every_run_and_of_other_models_others(finder: Any) -> None:
    once, again, other = (
        NoteNlp(Columns(), system)(tagged(finder)).column("note_nlp_id").to_pylist() for system in "aab"
    )
    assert once == again
    assert len({*once, *other}) == 8
    assert all(0 <= one < 2**63 for one in once)
    assert note_nlp_id("5 3 9 A-WORD a", WIDE) == once[1]
    assert note_nlp_id("5 3 9 A-WORD a", NARROW) == once[1] >> 32 < 2**31


def test_ids_of_four_bytes_are_moved_until_they_are_free() -> None:
    rows = [{"note_nlp_id": one} for one in (1 << 40, (1 << 40) + 1, 5 << 40)]
    there = {5 << 8}
    free = with_free_ids(rows, NARROW, lambda wanted: there & {*wanted})
    ids = [row["note_nlp_id"] for row in free]
    assert len({*ids} - there) == 3
    assert 1 << 8 in ids
    assert free == with_free_ids(rows, NARROW, lambda wanted: there & {*wanted})
    assert all(0 <= one < 2**31 for one in ids)
    assert with_free_ids(rows, WIDE, lambda _: set()) == rows


def test_ids_of_notes_must_be_whole_numbers(finder: Any) -> None:
    assert NoteNlp(Columns(), "x")(tagged(finder, ids=("5", "6", "7"))).column("note_id").to_pylist() == [5, 5, 5, 7]
    with pytest.raises(DataError, match="whole numbers"):
        NoteNlp(Columns(), "x")(tagged(finder, ids=("a", "b", "c")))
    with pytest.raises(DataError, match="fit into eight bytes, found one of 64 bits"):
        NoteNlp(Columns(), "x")(tagged(finder, ids=("5", "6", str(2**63))))


def test_ids_of_eight_bytes_come_whole_through_a_file(finder: Any, tmp_path: Path) -> None:
    ids = (2**40 + 5, 2**40 + 6, 2**63 - 1)
    pq.write_table(pa.Table.from_batches([NoteNlp(Columns(), "x")(tagged(finder, ids=ids))]), tmp_path / "n.parquet")
    duckdb.sql("CREATE TABLE note_nlp (note_nlp_id BIGINT, note_id BIGINT)")
    duckdb.sql(f"INSERT INTO note_nlp SELECT note_nlp_id, note_id FROM '{tmp_path / 'n.parquet'}'")
    rows = duckdb.sql("SELECT * FROM note_nlp ORDER BY note_id").fetchall()
    assert [note for _, note in rows] == [ids[0]] * 3 + [ids[2]]
    assert all(2**31 < number < 2**63 for number, _ in rows), "as hashes of 63 bits nearly always are"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("type,concept_id\nA,1\n", "label and concept_id"),
        ("label,concept_id\nA,x\n", "concepts.csv:2: expected a label, and a whole number"),
        ("label,concept_id\nA\n", "concepts.csv:2"),
        ("label,concept_id\nA,2147483648\n", "concepts.csv:2"),
        ("label,concept_id\n,1\n", "concepts.csv:2"),
        ("label,lexical_variant,concept_id\nA,Big  Toe,1\nA,big toe,2\n", "concepts.csv:3: another concept"),
    ],
)
def test_a_table_of_concepts_that_is_malformed_is_refused(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "concepts.csv").write_text(content)
    with pytest.raises(DataError, match=said):
        read_concepts(tmp_path / "concepts.csv")


def test_concepts_are_found_by_label_and_mention(tmp_path: Path) -> None:
    place = tmp_path / "concepts.csv"
    place.write_text("\ufeffconcept_id,label,lexical_variant\n1,A,Big  Toe\n2,A,\n")
    assert read_concepts(place) == {("A", "big toe"): 1, ("A", ""): 2}
    with pytest.raises(DataError, match="cannot be read"):
        read_concepts(tmp_path)
