"""Every door gives the same spans, and says the same of them, for the same notes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import spacy
from fastapi.testclient import TestClient
from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

from cardioner import Document, Predictor
from cardioner.cli import app
from cardioner.data.formats import read_corpus, write_corpus
from cardioner.distributed import TaggingJob
from cardioner.interop.onnx import add_onnx
from cardioner.model_dir.save import write_model_dir
from cardioner.multiclass.modeling import load_custom_cardioner_multiclass_model
from cardioner.server.app import make_app
from cardioner.server.limits import Limits
from cardioner.server.models import Source, load_models
from cardioner.server.service import Service

ATTRIBUTES: dict[str, list[Any]] = {"Certainty": [None, "possible", "unlikely"], "Negation": [None, True]}
NOTES = [
    Document("first", "No chest pain. Atrial fibrillation, on bisoprolol 2.5 mg since the aortic valve was replaced."),
    Document("empty", ""),
    Document("long", "Aortaklepstenose met syncope en dyspnoea; geen orthopnoe. " * 6),
]
HEADS = {
    "crf": {"use_crf": True},
    "linear": {"use_crf": False},
    "per-type": {"use_crf": True, "overlap": "per-type"},
}
Span = tuple[int, int, str, float, dict[str, Any], dict[str, float]]
Door = Callable[[Path, Path], list[list[Span]]]
"""Tags the notes with a directory; may write into a folder."""


def of(spans: Sequence[Any]) -> list[Span]:
    return [
        (one.start, one.end, one.label, one.score, dict(one.attributes), dict(one.attribute_scores)) for one in spans
    ]


def of_json(spans: Sequence[dict[str, Any]], label: str = "label") -> list[Span]:
    names = ("start", "end", label, "score", "attributes", "attribute_scores")
    return [tuple(span[name] for name in names) for span in spans]  # type: ignore[misc]


def by_predictor(directory: Path, _: Path, **options: Any) -> list[list[Span]]:
    return [of(one.spans) for one in Predictor.from_pretrained(directory, device="cpu", **options).predict(NOTES)]


def by_loader(directory: Path, _: Path) -> list[list[Span]]:
    model, tokenizer, _config = load_custom_cardioner_multiclass_model(directory, "cpu")
    return [of(one.spans) for one in Predictor(model, tokenizer).predict(NOTES)]


def by_auto_class(directory: Path, _: Path) -> list[list[Span]]:
    model = AutoModelForTokenClassification.from_pretrained(directory, trust_remote_code=True)
    return [of(one.spans) for one in Predictor(model, AutoTokenizer.from_pretrained(directory)).predict(NOTES)]


def by_pipeline(directory: Path, _: Path) -> list[list[Span]]:
    tagger = pipeline("token-classification", model=str(directory), trust_remote_code=True, device="cpu")
    return [of_json(tagger(note.text), "entity_group") for note in NOTES]


def by_onnx(directory: Path, _: Path) -> list[list[Span]]:
    add_onnx(directory)
    return by_predictor(directory, _, engine="onnx")


def by_mean(directory: Path, _: Path) -> list[list[Span]]:
    return [of(one.spans) for one in Predictor.from_pretrained([directory, directory], device="cpu").predict(NOTES)]


def by_vote(directory: Path, _: Path) -> list[list[Span]]:
    found = Predictor.from_pretrained([directory, directory, directory], device="cpu", vote="score").predict(NOTES)
    return [of(one.spans) for one in found]


def by_command(form: str) -> Door:
    def door(directory: Path, folder: Path) -> list[list[Span]]:
        write_corpus(NOTES, folder / "notes")
        output = folder / f"tagged{form}"
        given = ["predict", str(directory), str(folder / "notes"), "--output", str(output), "--device", "cpu"]
        assert app(given, standalone_mode=False) in (None, 0)
        spans = {one.id: of(one.spans) for one in read_corpus(output).documents}
        return [spans[note.id] for note in NOTES]

    return door


def by_worker(directory: Path, _: Path) -> list[list[Span]]:
    """What each worker of a Ray or Spark cluster runs; tests/cluster has real clusters."""
    job = TaggingJob.of(directory, device="cpu")
    batch = pa.RecordBatch.from_pydict({"note_id": [n.id for n in NOTES], "note_text": [n.text for n in NOTES]})
    rows = job.tag(batch).to_pylist()
    texts = {"true": True}
    return [
        [
            (*span[:4], {name: texts.get(value, value) for name, value in span[4].items()}, span[5])
            for span in of_json([{**span, **_dicts(span)} for span in row["spans"]])
        ]
        for row in rows
    ]


def _dicts(span: dict[str, Any]) -> dict[str, Any]:
    return {name: dict(span[name]) for name in ("attributes", "attribute_scores")}


def by_spacy(directory: Path, _: Path) -> list[list[Span]]:
    nlp = spacy.blank("en")
    nlp.add_pipe("cardioner", config={"model": str(directory)})
    names = ("start", "end", "score", "attributes", "attribute_scores")
    found = []
    for doc in nlp.pipe(note.text for note in NOTES):
        values = [[getattr(span._, f"cardioner_{name}") for name in names] for span in doc.spans["cardioner"]]
        labels = [span.label_ for span in doc.spans["cardioner"]]
        found.append(
            [(v[0], v[1], label, v[2], dict(v[3]), dict(v[4])) for v, label in zip(values, labels, strict=True)]
        )
    return found


def by_server(directory: Path, _: Path) -> list[list[Span]]:
    service = Service(load_models(Source((directory,), device="cpu")), Limits(wait_ms=1))
    with TestClient(make_app(service)) as client:
        answer = client.post("/predict", json={"text": [note.text for note in NOTES]}).json()
    return [of_json(result["spans"]) for result in answer["results"]]


DOORS: dict[str, Door] = {
    "loader": by_loader,
    "auto class": by_auto_class,
    "pipeline": by_pipeline,
    "onnx": by_onnx,
    "mean": by_mean,
    "vote": by_vote,
    "predict to JSON lines": by_command(".jsonl"),
    "predict to brat": by_command(""),
    "worker of a cluster": by_worker,
    "spacy": by_spacy,
    "server": by_server,
}


@pytest.fixture
def directory(make_model: Callable[..., Any], tokenizers: dict[str, Any], tmp_path: Path, head: dict[str, Any]) -> Path:
    model = make_model("bert", attributes=ATTRIBUTES, attribute_temperatures={"Negation": 2.0}, **head)
    write_model_dir(model, tokenizers["wordpiece"], tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_every_door_gives_the_spans_of_the_predictor_and_says_the_same_of_them(
    door: Door, directory: Path, tmp_path: Path
) -> None:
    expected, found = by_predictor(directory, tmp_path), door(directory, tmp_path)
    everything = [span for spans in expected for span in spans]
    values = {(name, value) for *_, said, _ in everything for name, value in said.items()}
    assert len(values) == 3  # both attributes, all values
    assert {len(scores) for *_, scores in everything} == {2}
    assert any(not said for *_, said, _ in everything)
    assert [[span[:3] for span in spans] for spans in found] == [[span[:3] for span in spans] for spans in expected]
    for one, other in zip((span for spans in found for span in spans), everything, strict=True):
        assert one[4] == other[4]
        assert one[3] == pytest.approx(other[3], abs=1e-3)
        assert one[5] == pytest.approx(other[5], abs=1e-3)
