"""The files of a model directory: their names, and whether they are there and whole, told without loading them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from safetensors import SafetensorError, safe_open

from cardioner.errors import ModelError
from cardioner.multiclass.modeling import COMPANIONS, CardioNERConfig
from cardioner.multiclass.subclasses import needed_code

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
PICKLED_WEIGHTS = "pytorch_model.bin"
TRAINING_ARGS = "training_args.json"
CARD = "README.md"
CODE = ("modeling.py", *COMPANIONS)
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
"""The files of every tokenizer."""


def check_whole(directory: Path) -> None:
    """Check that every needed file is there and whole, reading no more than the headers of the weights.

    Raises:
        ModelError: Naming the first file that is missing or cut.
    """
    if not directory.is_dir():
        raise ModelError(
            f"{directory}: expected a model directory, found {'a file' if directory.exists() else 'nothing'}"
        )
    if not (directory / CONFIG).is_file():
        checkpoints = sorted(str(path.parent) for path in directory.glob(f"checkpoints/*/{CONFIG}"))
        hint = f"the checkpoints {', '.join(checkpoints)} are whole" if checkpoints else "name what training wrote"
        if (directory / "summary.json").is_file():
            models = sorted(path.parent.name for path in directory.glob(f"*/{CONFIG}"))
            hint = f"it holds the models {', '.join(models)} of a repeated training: name one of them"
        raise ModelError(f"{directory} is no model directory: it has no {CONFIG}; {hint}")
    config = read_config(directory)
    _check_config(directory, config)
    if missing := [name for name in (*needed_code(directory, config), *TOKENIZER) if not (directory / name).is_file()]:
        raise ModelError(
            f"{directory} lacks {', '.join(missing)}: copy the whole directory again, or save the model again"
        )
    for name in TOKENIZER:
        _read_object(directory / name)
    _check_weights(directory)


def read_config(directory: Path) -> dict[str, Any]:
    """The content of `config.json`.

    Raises:
        ModelError: If it is no JSON object.
    """
    return _read_object(directory / CONFIG)


def _check_config(directory: Path, config: dict[str, Any]) -> None:
    """Refuse a configuration of another model, and one without tags or encoder."""
    found = config.get("model_type")
    if found != CardioNERConfig.model_type:
        raise ModelError(
            f"{directory}: expected a model of type {CardioNERConfig.model_type}, found {found}: "
            "name a directory that cardioner saved"
        )
    tags = object_under(config, "id2label")
    if not tags or set(tags) != {str(index) for index in range(len(tags))}:
        raise ModelError(f"{directory / CONFIG}: expected id2label to name the tags from 0 on: save the model again")
    if "model_type" not in object_under(config, "encoder_config"):
        raise ModelError(f"{directory / CONFIG}: expected the encoder's configuration in encoder_config: save it again")


def _check_weights(directory: Path) -> None:
    """Refuse weights that are missing or shorter than their header says."""
    index = directory / f"{WEIGHTS}.index.json"
    shards = sorted(set(read_json(index).get("weight_map", {}).values())) if index.is_file() else [WEIGHTS]
    pickled = directory / PICKLED_WEIGHTS
    if pickled.is_file() and not any((directory / name).is_file() for name in shards):
        if not is_zipfile(pickled):
            raise ModelError(f"{pickled} is cut or damaged ({pickled.stat().st_size} bytes): copy it again")
        return
    for name in shards:
        if not (directory / name).is_file():
            raise ModelError(f"{directory} lacks {name}: copy the whole directory again, or save the model again")
        try:
            with safe_open(directory / name, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{directory / name} is cut or damaged ({(directory / name).stat().st_size} bytes): copy it again"
            ) from error


def refused_pickle(directory: Path) -> str:
    """What to say of a pickle that asks for more than tensors."""
    return f"{directory / PICKLED_WEIGHTS} holds more than weights and is not read: do not trust where it came from"


def object_under(content: Any, key: str) -> dict[str, Any]:
    """A JSON object under a key, empty where there is none."""
    found = content.get(key) if isinstance(content, dict) else None
    return found if isinstance(found, dict) else {}


def _read_object(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ModelError: If the file is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: expected a JSON object, found a damaged file: copy it again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: expected a JSON object, found {type(content).__name__}: copy it again")
    return content


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, empty where the file is missing or holds something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
