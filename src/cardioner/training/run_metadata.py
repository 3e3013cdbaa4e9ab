"""What training did, and the record of it that is saved with the model."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from cardioner.data.documents import fingerprint
from cardioner.evaluation import Scores
from cardioner.model_dir.findings import loss_of_quarters, never_found
from cardioner.model_dir.manifest import Notes, installed_versions
from cardioner.multiclass.modeling import TokenClassificationModel
from cardioner.training.calibration import Temperature
from cardioner.training.distributed import world_size
from cardioner.training.document_digests import check_key_place, describe_notes, make_key
from cardioner.training.features import Dataset
from cardioner.training.options import AUTO, Epochs, TrainingOptions
from cardioner.training.post_training import Precision
from cardioner.training.scoring import HeldOut

History = tuple[dict[str, float], ...]
"""What was logged: rows of the loss, and of the scores after an epoch, each with its `step` and `epoch`."""

LEFT_OUT = ("progress", "overwrite", "resume", "data_key")
"""Options that say nothing about the model."""

WEIGHTLESS = (
    *(*LEFT_OUT, "tracking", "checkpoint_steps", "also_bin", "device"),
    *("language", "license", "data_name", "data_license", "list_documents"),
)
"""Options that may change when a training is resumed."""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What training did.

    Attributes:
        output_dir: The model directory.
        epochs: Strict span scores on `eval_data` after each epoch.
        best_epoch: The epoch, counted from 1, whose model is saved; 0 if training ended without one.
        scored: The saved model's scores on held-out data: `evaluation` and `test`, as far as there are any.
        documents: What the manifest records of the notes: `training`, `evaluation` and `test`.
        precision: What running the model in other precisions than float32 costs on the notes of `eval_data`; `None` if
            there are none, or the device offers no other.
        temperature: What makes the scores of spans mean what they say, fitted on the notes of `eval_data`; `None`
            if there are none.
        losses: Training spans that the tags cannot represent, by kind and entity type.
        remarks: What had to be repaired in the data, counted.
        steps: Steps of the optimizer in an epoch.
        asked_epochs: The number of epochs that was asked for: `auto`, or a number.
        planned_epochs: The number that it came to; with early stopping there may have been fewer.
        windows: Windows in the training data.
        sub_tokens: Sub-tokens in the training data, each counted once.
        seconds: Time of the training loop, the scoring between epochs included, and what came before an interruption.
        history: Loss, learning rate and gradient norm by step, and precision, recall and F1 after each epoch.
        recipe: The recipe whose last training this was, if there is one.
    """

    output_dir: Path
    epochs: tuple[Scores, ...]
    best_epoch: int
    scored: Mapping[str, HeldOut]
    documents: Mapping[str, Notes]
    precision: Precision | None
    temperature: Temperature | None
    losses: Counter[tuple[str, str]]
    remarks: Counter[str]
    steps: int
    asked_epochs: Epochs
    planned_epochs: int
    windows: int
    sub_tokens: int
    seconds: float
    history: History = ()
    recipe: str | None = None

    @property
    def evaluation(self) -> Scores | None:
        """The saved model's scores on `eval_data`."""
        return self.scored["evaluation"].scores if "evaluation" in self.scored else None

    @property
    def test(self) -> Scores | None:
        """The saved model's scores on `test_data`."""
        return self.scored["test"].scores if "test" in self.scored else None

    @property
    def warning(self) -> str | None:
        """Which types of the held-out notes the saved model never finds, and what to change."""
        return never_found({**_results(self), "distillation": {"recipe": self.recipe}})


def run_metadata(
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
    record = {**_settings(config, settings, options), "labels": list(tags), "versions": installed_versions()}
    if result is None:
        return record
    return {**record, **_results(result), **({"warning": result.warning} if result.warning else {})}


def resume_settings(
    model: TokenClassificationModel,
    settings: Mapping[str, Any],
    options: TrainingOptions,
    *,
    data: str,
    computed: str,
) -> dict[str, Any]:
    """The settings and the data that must not change when a training is resumed.

    Args:
        model: The model; of a user's class its code counts too.
        settings: The trainer's arguments, as they were used.
        options: The newer ones.
        data: The fingerprint of the training and evaluation data.
        computed: In what precision, and on what kind of device.
    """
    settings_used = _settings(model.config, settings, options)
    kept = {name: value for name, value in settings_used.pop("options").items() if name not in WEIGHTLESS}
    code = {} if model.own_code is None else {"code": fingerprint([[model.own_code.content]])}
    known = {"labels": list(model.config.tags), "data": data, "processes": world_size(), "computed": computed}
    return {**settings_used, **kept, **known, **code}


def describe_parts(parts: Mapping[str, Dataset | None], options: TrainingOptions, output_dir: Path) -> dict[str, Notes]:
    """What the manifest says of each part of the data; ready features have no text that a digest could be taken of.

    Raises:
        UsageError: If the key for digests lies in the model directory, or is none.
    """
    check_key_place(options.data_key, output_dir)
    key = None if options.data_key is None else make_key(options.data_key)
    return {
        name: describe_notes(data.documents, key=None if data.features else key, ids=options.list_documents)
        for name, data in parts.items()
        if data is not None
    }


def history_of(log: Sequence[Mapping[str, float]]) -> History:
    """The rows of a Hugging Face Trainer's log that say something about the model."""
    kept = (row for row in log if "loss" in row or "eval_f1" in row)
    return tuple({name.removeprefix("eval_"): value for name, value in row.items()} for row in kept)


def _settings(config: Any, settings: Mapping[str, Any], options: TrainingOptions) -> dict[str, Any]:
    """What was asked for; of the model's class the name, where it is a user's."""
    named = config.auto_map["AutoModelForTokenClassification"]
    return {
        **settings,
        **({} if named.startswith("modeling.") else {"model_class": named}),
        "classifier_dropout": config.classifier_dropout,
        "classifier_hidden_layers": config.classifier_hidden_layers,
        "class_weights": config.class_weights,
        "freeze_backbone": config.freeze_backbone,
        "use_crf": config.use_crf,
        **({"attributes": config.attributes} if config.attributes else {}),
        "options": {part.name: getattr(options, part.name) for part in fields(options) if part.name not in LEFT_OUT},
    }


def _results(result: TrainingResult) -> dict[str, Any]:
    """What came of a training."""
    return {
        "num_train_epochs": result.planned_epochs,
        "loss_of_quarters": loss_of_quarters([row["loss"] for row in result.history if "loss" in row]),
        "scores": {name: scores_of(found) for name, found in result.scored.items()},
        "documents": {name: notes.model_dump() for name, notes in result.documents.items()},
        "best_epoch": result.best_epoch,
        "calibration": None if result.temperature is None else asdict(result.temperature),
        "inference": None if result.precision is None else asdict(result.precision),
        "epochs": [value.to_dict() for value in result.epochs],
        "history": list(result.history),
        "seconds": result.seconds,
        "training_data": {
            "windows": result.windows,
            "sub_tokens": result.sub_tokens,
            "steps_per_epoch": result.steps,
            "lost": _by_type(result.losses),
        },
        **({"epochs_chosen": "by the number of steps"} if result.asked_epochs == AUTO else {}),
    }


def _by_type(losses: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    """How many spans of each type were lost, by reason."""
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for (kind, label), count in sorted(losses.items()):
        found[label][kind] = count
    return dict(found)


def scores_of(found: HeldOut) -> dict[str, Any]:
    """Scores as a record has them, with the intervals of the headline."""
    intervals = found.intervals.to_dict()
    kept = {name: intervals[name] for name in ("level", "samples", "seed", "strict")}
    said = {} if found.attributes is None else {"attributes": found.attributes.to_dict()}
    return {**found.scores.to_dict(), "intervals": kept, **said}
