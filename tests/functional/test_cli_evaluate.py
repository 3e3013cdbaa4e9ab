"""`cardioner evaluate`: two folders in, figures out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cardioner.data.documents import Document, Span
from cardioner.data.formats import read_corpus, write_corpus

CANARY = "zyxwvcanary"
"""A word of every note."""


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


def test_everything_else_that_was_found_is_shown_and_is_in_the_json(
    run: Callable[..., Any], corpus: Path, tagged: Path
) -> None:
    done = run("evaluate", corpus / "dev", tagged, "--bootstrap", "50", "--train", corpus / "train")
    assert done.code == 0
    for name in ("By every criterion", "relaxed", "What became of the spans", "spurious", "Most frequent errors"):
        assert name in done.out
    assert "F1, 95 %" in done.out
    content = run("evaluate", corpus / "dev", tagged, "--json", "--bootstrap", "50", "--train", corpus / "train").json
    assert {"strict", "exact", "partial", "type", "relaxed", "documents", "errors", "intervals"} <= content.keys()
    assert content["intervals"]["samples"] == 50
    assert content["errors"]["by_mention"] is not None


def test_scores_of_spans_give_a_calibration_table(run: Callable[..., Any], corpus: Path, tmp_path: Path) -> None:
    documents = [
        document.with_spans(replace(span, score=0.75) for span in document.spans)
        for document in read_corpus(corpus / "dev").documents
    ]
    write_corpus(documents, tmp_path / "scored.jsonl", "jsonl")
    done = run("evaluate", corpus / "dev", tmp_path / "scored.jsonl")
    assert "expected calibration error 0.250" in done.out
    assert "left to review" in done.out


def test_a_table_of_spans_alone_is_enough_and_the_official_figures_stand_beside_ours(
    run: Callable[..., Any], corpus: Path, tmp_path: Path
) -> None:
    documents = read_corpus(corpus / "dev").documents
    write_corpus(documents, tmp_path / "gold.tsv", "tsv")
    write_corpus(documents[:1], tmp_path / "one.tsv", "tsv")
    done = run("evaluate", tmp_path / "gold.tsv", tmp_path / "one.tsv", "--official", "multicardioner")
    assert done.code == 0
    assert "Micro-average precision: 1.0\nMicro-average recall: 0.6667\nMicro-average F-score: 0.8\n" in done.out
    assert "1 document not in the prediction: counted as documents without predicted spans (the first: d2)" in done.err
    content = run(
        "evaluate", tmp_path / "gold.tsv", tmp_path / "one.tsv", "--official", "multicardioner", "--json"
    ).json
    assert content["official"]["recall"] == 0.6667
    assert content["without_prediction"] == 1


def test_the_page_is_written_and_never_over_another_one_unasked(
    run: Callable[..., Any], corpus: Path, tagged: Path, tmp_path: Path
) -> None:
    page = tmp_path / "scores.html"
    assert run("evaluate", corpus / "dev", tagged, "--html", page).code == 0
    assert CANARY in page.read_text(encoding="utf-8")
    assert "exists" in run("evaluate", corpus / "dev", tagged, "--html", page).error
    assert run("evaluate", corpus / "dev", tagged, "--html", page, "--ids-only", "--overwrite").code == 0
    assert CANARY not in page.read_text(encoding="utf-8")
    assert run("evaluate", corpus / "dev", tagged, "--html", tagged / "x.html").code == 2


def test_a_page_has_the_name_of_one_and_does_not_lie_in_what_is_read(
    run: Callable[..., Any], corpus: Path, tagged: Path, tmp_path: Path
) -> None:
    dev = corpus / "dev"
    refused = run("evaluate", dev, tagged, "--html", tmp_path / "note.txt", "--overwrite")
    assert refused.code == 2
    assert "end in .html" in refused.error
    assert (
        run("evaluate", dev, tagged, "--texts", tmp_path / "texts", "--html", tmp_path / "texts" / "x.html").code == 2
    )
    assert run("evaluate", dev, tagged, "--html", tmp_path / "PAGE.HTM").code == 0


def test_rows_that_can_be_no_span_are_counted(run: Callable[..., Any], corpus: Path, tmp_path: Path) -> None:
    table = tmp_path / "one.tsv"
    table.write_text("filename\tlabel\tstart_span\tend_span\ttext\nd1\tDISEASE\t9\t4\tx\n", encoding="utf-8")
    done = run("evaluate", corpus / "dev", table, "--json")
    assert done.json["impossible"] == 1
    assert "1 row of the prediction cannot be a span: counted as wrong" in done.err


def test_control_characters_in_an_id_do_not_break_a_table(run: Callable[..., Any], tmp_path: Path) -> None:
    gold = Document("one\nid\x1b[31m", "syncope", (Span(0, 7, "SYMPTOM"),))
    write_corpus([gold], tmp_path / "gold.jsonl", "jsonl")
    write_corpus([gold.with_spans(())], tmp_path / "tagged.jsonl", "jsonl")
    done = run("evaluate", tmp_path / "gold.jsonl", tmp_path / "tagged.jsonl")
    assert r"one\nid\x1b[31m 0 to 7" in done.out
    assert "Strict spans, 1 note\n" in done.out


def test_ann_files_alone_are_scored_against_gold_that_has_the_texts(
    run: Callable[..., Any], corpus: Path, tagged: Path
) -> None:
    whole = run("evaluate", corpus / "dev", tagged, "--json").json
    for note in tagged.rglob("*.txt"):
        note.unlink()
    done = run("evaluate", corpus / "dev", tagged, "--json")
    assert done.code == 0
    assert done.json == whole
    assert "notes without text, spans only" in done.err
    file = tagged / "d1.ann"
    file.write_text(file.read_text(encoding="utf-8").replace("syncope", CANARY), encoding="utf-8")
    done = run("evaluate", corpus / "dev", tagged, "--json")
    assert done.json == {**whole, "misquoted": 1}
    assert "1 span of the prediction with a text other than the gold document has there" in done.err
    assert CANARY not in done.err


def said(corpus: Path, place: Path, attributes: dict[str, bool | str]) -> Path:
    """The notes with the same attributes on every span."""
    documents = [
        document.with_spans(replace(span, attributes=attributes) for span in document.spans)
        for document in read_corpus(corpus / "dev").documents
    ]
    write_corpus(documents, place, "jsonl")
    return place


def test_attributes_are_scored_shown_and_put_on_the_page(run: Callable[..., Any], corpus: Path, tmp_path: Path) -> None:
    gold = said(corpus, tmp_path / "gold.jsonl", {"Negation": True, "Time": "past"})
    tagged = said(corpus, tmp_path / "tagged.jsonl", {"Negation": True, "Severity": "high"})
    done = run("evaluate", gold, tagged, "--bootstrap", 20, "--html", tmp_path / "page.html")
    assert done.code == 0
    assert "Values of attributes" in done.out
    assert "scored as absent everywhere: Time" in done.err
    assert "no gold span has, left out: Severity (3 spans)" in done.err
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert '<h2 id="attributes">Attributes</h2>' in page
    assert "Severity (3 spans)" in page
    assert "Time: past → —" in page
    assert "Wrong attributes of right spans" in done.out
    assert ", Negation, Time: past" in page
    content = run("evaluate", gold, tagged, "--bootstrap", 20, "--json").json
    found = content["attributes"]
    assert found["micro"]["f1"] == 0
    assert found["per_attribute"]["Negation"]["accuracy"] == 1
    assert found["per_attribute"]["Time"]["matched"]["per_value"]["—"] == {
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
        "tp": 0,
        "fp": 3,
        "fn": 0,
    }
    assert (found["left_out"], found["not_predicted"]) == ({"Severity": 3}, ["Time"])
    assert content["intervals"]["attributes"]["per_attribute"]["Negation"]["matched"]["micro"]["f1"] == [1, 1]
    done = run("compare", gold, tagged, "--gold", gold, "--criterion", "attributes", "--bootstrap", 10)
    assert "A against B, spans with their attributes" in done.out
    assert "Severity (3 spans)" in done.err


def test_nothing_is_shown_of_attributes_where_there_are_none(
    run: Callable[..., Any], corpus: Path, tagged: Path, tmp_path: Path
) -> None:
    done = run("evaluate", corpus / "dev", tagged, "--html", tmp_path / "page.html")
    shown = done.out + done.err + (tmp_path / "page.html").read_text(encoding="utf-8").partition("</style>")[2]
    assert "ttributes" not in shown
    assert "attributes" not in run("evaluate", corpus / "dev", tagged, "--json").json
    refused = run("compare", tagged, tagged, "--gold", corpus / "dev", "--criterion", "attributes", "--bootstrap", 10)
    assert "the gold spans have no attributes" in refused.error
