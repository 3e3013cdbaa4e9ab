"""Attributes of spans over HTTP: in what is predicted, in what people save, and in what tools are sent."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
from cassis import Cas, TypeSystem, load_cas_from_xmi

from cardioner.data.documents import Document, Span
from cardioner.data.formats import read_corpus
from cardioner.data.formats.labeling_interface import labeling_interface
from cardioner.prediction.predictions import TaggedNote
from cardioner.server.audit import changes
from cardioner.server.corrections import Corrections
from cardioner.server.models import known_attributes
from cardioner.server.notes import Notes, Workspace

TEXT = "\U0001f9e1 No oedema."
SAID = Span(5, 11, "SYMPTOM", 0.5, (), {"Negation": True, "Time": "past"}, {"Negation": 0.75, "Time": 0.5, "Kin": 1.0})
NOTE = Document("a", TEXT, (SAID, Span(0, 1, "HEART")))
SENT = {"start": 5, "end": 11, "label": "SYMPTOM"}


class Saying:
    """Stands for a model that finds one mention, and says something of it."""

    labels = ("SYMPTOM",)
    attributes = MappingProxyType({"Negation": (None, True), "Time": (None, "now", "past")})

    def predict(self, texts: Sequence[str], **_: Any) -> Any:
        notes = [TaggedNote(Document("text", text, (SAID,))) for text in texts]
        return SimpleNamespace(groups=lambda: iter([notes]))


def correcting(folder: Path, format: Any = "jsonl", note: Document = NOTE) -> Workspace:  # noqa: A002
    return Workspace(Notes([note]), Corrections(folder, format, known=["a"]), {"model": Path("models/model")})


def saved(serve: Any, workspace: Workspace, *spans: Any, status: int = 200) -> Any:
    answer = serve(Saying(), workspace=workspace).put(
        "/corrections", json={"note": "a", "text": TEXT, "spans": [*spans]}
    )
    assert answer.status_code == status, answer.text
    return answer.json()


def test_predictions_and_streams_have_attributes_and_their_scores(serve: Any) -> None:
    client = serve(Saying())
    (span,) = client.post("/predict", json={"text": TEXT}).json()["results"][0]["spans"]
    assert span["attributes"] == {"Negation": True, "Time": "past"}
    assert span["attribute_scores"] == {"Negation": 0.75, "Time": 0.5, "Kin": 1.0}
    streamed = client.post("/predict/stream", content=json.dumps({"text": TEXT}))
    assert json.loads(streamed.text)["spans"] == [span]
    assert known_attributes(Saying()) == {"Negation": [True], "Time": ["now", "past"]}  # type: ignore[arg-type]


def test_a_note_is_read_with_its_attributes(serve: Any, tmp_path: Path) -> None:
    found = serve(workspace=correcting(tmp_path / "fixed")).get("/note", params={"note": "a"}).json()
    assert [one["attributes"] for one in found["annotations"]] == [{"Negation": True, "Time": "past"}, {}]


def test_what_a_person_says_of_a_span_is_saved_and_what_goes_unsaid_is_kept(serve: Any, tmp_path: Path) -> None:
    first, second = correcting(tmp_path / "first"), correcting(tmp_path / "second")
    answer = saved(serve, first, SENT, {"start": 0, "end": 1, "label": "HEART", "attributes": {"Sure": "no"}})
    assert [one["attributes"] for one in answer["spans"]] == [{"Sure": "no"}, {"Negation": True, "Time": "past"}]
    spans = read_corpus(tmp_path / "first")["a"].spans
    assert [dict(span.attributes) for span in spans] == [{"Sure": "no"}, {"Negation": True, "Time": "past"}]
    saved(serve, second, SENT | {"attributes": {}})
    assert read_corpus(tmp_path / "second")["a"].spans == (Span(5, 11, "SYMPTOM"),)


def test_another_attribute_is_another_revision(serve: Any, tmp_path: Path) -> None:
    answers = [
        saved(serve, correcting(tmp_path / str(number)), SENT | {"attributes": said})
        for number, said in enumerate(({}, {"Negation": True}))
    ]
    assert answers[0]["revision"] != answers[1]["revision"]


@pytest.mark.parametrize(
    ("said", "format"),
    [
        ({"zyxwvcanary": False}, "jsonl"),
        ({"zyxwvcanary": ""}, "jsonl"),
        ({"": True}, "jsonl"),
        ({"zyxwvcanary": 1}, "jsonl"),
        ({"zyxwvcanary": ["x"]}, "jsonl"),
        ({"zyxwvcanary" * 10: True}, "jsonl"),
        (["zyxwvcanary"], "jsonl"),
        ({"zyxwv canary": True}, "brat"),
    ],
)
def test_attributes_that_cannot_be_saved_are_refused_without_their_names(
    said: Any,
    format: Any,  # noqa: A002
    serve: Any,
    tmp_path: Path,
) -> None:
    answer = saved(serve, correcting(tmp_path / "fixed", format), SENT | {"attributes": said}, status=422)
    assert "canary" not in json.dumps(answer)
    assert not (tmp_path / "fixed").exists()


def test_the_audit_names_the_attributes_that_changed_without_their_values() -> None:
    before = [SAID, Span(0, 1, "A", attributes={"Sure": "no"})]
    after = [Span(5, 11, "SYMPTOM", attributes={"Negation": True, "Time": "now", "New": True}), before[1]]
    found = changes(before, after)
    assert (found["kept"], found["added"], found["removed"]) == (2, [], [])
    assert found["attributes"] == [{"offsets": ((5, 11),), "label": "SYMPTOM", "changed": ["New", "Time"]}]


def test_label_studio_gets_choices_and_what_its_interface_lacks_is_logged(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = serve(Saying())
    offered = client.get("/label-studio/interface").text
    assert offered == labeling_interface(["SYMPTOM"], {"Negation": [True], "Time": ["now", "past"]})
    task = {"tasks": [{"id": 1, "data": {"text": TEXT}}]}
    answer = client.post("/label-studio/predict", json=task | {"label_config": offered}).json()
    found = [(one["type"], one["from_name"], one.get("score")) for one in answer["results"][0]["result"]]
    assert found == [("labels", "label", 0.5), ("choices", "Negation", 0.75), ("choices", "Time", 0.5)]
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        bare = task | {"label_config": labeling_interface(["SYMPTOM"], {"Time": ["now"]})}
        answer = client.post("/label-studio/predict", json=bare).json()
    assert [one["type"] for one in answer["results"][0]["result"]] == ["labels"]
    assert "lacks choices for Negation, Time" in caplog.text


def test_inception_gets_the_attributes_that_its_layer_has_features_for(serve: Any) -> None:
    made = TypeSystem()
    layer = made.create_type("webanno.custom.Finding")
    kinds = {"kind": "String", "inception_internal_predicted": "Boolean", "Negation": "Boolean", "Time": "String"}
    for name, kind in (kinds | {"Time_score": "Double"}).items():
        made.create_feature(layer, name, f"uima.cas.{kind}")
    cas = Cas(made)
    cas.sofa_string = TEXT
    message = {
        "metadata": {"layer": layer.name, "feature": "kind"},
        "document": {"xmi": cas.to_xmi()},
        "typeSystem": made.to_xml(),
    }
    content = serve(Saying()).post("/inception/predict", json=message).json()["document"]
    (found,) = load_cas_from_xmi(BytesIO(content.encode()), typesystem=made).select(layer.name)
    assert (found.kind, found.Negation, found.Time, found.Time_score) == ("SYMPTOM", True, "past", 0.5)
