"""Tasks of Label Studio: predictions, annotations, and the names that a labeling interface gives to its parts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cardioner.data.documents import Document, Span
from cardioner.data.formats import Issue, ReadReport, read_corpus, write_corpus
from cardioner.data.formats.labeling_interface import Control, Interface, labeling_interface, read_interface
from cardioner.data.notes import NoteSource
from cardioner.errors import DataError, OutputError

TEXT = "\U0001fac0\r\nNo e\u0301 oedema\nat the ankle"
SPAN = Span(TEXT.index("oedema"), len(TEXT), "SYMPTOM", 0.75)


def region(span: Span = SPAN, **value: Any) -> dict[str, Any]:
    held = {"start": span.start, "end": span.end, "text": TEXT[span.start : span.end], "labels": [span.label], **value}
    return {"id": "x", "type": "labels", "from_name": "ner", "to_name": "note", "value": held, "score": 0.75}


def put(folder: Path, *tasks: Any) -> Path:
    (folder / "tasks.json").write_text(json.dumps(tasks))
    return folder / "tasks.json"


def test_what_a_model_found_is_written_as_predictions_with_the_least_score_of_the_task(tmp_path: Path) -> None:
    notes = [Document("a", TEXT, (SPAN, Span(0, 1, "HEART", 0.5)), {"ward": "A"}), Document("b", "none")]
    assert write_corpus(notes, tmp_path / "t.json", "label-studio", predicted=True) == ()
    first, second = json.loads((tmp_path / "t.json").read_text())
    assert first["data"] == {"id": "a", "text": TEXT, "ward": "A"}
    (prediction,) = first["predictions"]
    assert prediction["score"] == 0.5
    assert prediction["result"][0] == {**region(), "id": "span-1", "from_name": "label", "to_name": "text"}
    assert prediction["result"][1]["id"] == "span-2"
    assert second == {
        "data": {"id": "b", "text": "none"},
        "predictions": [{"model_version": "cardioner", "result": []}],
    }


def test_what_people_marked_is_written_as_annotations_and_an_empty_file_is_a_list(tmp_path: Path) -> None:
    write_corpus([Document("b", "none")], tmp_path / "t.json", "label-studio")
    assert json.loads((tmp_path / "t.json").read_text())[0]["annotations"] == [{"result": []}]
    assert read_corpus(tmp_path / "t.json", require_annotations=True).report == ReadReport()
    write_corpus([], tmp_path / "none.json", "label-studio")
    assert json.loads((tmp_path / "none.json").read_text()) == []


def test_predictions_are_read_where_no_annotation_is_needed_and_never_learned_from(tmp_path: Path) -> None:
    task = {"data": {"text": TEXT}, "predictions": [{"result": []}, {"result": [region()]}], "annotations": []}
    path = put(tmp_path, task)
    corpus = read_corpus(path)
    assert corpus[0].spans == (SPAN,)
    assert {issue.kind: issue.count for issue in corpus.report.issues} == {
        "tasks without an annotation, read with their prediction": 1,
        "predictions of a note beside the one that is read": 1,
    }
    with pytest.raises(DataError, match="expected an annotation, found a prediction that nobody has corrected"):
        read_corpus(path, require_annotations=True)
    assert [note.text for note in NoteSource((path,)).read([])] == [TEXT]


def test_an_annotation_goes_before_predictions_and_its_scores_are_the_models_own(tmp_path: Path) -> None:
    task = {"data": {"text": TEXT}, "predictions": [{"result": []}], "annotations": [{"result": [region()]}]}
    corpus = read_corpus(put(tmp_path, task), require_annotations=True)
    assert corpus[0].spans == (Span(SPAN.start, SPAN.end, SPAN.label),)
    assert {issue.kind: issue.count for issue in corpus.report.issues} == {
        "predictions beside annotations": 1,
        "scores of predictions that were accepted": 1,
    }


@pytest.mark.parametrize(
    "quote", ["oedema\\nat the ankle", "oedema at the ankle", "oedema\nat  the ankle ", "oedemaat the ankle"]
)
def test_quotes_as_the_editor_writes_them_are_right(tmp_path: Path, quote: str) -> None:
    task = {"data": {"text": TEXT}, "annotations": [{"result": [region(text=quote)]}]}
    assert read_corpus(put(tmp_path, task))[0].spans[0].start == SPAN.start


def test_the_text_is_the_string_in_which_the_quotes_are_whatever_it_is_called(tmp_path: Path) -> None:
    data = {"patient": "P-1 with more", "note": TEXT, "ward": "A"}
    corpus = read_corpus(put(tmp_path, {"data": data, "annotations": [{"result": [region()]}]}))
    assert corpus[0].text == TEXT
    assert corpus[0].metadata == {"patient": "P-1 with more", "ward": "A"}
    with pytest.raises(DataError, match='note 1: expected a string under "text"'):
        read_corpus(put(tmp_path, {"data": {"a": "x", "b": "y"}, "annotations": [{"result": []}]}))


def test_the_shorter_form_is_read_under_any_name_of_the_labels(tmp_path: Path) -> None:
    row = {"id": 1, "text": TEXT, "ner": [region()["value"]], "annotator": 1}
    corpus = read_corpus(put(tmp_path, row), require_annotations=True)
    assert [corpus[0].text_of(span) for span in corpus[0].spans] == ["oedema\nat the ankle"]
    assert corpus[0].metadata == {"annotator": 1}


def test_regions_without_a_label_are_counted(tmp_path: Path) -> None:
    corpus = read_corpus(put(tmp_path, {"data": {"text": TEXT}, "annotations": [{"result": [region(labels=[])]}]}))
    assert corpus[0].spans == ()
    assert "regions without a label" in [issue.kind for issue in corpus.report.issues]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"text": "another"}, "span 1: its text does not match the note at"),
        ({"start": -3}, "span 1: its text does not match the note at"),
        ({"start": "/p[1]"}, 'span 1: expected a whole number under "start"'),
        ({"end": 10**9}, "ends after the text"),
    ],
)
def test_a_region_that_is_not_where_it_says_is_refused_without_its_text(
    tmp_path: Path, value: dict[str, Any], problem: str
) -> None:
    with pytest.raises(DataError, match="note 1: ") as caught:
        read_corpus(put(tmp_path, {"data": {"text": TEXT}, "annotations": [{"result": [region(**value)]}]}))
    assert problem in str(caught.value)
    assert "oedema" not in str(caught.value)


@pytest.mark.parametrize("score", [-0.1, 1.5, float("nan")])
@pytest.mark.parametrize("form", ["label-studio", "prodigy"])
def test_scores_that_are_no_probabilities_are_not_written(tmp_path: Path, form: str, score: float) -> None:
    with pytest.raises(OutputError, match="the score of the span 0 to 1 is not from 0 to 1"):
        write_corpus([Document("a", "x", (Span(0, 1, "X", score),))], tmp_path / "t", form, predicted=True)


# Labeling interfaces


def test_the_interface_that_we_give_is_one_that_we_read() -> None:
    config = labeling_interface(["b<&\"'", "A"], {"Time": ["past", "now"], "Negation": [True]})
    assert config.index('"A"') < config.index('"b')
    found = read_interface(config, ["A", "b<&\"'", "C"])
    time, negation = Control("Time", {"past": "past", "now": "now"}), Control("Negation", {"true": "true"})
    assert found == Interface(labels={"A": "A", "b<&\"'": "b<&\"'"}, controls={"time": time, "negation": negation})
    assert labeling_interface(["A"]) == labeling_interface(["A"], {})


def test_attributes_are_called_as_the_interface_calls_them_and_left_out_if_it_has_no_choice() -> None:
    config = (
        '<View><Labels name="ner" toName="note"><Label value="X"/></Labels><Text name="note" value="$t"/>'
        '<Choices name="negation" toName="note" perRegion="true"><Choice value="Negated" alias="neg"/></Choices>'
        '<Choices name="Time" toName="note" perRegion="true"><Choice value="Past"/><Choice value="Now"/></Choices>'
        '<Choices name="Kin" toName="note"><Choice value="true"/></Choices></View>'
    )
    said = {"Negation": True, "Time": "past", "Kin": True, "Sure": "no"}
    span = Span(SPAN.start, SPAN.end, "X", 0.5, attributes=said, attribute_scores={"Negation": 0.75})
    shown = read_interface(config, ["X"])
    first, *others = shown.results(Document("a", TEXT), [span])
    assert [(one["id"], one["type"], one["from_name"], one["to_name"]) for one in others] == [
        (first["id"], "choices", "negation", "note"),
        (first["id"], "choices", "Time", "note"),
    ]
    place = {key: first["value"][key] for key in ("start", "end", "text")}
    assert [one["value"] for one in others] == [{**place, "choices": ["neg"]}, {**place, "choices": ["Past"]}]
    assert [one.get("score") for one in others] == [0.75, None]
    assert [name for name, value in said.items() if shown.shows(name, value)] == ["Negation", "Time"]


def choice(name: str, *chosen: Any, **keys: Any) -> dict[str, Any]:
    """What was chosen for the region."""
    value = {key: held for key, held in region()["value"].items() if key != "labels"}
    return {"id": "x", "type": "choices", "from_name": name, "value": {**value, "choices": [*chosen]}, **keys}


def test_choices_for_a_region_are_its_attributes(tmp_path: Path) -> None:
    results = [
        choice("Negation", "true", score=0.5),
        region(),
        choice("Time", "past", "now"),
        choice("Empty"),
        choice("Odd", 5),
        choice("Note", "urgent", id="y"),
        {"id": "x", "type": "textarea", "value": {"text": ["x"]}},
    ]
    corpus = read_corpus(put(tmp_path, {"data": {"text": TEXT}, "predictions": [{"result": results}]}))
    said = {"Negation": True, "Time": "past"}
    assert corpus[0].spans == (replace(SPAN, attributes=said, attribute_scores={"Negation": 0.5}),)
    counts = {issue.kind: issue.count for issue in corpus.report.issues}
    del counts["tasks without an annotation, read with their prediction"]
    assert counts == {
        "choices for a region beside the first": 1,
        "choices for a region without a name or a value": 2,
        "results that are no labels of text": 2,
    }
    corpus = read_corpus(put(tmp_path, {"data": {"text": TEXT}, "annotations": [{"result": results[:2]}]}))
    assert corpus[0].spans == (replace(SPAN, score=None, attributes={"Negation": True}),)
    assert [(one.kind, one.count) for one in corpus.report.issues] == [("scores of predictions that were accepted", 2)]


def test_scores_of_absent_attributes_are_counted_as_left_out(tmp_path: Path) -> None:
    span = replace(SPAN, attributes={"Negation": True}, attribute_scores={"Negation": 0.5, "Time": 0.25})
    issues = write_corpus([Document("a", TEXT, (span,))], tmp_path / "t.json", "label-studio", predicted=True)
    assert issues == (Issue("scores of absent attributes, left out", 1, "a"),)
    assert read_corpus(tmp_path / "t.json")[0].spans == (replace(span, attribute_scores={"Negation": 0.5}),)


def test_the_names_of_any_interface_are_found() -> None:
    config = (
        '<View><!-- ours --><Header value="$title"/><Labels name="other" toName="image"><Label value="X"/></Labels>'
        '<HyperText name="html" value="$html"/><Labels name="ner" toName="note"><Label value="Disease" alias="DIS"/>'
        '<Label value="drug"/></Labels><Text name="note" value="$report"/></View>'
    )
    found = read_interface(config, ["DISEASE", "DRUG", "SITE"])
    assert (found.labels_name, found.text_name, found.key) == ("ner", "note", "report")
    assert found.labels == {"DISEASE": "DIS", "DRUG": "drug"}
    assert read_interface(config, ["DIS"]).labels == {"DIS": "DIS"}
    both = labeling_interface(["x", "X", "b"])
    assert read_interface(both, ["X", "x", "B"]).labels == {"X": "X", "x": "x", "B": "b"}


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ("", "in XML, found an error at"),
        ("<View>", "in XML, found an error at"),
        ("<!DOCTYPE x [<!ENTITY a 'b'>]><View>&a;</View>", "without a document type"),
        ("<View/>", "expected a labeling interface with <Labels> for a <Text>"),
        ('<View><Labels name="a" toName="b"/><HyperText name="b" value="$c"/></View>', "with <Labels> for a <Text>"),
        ('<View><Labels name="a" toName="b"/><Text name="b" value="$c" valueType="url"/></View>', "that is no URL"),
    ],
)
def test_an_interface_without_labels_of_text_is_refused(config: str, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        read_interface(config, ["X"])
