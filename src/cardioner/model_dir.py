"""The saved directory: written whole or not at all, and checked before it is trusted."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import is_zipfile

import safetensors
import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig

from cardioner import __version__
from cardioner.card import model_card
from cardioner.errors import ModelError, OutputError, UsageError
from cardioner.multiclass.modeling import (
    COMPANIONS,
    CardioNERConfig,
    TokenClassificationModel,
    load_custom_cardioner_multiclass_model,
)
from cardioner.multiclass.subclasses import adopt, check_class, check_place, needed_code

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
PICKLED_WEIGHTS = "pytorch_model.bin"
TRAINING_ARGS = "training_args.json"
CARD = "README.md"
PARTIAL = ".partial-"
"""How the names of folders begin that are being written."""
CODE = ("modeling.py", *COMPANIONS)
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
_OLD_TOKENIZER = ("special_tokens_map.json", "added_tokens.json")
"""What transformers 4 writes and every version reads: left from another model, it would change the tokenizer."""
_FAILED_WRITE = ("PytorchStreamWriter", "inline_container", "unexpected pos", "file write failed")
"""What torch says in a `RuntimeError` when the disk takes no more of a pickle."""
_SECRETS = ("hf_token", "token", "_name_or_path", "name_or_path")


def check_output(directory: Path, *, overwrite: bool, model_class: type = TokenClassificationModel) -> None:
    """Refuse a place that cannot become a model directory.

    Args:
        directory: The place.
        overwrite: Whether a model there may be replaced.
        model_class: The class of the model that is to be written there.

    Raises:
        OutputError: If it is a file, holds a model or files named like a model's and `overwrite` is off, holds
            another program's model or the user's own file of the model's class, or cannot be written.
    """
    check_place(model_class, directory)
    if directory.exists() and not directory.is_dir():
        raise OutputError(f"{directory} is a file: expected a directory to write the model to")
    if read_json(directory / CONFIG).get("model_type", CardioNERConfig.model_type) != CardioNERConfig.model_type:
        raise OutputError(f"{directory} holds another program's model, which is never replaced: choose another one")
    standing = [name for name in (CONFIG, WEIGHTS, CARD, *_TOKENIZER, *CODE) if (directory / name).exists()]
    if standing and not overwrite:
        raise OutputError(
            f"{directory} already holds {'a model' if CONFIG in standing else ', '.join(standing)}: "
            "choose another directory, or pass --overwrite (overwrite=True)"
        )
    with writing_to(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass


def write_model_dir(
    model: TokenClassificationModel,
    tokenizer: Any,
    directory: Path,
    *,
    training_args: Mapping[str, Any] | None = None,
    also_bin: bool = False,
) -> None:
    """Write a model directory; what stands there is replaced only when everything new is on the disk.

    `config.json` goes first and comes last: a directory without it is no model, so an interrupted write never passes
    for a whole one.

    Args:
        model: The model.
        tokenizer: Its tokenizer, saved without any truncation or padding it was last used with.
        directory: Where to write; made if it is missing.
        training_args: What the model was trained with, for `training_args.json`; secrets are left out.
        also_bin: Whether to write `pytorch_model.bin` too, for readers that know no safetensors.

    Raises:
        OutputError: If it cannot be written, a full disk among the reasons.
        UsageError: If the model's class is a user's and its file cannot travel: see `subclasses`.
    """
    kind = type(model)
    if issubclass(kind, TokenClassificationModel):
        adopt(kind)
        check_place(kind, directory)
    with writing_to(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=directory) as name:
            staging = Path(name)
            _fill(model, tokenizer, staging, training_args=training_args, also_bin=also_bin)
            _publish(staging, directory)


def read_model_dir(
    directory: Path, *, device: str = "auto", model_class: type[TokenClassificationModel] | None = None
) -> tuple[TokenClassificationModel, Any, CardioNERConfig]:
    """Load a directory with the installed classes, or with a given one; nothing in it is executed.

    Raises:
        ModelError: If it is missing, incomplete, cut, not one of ours, or the work of a class that is not given.
    """
    verify(directory)
    check_class(directory, read_config(directory), model_class)
    if device != "auto":
        _check_device(device)
    try:
        return load_custom_cardioner_multiclass_model(directory, device, model_class=model_class)
    except UnpicklingError as error:
        raise ModelError(refused_pickle(directory)) from error
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        problem = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"{directory} cannot be loaded: {problem} (copy the whole directory again, or save the model again)"
        ) from error


def verify(directory: Path) -> None:
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
        raise ModelError(f"{directory} is no model directory: it has no {CONFIG}; {hint}")
    config = read_config(directory)
    _check_config(directory, config)
    if missing := [name for name in (*needed_code(directory, config), *_TOKENIZER) if not (directory / name).is_file()]:
        raise ModelError(
            f"{directory} lacks {', '.join(missing)}: copy the whole directory again, or save the model again"
        )
    for name in _TOKENIZER:
        _read_object(directory / name)
    _check_weights(directory)


def read_config(directory: Path) -> dict[str, Any]:
    """The content of `config.json`.

    Raises:
        ModelError: If it is no JSON object.
    """
    return _read_object(directory / CONFIG)


@contextmanager
def writing_to(place: Path) -> Iterator[None]:
    """Turn what an operating system says of a write into one line about the place.

    Raises:
        OutputError: For every failed write.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
        if isinstance(error, RuntimeError) and not full and not any(sign in str(error) for sign in _FAILED_WRITE):
            raise
        reason = "the disk is full: free some space" if full else str(error).partition("\n")[0]
        raise OutputError(f"{place} cannot be written: {reason}") from error


def installed_versions() -> dict[str, str]:
    """The versions that a saved model depends on."""
    import tokenizers  # noqa: PLC0415 - only for its version
    import transformers  # noqa: PLC0415

    return {
        "cardioner": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
        "safetensors": safetensors.__version__,
    }


def head_of(config: Mapping[str, Any]) -> str:
    """The widths of a head, from the encoder's to the number of tags, as `config.json` has them."""
    encoder = AutoConfig.for_model(**config["encoder_config"])  # families name their widths differently
    hidden = config.get("classifier_hidden_layers") or []
    return " -> ".join(str(width) for width in [encoder.hidden_size, *hidden, len(config["id2label"])])


def _fill(
    model: TokenClassificationModel,
    tokenizer: Any,
    staging: Path,
    *,
    training_args: Mapping[str, Any] | None,
    also_bin: bool,
) -> None:
    """Write every file of the directory."""
    model.config._name_or_path = ""
    model.save_pretrained(staging)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(staging)
    _clean_tokenizer_config(staging / "tokenizer_config.json")
    if training_args is not None:
        kept = {key: value for key, value in training_args.items() if key not in _SECRETS}
        text = json.dumps(kept, indent=2, sort_keys=True, ensure_ascii=False)
        (staging / TRAINING_ARGS).write_text(text + "\n", encoding="utf-8")
    card = model_card(read_config(staging), training_args or {}, head=head_of(read_config(staging)))
    (staging / CARD).write_text(card, encoding="utf-8")
    if also_bin:
        torch.save(model.state_dict(), staging / PICKLED_WEIGHTS)


def _clean_tokenizer_config(path: Path) -> None:
    """Drop where the tokenizer came from, and how long its last user cut texts."""
    content = json.loads(path.read_text(encoding="utf-8"))
    drop = {
        *_SECRETS,
        "is_local",
        "local_files_only",
        "max_length",
        "stride",
        "truncation_strategy",
        "pad_to_multiple_of",
    }
    kept = {key: value for key, value in content.items() if key not in drop}
    path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _publish(staging: Path, directory: Path) -> None:
    """Move the files of a finished staging folder to their place, `config.json` first gone and last back."""
    umask = os.umask(0)
    os.umask(umask)
    names = sorted(path.name for path in staging.iterdir() if path.name != CONFIG)
    for path in staging.iterdir():
        path.chmod(0o666 & ~umask)
    (directory / CONFIG).unlink(missing_ok=True)
    weights = (path.name for path in directory.glob("model*.safetensors*"))
    for stale in (PICKLED_WEIGHTS, TRAINING_ARGS, *_OLD_TOKENIZER, *weights):
        (directory / stale).unlink(missing_ok=True)
    for name in [*names, CONFIG]:
        shutil.move(staging / name, directory / name)


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


def _check_device(device: str) -> None:
    """Refuse a device that torch does not have.

    Raises:
        UsageError: Naming it.
    """
    try:
        if torch.device(device).type not in {"cpu", "cuda"}:
            raise RuntimeError(device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"the device {device!r} is not available here: use auto, cpu, or cuda where there is a GPU"
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
