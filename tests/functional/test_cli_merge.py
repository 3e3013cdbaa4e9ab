"""`cardioner merge`, from two trainings to one directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


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
    taken = run("merge", saved, saved, "--eval", corpus / "dev", "--output", saved)
    assert "already holds a model" in taken.error
