"""Which precisions are allowed is decided by spans and scores, not by hope."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cardioner.data.documents import Document, Span
from cardioner.evaluation import score
from cardioner.multiclass import TokenClassificationModel, precision
from cardioner.prediction.predictor import Predictor
from cardioner.training import post_training
from cardioner.training.post_training import Precision, Trial, choose_precision


@pytest.fixture
def model(make_model: Callable[..., TokenClassificationModel], monkeypatch: pytest.MonkeyPatch) -> Any:
    for module in (post_training, precision):
        monkeypatch.setattr(module, "offered", lambda _: ("float32", "bfloat16"))
    return make_model(use_crf=True)


def notes_with(spans: int, shift: int = 0) -> list[Document]:
    """One note with so many spans of a character each."""
    places = [(2 * number + shift, 2 * number + shift + 1) for number in range(spans)]
    return [Document("note", "x" * 1000, tuple(Span(start, end, "DISEASE") for start, end in places))]


def predicting(monkeypatch: pytest.MonkeyPatch, by_dtype: dict[str, list[Document]]) -> None:
    """Predictions that depend on the precision as told."""
    monkeypatch.setattr(Predictor, "predict", lambda self, _, **__: iter(by_dtype[self.model.config.inference_dtype]))


@pytest.mark.parametrize(
    ("lost", "chosen"), [(0, "bfloat16"), (1, "bfloat16"), (10, "float32")], ids=["none", "one of 400", "too many"]
)
def test_bfloat16_needs_the_same_spans_and_the_same_score(
    lost: int, chosen: str, model: Any, tokenizers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    gold = notes_with(400)
    predicting(monkeypatch, {"float32": gold, "bfloat16": notes_with(400 - lost)})
    found = choose_precision(model, tokenizers["wordpiece"], gold)
    assert found is not None
    assert (found.dtype, found.trials["float32"]) == (chosen, Trial(1.0, 1.0))
    assert found.allowed == ["float32", "bfloat16"][: 1 + (chosen == "bfloat16")]
    assert found.trials["bfloat16"].agreement == pytest.approx(1 - lost / 400)
    assert found.trials["bfloat16"].f1 == pytest.approx(score(gold, notes_with(400 - lost)).strict.micro.f1)
    assert model.config.inference_dtype == "float32"


@pytest.mark.parametrize(("changed", "allowed"), [(2, True), (3, False)])
def test_what_is_said_of_spans_must_stay_too(
    changed: int, allowed: bool, model: Any, tokenizers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (note,) = notes_with(400)
    other = [replace(span, attributes={"Negation": True}) for span in note.spans[:changed]]
    said = note.with_spans([*other, *note.spans[changed:]])
    predicting(monkeypatch, {"float32": [note], "bfloat16": [said]})
    found = choose_precision(model, tokenizers["wordpiece"], [note])
    assert found is not None
    assert found.allowed == ["float32", "bfloat16"][: 1 + allowed]
    assert found.trials["bfloat16"].f1 == 1.0


def test_spans_that_move_forbid_it_though_the_score_stays(
    model: Any, tokenizers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = [document.with_spans(()) for document in notes_with(400)]
    predicting(monkeypatch, {"float32": notes_with(400), "bfloat16": notes_with(400, shift=1)})
    found = choose_precision(model, tokenizers["wordpiece"], nothing)
    assert found is not None
    assert found == Precision("float32", {"float32": Trial(0.0, 1.0), "bfloat16": Trial(0.0, 0.0)})


def test_an_encoder_that_cannot_be_run_in_bfloat16_stays_in_float32(
    model: Any, tokenizers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    predicting(monkeypatch, {"float32": notes_with(400), "bfloat16": []})
    found = choose_precision(model, tokenizers["wordpiece"], notes_with(400))
    assert found is not None
    assert found == Precision("float32", {"float32": Trial(1.0, 1.0), "bfloat16": Trial(0.0, 0.0)})


def test_the_real_model_is_measured_and_left_as_it_was(
    model: Any, tokenizers: dict[str, Any], documents: list[Document]
) -> None:
    found = choose_precision(model, tokenizers["wordpiece"], documents)
    assert found is not None
    assert model.config.inference_dtype == "float32"
    model.config.inference_dtype = found.dtype
    again = list(Predictor(model, tokenizers["wordpiece"]).predict(documents))
    assert score(documents, again).strict.micro.f1 == found.trials[found.dtype].f1


def test_a_device_that_offers_float32_alone_has_nothing_to_try(
    make_model: Callable[..., TokenClassificationModel],
    tokenizers: dict[str, Any],
    documents: list[Document],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(post_training, "offered", lambda _: ("float32",))
    assert choose_precision(make_model(), tokenizers["wordpiece"], documents) is None
