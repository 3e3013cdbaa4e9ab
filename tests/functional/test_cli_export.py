"""`cardioner export`: a line for what was written and for each difference from the model, or one error."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForTokenClassification


def test_a_model_is_exported_and_what_differs_is_said(
    run: Callable[..., Any], opinionated: Callable[..., Path], tmp_path: Path
) -> None:
    done = run("export", "hub", opinionated(temperature=2.0), tmp_path / "out")
    assert (done.code, done.out) == (0, "")
    message = done.err.splitlines()
    assert "temperature 2 is not part of the export" in done.err
    assert any("windows of 32" in line and "8 shared" in line for line in message)
    assert message[-1].startswith(
        f"Written: {tmp_path / 'out'}, a BertForTokenClassification whose logits differ by at most"
    )
    assert len(AutoModelForTokenClassification.from_pretrained(tmp_path / "out").config.id2label) == 7


def test_a_crf_is_refused(run: Callable[..., Any], saved: Path, tmp_path: Path) -> None:
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
    assert "onnx" in bare.out
    assert "nowhere" in run("export", "nowhere").error


# ONNX ----------------------------------------------------------------------------------------------------------------


def test_a_model_is_exported_to_onnx_and_what_was_measured_is_said(
    run: Callable[..., Any], opinionated: Callable[..., Path], corpus: Path, tmp_path: Path
) -> None:
    model = opinionated(use_crf=True)
    done = run("export", "onnx", model, tmp_path / "out", "--check", corpus / "dev")
    assert (done.code, done.out) == (0, "")
    message = done.err.splitlines()
    assert any(re.match(r"spans: \d+ of the \d+ that the model finds in \d+ notes are equal", line) for line in message)
    assert message[-1] == f"Written: {tmp_path / 'out'} (python tag.py NOTES)"
    before = (tmp_path / "out" / "model.onnx").read_bytes()
    again = run("export", "onnx", model, tmp_path / "out")
    assert (again.code, "already holds an export" in again.error) == (5, True)
    few = run("export", "onnx", model, tmp_path / "out", "--overwrite", "--int8", "--check", corpus / "dev")
    assert (few.code, "spans in the notes to check (2)" in few.error) == (4, True)
    assert (tmp_path / "out" / "model.onnx").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--int8"], 2, "--check"),
        (["--check", "nowhere"], 3, "nowhere"),
    ],
)
def test_a_mistake_is_answered_before_the_work_begins(
    options: list[str],
    code: int,
    message: str,
    run: Callable[..., Any],
    opinionated: Callable[..., Path],
    tmp_path: Path,
) -> None:
    done = run("export", "onnx", opinionated(), tmp_path / "out", *options)
    assert (done.code, message in done.error) == (code, True)
    assert not list(tmp_path.iterdir())
