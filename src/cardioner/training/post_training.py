"""What is chosen for inference once a model is trained: its precision, and the temperature of its span scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cardioner._progress import Progress, silent
from cardioner.data.documents import Document
from cardioner.evaluation import score
from cardioner.multiclass.precision import computes_bfloat16
from cardioner.prediction.predictor import Predictor
from cardioner.training.calibration import Temperature, fit_temperature
from cardioner.training.distributed import broadcast_from_first
from cardioner.training.features import Dataset
from cardioner.training.options import by_characters

MOST_LOSS = 0.002
"""How much strict F1 may drop."""

LEAST_AGREEMENT = 0.995
"""The share of spans that must be the same."""


@dataclass(frozen=True, slots=True)
class Precision:
    """What running a model in bfloat16 costs.

    Attributes:
        dtype: `bfloat16` if it costs next to nothing, else `float32`.
        float32: Strict F1 in float32.
        bfloat16: Strict F1 in bfloat16.
        agreement: The share of spans that both find, of those of the one that finds more; 1.0 if none finds any.
    """

    dtype: str
    float32: float
    bfloat16: float
    agreement: float


class InferenceSettings(NamedTuple):
    """What was chosen; `None` where there was nothing to choose it by."""

    precision: Precision | None
    temperature: Temperature | None


def choose_inference_settings(
    model: Any, tokenizer: Any, evaluation: Dataset | None, *, progress: Progress = silent
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


def choose_precision(
    model: Any, tokenizer: Any, documents: Sequence[Document], *, progress: Progress = silent
) -> Precision | None:
    """Tag notes in both precisions and compare; the model is left as it was.

    Args:
        model: A model of `modeling.py`.
        tokenizer: Its tokenizer.
        documents: Annotated notes that it was not trained on.
        progress: Called with how many characters are done.

    Returns:
        The measurement; `None` where the device has no instructions for bfloat16: nothing would be gained.
    """
    if not computes_bfloat16(model.device):
        return None
    own = model.config.inference_dtype
    tagged: dict[str, list[Document]] = {}
    try:
        for dtype in ("float32", "bfloat16"):
            model.config.inference_dtype = dtype
            advance = by_characters(progress, f"scoring in {dtype}", documents)
            found = {one.id: one for one in Predictor(model, tokenizer).predict(documents, advance=advance)}
            # An encoder that cannot be run in bfloat16 tags nothing: that is no agreement, and no reason to stop.
            tagged[dtype] = [found.get(document.id, document.with_spans(())) for document in documents]
    finally:
        model.config.inference_dtype = own
    f1 = {dtype: score(documents, side).strict.micro.f1 for dtype, side in tagged.items()}
    agreement = _agreement(*tagged.values())
    allowed = f1["float32"] - f1["bfloat16"] <= MOST_LOSS and agreement >= LEAST_AGREEMENT
    return Precision("bfloat16" if allowed else "float32", f1["float32"], f1["bfloat16"], agreement)


def _agreement(first: Sequence[Document], second: Sequence[Document]) -> float:
    """The share of spans that two predictions have in common."""
    spans = [
        Counter((document.id, span.start, span.end, span.label) for document in side for span in document.spans)
        for side in (first, second)
    ]
    most = max(found.total() for found in spans)
    return (spans[0] & spans[1]).total() / most if most else 1.0
