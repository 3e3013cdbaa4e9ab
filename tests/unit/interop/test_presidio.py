"""The recognizer of Presidio, asked by Presidio's own engine: every span of the predictor, anywhere in a long note."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import spacy
from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import SpacyNlpEngine

from cardioner.errors import DataError, ModelError, UsageError
from cardioner.interop.presidio import CardioNERRecognizer
from cardioner.model_dir.save import write_model_dir
from cardioner.prediction.engines import torch as torch_engine

TEXT = "Atrial fibrillation since 2019, treated with bisoprolol 2.5 mg o.d. No oedema. " * 40


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("presidio")


@pytest.fixture
def saved(place: Path, make_model: Callable[..., Any], tokenizers: dict[str, Any]) -> Path:
    if not (place / "model").exists():
        write_model_dir(make_model("bert", overlap="per-type"), tokenizers["wordpiece"], place / "model")
        spacy.blank("en").to_disk(place / "blank")
    return place / "model"


def engine_with(recognizer: CardioNERRecognizer, place: Path) -> AnalyzerEngine:
    registry = RecognizerRegistry(recognizers=[recognizer], supported_languages=["en"])
    models = [{"lang_code": "en", "model_name": str(place / "blank")}]
    return AnalyzerEngine(registry=registry, nlp_engine=SpacyNlpEngine(models=models), supported_languages=["en"])


def edges(results: Any, name: str = "entity_type") -> set[tuple[int, int, str]]:
    return {(one.start, one.end, getattr(one, name)) for one in results}


def test_the_engine_gives_every_span_of_a_note_of_many_windows(saved: Path, place: Path) -> None:
    recognizer = CardioNERRecognizer(saved)
    assert recognizer.supported_entities == ["DISEASE", "MEDICATION", "SYMPTOM"]
    expected = recognizer.predictor(TEXT)
    assert max(span.end for span in expected) > len(TEXT) - 100
    assert edges(recognizer.analyze(TEXT, [])) == edges(expected, "label")
    found = engine_with(recognizer, place).analyze(TEXT, language="en", return_decision_process=True)
    dropped = edges(expected, "label") - edges(found)
    kept = edges(found)
    assert kept <= edges(expected, "label")
    for start, end, label in dropped:  # by Presidio, as another one of the type holds them
        assert any(one <= start and end <= other and label == same for one, other, same in kept)
    scores = {(span.start, span.end, span.label): span.score for span in expected}
    for result in found:
        assert result.score == pytest.approx(scores[result.start, result.end, result.entity_type], abs=1e-5)
        assert result.recognition_metadata["recognizer_name"] == "CardioNER"
        assert result.analysis_explanation.textual_explanation == f"Found as {result.entity_type}"


def test_types_get_other_names_or_are_left_out_and_only_wanted_ones_are_given(saved: Path, place: Path) -> None:
    recognizer = CardioNERRecognizer(saved, labels={"DISEASE": "CONDITION", "SYMPTOM": ""}, name="hospital")
    assert recognizer.supported_entities == ["CONDITION", "MEDICATION"]
    assert {result.entity_type for result in recognizer.analyze(TEXT, [])} == {"CONDITION", "MEDICATION"}
    (one, *_) = engine_with(recognizer, place).analyze(TEXT, language="en", entities=["CONDITION"])
    assert one.entity_type == "CONDITION"
    assert one.recognition_metadata["recognizer_name"] == "hospital"
    assert one.recognition_metadata["cardioner_label"] == "DISEASE"
    assert one.recognition_metadata["cardioner_attributes"] == {}


def test_errors_are_ours_and_hold_no_text(saved: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        CardioNERRecognizer(place / "none")
    with pytest.raises(UsageError, match="the engine must be"):
        CardioNERRecognizer(saved, options={"engine": "tpu"})
    recognizer = CardioNERRecognizer(saved)

    def refuse(_: Any, __: Any, texts: Any, **___: Any) -> Any:
        raise RuntimeError(f"cannot read {texts}")

    monkeypatch.setattr(torch_engine, "tag_texts", refuse)
    with pytest.raises(DataError, match="could not be tagged") as raised:
        recognizer.analyze("Zebraquist", [])
    assert "Zebraquist" not in str(raised.value)
