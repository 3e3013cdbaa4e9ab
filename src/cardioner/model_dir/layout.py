"""The files of a model directory: their names, and whether they are there and whole, told without loading them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cardioner.errors import ModelError
from cardioner.model_dir.custom_code import needed_code
from cardioner.model_dir.untrusted.directory import check_safe
from cardioner.multiclass.modeling import COMPANIONS, CardioNERConfig

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
PICKLED_WEIGHTS = "pytorch_model.bin"
TRAINING_ARGS = "training_args.json"
CARD = "README.md"
CODE = ("modeling.py", *COMPANIONS)
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
"""The files of every tokenizer."""


def check_whole(directory: Path) -> None:
    """Check that every needed file is there, whole and safe to read, reading no more than the headers of the weights.

    Raises:
        ModelError: Naming the first file that is missing, cut or hostile.
    """
    if not directory.is_dir():
        raise ModelError(
            f"{directory}: expected a model directory, found {'a file' if directory.exists() else 'nothing'}"
        )
    check_safe(directory)
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
    _check_weights(directory)


def read_config(directory: Path) -> dict[str, Any]:
    """The content of `config.json`.

    Raises:
        ModelError: If it is no JSON object.
    """
    return _read_object(directory / CONFIG)


def _check_config(directory: Path, config: dict[str, Any]) -> None:
    """Refuse a configuration of another model, and one without an encoder; `check_safe` has seen to the rest."""
    found = config.get("model_type")
    if found != CardioNERConfig.model_type:
        raise ModelError(
            f"{directory}: expected a model of type {CardioNERConfig.model_type}, found {found}: "
            "name a directory that cardioner saved; cardioner upgrade reads those of the original CardioNER"
        )
    if "model_type" not in object_under(config, "encoder_config"):
        raise ModelError(f"{directory / CONFIG}: expected the encoder's configuration in encoder_config: save it again")


def _check_weights(directory: Path) -> None:
    """Refuse a directory without weights."""
    index = read_json(directory / f"{WEIGHTS}.index.json").get("weight_map", {})
    needed = sorted(set(index.values())) or [WEIGHTS]
    missing = [name for name in needed if not (directory / name).is_file()]
    if missing == [WEIGHTS] and (directory / PICKLED_WEIGHTS).is_file():
        return
    if missing:
        raise ModelError(f"{directory} lacks {missing[0]}: copy the whole directory again, or save the model again")


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
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: expected a JSON object, found a damaged file: copy it again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: expected a JSON object, found {type(content).__name__}: copy it again")
    return content


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, empty where the file is missing or holds something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
