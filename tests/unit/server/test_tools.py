"""What Label Studio and INCEpTION ask for, with their own keys, and the answers as they read them."""

from __future__ import annotations

import base64
import hashlib
import logging
import sys
from io import BytesIO
from typing import Any

import pytest
from cassis import Cas, TypeSystem, load_cas_from_xmi

from cardioner.data.formats.labeling_interface import read_interface
from cardioner.prediction.predictor import Predictor
from cardioner.server.limits import Limits

TEXTS = ["\U0001fac0 severe chest pain\r\nand e\u0301 dyspnoea", "", "no fever"]
TOKEN = b"0123456789abcdef"


def interface(predictor: Predictor) -> str:
    """A labeling interface with names of its own."""
    labels = "".join(f'<Label value="{label.lower()}" alias="{label}!"/>' for label in predictor.labels)
    return f'<View><Labels name="ner" toName="note">{labels}</Labels><Text name="note" value="$report"/></View>'


def tasks(*texts: str) -> dict[str, Any]:
    """A request of Label Studio, with everything that it sends."""
    return {
        "tasks": [
            {"id": number, "data": {"report": text, "ward": 1}, "meta": {}, "project": 7, "file_upload": None}
            for number, text in enumerate(texts)
        ],
        "project": "7.1700000000",
        "params": {"login": None, "password": None, "context": None},
    }


# Label Studio


def test_predictions_have_the_names_of_the_interface_and_the_spans_of_the_model(serve: Any, tagger: Predictor) -> None:
    client = serve()
    version = client.post("/label-studio/setup", json={"schema": interface(tagger), "project": "7.1"}).json()
    answer = client.post("/label-studio/predict", json=tasks(*TEXTS) | {"label_config": interface(tagger)})
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert len(results) == len(TEXTS)
    for text, prediction in zip(TEXTS, results, strict=True):
        expected = tagger(text)
        assert prediction["model_version"] == version["model_version"] == "model 000000000000"
        # Other notes share the batch, so that the last digits may differ.
        least = min((span.score for span in expected), default=None)
        assert prediction.get("score") == (None if least is None else pytest.approx(least, abs=1e-5))
        assert [
            (region["value"]["start"], region["value"]["end"], region["value"]["labels"], region["score"])
            for region in prediction["result"]
        ] == [(span.start, span.end, [f"{span.label}!"], pytest.approx(span.score, abs=1e-5)) for span in expected]
        for region in prediction["result"]:
            assert (region["from_name"], region["to_name"], region["type"]) == ("ner", "note", "labels")
            assert region["value"]["text"] == text[region["value"]["start"] : region["value"]["end"]]
        assert len({region["id"] for region in prediction["result"]}) == len(expected)
    assert any(prediction["result"] for prediction in results)


def test_more_tasks_than_a_request_may_have_texts_are_tagged_part_by_part(serve: Any, tagger: Predictor) -> None:
    client = serve(limits=Limits(texts=4, queue=4, characters=40, wait_ms=0))
    texts = [f"chest pain number {number}" for number in range(11)]
    answer = client.post("/label-studio/predict", json=tasks(*texts) | {"label_config": interface(tagger)})
    assert [len(one["result"]) for one in answer.json()["results"]] == [len(tagger(text)) for text in texts]
    answer = client.post("/label-studio/predict", json=tasks("x" * 41) | {"label_config": interface(tagger)})
    assert answer.status_code == 413


def test_types_that_an_interface_lacks_are_left_out_and_logged(
    serve: Any, tagger: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    found = tagger(TEXTS[0])
    kept, *others = sorted({span.label for span in found})
    config = (
        f'<View><Labels name="a" toName="b"><Label value="{kept}"/></Labels><Text name="b" value="$report"/></View>'
    )
    with caplog.at_level(logging.WARNING, "cardioner.server"):
        answer = serve().post("/label-studio/predict", json=tasks(TEXTS[0]) | {"label_config": config})
    (prediction,) = answer.json()["results"]
    assert {region["value"]["labels"][0] for region in prediction["result"]} == {kept}
    assert all(label in caplog.text for label in others)
    assert bool(others) == ("such spans are left out" in caplog.text)


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ("Zebra", "body.schema: expected a labeling interface in XML"),
        ('<View><Text name="b" value="$c"/></View>', "body.schema: expected a labeling interface with <Labels>"),
        (
            '<View><Labels name="a" toName="b"><Label value="Zebra"/></Labels><Text name="b" value="$c"/></View>',
            "body.schema: expected a labeling interface with labels that the model finds: ",
        ),
    ],
)
def test_an_interface_that_cannot_show_the_spans_is_refused_when_the_backend_is_set_up(
    config: str, problem: str, serve: Any
) -> None:
    answer = serve().post("/label-studio/setup", json={"schema": config, "hostname": "http://localhost:8080"})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(problem)
    assert "Zebra" not in answer.text


def test_a_task_without_a_text_is_named_by_its_place(serve: Any, tagger: Predictor) -> None:
    sent = tasks("Zebra") | {"label_config": interface(tagger).replace("$report", "$other")}
    answer = serve().post("/label-studio/predict", json=sent)
    assert (answer.status_code, answer.json()["detail"]) == (
        422,
        "body.tasks.0.data: expected a text under the key that the labeling interface names",
    )


def test_the_interface_that_is_offered_shows_everything_that_is_found(serve: Any, tagger: Predictor) -> None:
    client = serve()
    offered = client.get("/label-studio/interface").text
    assert set(read_interface(offered, tagger.labels).labels) == set(tagger.labels)
    assert client.post("/label-studio/setup", json={"schema": offered}).status_code == 200
    assert client.get("/label-studio/health").json() == {"status": "UP", "model_class": "CardioNER"}
    assert client.get("/label-studio/versions").json() == {"versions": ["model 000000000000"]}


@pytest.mark.parametrize("path", ["/label-studio/train", "/label-studio/webhook", "/inception/train"])
def test_training_is_refused_with_what_to_do(path: str, serve: Any) -> None:
    answer = serve().post(path, json={"action": "START_TRAINING"})
    assert answer.status_code == 501
    assert "use cardioner train" in answer.json()["detail"]


def test_the_token_may_be_the_password_that_label_studio_sends(serve: Any) -> None:
    client = serve(token=hashlib.sha256(TOKEN).digest())

    def status(header: str) -> int:
        return int(client.get("/label-studio/health", headers={"Authorization": header}).status_code)

    assert status("Basic " + base64.b64encode(b"any one:" + TOKEN).decode()) == 200
    assert status("Bearer " + TOKEN.decode()) == 200
    for wrong in (b"any one:" + TOKEN[:-1], TOKEN, b":" + TOKEN + b":"):
        assert status("Basic " + base64.b64encode(wrong).decode()) == 401
    for header in ("Basic", "Basic !", "Basic ====", "Basic", "Digest x", ""):
        assert status(header) == 401
    assert client.post("/label-studio/predict", json={}).status_code == 401
    assert client.post("/inception/predict", json={}).status_code == 401


def test_what_label_studio_tells_of_annotations_is_taken_and_forgotten(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    told = {"action": "ANNOTATION_CREATED", "task": {"data": {"text": "Zebra"}}, "annotation": {"result": []}}
    with caplog.at_level(logging.DEBUG):
        answer = serve().post("/label-studio/webhook", json=told)
    assert (answer.status_code, answer.content) == (204, b"")
    assert "Zebra" not in caplog.text


# INCEpTION

LAYER, FEATURE = "webanno.custom.Finding", "kind"


def types(*, predicts: bool = True, scored: bool = True) -> TypeSystem:
    """A type system as INCEpTION extends it for a recommender."""
    made = TypeSystem()
    layer = made.create_type(LAYER)
    made.create_feature(layer, FEATURE, "uima.cas.String")
    if predicts:
        made.create_feature(layer, "inception_internal_predicted", "uima.cas.Boolean")
    if scored:
        made.create_feature(layer, f"{FEATURE}_score", "uima.cas.Double")
    return made


def note(text: str, made: TypeSystem) -> dict[str, Any]:
    """A request of INCEpTION, with everything that it sends; the note has an annotation already."""
    cas = Cas(made)
    cas.sofa_string = text
    cas.add(made.get_type(LAYER)(begin=2, end=len(text), kind="OLD"))
    return {
        "metadata": {
            "layer": LAYER,
            "feature": FEATURE,
            "projectId": 3,
            "anchoringMode": "tokens",
            "crossSentence": False,
            "range": {"begin": 0, "end": len(text)},
        },
        "document": {"xmi": cas.to_xmi(), "documentId": 4, "userId": "a"},
        "typeSystem": made.to_xml(),
    }


@pytest.mark.parametrize("scored", [True, False])
def test_suggestions_are_marked_and_what_was_there_stays(scored: bool, serve: Any, tagger: Predictor) -> None:
    made = types(scored=scored)
    answer = serve().post("/inception/predict", json=note(TEXTS[0], made))
    assert answer.status_code == 200
    content = answer.json()["document"]
    cas = load_cas_from_xmi(BytesIO(content.encode()), typesystem=made)
    assert cas.sofa_string == TEXTS[0]
    found = [(one.begin, one.end, one[FEATURE], one["inception_internal_predicted"]) for one in cas.select(LAYER)]
    expected = tagger(TEXTS[0])
    assert expected
    assert sorted(one for one in found if one[3]) == sorted(
        (span.start, span.end, span.label, True) for span in expected
    )
    assert [one for one in found if not one[3]] == [(2, len(TEXTS[0]), "OLD", None)]
    if scored:
        assert sorted(
            one[f"{FEATURE}_score"] for one in cas.select(LAYER) if one.inception_internal_predicted
        ) == sorted(span.score for span in expected)
    first = min(expected)
    units = len(TEXTS[0][: first.start].encode("utf-16-le")) // 2
    assert f'begin="{units}"' in content


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"typeSystem": "Zebra"}, "body.typeSystem: expected a type system of UIMA"),
        ({"document": {"xmi": "Zebra"}}, "body.document.xmi: expected a note in UIMA CAS XMI"),
        ({"metadata": {"layer": "Zebra", "feature": FEATURE}}, "body.metadata: expected a layer of the type system"),
        ({"metadata": {"layer": LAYER, "feature": "Zebra"}}, "body.metadata: expected a layer of the type system"),
        ({"metadata": {"layer": LAYER}}, "body.metadata.feature: field required"),
    ],
)
def test_a_note_that_cannot_be_read_is_refused_without_its_words(
    changes: dict[str, Any], problem: str, serve: Any
) -> None:
    answer = serve().post("/inception/predict", json=note("Zebra", types()) | changes)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(problem)
    assert "Zebra" not in answer.text


def test_a_layer_that_takes_no_suggestions_is_refused(serve: Any) -> None:
    answer = serve().post("/inception/predict", json=note("x y z", types(predicts=False)))
    assert (answer.status_code, "inception_internal_predicted" in answer.json()["detail"]) == (422, True)


def test_without_dkpro_cassis_the_other_paths_work(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client, sent = serve(), note("x y z", types())
    monkeypatch.setitem(sys.modules, "cassis", None)
    answer = client.post("/inception/predict", json=sent)
    assert (answer.status_code, "pip install dkpro-cassis" in answer.json()["detail"]) == (501, True)
    assert client.post("/predict", json={"text": "x"}).status_code == 200
