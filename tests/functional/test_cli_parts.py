"""`--splits FILE --part NAME`: one part of a folder is tagged and scored, as if it were a folder of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cardioner import read_corpus


@pytest.fixture
def splits(tmp_path: Path) -> Path:
    """Two of the four notes in `train` for testing, one of them without entities, and none for validation."""
    path = tmp_path / "splits.json"
    path.write_text(json.dumps({"train": ["t2", "t3"], "test": ["t1", "t4"]}), encoding="utf-8")
    return path


@pytest.mark.parametrize("form", ["brat", "jsonl"])
def test_only_the_notes_of_a_part_are_tagged(
    form: str, run: Callable[..., Any], saved: Path, corpus: Path, splits: Path, tmp_path: Path
) -> None:
    notes, out = corpus / "train", tmp_path / "tagged.jsonl"
    if form == "jsonl":
        notes = tmp_path / "notes.jsonl"
        assert run("convert", corpus / "train", notes).code == 0
    done = run("predict", saved, notes, "--splits", splits, "--output", out, "--device", "cpu")
    assert done.code == 0, done.err
    assert "the test part, 2 notes" in done.err
    assert [document.id for document in read_corpus(out)] == ["t1", "t4"]


def test_a_part_is_scored_as_a_folder_of_its_notes_is(
    run: Callable[..., Any], corpus: Path, splits: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("t1", "t4"):
        for path in (corpus / "train").glob(f"{name}.*"):
            (alone / path.name).write_bytes(path.read_bytes())
    expected = run("evaluate", alone, alone, "--json").json
    for predicted in (corpus / "train", alone):
        done = run("evaluate", corpus / "train", predicted, "--splits", splits, "--part", "test", "--json")
        assert done.json == expected
    compared = run("compare", alone, corpus / "train", "--gold", corpus / "train", "--splits", splits, "--json").json
    assert compared == run("compare", alone, alone, "--gold", alone, "--json").json


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--part", "test"], 2, "give --splits FILE too"),
        (["--part", "validation", "--splits"], 3, "lists no validation notes"),
        (["--splits"], 3, "1 note of "),
    ],
)
def test_a_part_that_cannot_be_meant_is_refused(
    arguments: list[str], code: int, message: str, run: Callable[..., Any], corpus: Path, splits: Path
) -> None:
    gold = corpus / "train"
    if arguments == ["--splits"]:
        splits.write_text(json.dumps({"train": [], "test": ["t1", "elsewhere"]}), encoding="utf-8")
    given = [*arguments, splits] if arguments[-1] == "--splits" else arguments
    done = run("evaluate", gold, gold, *given)
    assert (done.code, message in done.err.splitlines()[-1]) == (code, True), done.err


def test_a_note_of_the_part_that_is_not_in_the_input_is_named_before_a_model_is_loaded(
    run: Callable[..., Any], corpus: Path, splits: Path, tmp_path: Path
) -> None:
    done = run("predict", tmp_path, corpus / "dev", "--splits", splits, "--output", tmp_path / "tagged")
    assert done.code == 3
    assert done.err.splitlines()[-1] == "error: 2 notes to tag are not in the input: t1, t4"
