"""The command that trains a model further on corrections."""

from __future__ import annotations

from pathlib import Path

from cardioner.model_dir.json_files import object_under, read_json
from cardioner.model_dir.layout import CONFIG, TRAINING_ARGS
from cardioner.prediction.directories import model_directories

_OF_A_TRAINING = {"options", "versions"}
_NOT_REPEATED = {"distillation", "model_class"}
"""What `cardioner train --config` cannot repeat: a record with one of these keys names things outside of it."""


def training_command(place: Path, corrections: Path) -> list[str]:
    """The words of a command that starts from the weights of a model, or of the first of an ensemble.

    Args:
        place: Where the model is.
        corrections: The folder of corrected notes.

    Raises:
        ModelError: If there is no model any more.
    """
    directory = model_directories(place)[0]
    output = place.with_name(f"{place.resolve().name}-corrected")
    return [
        *("cardioner", "train", "--train", str(corrections), *_settings(directory)),
        *("--backbone", str(directory), "--output", str(output)),
    ]


def _settings(directory: Path) -> list[str]:
    """The settings of the model's own training, if its record is enough to repeat them; else what its head is like."""
    record = read_json(directory / TRAINING_ARGS)
    if record.keys() >= _OF_A_TRAINING and record.keys().isdisjoint(_NOT_REPEATED):
        return ["--config", str(directory / TRAINING_ARGS)]
    config = read_json(directory / CONFIG)
    hidden = config.get("classifier_hidden_layers") or []
    ends = any(str(tag).startswith("E-") for tag in object_under(config, "id2label").values())
    return [
        *(["--crf"] if config.get("use_crf") else []),
        *(["--hidden-layers", ",".join(map(str, hidden))] if hidden else []),
        *(["--scheme", "BIOES"] if ends else []),
    ]
