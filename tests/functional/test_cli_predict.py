"""`cardioner predict`: notes in, tagged notes out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cardioner.formats import read_corpus
from cardioner.predictor import Predictor


@pytest.mark.parametrize("decode", ["viterbi", "argmax"])
def test_notes_come_back_untouched_with_the_models_spans(
    decode: str, run: Callable[..., Any], saved: Path, corpus: Path, tmp_path: Path
) -> None:
    done = run("predict", saved, corpus / "dev", "--output", tmp_path / "out", "--decode", decode, "--device", "cpu")
    assert (done.code, done.out) == (0, "")
    assert "2 notes" in done.err
    given, tagged = read_corpus(corpus / "dev").documents, read_corpus(tmp_path / "out").documents
    assert [(note.id, note.text) for note in tagged] == [(note.id, note.text) for note in given]
    expected = list(Predictor.from_pretrained(saved, device="cpu", decoder=decode).predict(given))
    assert [note.spans for note in tagged] == [
        tuple(sorted(note.spans, key=lambda span: (span.start, span.end))) for note in expected
    ]


def test_several_inputs_and_single_notes_are_taken_together(
    run: Callable[..., Any], saved: Path, corpus: Path, tmp_path: Path
) -> None:
    single = corpus / "train" / "t1.txt"
    done = run("predict", saved, corpus / "dev", single, "--output", tmp_path / "out")
    assert done.code == 0
    assert {path.name for path in (tmp_path / "out").glob("*.ann")} == {"d1.ann", "d2.ann", "t1.ann"}


def test_notes_of_the_same_id_are_refused(run: Callable[..., Any], saved: Path, corpus: Path, tmp_path: Path) -> None:
    done = run("predict", saved, corpus / "dev", corpus / "dev" / "d1.txt", "--output", tmp_path / "out")
    assert done.code == 3
    assert "d1" in done.error
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_annotations_is_only_replaced_on_request(
    run: Callable[..., Any], saved: Path, corpus: Path, tmp_path: Path
) -> None:
    arguments = ("predict", saved, corpus / "dev", "--output", tmp_path / "out")
    assert run(*arguments).code == 0
    refused = run(*arguments)
    assert refused.code == 5
    assert ".ann" in refused.error
    assert run(*arguments, "--overwrite").code == 0


@pytest.mark.parametrize("inside", [".", "tagged"])
def test_output_among_the_inputs_is_refused_even_with_overwrite(
    inside: str, run: Callable[..., Any], saved: Path, corpus: Path
) -> None:
    before = {path: path.read_bytes() for path in (corpus / "dev").rglob("*") if path.is_file()}
    done = run("predict", saved, corpus / "dev", "--output", corpus / "dev" / inside, "--overwrite")
    assert done.code == 5
    assert "outside" in done.error
    assert {path: path.read_bytes() for path in (corpus / "dev").rglob("*") if path.is_file()} == before


def test_annotations_beside_the_notes_need_not_be_right(
    run: Callable[..., Any], saved: Path, corpus: Path, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    shutil.copytree(corpus / "dev", notes)
    for path in notes.glob("*.ann"):
        path.write_text("no annotation\n")
    assert run("predict", saved, notes, "--output", tmp_path / "tagged").code == 0
