"""Table files: the same notes whatever the format, batch by batch, and one line on what is wrong with one."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cardioner.errors import DataError, FormatError, UsageError
from cardioner.tables import files, source
from cardioner.tables.columns import Columns
from cardioner.tables.files import TableFiles, regrouped
from cardioner.tables.source import ID_AGAIN, NO_ID
from cardioner.tables.writers import write_table

CANARY = "zyxwvcanary"
ROWS = [
    {"note_id": f"n{number}", "note_text": f'{CANARY} {number}\r\n"a", 🫀 é', "ward": f"w{number % 3}", "extra": "x"}
    for number in range(23)
]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "ROWS", 5)
    monkeypatch.setattr(files, "ROWS", 5)


def write(place: Path, rows: list[dict[str, Any]]) -> Path:
    """A table in the format that its name says."""
    table = pa.Table.from_pylist(rows)
    if place.suffix == ".parquet":
        pq.write_table(table, place, row_group_size=7)
    elif place.suffix == ".csv":
        with place.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif place.suffix == ".jsonl":
        place.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    else:
        form = pa.ipc.new_file if place.suffix == ".arrow" else pa.ipc.new_stream
        with form(place, table.schema) as writer:
            writer.write_table(table, max_chunksize=9)
    return place


def rows_of(notes: TableFiles, after: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    return [row for batch in notes.batches(after) for row in batch.rows.to_pylist()]


NAMES = ["n.parquet", "n.csv", "n.jsonl", "n.arrow", "n.ipc"]
COLUMNS = Columns(keep=("ward",))


@pytest.mark.parametrize("name", NAMES)
def test_every_format_gives_the_same_notes_in_batches(name: str, tmp_path: Path) -> None:
    notes = TableFiles([write(tmp_path / name, ROWS)], COLUMNS)
    assert rows_of(notes) == [{name: row[name] for name in ("note_id", "note_text", "ward")} for row in ROWS]
    assert [batch.rows.num_rows for batch in notes.batches()] == [5, 5, 5, 5, 3]
    assert notes.total() == (23 if name == "n.parquet" else None)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_goes_on_behind_any_batch_and_notices_other_ids(name: str, tmp_path: Path) -> None:
    place = write(tmp_path / name, ROWS)
    notes = TableFiles([place], COLUMNS)
    every = rows_of(notes)
    for number, batch in enumerate(notes.batches(), start=1):
        assert rows_of(notes, dict(batch.position)) == every[5 * number :]
        last = dict(batch.position)
    write(place, [ROWS[1], ROWS[0], *ROWS[2:]])
    with pytest.raises(DataError, match="changed"):
        rows_of(notes, last)
    write(place, ROWS[:4])
    with pytest.raises(DataError, match="changed"):
        rows_of(notes, last)


def test_a_folder_of_parts_is_one_table_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "2024").mkdir()
    write(tmp_path / "b.parquet", ROWS[5:9])
    write(tmp_path / "a.parquet", ROWS[2:5])
    write(tmp_path / "2024" / "z.parquet", ROWS[:2])
    write(tmp_path / "_old.parquet", ROWS)
    (tmp_path / "_SUCCESS").touch()
    notes = TableFiles([tmp_path], Columns())
    assert [row["note_id"] for row in rows_of(notes)] == [f"n{number}" for number in range(9)]
    assert notes.total() == 9


def test_parts_with_other_types_are_refused_or_converted(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [{"note_id": 1, "note_text": "x", "age": None}])
    write(tmp_path / "b.parquet", [{"note_id": 2, "note_text": "y", "age": 3}])
    notes = TableFiles([tmp_path], Columns(keep=("age",)))
    assert [row["age"] for row in rows_of(notes)] == [None, "3"], "a column without a value is one of text"
    write(tmp_path / "b.parquet", [{"note_id": "two", "note_text": "y", "age": "3"}])
    with pytest.raises(DataError, match=r"b\.parquet: the column 'note_id' has string here and int64 before"):
        rows_of(notes)


def test_rows_without_an_id_or_with_one_that_came_before_are_known(tmp_path: Path) -> None:
    ids = ["a", "", None, "b", "a", "c", "b", "ä"]
    rows = [{"note_id": name, "note_text": "x"} for name in ids]
    notes = TableFiles([write(tmp_path / "n.parquet", rows)], Columns())
    refused = [dict(batch.refused) for batch in notes.batches()]
    assert refused == [{1: NO_ID, 2: NO_ID, 4: ID_AGAIN}, {1: ID_AGAIN}]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_cut_off_or_another_kind_is_one_line_without_text(name: str, tmp_path: Path) -> None:
    place = write(tmp_path / name, ROWS)
    whole = place.read_bytes()
    for cut in (whole[: len(whole) // 2], b"\xff\x00" * 40, CANARY.encode(), b""):
        place.write_bytes(cut)
        problem, rows = outcome(TableFiles([place], COLUMNS))
        if problem is None:  # a cut between two rows
            assert rows == [] or name in {"n.ipc", "n.csv"}
            continue
        assert CANARY not in str(problem)
        assert problem.__cause__ is None, "whose message would quote the file"
        assert str(place) in str(problem)


def outcome(notes: TableFiles) -> tuple[DataError | None, list[dict[str, Any]]]:
    """What a table gives, or why it cannot be read."""
    try:
        return None, rows_of(notes)
    except DataError as error:
        return error, []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("n.csv", "note_id,note_text\n1,a,zyxwvcanary\n", r"n\.csv:2: expected 2 fields, as in the header, found 3"),
        ("n.csv", 'note_id,note_text\n1,"zyxwvcanary\n', r"n\.csv:2: a quotation mark is not closed"),
        ("n.csv", "note_id,text\n", "has no column 'note_text'; its columns are note_id, text"),
        ("n.csv", "1;zyxwvcanary\n", "none of the 1 field of the first line is 'note_id' or 'note_text'"),
        ("n.jsonl", '{"note_id": 1, "note_text": "x"}\nzyxwvcanary\n', r"n\.jsonl:2: expected a JSON object"),
        ("n.jsonl", "[1]\n", r"n\.jsonl:1: expected a JSON object, found list"),
        ("n.jsonl", '{"id": 1}\n', r"n\.jsonl:1 has no column 'note_id'"),
        (
            "n.jsonl",
            '{"note_id": 1, "note_text": "x"}\n{"note_id": 2, "note_text": ["zyxwvcanary"]}\n',
            r"2 lines up to line 2: expected one type of value in the column 'note_text', found several",
        ),
        ("n.jsonl", '{"note_id": 1, "note_text": "\\ud800"}\n', "half of a surrogate pair"),
        ("n.csv", b"note_id,note_text\n1,\xe9\n", "--encoding"),
    ],
)
def test_what_is_malformed_is_named_by_its_line(name: str, content: str | bytes, said: str, tmp_path: Path) -> None:
    place = tmp_path / name
    place.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=said) as caught:
        rows_of(TableFiles([place], Columns()))
    assert CANARY not in str(caught.value)
    assert isinstance(caught.value, FormatError) == (":" in said.partition(" ")[0] and "column" not in said)


def test_another_encoding_of_csv_is_read(tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_bytes("note_id,note_text\n1,é\n".encode("latin-1"))
    assert rows_of(TableFiles([tmp_path / "n.csv"], Columns(), "latin-1"))[0]["note_text"] == "é"


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "n.xlsx").touch()
    for place, kind in ((tmp_path / "n.xlsx", UsageError), (tmp_path, DataError), (tmp_path / "no.csv", DataError)):
        with pytest.raises(kind):
            TableFiles([place], Columns())


def test_batches_are_regrouped_whatever_their_sizes() -> None:
    sizes = [1, 0, 9, 3, 20, 1]

    def batches() -> Iterator[pa.RecordBatch]:
        at = 0
        for size in sizes:
            yield pa.RecordBatch.from_pydict({"a": pa.array(range(at, at + size), pa.int64())})
            at += size

    made = list(regrouped(batches(), 5))
    assert [batch.num_rows for batch in made] == [5] * 6 + [4]
    assert [value for batch in made for value in batch.column("a").to_pylist()] == list(range(34))


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.jsonl", "t.arrow"])
def test_what_is_written_is_read_back(name: str, tmp_path: Path) -> None:
    batches = pa.Table.from_pylist(ROWS).to_batches(max_chunksize=4)
    write_table(batches, tmp_path / name, {"t.parquet": "parquet"}.get(name, name[2:]))
    back = TableFiles([tmp_path / name], Columns(keep=("ward", "extra")))
    assert rows_of(back) == ROWS
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_many_rows_become_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cardioner.tables.writers.PART_ROWS", 8)
    write_table(pa.Table.from_pylist(ROWS).to_batches(max_chunksize=4), tmp_path / "out", "parquet")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"part-{n:05}.parquet" for n in range(3)]
    assert [row["note_id"] for row in rows_of(TableFiles([tmp_path / "out"], Columns()))] == [
        row["note_id"] for row in ROWS
    ]
