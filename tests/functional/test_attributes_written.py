"""What a model says of spans, in every format and table that `predict` writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cardioner import Document, Predictor
from cardioner.data.attributes import value_text
from cardioner.data.formats import read_corpus, write_corpus
from cardioner.model_dir.save import write_model_dir
from cardioner.tables.values import rows_of

FORMS = ("brat", "jsonl", "xmi", "bioc", "docbin", "prodigy", "label-studio")
SUFFIXES = {"jsonl": ".jsonl", "bioc": ".bioc", "docbin": ".spacy", "prodigy": ".jsonl", "label-studio": ".json"}
ATTRIBUTES: dict[str, list[Any]] = {"Certainty": [None, "possible", "unlikely"], "Negation": [None, True]}
NOTES = [
    Document("n0", "No chest pain. Atrial fibrillation, on bisoprolol 2.5 mg since the aortic valve was replaced."),
    Document("n1", "Aortaklepstenose met syncope en dyspnoea; geen orthopnoe. " * 6),
]


@pytest.fixture
def directory(make_model: Callable[..., Any], tokenizers: dict[str, Any], tmp_path: Path) -> Path:
    write_model_dir(make_model(attributes=ATTRIBUTES, use_crf=True), tokenizers["wordpiece"], tmp_path / "model")
    return tmp_path / "model"


def said(spans: Iterable[Any]) -> list[tuple[int, int, str, dict[str, Any]]]:
    return [(span.start, span.end, span.label, dict(span.attributes)) for span in spans]


def found_in(directory: Path) -> list[list[Any]]:
    """What a model says of the spans of the notes, in an order of its own."""
    return [in_order(said(one.spans)) for one in Predictor.from_pretrained(directory, device="cpu").predict(NOTES)]


def in_order(spans: Iterable[Any]) -> list[Any]:
    return sorted(spans, key=str)


def of_rows(spans: Iterable[Mapping[str, Any]]) -> list[Any]:
    return in_order((one["start"], one["end"], one["label"], one["attributes"]) for one in spans)


def test_each_format_holds_what_is_said_of_spans_or_counts_it(
    directory: Path, run: Callable[..., Any], tmp_path: Path
) -> None:
    found = list(Predictor.from_pretrained(directory, device="cpu").predict(NOTES))
    expected = [in_order(said(one.spans)) for one in found]
    for form in FORMS:
        out = tmp_path / f"{form}{SUFFIXES.get(form, '')}"
        lost = write_corpus(found, out, form, predicted=True)
        assert "attributes, left out" not in {issue.kind for issue in lost}
        again = sorted(read_corpus(out, form).documents, key=lambda document: document.id)
        assert [in_order(said(one.spans)) for one in again] == expected, form
    write_corpus(NOTES, tmp_path / "notes")
    given = ("predict", directory, tmp_path / "notes", "--device", "cpu", "--output")
    done = run(*given, tmp_path / "tasks.json", "--to", "label-studio")
    assert 'perRegion="true"><Choice value="possible" /><Choice value="unlikely" />' in " ".join(done.err.split())
    done = run(*given, tmp_path / "out.tsv")
    count = sum(len(given) for spans in expected for *_, given in spans)
    assert any("│ attributes, left out" in line and f" {count} " in line for line in done.err.splitlines())


def test_tables_and_omop_have_what_is_said_of_spans(directory: Path, run: Callable[..., Any], tmp_path: Path) -> None:
    expected = found_in(directory)
    table = pa.table({"note_id": range(len(NOTES)), "note_text": [document.text for document in NOTES]})
    pq.write_table(table, tmp_path / "notes.parquet")
    given = ("predict", directory, tmp_path / "notes.parquet", "--device", "cpu")
    assert run(*given, "--output", tmp_path / "tagged.parquet").code == 0
    rows = rows_of(pq.read_table(tmp_path / "tagged.parquet").combine_chunks().to_batches()[0])
    texts = [
        in_order((*place, {name: value_text(one) for name, one in held.items()}) for *place, held in spans)
        for spans in expected
    ]
    assert [of_rows(row["spans"]) for row in rows] == texts
    assert {name for row in rows for one in row["spans"] for name in one["attribute_scores"]} == {*ATTRIBUTES}
    assert run(*given, "--output", tmp_path / "nlp.parquet", "--to", "omop").code == 0
    exists = [row["term_exists"] for row in pq.read_table(tmp_path / "nlp.parquet").to_pylist()]
    assert sorted(exists) == sorted("N" if "Negation" in held else "Y" for spans in expected for *_, held in spans)
    (tmp_path / "rules.csv").write_text("attribute,value,term_exists,term_temporal\nCertainty,possible,,perhaps\n")
    rules = ("--to", "omop", "--assertions", tmp_path / "rules.csv")
    assert run(*given, "--output", tmp_path / "own.parquet", *rules).code == 0
    own = pq.read_table(tmp_path / "own.parquet").to_pylist()
    assert {row["term_exists"] for row in own} == {None}
    count = sum(held.get("Certainty") == "possible" for spans in expected for *_, held in spans)
    assert [row["term_temporal"] for row in own].count("perhaps") == count > 0
