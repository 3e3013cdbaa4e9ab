"""What training did, and what of it is written down beside the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from cardioner.evaluation import Scores
from cardioner.model_dir import installed_versions
from cardioner.multiclass.calibrating import Temperature
from cardioner.multiclass.options import TrainingOptions
from cardioner.multiclass.precision import Precision

_LEFT_OUT = ("progress", "overwrite")
"""Options that say nothing about the model."""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What training did.

    Attributes:
        output_dir: The model directory.
        epochs: Strict span scores on `eval_data` after each epoch.
        best_epoch: The epoch, counted from 1, whose model is saved; 0 if training ended without one.
        evaluation: The saved model's scores on `eval_data`.
        test: The saved model's scores on `test_data`.
        precision: What running the model in bfloat16 costs on the notes of `eval_data`; `None` if there are none, or
            the device has no instructions for it.
        temperature: What makes the scores of spans mean what they say, fitted on the notes of `eval_data`; `None`
            if there are none.
        losses: Training spans that tags cannot carry as they are, by kind and entity type.
        remarks: What had to be repaired in the data, counted.
        windows: Windows in the training data.
        sub_tokens: Sub-tokens in the training data, each counted once.
        seconds: Time of the training loop, the scoring between epochs included.
    """

    output_dir: Path
    epochs: tuple[Scores, ...]
    best_epoch: int
    evaluation: Scores | None
    test: Scores | None
    precision: Precision | None
    temperature: Temperature | None
    losses: Counter[tuple[str, str]]
    remarks: Counter[str]
    windows: int
    sub_tokens: int
    seconds: float


def training_record(
    config: Any,
    settings: Mapping[str, Any],
    options: TrainingOptions,
    tags: Sequence[str],
    result: TrainingResult | None,
) -> dict[str, Any]:
    """What `training_args.json` records: no secret, no path of this machine.

    Args:
        config: The model's configuration.
        settings: The trainer's arguments, as they were used.
        options: The newer ones.
        tags: In the order of their ids.
        result: What training did; `None` before it.
    """
    record: dict[str, Any] = {
        **settings,
        "classifier_dropout": config.classifier_dropout,
        "classifier_hidden_layers": config.classifier_hidden_layers,
        "class_weights": config.class_weights,
        "freeze_backbone": config.freeze_backbone,
        "use_crf": config.use_crf,
        "labels": list(tags),
        "options": {part.name: getattr(options, part.name) for part in fields(options) if part.name not in _LEFT_OUT},
        "versions": installed_versions(),
    }
    return record if result is None else {**record, **_outcome(result)}


def _outcome(result: TrainingResult) -> dict[str, Any]:
    scores = {"evaluation": result.evaluation, "test": result.test}
    return {
        "scores": {name: value.to_dict() for name, value in scores.items() if value is not None},
        "best_epoch": result.best_epoch,
        "calibration": None if result.temperature is None else asdict(result.temperature),
        "inference": None if result.precision is None else _precision(result.precision),
        "epochs": [value.to_dict() for value in result.epochs],
        "training_data": {"windows": result.windows, "sub_tokens": result.sub_tokens},
    }


def _precision(found: Precision) -> dict[str, Any]:
    return {name: getattr(found, name) for name in ("dtype", "float32", "bfloat16", "agreement")}
