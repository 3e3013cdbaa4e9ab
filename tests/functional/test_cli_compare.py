"""`cardioner compare`: two predictions against gold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cardioner.formats import read_corpus, write_corpus


def test_the_better_prediction_has_a_positive_difference(run: Callable[..., Any], corpus: Path, tmp_path: Path) -> None:
    gold = read_corpus(corpus / "train").documents
    write_corpus([document.with_spans(document.spans[:1]) for document in gold], tmp_path / "worse")
    done = run("compare", corpus / "train", tmp_path / "worse", "--gold", corpus / "train", "--bootstrap", "200")
    assert (done.code, done.err) == (0, "")
    assert "A against B, strict spans" in done.out
    assert "micro" in done.out
    assert "DRUG" in done.out
    content = run(
        "compare", corpus / "train", tmp_path / "worse", "--gold", corpus / "train", "--bootstrap", "200", "--json"
    ).json
    micro = content["strict"]["micro"]["f1"]
    assert micro["a"] == 1.0 > micro["b"]
    assert micro["difference"] == 1.0 - micro["b"]
    assert 0 < micro["interval"][0] <= micro["difference"] <= micro["interval"][1]
    assert 0 < micro["p"] < 1
    again = run(
        "compare", tmp_path / "worse", corpus / "train", "--gold", corpus / "train", "--bootstrap", "200", "--json"
    ).json
    assert again["strict"]["micro"]["f1"]["difference"] == -micro["difference"]


def test_other_criteria_can_be_shown(run: Callable[..., Any], corpus: Path) -> None:
    dev = corpus / "dev"
    done = run("compare", dev, dev, "--gold", dev, "--criterion", "partial", "--bootstrap", "10")
    assert "A against B, partial spans" in done.out
    assert "+0.000" in done.out


def test_predictions_of_other_notes_are_refused(run: Callable[..., Any], corpus: Path) -> None:
    done = run("compare", corpus / "dev", corpus / "train", "--gold", corpus / "dev")
    assert done.code == 3
    assert "no gold document" in done.error
