"""`cardioner compare`: two predictions against gold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cardioner.data.documents import Document, Span
from cardioner.data.formats import read_corpus, write_corpus


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
    assert "without a gold document" in done.error


def test_what_a_prediction_lacks_is_told_of_each(run: Callable[..., Any], corpus: Path, tmp_path: Path) -> None:
    dev, head = corpus / "dev", "filename\tlabel\tstart_span\tend_span\ttext\n"
    (tmp_path / "one.tsv").write_text(f"{head}d1\tDISEASE\t9\t4\tx\n", encoding="utf-8")
    done = run("compare", dev, tmp_path / "one.tsv", "--gold", dev, "--bootstrap", "10")
    assert done.code == 0
    assert "1 document not in B: counted as documents without predicted spans (the first: d2)" in done.err
    assert "1 row of B cannot be a span" in done.err
    assert " A:" not in done.err


def test_types_named_as_the_totals_have_rows_of_their_own(run: Callable[..., Any], tmp_path: Path) -> None:
    spans = (Span(0, 3, "macro"), Span(4, 6, "micro"), Span(7, 9, "micro"))
    gold = Document("note", "abc de fg", spans)
    for name, kept in (("gold", spans), ("half", spans[1:])):
        write_corpus([gold.with_spans(kept)], tmp_path / f"{name}.jsonl", "jsonl")
    gold_file, half = tmp_path / "gold.jsonl", tmp_path / "half.jsonl"
    lines = run("compare", half, gold_file, "--gold", gold_file, "--bootstrap", "10").out.splitlines()
    rows = [line.split()[1:4:2] for line in lines if "micro" in line or "macro" in line]
    assert rows == [["macro", "0.000"], ["micro", "1.000"], ["micro", "0.800"], ["macro", "0.500"]]
    (last_type,) = [place for place, line in enumerate(lines) if line.split()[1:4:2] == ["micro", "1.000"]]
    assert lines[last_type + 1].startswith("├")
