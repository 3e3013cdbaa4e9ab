"""The model card says what the directory's other files say."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard

import cardioner
from cardioner.data.documents import Document
from cardioner.evaluation import evaluate, score
from cardioner.model_dir.save import write_model_dir
from cardioner.multiclass import TokenClassificationModel


def card_of(model: TokenClassificationModel, tokenizer: Any, folder: Path, training: dict[str, Any]) -> str:
    write_model_dir(model, tokenizer, folder, training_args=training)
    return (folder / "README.md").read_text(encoding="utf-8")


def test_card_names_types_head_and_scores(
    make_model: Callable[..., TokenClassificationModel],
    tokenizers: dict[str, Any],
    documents: list[Document],
    tmp_path: Path,
) -> None:
    model = make_model(use_crf=True, classifier_hidden_layers=(8,))
    scores = score(documents, documents).to_dict()
    fit = {"value": 1.5, "spans": 80, "before": 0.4, "after": 0.3}
    training = {"model": "tiny", "scores": {"test": scores}, "calibration": fit}
    card = card_of(model, tokenizers["wordpiece"], tmp_path, training)
    assert "DISEASE, MEDICATION, SYMPTOM" in card
    assert "16 -> 8 -> 7" in card
    assert "A CRF picks" in card
    assert "| test (3) | DISEASE | 1.000 | 1.000 | 1.000 |" in card
    assert "temperature 1.50, fitted to 80 spans" in card
    assert "| test (3) | all | 1.000 | 1.000 | 1.000 |" in card


def test_the_hub_can_read_scores_and_data(
    make_model: Callable[..., TokenClassificationModel],
    tokenizers: dict[str, Any],
    documents: list[Document],
    tmp_path: Path,
) -> None:
    """The hub's own library is the judge: it refuses a `model-index` that it cannot read."""
    trainer_scores = evaluate(documents, [documents[0], *documents[1:]], samples=50).to_dict()
    about = {"language": "nl", "license": "apache-2.0", "data_name": "letters | 2020", "data_license": "in house"}
    notes = {"documents": 3, "spans": {"A|B": 2}, "digest": "hmac-sha256:0"}
    training = {
        "model": "tiny",
        "options": about,
        "scores": {"evaluation": trainer_scores, "test": trainer_scores},
        "documents": {"training": notes, "test": notes},
    }
    card = card_of(make_model(), tokenizers["wordpiece"], tmp_path, training)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = ModelCard(card).data
    assert (data.language, data.license, data.pipeline_tag) == ("nl", "apache-2.0", "token-classification")
    results = {(one.dataset_split, one.metric_type, one.metric_name): one.metric_value for one in data.eval_results}
    assert len(results) == 2 * 3 * (1 + 3)  # parts, figures, all types and each
    assert results["test", "f1", "strict F1"] == results["validation", "recall", "strict recall DISEASE"] == 1.0
    assert {(one.dataset_name, one.dataset_type) for one in data.eval_results} == {("letters | 2020", "letters-2020")}
    assert "Their licence: in house" in card
    assert "| training | 3 | A\\|B 2 | learned from |" in card
    assert "| test (3) | all | 1.000 (1.000 to 1.000) |" in card
    assert ModelCard(card).content == card


def test_the_snippet_of_a_card_gives_the_spans_of_the_model(
    make_model: Callable[..., TokenClassificationModel], tokenizers: dict[str, Any], tmp_path: Path
) -> None:
    card = card_of(make_model(use_crf=True), tokenizers["wordpiece"], tmp_path / "model", {})
    (snippet,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    found: dict[str, Any] = {}
    exec(snippet.replace("path/to/this/directory", str(tmp_path / "model")), found)  # as a reader pastes it
    text = re.findall(r'tagger\("(.*)"\)', snippet)[0]
    expected = cardioner.load(tmp_path / "model", device="cpu").predict_text(text)
    assert [(one["start"], one["end"], one["entity_group"]) for one in found["spans"]] == [
        (span.start, span.end, span.label) for span in expected
    ]
    assert found["spans"]


def test_card_of_an_unscored_model_says_so(
    make_model: Callable[..., TokenClassificationModel], tokenizers: dict[str, Any], tmp_path: Path
) -> None:
    card = card_of(make_model(), tokenizers["wordpiece"], tmp_path, {})
    assert "Not scored: the model was saved before training" in card
    assert "not calibrated" in card
    assert "Each sub-token's best tag counts." in card


def test_card_metadata_is_yaml_that_names_the_task(
    make_model: Callable[..., TokenClassificationModel], tokenizers: dict[str, Any], tmp_path: Path
) -> None:
    card = card_of(make_model(), tokenizers["wordpiece"], tmp_path, {})
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert metadata["pipeline_tag"] == "token-classification"
    assert metadata["library_name"] == "transformers"
