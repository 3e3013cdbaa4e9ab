"""JSON as annotation tools write it, and what else it says of a note."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from cardioner.data.documents import Document, Span, rename_labels
from cardioner.data.formats import FORMATS, Issue, ReadReport, read_corpus, write_corpus
from cardioner.data.notes import NoteSource
from cardioner.data.quality import check_corpora
from cardioner.errors import DataError, OutputError, UsageError

TEXT = "Fever and cough"
SPANS = (Span(0, 5, "X"), Span(10, 15, "Y"))
RESULTS = [
    {
        "id": "q",
        "from_name": "label",
        "to_name": "text",
        "type": "labels",
        "value": {"start": start, "end": end, "text": TEXT[start:end], "labels": [label]},
    }
    for start, end, label in ((0, 5, "X"), (10, 15, "Y"))
]


def task(*annotations: dict[str, Any], **data: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"text": TEXT, **data}, "annotations": list(annotations), "predictions": [], "project": 3}


def put(folder: Path, *rows: Any, name: str = "n.jsonl") -> Path:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / name


@pytest.mark.parametrize(
    "row",
    [
        {"label": [[0, 5, "X"], [10, 15, "Y"]]},  # doccano
        {"labels": [[0, 5, "X"], [10, 15, "Y"]]},
        {"text": ..., "data": TEXT, "label": [[0, 5, "X"], [10, 15, "Y"]]},
        {
            "entities": [
                {"start_offset": 0, "end_offset": 5, "label": "X"},
                {"start_offset": 10, "end_offset": 15, "label": "Y"},
            ]
        },
        {"entities": [[0, 5, "X"], [10, 15, "Y"]]},  # spaCy
        [TEXT, {"id": 1, "entities": [[0, 5, "X"], [10, 15, "Y"]]}],
        {"spans": [{"start": 0, "end": 5, "label": "X"}, {"start": 10, "end": 15, "label": "Y"}]},  # Prodigy
        {"label": [{"start": 0, "end": 5, "labels": ["X"]}, {"start": 10, "end": 15, "labels": ["Y"]}]},  # Label Studio
        {"text": ..., **task({"result": RESULTS})},
        {"text": ..., "data": {"note": TEXT}, "completions": [{"result": RESULTS}]},
    ],
)
def test_spans_are_read_in_the_forms_of_annotation_tools(tmp_path: Path, row: Any) -> None:
    if isinstance(row, dict):
        row = {key: value for key, value in {"id": 1, "text": TEXT, **row}.items() if value is not ...}
    for place in (put(tmp_path, row), put(tmp_path, [row, [TEXT, {"entities": []}]], name="n.json")):
        document = read_corpus(place, require_annotations=True)[0]
        assert (document.id, document.text, document.spans) == ("1", TEXT, SPANS)
        assert document.metadata == {}
    indented = tmp_path / "indented.json"
    indented.write_text(json.dumps([row], indent=2))
    assert read_corpus(indented)[0].spans == SPANS


def test_the_names_of_the_tools_name_the_format(tmp_path: Path) -> None:
    path = put(tmp_path, {"text": TEXT, "label": [[0, 5, "X"]]}, name="export")
    for name in ("doccano", "prodigy", "spacy", "label-studio"):
        assert read_corpus(path, name)[0].spans == SPANS[:1]


def test_the_true_annotation_of_a_task_is_read_and_the_others_are_counted(tmp_path: Path) -> None:
    choice = {"type": "choices", "value": {"choices": ["good"]}}
    others = [{"result": RESULTS[:1], "was_cancelled": True}, {"result": []}]
    path = put(
        tmp_path, task(*others, {"result": [*RESULTS, choice], "ground_truth": True}, ward="A"), task(), name="n"
    )
    corpus = read_corpus(path.rename(tmp_path / "n.ndjson"), on_error="skip")
    assert corpus[0].spans == SPANS
    assert corpus[0].metadata == {"ward": "A"}
    assert {issue.kind: issue.count for issue in corpus.report.issues} == {
        "annotations of a note beside the one that is read": 1,
        "results that are no labels of text": 1,
        "other keys": 2,
        "notes without tags": 1,
        "malformed, skipped": 1,  # the same id twice
    }


def test_offsets_that_javascript_counted_are_converted_where_the_quote_tells(tmp_path: Path) -> None:
    text = "\U0001f600 fever \U0001f600 cough"
    items = [
        {"start": 3, "end": 8, "text": "fever", "labels": ["X"]},
        {"start": 12, "end": 17, "text": "cough", "labels": ["X"]},
    ]
    corpus = read_corpus(put(tmp_path, {"text": text, "label": items}))
    assert [corpus[0].text_of(span) for span in corpus[0].spans] == ["fever", "cough"]
    assert [(issue.kind, issue.count) for issue in corpus.report.issues] == [
        ("spans with offsets in UTF-16, converted", 2)
    ]
    items[0]["start"] = 5
    with pytest.raises(DataError, match="span 1: its text does not match the note at 5 to 8") as caught:
        read_corpus(put(tmp_path, {"text": text, "label": items}))
    assert "fever" not in str(caught.value)


@pytest.mark.parametrize("answer", ["reject", "ignore"])
def test_notes_that_prodigy_did_not_accept_are_left_out_and_counted(tmp_path: Path, answer: str) -> None:
    spans = [{"start": 0, "end": 5, "label": "X", "token_start": 0}]
    rows = [{"text": TEXT, "spans": spans, "tokens": [{"text": "Fever"}], "answer": one} for one in (answer, "accept")]
    path = put(tmp_path, *rows)
    corpus = read_corpus(path)
    assert [document.id for document in corpus] == ["n-2"]
    assert corpus[0].metadata == {}
    assert corpus.report.issues == (
        Issue("notes that were rejected or ignored", 1, f"{path}:1"),
        Issue("other keys", 2, f"{path}:2"),
    )


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("annotation", [{"label": ["X"], "points": [{"start": 0, "end": 4}]}], "annotation"),
        ("ents", {"X": [[0, 5, "X"]]}, "ents"),
        ("label", {"X": {"Fever": [[0, 4]]}}, "label"),
        ("Fever and", [{"startOffset": 0, "endOffset": 5}], ""),
    ],
)
def test_what_looks_like_spans_under_another_key_is_never_taken_for_metadata(
    tmp_path: Path, key: str, value: Any, shown: str
) -> None:
    path = put(tmp_path, {"id": "a", "text": TEXT, key: value})
    report = check_corpora([path])
    assert report.malformed == 1
    assert f"found another key{f', {shown},' * bool(shown)} with what looks like spans" in report.sources[0].problems[0]
    assert "Fever" not in report.sources[0].problems[0]
    reports: list[tuple[str, ReadReport]] = []
    assert [found.text for found in NoteSource((path,)).read(reports)] == [TEXT]  # to be tagged, it is a note


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"text": TEXT, "label": [[0, "5", "X"]]}, "span 1: expected start, end and label"),
        ({"text": TEXT, "label": [[0, 5]]}, "span 1: expected start, end and label"),
        ({"text": TEXT, "label": [{"start": 0, "end": 5, "labels": [1]}]}, 'span 1: expected strings under "labels"'),
        ({"text": TEXT, "spans": [{"start": 0, "start_offset": 0, "end": 5, "tag": "X"}]}, "expected one of"),
        (task({"result": 5}), 'expected a list under "tags"'),
        (task({"result": [{"type": "labels", "value": {"start": "/p[1]", "labels": ["X"]}}]}), 'under "start"'),
        ({"data": {"a": "x", "b": "y"}}, 'expected a string under "text", found nothing'),
        ([TEXT, TEXT], "found a value of type list"),
    ],
)
def test_a_malformed_note_is_named_by_its_place_in_a_list(tmp_path: Path, row: Any, problem: str) -> None:
    path = put(tmp_path, [{"text": "x"}, row], name="n.json")
    with pytest.raises(DataError) as caught:
        read_corpus(path)
    assert str(caught.value).startswith(f"{path}: note 2: ")
    assert problem in str(caught.value)
    assert TEXT[:5] not in str(caught.value)


# Metadata

META = {"patient_id": "P1", "date": "2024-05-01", "label": "urgent", "nested": {"a": [1, None]}}
NOTE = Document("a", "x y", (Span(0, 1, "X"),), META)


def test_other_keys_come_through_reading_tagging_and_writing(tmp_path: Path) -> None:
    write_corpus([NOTE], tmp_path / "n.jsonl")
    assert read_corpus(tmp_path / "n.jsonl").documents == (NOTE,)
    (tagged,) = [note.with_spans([Span(2, 3, "Y")]) for note in NoteSource((tmp_path / "n.jsonl",)).read([])]
    write_corpus(rename_labels([tagged], {"Y": "Z"}), tmp_path / "out.jsonl")
    assert json.loads((tmp_path / "out.jsonl").read_text()) == {
        "id": "a",
        "text": "x y",
        "tags": [{"start": 2, "end": 3, "tag": "Z"}],
        **META,
    }


@pytest.mark.parametrize("form", sorted(set(FORMATS) - {"jsonl", "docbin", "doccano", "label-studio", "prodigy"}))
def test_other_formats_name_what_they_leave_out(tmp_path: Path, form: str) -> None:
    note = Document("a", "x y", (Span(0, 1, "X"),), {"date": "2024", "The patient": "x"})
    kinds = [issue.kind for issue in write_corpus([note], tmp_path / "out", form)]
    assert kinds[:2] == ["field date, left out", "fields with other names, left out"]


def test_metadata_is_neither_shown_nor_shared() -> None:
    given = {"name": "Smith"}
    document = Document("a", "x", metadata=given)
    given["name"] = "Jones"
    assert document.metadata == {"name": "Smith"}
    assert "Smith" not in repr(document)
    assert hash(document) == hash(Document("a", "x"))
    assert pickle.loads(pickle.dumps(document)) == document != Document("a", "x")
    with pytest.raises(UsageError, match="a document's metadata must be a dict; found list"):
        Document("a", "x", metadata=[])  # type: ignore[arg-type]


@pytest.mark.parametrize("metadata", [{"x": object()}, {"x": float("nan")}, {"id": 1}, {"tags": []}, {"x": "\ud800"}])
def test_metadata_that_json_cannot_hold_is_refused(tmp_path: Path, metadata: dict[str, Any]) -> None:
    with pytest.raises(OutputError, match=r"^document 'a': "):
        write_corpus([Document("a", "x", metadata=metadata)], tmp_path / "n.jsonl")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "held", ['[["3", "9", "SYMPTOM"]]', '[{"start": "3", "end": "9", "label": "SYMPTOM"}]', '[["SYMPTOM", "3", "9"]]']
)
def test_offsets_in_quotes_look_like_spans_too(tmp_path: Path, held: str) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"text": "No oedema.", "ner": {held}}}\n')
    assert "what looks like spans" in check_corpora([tmp_path / "a.jsonl"]).sources[0].problems[0]


def test_an_empty_list_of_spans_beside_what_looks_like_spans_is_counted(tmp_path: Path) -> None:
    spans = [{"start": 0, "end": 5, "label": "X"}]
    rows = [{"text": TEXT, "tags": [], "ents": spans}, {"text": TEXT, "tags": [[0, 5, "X"]], "ents": spans}]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    issue = Issue("empty lists of spans beside what looks like spans", 1, f"{path}:1")
    assert issue in check_corpora([path]).sources[0].issues


@pytest.mark.parametrize("held", ['{"start_year": "2019", "end_year": "2020"}', '["2019", "2020", "21"]'])
def test_other_digits_in_quotes_do_not_look_like_spans(tmp_path: Path, held: str) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"text": "No oedema.", "stay": {held}}}\n')
    assert check_corpora([tmp_path / "a.jsonl"]).malformed == 0
