"""`cardioner select`: notes in, the order to annotate them in out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from cardioner.data.formats import read_corpus
from cardioner.prediction.predictor import Predictor
from cardioner.prediction.selection import Choice, select
from conftest import CANARY, Run


@pytest.fixture
def model(opinionated: Callable[..., Path]) -> Path:
    """A model that finds spans in every note."""
    return opinionated(use_crf=True)


def chosen(model: Path, notes: Path, count: int, annotated: Any = ()) -> list[Choice]:
    """What the library chooses."""
    return select(
        Predictor.from_pretrained(model, device="cpu").predict(read_corpus(notes)), count, annotated=annotated
    )


def test_the_choice_is_that_of_the_library_and_says_no_word_of_a_note(
    run: Run, model: Path, corpus: Path, tmp_path: Path
) -> None:
    order = tmp_path / "order.jsonl"
    done = run("select", corpus / "train", "--model", model, "--count", 2, "--output", order, "--device", "cpu")
    assert done.code == 0
    expected = chosen(model, corpus / "train", 2)
    rows = [json.loads(line) for line in order.read_text().splitlines()]
    assert rows == [{**asdict(one), "gain": pytest.approx(one.gain, abs=1e-6)} for one in expected]
    assert "Chosen: 2 of " in done.err
    assert CANARY not in done.out + done.err + order.read_text()


def test_a_table_is_refused_with_what_to_do(run: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.parquet").write_bytes(b"PAR1")
    done = run("select", tmp_path / "notes.parquet", "--model", model)
    assert done.code == 3
    assert "is a table, which `cardioner predict` alone reads; write its notes to JSON lines" in done.error


def test_what_is_annotated_is_left_out(run: Run, model: Path, corpus: Path, tmp_path: Path) -> None:
    order = tmp_path / "order.jsonl"
    every = [corpus / "train", corpus / "dev"]
    done = run("select", *every, "--model", model, "--annotated", corpus / "dev", "--output", order)
    assert done.code == 0
    left = {document.id for document in read_corpus(corpus / "train").documents}
    assert {json.loads(line)["id"] for line in order.read_text().splitlines()} == left
    annotated = len(read_corpus(corpus / "dev").documents)
    assert f"Left out, as --annotated has their ids: {annotated} note" in done.err
    assert f"Chosen: {len(left)} of {len(left)} note" in done.err
    done = run("select", corpus / "dev", "--model", model, "--annotated", corpus / "dev")
    assert (done.code, "there is no note to choose" in done.error) == (3, True)


def test_an_order_that_is_there_or_lies_in_the_notes_is_not_written(
    run: Run, model: Path, corpus: Path, tmp_path: Path
) -> None:
    order = tmp_path / "order.jsonl"
    order.write_text("mine")
    done = run("select", corpus / "dev", "--model", model, "--output", order)
    assert "exists" in done.error
    assert order.read_text() == "mine"
    done = run("select", corpus / "dev", "--model", model, "--output", corpus / "dev" / "order.jsonl")
    assert "lies in the" in done.error
    done = run("select", corpus / "dev", "--model", model, "--output", order, "--overwrite")
    assert done.code == 0
    assert len(order.read_text().splitlines()) == 2


def test_a_note_that_cannot_be_read_is_named_and_the_others_are_chosen(
    run: Run, model: Path, corpus: Path, tmp_path: Path
) -> None:
    notes, order = Path(shutil.copytree(corpus / "dev", tmp_path / "notes")), tmp_path / "order.jsonl"
    (notes / "bad.txt").write_bytes(b"\xff\xfe\xff")
    done = run("select", notes, "--model", model, "--output", order)
    assert done.code == 3
    assert "1 note could not be read or tagged" in done.error
    assert len(order.read_text().splitlines()) == 2
