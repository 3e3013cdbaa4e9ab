"""What is chosen for inference once a model is trained: its precision, and the temperature of its span scores."""

from __future__ import annotations

from typing import Any, NamedTuple

from cardioner.training.calibration import Temperature, fit_temperature
from cardioner.training.distributed import broadcast_from_first
from cardioner.training.features import Dataset
from cardioner.training.options import Progress
from cardioner.training.precision import Precision, choose_precision


class InferenceSettings(NamedTuple):
    """What was chosen; `None` where there was nothing to choose it by."""

    precision: Precision | None
    temperature: Temperature | None


def choose_inference_settings(
    model: Any, tokenizer: Any, evaluation: Dataset | None, *, progress: Progress | None = None
) -> InferenceSettings:
    """Choose the precision and fit the temperature on annotated notes, and write both to the model's configuration.

    Both need the text of notes: without them, or with ready features, the model stays in float32, uncalibrated. The
    first of several processes chooses for all.
    """
    config = model.config
    config.inference_dtype, config.score_temperature = "float32", 1.0
    if evaluation is None or evaluation.features is not None:
        return InferenceSettings(None, None)
    notes = evaluation.documents

    def choose() -> InferenceSettings:
        precision = choose_precision(model, tokenizer, notes, progress=progress)
        config.inference_dtype = "float32" if precision is None else precision.dtype  # the temperature is of this one
        return InferenceSettings(precision, fit_temperature(model, tokenizer, notes, progress=progress))

    precision, temperature = chosen = broadcast_from_first(choose)
    config.inference_dtype = "float32" if precision is None else precision.dtype
    config.score_temperature = 1.0 if temperature is None else temperature.value
    return chosen
