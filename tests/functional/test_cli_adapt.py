"""`cardioner adapt`, from notes to an encoder that `train` takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def adapt(run: Run, corpus: Path, encoder_dir: Callable[[str], Path], tmp_path: Path) -> Run:
    """`cardioner adapt` on the tiny corpus; further arguments are appended."""

    def execute(*arguments: Any) -> Any:
        place = tmp_path / "encoder"
        fast = ("--epochs", "1", "--device", "cpu")
        return run("adapt", corpus / "train", "--backbone", encoder_dir("bert"), "--output", place, *fast, *arguments)

    return execute


def test_train_takes_what_adapt_made(adapt: Run, run: Run, train: Run, tmp_path: Path) -> None:
    made = adapt("--json")
    assert made.code == 0, made.err
    assert (made.json["notes"], made.json["held_out"], made.json["fresh_head"]) == (3, 1, True)
    assert f"{made.json['before']:,.1f} before, {made.json['after']:,.1f} after" in made.err
    assert "came without a head for masked language modelling" in made.err
    assert train("--backbone", tmp_path / "encoder").code == 0
    assert run("inspect", tmp_path / "model").code == 0


def test_adapt_refuses_a_place_that_is_not_empty_before_it_reads(adapt: Run, tmp_path: Path) -> None:
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "mine").touch()
    assert "is not empty: choose another folder (only what an adaptation wrote is replaced)" in adapt().error


def test_a_tagger_is_not_adapted_but_the_encoder_that_it_began_from(adapt: Run, saved: Path, tmp_path: Path) -> None:
    made = adapt("--backbone", saved)
    assert "name the encoder that this tagger began from" in made.error
    assert not (tmp_path / "encoder").exists()


def test_notes_that_cannot_be_read_are_named(adapt: Run, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "broken.txt").write_bytes(b"\xff\xfe\xff")
    made = adapt(tmp_path / "bad")
    assert made.code == 0
    assert "warning: not learned from" in made.err
    assert "broken.txt" in made.err
