"""What is chosen for inference once a model is trained: its precision, and the temperature of its span scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from cardioner._progress import Progress, silent
from cardioner.data.documents import Document
from cardioner.evaluation import score
from cardioner.model_dir.json_files import object_under, read_json
from cardioner.model_dir.layout import TRAINING_ARGS
from cardioner.multiclass.precision import FULL, offered, set_precision
from cardioner.prediction.predictor import Predictor
from cardioner.training.calibration import Temperature, fit_attribute_temperatures, fit_temperature
from cardioner.training.distributed import broadcast_from_first
from cardioner.training.features import Dataset
from cardioner.training.options import by_characters

MOST_LOSS = 0.002
"""How much strict F1 may drop."""

LEAST_AGREEMENT = 0.995
"""The share of spans that must be the same."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a model finds in one precision.

    Attributes:
        f1: Strict F1.
        agreement: The share of spans that are found in float32 too, with the same attributes, of those of the one that
            finds more; 1.0 if none finds any.
    """

    f1: float
    agreement: float


@dataclass(frozen=True, slots=True)
class Precision:
    """What running a model in other precisions than float32 costs.

    Attributes:
        dtype: The fastest on this machine of those that cost next to nothing.
        trials: Those that were tried, by name, float32 first.
    """

    dtype: str
    trials: dict[str, Trial]

    @property
    def allowed(self) -> list[str]:
        """Those that cost next to nothing: any machine may take its fastest of them."""
        full = self.trials[FULL].f1
        return [
            name
            for name, trial in self.trials.items()
            if full - trial.f1 <= MOST_LOSS and trial.agreement >= LEAST_AGREEMENT
        ]


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
    config.inference_dtype, config.inference_dtypes, config.score_temperature = FULL, [], 1.0
    if evaluation is None or evaluation.features is not None:
        return InferenceSettings(None, None)
    notes = evaluation.documents

    def choose() -> InferenceSettings:
        precision = choose_precision(model, tokenizer, notes, progress=progress)
        config.inference_dtype = FULL if precision is None else precision.dtype  # the temperature is of this one
        return InferenceSettings(precision, fit_temperature(model, tokenizer, notes, progress=progress))

    precision, temperature = chosen = broadcast_from_first(choose)
    if precision is not None:
        config.inference_dtype, config.inference_dtypes = precision.dtype, precision.allowed
    config.score_temperature = 1.0 if temperature is None else temperature.value
    return chosen


def _earlier_settings(directory: Path) -> InferenceSettings:
    """What was chosen when a model was trained that is now left as it is."""
    record = read_json(directory / TRAINING_ARGS)
    precision, temperature = (object_under(record, name) for name in ("inference", "calibration"))
    trials = {name: Trial(**trial) for name, trial in object_under(precision, "trials").items()}
    return InferenceSettings(
        Precision(precision["dtype"], trials) if trials else None, Temperature(**temperature) if temperature else None
    )


def keep_inference_settings(
    model: Any, tokenizer: Any, evaluation: Dataset | None, directory: Path, *, progress: Progress = silent
) -> InferenceSettings:
    """Keep what was chosen for a tagger that learned attributes alone, but no precision that changes these.

    Precisions that this machine lacks, and all of them without annotated notes, stay as they were chosen.
    """
    earlier, config = _earlier_settings(directory), model.config
    if earlier.precision is None or evaluation is None or evaluation.features is not None:
        return earlier
    notes = evaluation.documents
    measured = broadcast_from_first(lambda: choose_precision(model, tokenizer, notes, progress=progress))
    if measured is None:
        return earlier
    changing = measured.trials.keys() - {FULL, *measured.allowed}
    config.inference_dtypes = [name for name in config.inference_dtypes if name not in changing]
    if config.inference_dtype in changing:
        config.inference_dtype = FULL
    trials = {name: trial for name, trial in earlier.precision.trials.items() if name not in changing}
    return earlier._replace(precision=Precision(config.inference_dtype, trials))


def choose_attribute_temperatures(
    model: Any, tokenizer: Any, evaluation: Dataset | None, *, progress: Progress = silent
) -> None:
    """Fit the temperatures of attributes on annotated notes, and write them to the model's configuration.

    The first of several processes chooses for all.
    """
    config = model.config
    config.attribute_temperatures = {}
    if config.attributes and evaluation is not None and evaluation.features is None:
        notes = evaluation.documents
        config.attribute_temperatures = broadcast_from_first(
            lambda: fit_attribute_temperatures(model, tokenizer, notes, progress=progress)
        )


def choose_precision(
    model: Any, tokenizer: Any, documents: Sequence[Document], *, progress: Progress = silent
) -> Precision | None:
    """Tag notes in all precisions that the device offers and compare; the model is left as it was.

    Args:
        model: A model of `modeling.py`.
        tokenizer: Its tokenizer.
        documents: Annotated notes that it was not trained on.
        progress: Called with how many characters are done.

    Returns:
        The measurement; `None` where the device offers float32 alone.
    """
    names = offered(model.device)
    if names == (FULL,):
        return None
    own = model.config.inference_dtype, model.config.inference_dtypes
    tagged: dict[str, list[Document]] = {}
    try:
        for dtype in names:
            model.config.inference_dtype = dtype
            advance = by_characters(progress, f"scoring in {dtype}", documents)
            found = {one.id: one for one in Predictor(model, tokenizer).predict(documents, advance=advance)}
            # An encoder that cannot be run in a precision tags nothing: that is no agreement, and no reason to stop.
            tagged[dtype] = [found.get(document.id, document.with_spans(())) for document in documents]
        found_in_full = tagged[FULL]
        trials = {
            name: Trial(score(documents, found).strict.micro.f1, _agreement(found_in_full, found))
            for name, found in tagged.items()
        }
        precision = Precision(FULL, trials)
        model.config.inference_dtype, model.config.inference_dtypes = FULL, precision.allowed
        set_precision(model)
        return replace(precision, dtype=model.config.inference_dtype)
    finally:
        model.config.inference_dtype, model.config.inference_dtypes = own


def _agreement(first: Sequence[Document], second: Sequence[Document]) -> float:
    """The share of spans that two predictions have in common, with all their attributes."""
    spans = [
        Counter(
            (document.id, span.start, span.end, span.label, frozenset(span.attributes.items()))
            for document in side
            for span in document.spans
        )
        for side in (first, second)
    ]
    most = max(found.total() for found in spans)
    return (spans[0] & spans[1]).total() / most if most else 1.0
