"""The model card says what the directory's other files say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from cardioner.documents import Document
from cardioner.evaluation import score
from cardioner.model_dir import write_model_dir
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
