"""`cardioner export hub`: one line for what was made and for each thing that stayed behind, or one complaint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForTokenClassification


def test_a_model_leaves_and_what_stays_behind_is_said(
    run: Callable[..., Any], opinionated: Callable[..., Path], tmp_path: Path
) -> None:
    done = run("export", "hub", opinionated(temperature=2.0), tmp_path / "out")
    assert (done.code, done.out) == (0, "")
    told = done.err.splitlines()
    assert "temperature 2 stays behind" in done.err
    assert any("windows of 32" in line and "8 shared" in line for line in told)
    assert told[-1].startswith("BertForTokenClassification, no logit further than ")
    assert told[-1].endswith(str(tmp_path / "out"))
    assert len(AutoModelForTokenClassification.from_pretrained(tmp_path / "out").config.id2label) == 7


def test_a_crf_cannot_leave(run: Callable[..., Any], saved: Path, tmp_path: Path) -> None:
    done = run("export", "hub", saved, tmp_path / "out")
    assert done.code == 4
    assert "a CRF" in done.error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("place", "code"), [("there", 5), ("missing", 4)])
def test_a_full_output_and_a_missing_model_are_named(
    place: str, code: int, run: Callable[..., Any], opinionated: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "config.json").write_text("{}")
    source = tmp_path / "missing" if place == "missing" else opinionated()
    done = run("export", "hub", source, tmp_path / "there")
    assert done.code == code
    assert place in done.error
    assert (tmp_path / "there" / "config.json").read_text() == "{}"


def test_overwrite_replaces_what_is_there(
    run: Callable[..., Any], opinionated: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert run("export", "hub", opinionated(), tmp_path, "--overwrite").code == 0
    assert (tmp_path / "model.safetensors").is_file()


def test_export_alone_lists_its_forms(run: Callable[..., Any]) -> None:
    bare = run("export")
    assert (bare.code, bare.err) == (0, "")
    assert "hub" in bare.out
    assert "nowhere" in run("export", "nowhere").error
