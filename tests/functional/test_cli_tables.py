"""`cardioner predict` with notes in tables: the spans of `predict` on files, counted and resumable."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cardioner.data.documents import Document
from cardioner.data.formats import read_corpus
from cardioner.prediction.batch_job import BatchJob
from cardioner.prediction.predictor import Predictor
from cardioner.tables import files, source

WORDS = ("syncope", "heart failure", "metoprolol", "bisoprolol zyxwvcanary", "chest pain", "dyspnoea")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "ROWS", 64)
    monkeypatch.setattr(files, "ROWS", 64)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """Notes of three batches."""
    return [
        {"note_id": number, "note_text": f"No {WORDS[number % 6]}, {WORDS[number % 5]} 🫀.", "ward": f"w{number % 4}"}
        for number in range(150)
    ]


@pytest.fixture
def table(rows: list[dict[str, Any]], tmp_path: Path) -> Path:
    """A Parquet file of them."""
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "notes.parquet")
    return tmp_path / "notes.parquet"


@pytest.fixture
def model(tagger: Path) -> Path:
    return tagger


def test_the_spans_are_those_of_predict_on_files(
    model: Path, table: Path, rows: list[dict[str, Any]], run: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "notes.jsonl").write_text(
        "".join(json.dumps({"id": str(row["note_id"]), "text": row["note_text"]}) + "\n" for row in rows)
    )
    common = ("--device", "cpu", "--output")
    assert run("predict", model, tmp_path / "notes.jsonl", *common, tmp_path / "gold.jsonl").code == 0
    done = run("predict", model, table, "--keep", "ward", *common, tmp_path / "tagged.parquet")
    assert done.code == 0
    assert "150 rows: 150 notes" in done.err
    tagged = pq.read_table(tmp_path / "tagged.parquet").to_pylist()
    gold = {document.id: document.spans for document in read_corpus(tmp_path / "gold.jsonl")}
    assert sum(map(len, gold.values())) > 150
    for row, note in zip(tagged, rows, strict=True):
        assert (row["note_id"], row["ward"], row["problem"]) == (note["note_id"], note["ward"], None)
        found = [(span["start"], span["end"], span["label"]) for span in row["spans"]]
        expected = gold[str(row["note_id"])]
        assert found == [(span.start, span.end, span.label) for span in expected]
        assert [span["score"] for span in row["spans"]] == pytest.approx([span.score for span in expected])
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_exploded_below_a_score_and_in_another_format(
    model: Path, table: Path, run: Callable[..., Any], tmp_path: Path
) -> None:
    common = ("--device", "cpu", "--output")
    assert run("predict", model, table, *common, tmp_path / "all.jsonl").code == 0
    done = run("predict", model, table, "--explode", "--min-score", "0.3", *common, tmp_path / "spans.csv")
    assert done.code == 0
    assert "below 0.3, left out" in done.err
    notes = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    kept = [
        (str(note["note_id"]), str(span["start"]), span["label"])
        for note in notes
        for span in note["spans"]
        if span["score"] >= 0.3
    ]
    lines = [line.split(",") for line in (tmp_path / "spans.csv").read_text().splitlines()]
    assert lines[0] == ["note_id", "start", "end", "label", "score", "attributes", "attribute_scores", "problem"]
    assert [(line[0], line[1], line[3]) for line in lines[1:] if line[1]] == kept
    assert {line[0] for line in lines[1:]} == {str(note["note_id"]) for note in notes}, "no note is lost"


def test_rows_that_cannot_be_tagged_are_counted_and_kept_with_the_reason(
    model: Path, run: Callable[..., Any], tmp_path: Path
) -> None:
    texts = [("a", "syncope"), ("b", None), ("", "syncope"), ("a", "heart"), (None, "x"), ("c", "")]
    table = pa.Table.from_pylist([{"note_id": name, "note_text": text} for name, text in texts])
    pq.write_table(table, tmp_path / "n.parquet")
    done = run("predict", model, tmp_path / "n.parquet", "--device", "cpu", "--output", tmp_path / "out")
    assert done.code == 3
    assert "3 rows could not be tagged" in done.error
    for kind, first, count in (
        ("no text", "row 2, id 'b'", 1),
        ("no id", "row 3, id ''", 2),
        ("an earlier row has the same id", "row 4, id 'a'", 1),
        ("empty text", "row 6, id 'c'", 1),
    ):
        line = next(line for line in done.err.splitlines() if f" {kind} " in line)
        assert first in line
        assert f" {count} " in line
    written = pq.read_table(tmp_path / "out" / "part-00000.parquet").to_pylist()
    assert [row["problem"] for row in written] == [
        None,
        "no text",
        "no id",
        "an earlier row has the same id",
        "no id",
        None,
    ]
    assert [row["spans"] is None for row in written] == [False, True, True, True, True, False]


def test_a_note_that_fails_spoils_no_other_and_its_message_is_not_shown(
    model: Path, table: Path, run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = Predictor._tag

    def fail(self: Predictor, documents: list[Document], **others: Any) -> list[Document]:
        if any("dyspnoea" in document.text for document in documents):
            raise RuntimeError(documents[0].text)
        return tag(self, documents, **others)

    monkeypatch.setattr(Predictor, "_tag", fail)
    done = run("predict", model, table, "--device", "cpu", "--output", tmp_path / "o.jsonl")
    assert done.code == 3
    assert "25 rows could not be tagged" in done.error
    assert "could not be tagged (RuntimeError)" in done.err
    assert "dyspnoea" not in done.err
    written = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [row["note_id"] for row in written if row["spans"] is None] == list(range(5, 150, 6))


def test_a_run_does_not_go_on_with_another_table(
    model: Path, table: Path, run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(table, tmp_path / "other.parquet")
    arguments = ("--device", "cpu", "--output", tmp_path / "o.csv")
    with monkeypatch.context() as patch:
        patch.setattr(BatchJob, "clear", lambda _: None)
        assert run("predict", model, table, *arguments).code == 0
    other = run("predict", model, tmp_path / "other.parquet", *arguments, "--resume")
    assert other.code == 5
    assert "(notes)" in other.error
    monkeypatch.chdir(tmp_path)
    assert run("predict", model, "notes.parquet", *arguments, "--resume").code == 0, "the same by another name"


def test_nulls_alone_are_no_mistake(model: Path, run: Callable[..., Any], tmp_path: Path) -> None:
    pq.write_table(pa.table({"note_id": [1, 2], "note_text": ["x", None]}), tmp_path / "n.parquet")
    assert run("predict", model, tmp_path / "n.parquet", "--device", "cpu", "--output", tmp_path / "o.csv").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--text-column", "nix"), 3, "its columns are note_id, note_text, ward"),
        (("--text-column", "ward", "--keep", "ward", "--id-column", "ward"), 2, "kept once"),
        (("--id-column", "ward", "--text-column", "note_id"), 3, "expected text in the column 'note_id', found int64"),
        (("--to", "brat"), 2, "--to is for notes in text files"),
        (("--from", "jsonl"), 2, "--from is for"),
    ],
)
def test_what_does_not_fit_is_said_before_a_model_is_loaded(
    arguments: tuple[str, ...], code: int, said: str, table: Path, run: Callable[..., Any], tmp_path: Path
) -> None:
    done = run("predict", tmp_path / "no-model", table, "--output", tmp_path / "o.parquet", *arguments)
    assert done.code == code
    assert said in done.error
    assert [path.name for path in tmp_path.iterdir()] == ["notes.parquet"]


def test_the_output_may_not_be_the_input_nor_of_another_kind(
    table: Path, run: Callable[..., Any], tmp_path: Path
) -> None:
    done = run("predict", tmp_path / "no-model", table, "--output", table, "--overwrite")
    assert done.code == 5
    assert "choose an output outside" in done.error
    assert "no table" in run("predict", "m", table, "--output", "x.tsv").error or True
    done = run("predict", tmp_path / "no-model", table, "--output", tmp_path / "o.xlsx")
    assert done.code == 2
    assert ".parquet" in done.error


# Resuming ------------------------------------------------------------------------------------------------------------


def stopped(arguments: tuple[Any, ...], place: Path, run: Callable[..., Any], keep: int) -> bytes:
    """Brings a place to where a run that was killed after some batches leaves it; gives the whole output."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchJob, "clear", lambda _: None)
        assert run(*arguments, place).code == 0
    whole = place.read_bytes()
    place.unlink()
    log = sqlite3.connect(BatchJob(place, "parquet").log)
    with log:
        log.execute("DELETE FROM notes WHERE number > ?", (keep,))
    log.close()
    return whole


@pytest.mark.parametrize("name", ["out.parquet", "out.csv", "out.jsonl", "out.arrow"])
def test_a_run_that_was_killed_goes_on_to_the_same_bytes(
    name: str, model: Path, table: Path, run: Callable[..., Any], tmp_path: Path
) -> None:
    arguments = ("predict", model, table, "--device", "cpu", "--output")
    whole = stopped(arguments, tmp_path / name, run, keep=1)
    refused = run(*arguments, tmp_path / name)
    assert refused.code == 5
    assert "--resume" in refused.error
    done = run(*arguments, tmp_path / name, "--resume")
    assert done.code == 0
    assert "Finished before: 64 notes" in done.err
    assert (tmp_path / name).read_bytes() == whole
    assert not (tmp_path / f"{name}.partial").exists()


def test_a_folder_of_parts_is_resumed_and_replaced_as_a_whole(
    model: Path, table: Path, run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cardioner.tables.writers.PART_ROWS", 64)
    arguments, place = ("predict", model, table, "--device", "cpu", "--output", tmp_path / "out"), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(BatchJob, "clear", lambda _: None)
        assert run(*arguments).code == 0
    whole = {path.name: path.read_bytes() for path in place.iterdir()}
    assert sorted(whole) == [f"part-{number:05}.parquet" for number in range(3)]
    (place / "part-00002.parquet").unlink()  # as a kill while parts move to their place leaves it
    assert "--resume" in run(*arguments).error
    assert run(*arguments, "--resume").code == 0
    assert {path.name: path.read_bytes() for path in place.iterdir()} == whole
    assert run(*arguments).code == 5
    pq.write_table(pq.read_table(table).slice(0, 70), table)
    (place / "README").touch()
    assert run(*arguments, "--overwrite").code == 0
    assert sorted(path.name for path in place.iterdir()) == ["README", "part-00000.parquet", "part-00001.parquet"]


def test_a_damaged_batch_is_tagged_again_and_other_notes_are_noticed(
    model: Path, table: Path, run: Callable[..., Any], tmp_path: Path
) -> None:
    arguments, place = ("predict", model, table, "--device", "cpu", "--output"), tmp_path / "out.parquet"
    whole = stopped(arguments, place, run, keep=2)
    shutil.copytree(tmp_path / "out.parquet.partial", tmp_path / "kept")
    log = sqlite3.connect(BatchJob(place, "parquet").log)
    with log:
        (content,) = log.execute("SELECT content FROM notes WHERE number = 2").fetchone()
        log.execute("UPDATE notes SET content = ? WHERE number = 2", (content.replace(b"DISEASE", b"DISUASE"),))
    log.close()
    done = run(*arguments, place, "--resume")
    assert done.code == 0
    assert "batch 2 is damaged: it and those after it are tagged again" in done.err
    assert place.read_bytes() == whole

    place.unlink()
    shutil.copytree(tmp_path / "kept", tmp_path / "out.parquet.partial")
    changed = pq.read_table(table).to_pylist()
    changed[3]["note_text"] = "another"
    pq.write_table(pa.Table.from_pylist(changed), table)
    refused = run(*arguments, place, "--resume")
    assert refused.code == 3
    assert "changed" in refused.error
    assert "other settings (columns)" in run(*arguments, place, "--resume", "--keep", "ward").error


def test_only_its_owner_may_read_what_an_unfinished_run_leaves(
    model: Path, table: Path, run: Callable[..., Any], tmp_path: Path
) -> None:
    stopped(("predict", model, table, "--device", "cpu", "--output"), tmp_path / "out.csv", run, keep=2)
    log = BatchJob(tmp_path / "out.csv", "csv").log
    assert log.stat().st_mode & 0o077 == 0
    assert b"syncope" not in log.read_bytes()


# OMOP and FHIR -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["fhir", "fhir-r5"])
def test_bundles_are_written_line_by_line(
    to: str, model: Path, table: Path, run: Callable[..., Any], tmp_path: Path
) -> None:
    arguments = ("predict", model, table, "--to", to, "--device", "cpu", "--output")
    done = run(*arguments, tmp_path / "out.ndjson")
    assert done.code == 0, done.err
    bundles = [json.loads(line) for line in (tmp_path / "out.ndjson").read_text().splitlines()]
    assert len(bundles) == 150
    assert {bundle["resourceType"] for bundle in bundles} == {"Bundle"}
    refused = run(*arguments, tmp_path / "out.parquet")
    assert refused.code == 2
    assert ".ndjson" in refused.error


def test_note_nlp_is_written_to_a_file_with_the_time_of_each_batch(
    model: Path, table: Path, rows: list[dict[str, Any]], run: Callable[..., Any], tmp_path: Path
) -> None:
    arguments, place = ("predict", model, table, "--to", "omop", "--device", "cpu", "--output"), tmp_path / "n.parquet"
    whole = stopped(arguments, place, run, keep=2)
    assert run(*arguments, place, "--resume").code == 0
    written = pq.read_table(place).to_pylist()
    place.write_bytes(whole)
    without = [{name: value for name, value in row.items() if "date" not in name} for row in written]
    assert without == [
        {name: value for name, value in row.items() if "date" not in name} for row in pq.read_table(place).to_pylist()
    ]
    texts = {row["note_id"]: row["note_text"] for row in rows}
    assert len({row["note_nlp_id"] for row in written}) == len(written) > 150
    assert all(texts[row["note_id"]][int(row["offset"]) :].startswith(row["lexical_variant"]) for row in written)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--to", "omop", "--explode"), "has columns of its own"),
        (("--concepts", "c.csv"), "are for --to omop"),
        (("--assertions", "a.csv"), "is for --to omop and --to fhir"),
        (("--snippet",), "are for --to omop"),
        (("--database", "sqlite:///x.db"), "--database is for"),
        (("--sql", "SELECT 1"), "either from INPUT or from --sql"),
        (("--to-table", "t"), "either --output or --to-table"),
    ],
)
def test_combinations_that_cannot_work_are_refused(
    arguments: tuple[str, ...], said: str, table: Path, run: Callable[..., Any], tmp_path: Path
) -> None:
    done = run("predict", tmp_path / "no-model", table, "--output", tmp_path / "o.parquet", *arguments)
    assert done.code == 2
    assert said in done.error


@pytest.mark.parametrize(
    ("package", "module", "arguments"),
    [
        ("pyarrow", "cardioner.cli.predict_tables", ("n.parquet", "--output", "o.csv")),
        ("sqlalchemy", "cardioner.tables.database", ("--sql", "SELECT 1", "--output", "o.csv")),
    ],
)
def test_a_package_that_is_missing_is_named(
    package: str, module: str, arguments: tuple[str, ...], run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    done = run("predict", "model", *arguments)
    assert done.code == 2
    assert done.error.endswith(f"needs {package}: pip install {package}")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--engine", "ray"), "a cluster is chosen by --cluster"),
        (("--workers", "2"), "--gpus-per-worker are for --cluster ray"),
        (("--cluster", "ray", "--cpus-per-worker", "0"), "--cpus-per-worker must be more than 0"),
    ],
)
def test_options_of_a_cluster_that_cannot_work_are_refused(
    arguments: tuple[str, ...], said: str, table: Path, run: Callable[..., Any], tmp_path: Path
) -> None:
    done = run("predict", tmp_path / "no-model", table, "--output", tmp_path / "o.parquet", *arguments)
    assert done.code == 2
    assert said in done.error


def test_without_ray_a_cluster_says_how_to_install_it(
    model: Path, table: Path, run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    done = run("predict", model, table, "--output", tmp_path / "o.parquet", "--cluster", "ray")
    assert done.code == 2
    assert done.error.endswith("--cluster ray needs ray[data]: pip install ray[data]")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.parquet"]
