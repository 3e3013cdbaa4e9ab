"""The fitted temperature, against a plain search and against models whose scores were blown up on purpose."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import torch

from cardioner.data.documents import Document
from cardioner.evaluation import calibrate, pair_documents
from cardioner.multiclass import TokenClassificationModel
from cardioner.prediction.predictor import Predictor
from cardioner.training import calibration as calibrating
from cardioner.training.calibration import fit_temperature

WORDS = (
    "no",
    "chest",
    "pain",
    "atrial",
    "fibrillation",
    "on",
    "bisoprolol",
    "2.5",
    "mg",
    "daily",
    "syncope",
    "stenosis",
)


def judged(model: TokenClassificationModel, tokenizer: Any, share: float, notes: int = 12) -> list[Document]:
    """Notes whose gold spans are the model's own, but for some that are taken away: the less probable, the likelier."""
    random = Random(0)
    texts = [Document(f"note{n}", " ".join(random.choices(WORDS, k=40))) for n in range(notes)]
    tagged = Predictor(model, tokenizer).predict(texts)
    return [
        document.with_spans(span for span in document.spans if random.random() < share * (span.score or 0) + 0.2)
        for document in tagged
    ]


@pytest.fixture(params=[False, True], ids=["linear", "crf"])
def model(request: pytest.FixtureRequest, make_model: Callable[..., TokenClassificationModel]) -> Any:
    return make_model(use_crf=request.param)


def sharpened(model: TokenClassificationModel, factor: float) -> TokenClassificationModel:
    """The same model with every score multiplied: same spans, bolder probabilities."""
    with torch.no_grad():
        last = [module for module in model.classifier.modules() if isinstance(module, torch.nn.Linear)][-1]
        last.weight *= factor
        last.bias *= factor
        if model.config.use_crf:
            for parameter in model.crf.parameters():
                parameter.mul_(factor)
    return model


def test_scores_blown_up_by_a_factor_get_a_temperature_that_undoes_it(
    model: TokenClassificationModel, tokenizers: dict[str, Any]
) -> None:
    tokenizer = tokenizers["wordpiece"]
    documents = judged(model, tokenizer, 0.8)
    before = fit_temperature(model, tokenizer, documents)
    bold = fit_temperature(sharpened(model, 4.0), tokenizer, documents)
    assert before.spans == bold.spans >= 2 * calibrating.LEAST_SPANS
    assert bold.value == pytest.approx(4 * before.value, rel=1e-2)
    assert bold.after == pytest.approx(before.after, rel=1e-3)
    assert bold.after < bold.before


def test_no_temperature_of_a_fine_grid_is_better_and_spans_stay(
    model: TokenClassificationModel, tokenizers: dict[str, Any]
) -> None:
    tokenizer = tokenizers["wordpiece"]
    documents = judged(sharpened(model, 3.0), tokenizer, 0.8)
    fitted = fit_temperature(model, tokenizer, documents)
    assert model.config.score_temperature == 1.0

    def loss(temperature: float) -> float:
        model.config.score_temperature = temperature
        tagged = list(Predictor(model, tokenizer).predict(documents))
        places.append([[(span.start, span.end, span.label) for span in document.spans] for document in tagged])
        total, count = 0.0, 0
        for gold, found in zip(documents, tagged, strict=True):
            right = {(span.start, span.end, span.label) for span in gold.spans}
            for span in found.spans:
                probability = min(1 - 1e-7, max(1e-7, span.score or 0.0))
                hit = (span.start, span.end, span.label) in right
                total, count = total - math.log(probability if hit else 1 - probability), count + 1
        return total / count

    places: list[Any] = []
    grid = {step: loss(math.exp(step / 8)) for step in range(-16, 25)}
    assert fitted.after <= min(grid.values()) + 1e-4
    assert loss(fitted.value) == pytest.approx(fitted.after, abs=1e-4)
    assert all(found == places[0] for found in places)


def test_the_scores_of_other_notes_are_better_calibrated_too(
    make_model: Callable[..., TokenClassificationModel], tokenizers: dict[str, Any]
) -> None:
    model, tokenizer = sharpened(make_model(use_crf=True), 4.0), tokenizers["wordpiece"]
    documents = judged(model, tokenizer, 0.5, notes=80)
    held_out = documents[40:]

    def quality() -> tuple[float, float]:
        found = calibrate(pair_documents(held_out, list(Predictor(model, tokenizer).predict(held_out))).pairs)
        assert found is not None
        return found.error, found.brier

    raw = quality()
    model.config.score_temperature = fit_temperature(model, tokenizer, documents[:40]).value
    calibrated = quality()
    assert calibrated[0] < raw[0]
    assert calibrated[1] < raw[1]


def test_too_few_spans_leave_the_temperature_alone(
    model: TokenClassificationModel, tokenizers: dict[str, Any], documents: list[Document]
) -> None:
    found = fit_temperature(model, tokenizers["wordpiece"], documents)
    assert found.value == 1.0
    assert found.before == found.after
    assert fit_temperature(model, tokenizers["wordpiece"], []).spans == 0


def test_progress_tells_of_notes_and_of_every_temperature(
    model: TokenClassificationModel, tokenizers: dict[str, Any]
) -> None:
    told: dict[str, list[tuple[int, int | None]]] = {}

    def progress(stage: str, done: int, total: int | None) -> None:
        told.setdefault(stage, []).append((done, total))

    fit_temperature(model, tokenizers["wordpiece"], judged(model, tokenizers["wordpiece"], 0.8), progress=progress)
    assert told["calibrating (notes)"][-1] == (12, 12)
    tried = told["calibrating (temperatures)"]
    assert tried == [(number, len(tried)) for number in range(1, len(tried) + 1)]
