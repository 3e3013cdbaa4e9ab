"""`cardioner merge`, from two trainings to one directory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
TINY = ("--epochs", "1", "--batch-size", "2", "--max-length", "64", "--device", "cpu", "--learning-rate", "0.005")


@pytest.fixture
def seeds(train: Run, saved: Path, tmp_path: Path) -> Path:
    """The folder of two trainings from one model that differ in their seed."""
    start = ("--backbone", saved, "--crf", "--hidden-layers", "8")
    assert train("--seeds", "2", *start, output=tmp_path / "seeds").code == 0
    return tmp_path / "seeds"


def test_seeds_are_merged_and_scored_beside_their_parts(run: Run, seeds: Path, corpus: Path, tmp_path: Path) -> None:
    made = run("merge", seeds, "--eval", corpus / "dev", "--output", tmp_path / "one", "--json")
    assert made.code == 0, made.err
    assert [part["model"] for part in made.json["parts"]] == ["seed-0", "seed-1"]
    assert "merged" in made.err
    assert run("verify", tmp_path / "one").code == 0
    tagged = run("predict", tmp_path / "one", corpus / "dev", "--output", tmp_path / "tagged")
    assert tagged.code == 0, tagged.err


def test_seeds_whose_heads_were_drawn_apart_are_refused(run: Run, train: Run, corpus: Path, tmp_path: Path) -> None:
    assert train("--seeds", "2", output=tmp_path / "seeds").code == 0
    made = run("merge", tmp_path / "seeds", "--eval", corpus / "dev", "--output", tmp_path / "one")
    assert "did not begin from the same head" in made.error


def test_merge_needs_two_models_and_a_place_of_its_own(run: Run, saved: Path, corpus: Path, tmp_path: Path) -> None:
    assert "two models or more" in run("merge", saved, "--eval", corpus / "dev", "--output", tmp_path / "one").error
    copy = shutil.copytree(saved, tmp_path / "copy")
    third = shutil.copytree(saved, tmp_path / "third")
    taken = run("merge", saved, copy, "--eval", corpus / "dev", "--output", third)
    assert "already holds a model" in taken.error
    part = run("merge", saved, copy, "--eval", corpus / "dev", "--output", copy, "--overwrite")
    assert f"{copy} is one of the models that the new one is made from" in part.error
    twice = run("merge", saved, copy, saved, "--eval", corpus / "dev", "--output", tmp_path / "one")
    assert twice.code == 2
    assert f"{saved} is named twice" in twice.error


def test_training_leaves_one_merged_model_beside_its_folds(
    run: Run, write_notes: Run, make_note: Run, corpus: Path, encoder_dir: Run, tmp_path: Path
) -> None:
    words = ("aorta stenosis", "mitral prolapse", "septal defect", "pericardial fluid")
    notes = [make_note(f"n{n}", (one, "DISEASE"), (f"drug{n}", "DRUG")) for n, one in enumerate(words)]
    place = write_notes(tmp_path / "notes", notes)
    parts = ("--train", place, "--eval", corpus / "dev", "--backbone", encoder_dir("bert"), "--map", "SYMPTOM=", *TINY)
    made = run("train", *parts, "--folds", "2", "--merge", "slerp", "--output", tmp_path / "folds", "--json")
    assert made.code == 0, made.err
    assert made.json["merged"]["method"] == "slerp"
    assert run("verify", tmp_path / "folds" / "merged").code == 0
    assert run("predict", tmp_path / "folds" / "merged", place, "--output", tmp_path / "tagged").code == 0
    summary = json.loads((tmp_path / "folds" / "summary.json").read_text())
    assert [member["name"] for member in summary["members"]] == ["fold-1", "fold-2"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "give --folds or --seeds"),
        (("--folds", "3", "--merge", "slerp"), "slerp is between two models; found 3"),
        (("--seeds", "2"), "each seed draws its own"),
    ],
)
def test_what_could_not_be_merged_is_refused_before_it_is_trained(
    arguments: tuple[str, ...], problem: str, train: Run, tmp_path: Path
) -> None:
    done = train("--merge", "mean", *arguments, output=tmp_path / "out")
    assert problem in done.error
    assert not (tmp_path / "out").exists()


def test_merging_folds_needs_evaluation_notes(train: Run, corpus: Path) -> None:
    done = train("--folds", "2", "--merge", "mean", folders=("--train", corpus / "train"))
    assert "give --eval PATH" in done.error
