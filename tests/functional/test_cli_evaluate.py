"""`cardioner evaluate`: two folders in, figures out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cardioner.documents import Document


@pytest.fixture
def tagged(write_notes: Callable[..., Path], make_note: Callable[..., Document], tmp_path: Path) -> Path:
    """Predictions for `dev`: one of three spans right, one with another type, one missing."""
    first = make_note("d1", ("syncope", "SYMPTOM"), ("atrial fibrillation", "SYMPTOM"))
    second = make_note("d2", ("metoprolol", "DRUG")).with_spans(())
    return write_notes(tmp_path / "tagged", [first, second])


def test_json_alone_is_on_standard_output(run: Callable[..., Any], corpus: Path, tagged: Path) -> None:
    (tagged / "extra.dat").write_text("set aside")
    done = run("evaluate", corpus / "dev", tagged, "--json")
    assert done.code == 0
    micro = done.json["strict"]["micro"]
    assert (micro["precision"], micro["recall"], micro["f1"]) == (1 / 2, 1 / 3, 2 / 5)
    assert "extra.dat" in done.err
    assert run("evaluate", corpus / "dev", tagged, "--json").out == done.out


def test_the_table_has_every_type_and_the_averages(run: Callable[..., Any], corpus: Path, tagged: Path) -> None:
    done = run("evaluate", corpus / "dev", tagged)
    assert (done.code, done.err) == (0, "")
    for name in ("DISEASE", "DRUG", "SYMPTOM", "micro", "macro", "0.400", "Strict spans, 2 notes"):
        assert name in done.out


def test_map_applies_to_both_sides(run: Callable[..., Any], corpus: Path, tagged: Path) -> None:
    done = run("evaluate", corpus / "dev", tagged, "--json", "--map", "SYMPTOM=FINDING", "--map", "DISEASE=FINDING")
    assert done.json["strict"]["micro"]["precision"] == 1.0
    assert set(done.json["strict"]["per_type"]) == {"DRUG", "FINDING"}


def test_other_notes_than_the_gold_ones_are_refused(run: Callable[..., Any], corpus: Path) -> None:
    done = run("evaluate", corpus / "dev", corpus / "train")
    assert done.code == 3
    assert done.error
