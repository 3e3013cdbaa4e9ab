"""`cardioner split`: a corpus in, a splits file or a folder of folds out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cardioner.data.documents import Document, Span
from cardioner.data.formats import write_corpus
from cardioner.data.splits import read_splits

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def notes(
    write_notes: Callable[..., Path], make_note: Callable[..., Document], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Twenty notes, of which two are copies of others."""
    documents = []
    for number in range(18):
        tail = " ".join(f"n{number}w{word}" for word in range(60))
        made = make_note(f"n{number:02}", ("chest pain", "SYMPTOM"), *([("aspirin", "DRUG")] if number % 2 else []))
        documents.append(Document(made.id, f"{made.text}{tail}\n", made.spans if number < 15 else ()))
    copies = [Document("copy1", documents[1].text, documents[1].spans), Document("copy2", f"{documents[2].text}again")]
    return write_notes(tmp_path_factory.mktemp("split") / "notes", [*documents, *copies])


def cells(done: Any, row: str) -> list[str]:
    """The cells of a row of the table on standard error."""
    rows = [[cell.strip() for cell in line.strip(" │").split("│")] for line in done.err.splitlines()]
    (found,) = [cells for cells in rows if cells[0] == row]
    return found


def test_a_corpus_is_divided_80_10_10_unless_told_otherwise(run: Run, notes: Path, tmp_path: Path) -> None:
    done = run("split", notes, "--output", tmp_path / "splits.json")
    assert (done.code, done.out) == (0, "")
    splits = read_splits(tmp_path / "splits.json")
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [16, 2, 2]
    assert cells(done, "notes") == ["notes", "16 (80.0%)", "2 (10.0%)", "2 (10.0%)", "20"]
    assert cells(done, "notes without entities")[-1] == "4"
    assert cells(done, "entities: SYMPTOM")[-1] == "16"
    assert cells(done, "entities: DRUG")[-1] == "8"
    assert int(cells(done, "characters")[-1]) > 5000
    assert "Near duplicates kept together: 2 groups of 4 notes in all; in 1 group all notes are identical" in done.err
    for original, copy in (("n01", "copy1"), ("n02", "copy2")):
        assert any({original, copy} <= set(part) for part in (splits.train, splits.validation, splits.test))


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(run: Run, notes: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        assert run("split", notes, "--output", tmp_path / name, "--ratios", "0.5,0.5,0", "--seed", seed).code == 0
    first, again, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == again != other
    assert json.loads(first)["test"] == []


def test_every_note_is_held_out_in_one_of_the_folds(run: Run, notes: Path, tmp_path: Path) -> None:
    done = run("split", notes, "--output", tmp_path / "folds", "--folds", 4)
    assert (done.code, done.out) == (0, "")
    assert sorted(path.name for path in (tmp_path / "folds").iterdir()) == [f"fold-{n}.json" for n in range(1, 5)]
    folds = [read_splits(tmp_path / "folds" / f"fold-{number}.json") for number in range(1, 5)]
    held = [name for fold in folds for name in fold.validation]
    assert len(held) == len(set(held)) == 20
    assert all(sorted(fold.train + fold.validation) == sorted(held) for fold in folds)
    assert cells(done, "notes")[1:] == ["5 (25.0%)"] * 4 + ["20"]


def test_the_older_form_holds_the_same_parts(run: Run, notes: Path, tmp_path: Path) -> None:
    assert run("split", notes, "--output", tmp_path / "new.json").code == 0
    assert run("split", notes, "--output", tmp_path / "old.json", "--older", "en").code == 0
    content = json.loads((tmp_path / "old.json").read_text())
    assert set(content["en"]["train"]) == {"DRUG", "SYMPTOM", "none"}
    assert read_splits(tmp_path / "old.json") == read_splits(tmp_path / "new.json")
    assert run("split", notes, "--output", tmp_path / "folds", "--older", "en", "--folds", 2).code == 0
    assert set(json.loads((tmp_path / "folds" / "fold-2.json").read_text())) == {"en"}


def test_train_takes_what_was_written(run: Run, train: Run, notes: Path, tmp_path: Path) -> None:
    assert run("split", notes, "--output", tmp_path / "folds", "--folds", 3, "--map", "DRUG=").code == 0
    given = ("--corpus", notes, "--splits", tmp_path / "folds" / "fold-2.json", "--map", "DRUG=")
    assert train(folders=given, output=tmp_path / "model").code == 0


def test_map_renames_and_drops_types_before_notes_are_counted(run: Run, notes: Path, tmp_path: Path) -> None:
    options = ("--map", "DRUG=MEDICATION", "--map", "SYMPTOM=")
    done = run("split", notes, "--output", tmp_path / "splits.json", *options)
    assert cells(done, "entities: MEDICATION")[-1] == "8"
    assert "SYMPTOM" not in done.err
    assert cells(done, "notes without entities")[-1] == "12"


def test_splits_are_only_replaced_when_asked(run: Run, notes: Path, tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    path.write_text("mine")
    refused = run("split", notes, "--output", path)
    assert refused.code == 5
    assert "exists" in refused.error
    assert path.read_text() == "mine"
    assert run("split", notes, "--output", path, "--overwrite").code == 0
    assert read_splits(path).train


def test_folds_of_another_time_go_away_and_other_files_stay(run: Run, notes: Path, tmp_path: Path) -> None:
    place = tmp_path / "folds"
    assert run("split", notes, "--output", place, "--folds", 5).code == 0
    (place / "README").write_text("mine")
    assert run("split", notes, "--output", place, "--folds", 3).code == 5
    assert len(list(place.iterdir())) == 6
    assert run("split", notes, "--output", place, "--folds", 3, "--overwrite").code == 0
    assert sorted(path.name for path in place.iterdir()) == ["README", "fold-1.json", "fold-2.json", "fold-3.json"]


@pytest.mark.parametrize(
    ("options", "code", "problem"),
    [
        (("--folds", "2", "--ratios", "80,10,10"), 2, "--folds or --ratios"),
        (("--folds", "1"), 2, "--folds"),
        (("--ratios", "80,20"), 2, "--ratios takes the shares of train, validation and test"),
        (("--ratios", "80,10,x"), 2, "found '80,10,x'"),
        (("--ratios", "80,-10,10"), 2, "ratios are numbers of 0 or more"),
        (("--ratios", "0,0,0"), 2, "ratios are numbers of 0 or more"),
        (("--ratios", "nan,1,1"), 2, "ratios are numbers of 0 or more"),
        (("--older", " "), 2, "--older takes the name of a language"),
        (("--map", "GENE=PROTEIN"), 3, "--map names GENE; the data has the types DRUG, SYMPTOM"),
        (("--folds", "19"), 3, "found 18 in 20 documents"),
    ],
)
def test_nothing_is_written_if_anything_is_wrong(
    run: Run, notes: Path, tmp_path: Path, options: tuple[str, ...], code: int, problem: str
) -> None:
    done = run("split", notes, "--output", tmp_path / "place" / "splits", *options)
    assert done.code == code
    assert problem in done.error
    assert list(tmp_path.iterdir()) == []


def test_a_malformed_corpus_leaves_the_splits_that_are_there(
    run: Run, write_notes: Callable[..., Path], make_note: Callable[..., Document], tmp_path: Path
) -> None:
    notes = write_notes(tmp_path / "notes", [make_note(name, ("syncope", "SYMPTOM")) for name in "abc"])
    (notes / "b.ann").write_text("T1\tSYMPTOM 0 999999\tzyxwvcanary\n")
    (tmp_path / "splits.json").write_text("mine")
    done = run("split", notes, "--output", tmp_path / "splits.json", "--overwrite")
    assert done.code == 3
    assert "b.ann:1" in done.error
    assert (tmp_path / "splits.json").read_text() == "mine"


def test_a_place_that_cannot_hold_the_output_is_refused(run: Run, notes: Path, tmp_path: Path) -> None:
    assert "is a folder" in run("split", notes, "--output", tmp_path, "--overwrite").error
    assert "is the corpus" in run("split", notes, "--output", notes, "--folds", 2, "--overwrite").error
    (tmp_path / "file").write_text("mine")
    assert "is a file" in run("split", notes, "--output", tmp_path / "file", "--folds", 2, "--overwrite").error
    below = run("split", notes, "--output", tmp_path / "file" / "splits.json")
    assert below.code == 5
    assert below.error
    assert (tmp_path / "file").read_text() == "mine"


def test_a_corpus_file_of_another_format_is_divided(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    documents = [Document(f"j{number}", f"chest pain n{number}", (Span(0, 10, "SYMPTOM"),)) for number in range(6)]
    write_corpus(documents, path, "jsonl")
    done = run("split", path, "--output", tmp_path / "splits.json", "--ratios", "1,1,1", "--from", "jsonl")
    assert done.code == 0
    assert len(read_splits(tmp_path / "splits.json").test) == 2
    assert "is the corpus" in run("split", path, "--output", path, "--overwrite").error
    assert path.read_text().count("chest") == 6
