"""The component of spaCy: the spans of the predictor, in every way in which spaCy runs and saves a pipeline."""

from __future__ import annotations

import copy
import pickle
import shutil
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.tokens import Span as TokenSpan

from cardioner.data.documents import Document, Span
from cardioner.data.spacy_docs import marked
from cardioner.errors import DataError, ModelError, UsageError
from cardioner.interop.spacy import SpacyTagger, make_tagger
from cardioner.model_dir.save import write_model_dir
from cardioner.prediction.engines import torch as torch_engine
from cardioner.prediction.predictor import Predictor

TEXTS = [
    "Patient denies chest pain. Atrial fibrillation since 2019, treated with bisoprolol 2.5 mg o.d.",
    "",
    "No oedema. Dyspnoea on exertion, palpitations, heart failure with reduced ejection fraction. " * 8,
    "Furosemida 40mg/12h;\u00a0no\u0301 \U0001fac0 edema",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spacy") / "model"


@pytest.fixture
def saved(model: Path, make_model: Callable[..., Any], tokenizers: dict[str, Any]) -> Path:
    """A directory that no test changes: of tags per type, so that spans overlap."""
    if not model.exists():
        write_model_dir(make_model("bert", overlap="per-type"), tokenizers["wordpiece"], model)
    return model


@pytest.fixture
def expected(saved: Path) -> list[list[Span]]:
    found: list[list[Span]] = Predictor.from_pretrained(saved)(TEXTS)
    assert sum(map(len, found)) > 20
    return found


def pipeline(model: Path, **config: Any) -> Language:
    nlp = spacy.blank("en")
    nlp.add_pipe("cardioner", config={"model": str(model), **config})
    return nlp


def exact(doc: Doc, group: str = "cardioner") -> list[Span]:
    return [marked(span) for span in doc.spans[group]]


def edges(spans: list[Span]) -> list[tuple[int, int, str]]:
    return [(span.start, span.end, span.label) for span in spans]


def test_every_span_of_the_predictor_is_in_the_group_with_its_exact_edges_and_score(
    saved: Path, expected: list[list[Span]]
) -> None:
    nlp = pipeline(saved)
    assert nlp.get_pipe("cardioner").labels == ("DISEASE", "MEDICATION", "SYMPTOM")  # type: ignore[attr-defined]
    docs = [nlp(text) for text in TEXTS]
    assert [edges(exact(doc)) for doc in docs] == list(map(edges, expected))
    for doc, spans in zip(docs, expected, strict=True):
        moved = 0
        for made, span in zip(doc.spans["cardioner"], spans, strict=True):
            assert (made._.cardioner_start, made._.cardioner_end) == (span.start, span.end)
            assert made._.cardioner_score == pytest.approx(span.score, abs=1e-5)
            assert (made._.cardioner_attributes, made._.cardioner_attribute_scores) == ({}, {})
            assert doc.text[span.start : span.end] in made.text
            moved += (made.start_char, made.end_char) != (span.start, span.end)
        assert doc._.cardioner_expanded == moved
    assert sum(doc._.cardioner_expanded for doc in docs) > 0


def test_spacy_finds_the_component_by_its_name() -> None:
    (point,) = entry_points(group="spacy_factories", name="cardioner")
    assert point.load() is make_tagger


def test_entities_are_a_flat_choice_that_leaves_those_of_earlier_components(saved: Path) -> None:
    nlp = pipeline(saved, spans_key="found")
    ruler = nlp.add_pipe("entity_ruler", first=True)
    ruler.add_patterns([{"label": "CUE", "pattern": "denies"}])  # type: ignore[attr-defined]
    doc = nlp(TEXTS[0])
    assert "cardioner" not in doc.spans
    assert ("denies", "CUE") in [(ent.text, ent.label_) for ent in doc.ents]
    assert len(doc.ents) > 2
    assert {ent._.cardioner_score is None for ent in doc.ents} == {True, False}
    alone = pipeline(saved, ents="replace")
    alone.add_pipe("entity_ruler", first=True).add_patterns([{"label": "CUE", "pattern": "denies"}])  # type: ignore[attr-defined]
    assert "CUE" not in {ent.label_ for ent in alone(TEXTS[0]).ents}
    none = pipeline(saved, ents="none")
    assert not none(TEXTS[0]).ents
    with pytest.raises(ValueError, match="ents"):
        pipeline(saved, ents="all")


def test_many_docs_go_through_the_model_together(
    saved: Path, expected: list[list[Span]], monkeypatch: pytest.MonkeyPatch
) -> None:
    nlp, sizes = pipeline(saved), list[int]()
    tag = torch_engine.tag_texts

    def counted(model: Any, tokenizer: Any, texts: Any, **others: Any) -> Any:
        sizes.append(len(texts))
        return tag(model, tokenizer, texts, **others)

    monkeypatch.setattr(torch_engine, "tag_texts", counted)
    pairs = list(nlp.pipe(zip(TEXTS * 3, range(12), strict=True), as_tuples=True, batch_size=8))
    assert sizes == [8, 4]
    assert [number for _, number in pairs] == list(range(12))
    assert [edges(exact(doc)) for doc, _ in pairs] == [edges(spans) for spans in expected * 3]


def test_workers_tag_with_a_model_that_was_used_before_they_were_started(
    saved: Path, expected: list[list[Span]]
) -> None:
    nlp = pipeline(saved)
    nlp(TEXTS[0])
    docs = list(nlp.pipe(TEXTS, n_process=2, batch_size=2))
    assert [edges(exact(doc)) for doc in docs] == list(map(edges, expected))
    assert docs[0].spans["cardioner"][0]._.cardioner_score is not None


def test_an_engine_that_would_wait_for_ever_in_a_forked_worker_is_refused_there(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nlp = pipeline(saved)
    monkeypatch.setattr(torch_engine.TorchEngine, "name", "onnx")
    with pytest.raises(ValueError, match="the engine onnx cannot compute in a forked process: use n_process=1"):
        list(nlp.pipe(TEXTS, n_process=2, batch_size=2))


def test_a_worker_that_is_not_forked_loads_the_model_itself(saved: Path, expected: list[list[Span]]) -> None:
    component = pickle.loads(pickle.dumps(pipeline(saved).get_pipe("cardioner")))
    assert component._predictor is None
    doc = component(spacy.blank("en")(TEXTS[0]))
    assert edges(exact(doc)) == edges(expected[0])


@pytest.mark.parametrize("copied", [True, False])
def test_a_saved_pipeline_finds_the_same_spans(
    copied: bool, saved: Path, expected: list[list[Span]], tmp_path: Path
) -> None:
    place = shutil.copytree(saved, tmp_path / "model")
    nlp = pipeline(place, copy_model=copied)
    nlp.to_disk(tmp_path / "pipeline")
    data = nlp.to_bytes()
    if copied:
        shutil.rmtree(place)
    again = spacy.load(tmp_path / "pipeline")
    assert edges(exact(again(TEXTS[0]))) == edges(expected[0])
    again.to_disk(tmp_path / "pipeline")  # onto itself
    assert edges(exact(spacy.load(tmp_path / "pipeline")(TEXTS[2]))) == edges(expected[2])
    fresh = spacy.blank("en")
    fresh.add_pipe("cardioner", config={"model": str(place), "copy_model": copied})
    assert edges(exact(fresh.from_bytes(data)(TEXTS[0]))) == edges(expected[0])
    assert edges(exact(copy.deepcopy(again)(TEXTS[0]))) == edges(expected[0])


def test_a_copy_holds_the_files_of_the_model_and_no_others(saved: Path, tmp_path: Path) -> None:
    place = shutil.copytree(saved, tmp_path / "model")
    (place / "checkpoints").mkdir()
    (place / "checkpoints" / "optimizer.pt").write_bytes(b"x")
    (place / "notes.txt").write_text("a note")
    pipeline(place, copy_model=True).to_disk(tmp_path / "pipeline")
    copied = {path.name for path in (tmp_path / "pipeline" / "cardioner" / "models" / "1").iterdir()}
    assert copied == {path.name for path in place.iterdir()} - {"checkpoints", "notes.txt"}


def test_another_model_in_the_place_of_the_saved_one_is_refused(
    saved: Path, make_model: Callable[..., Any], tokenizers: dict[str, Any], tmp_path: Path
) -> None:
    place = shutil.copytree(saved, tmp_path / "model")
    pipeline(place).to_disk(tmp_path / "pipeline")
    shutil.rmtree(place)
    write_model_dir(make_model("bert", use_crf=True), tokenizers["wordpiece"], place)
    with pytest.raises(ModelError, match="is not the model that the pipeline was saved with"):
        spacy.load(tmp_path / "pipeline")
    shutil.rmtree(place)
    with pytest.raises(ModelError, match="does not exist"):
        spacy.load(tmp_path / "pipeline")


def test_an_altered_copy_is_refused(saved: Path, tmp_path: Path) -> None:
    pipeline(saved, copy_model=True).to_disk(tmp_path / "pipeline")
    weights = tmp_path / "pipeline" / "cardioner" / "models" / "1" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ModelError):
        spacy.load(tmp_path / "pipeline")


def test_files_in_bytes_cannot_lie_elsewhere(saved: Path, tmp_path: Path) -> None:
    import srsly  # noqa: PLC0415 - of spaCy

    component = pipeline(saved).get_pipe("cardioner")
    with pytest.raises(ModelError, match="would lie elsewhere"):
        component.from_bytes(srsly.msgpack_dumps({f"..{tmp_path}/evil": b""}))  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_loaded_is_said_when_the_component_is_added(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist; expected a model directory"):
        pipeline(tmp_path / "none")
    with pytest.raises(UsageError, match="the engine must be one of"):
        pipeline(saved, engine="tpu")
    with pytest.raises(ModelError, match="is not signed"):
        pipeline(saved, key=str(write_key(tmp_path)))


def write_key(folder: Path) -> Path:
    from cardioner.model_dir.signing import make_signing_key  # noqa: PLC0415

    return make_signing_key(folder / "key")


def test_a_note_that_cannot_be_tagged_goes_to_the_error_handler_and_its_text_nowhere(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nlp, tag = pipeline(saved), torch_engine.tag_texts

    def refuse(model: Any, tokenizer: Any, texts: Any, **others: Any) -> Any:
        if any("Zebraquist" in text for text in texts):
            raise RuntimeError(f"cannot read {texts}")
        return tag(model, tokenizer, texts, **others)

    monkeypatch.setattr(torch_engine, "tag_texts", refuse)
    with pytest.raises(DataError, match="doc-2: its 10 characters could not be tagged") as raised:
        list(nlp.pipe([TEXTS[0], "Zebraquist"]))
    assert "Zebraquist" not in str(raised.value)
    with pytest.raises(DataError, match="doc-1"):
        nlp("Zebraquist")
    failed: list[str] = []
    nlp.set_error_handler(lambda name, _, docs, error: failed.append(f"{name} {len(docs)} {error}"))
    assert [doc.text for doc in nlp.pipe([TEXTS[0], "Zebraquist", TEXTS[0]])] == [TEXTS[0]] * 2
    assert len(failed) == 1
    assert "Zebraquist" not in failed[0]


def test_what_is_found_survives_a_docbin(saved: Path, expected: list[list[Span]], tmp_path: Path) -> None:
    nlp = pipeline(saved)
    DocBin(docs=nlp.pipe(TEXTS), store_user_data=True).to_disk(tmp_path / "docs.spacy")
    docs = list(DocBin().from_disk(tmp_path / "docs.spacy").get_docs(nlp.vocab))
    assert [edges(exact(doc)) for doc in docs] == list(map(edges, expected))


def test_spans_of_other_components_have_the_extensions_too(saved: Path) -> None:
    doc = pipeline(saved)(TEXTS[0])
    other = TokenSpan(doc, 1, 3, label="CUE")
    assert (other._.cardioner_start, other._.cardioner_end) == (other.start_char, other.end_char)
    assert (other._.cardioner_score, other._.cardioner_attributes) == (None, {})


def test_nothing_that_is_shown_holds_text(saved: Path) -> None:
    component = pipeline(saved).get_pipe("cardioner")
    assert isinstance(component, SpacyTagger)
    assert repr(component).startswith("SpacyTagger(Predictor(")
    assert repr(pipeline(saved, copy_model=True).get_pipe("cardioner")) == f"SpacyTagger({str(saved)!r})"


def test_attributes_arrive_as_the_predictor_gives_them(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nlp = pipeline(saved)
    said = Span(15, 25, "SYMPTOM", 0.5, attributes={"Negation": True}, attribute_scores={"Negation": 0.75})

    class Fixed:
        def predict(self, _: list[Document]) -> Any:
            return self

        def groups(self) -> Any:
            return iter([[(Document("doc-1", TEXTS[0], (said,)), "")]])

    component = nlp.get_pipe("cardioner")
    monkeypatch.setattr(component, "_predictor", Fixed())
    (span,) = nlp(TEXTS[0]).ents
    assert (span.text, span._.cardioner_attributes) == ("chest pain", {"Negation": True})
    assert span._.cardioner_attribute_scores == {"Negation": 0.75}
