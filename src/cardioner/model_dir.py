"""The saved directory: written whole or not at all, checked before it is trusted, described for people."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors import SafetensorError, safe_open

from cardioner import __version__
from cardioner.errors import ModelError, OutputError, UsageError
from cardioner.multiclass.modeling import (
    COMPANIONS,
    CardioNERConfig,
    TokenClassificationModel,
    load_custom_cardioner_multiclass_model,
)

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
PICKLED_WEIGHTS = "pytorch_model.bin"
TRAINING_ARGS = "training_args.json"
CODE = ("modeling.py", *COMPANIONS)
_SECRETS = ("hf_token", "token", "_name_or_path", "name_or_path")


def check_output(directory: Path, *, overwrite: bool) -> None:
    """Refuse a place that cannot become a model directory.

    Raises:
        OutputError: If it is a file, holds a model and `overwrite` is off, holds something else, or cannot be written.
    """
    if directory.exists() and not directory.is_dir():
        raise OutputError(f"{directory} is a file: expected a directory to write the model to")
    if (directory / CONFIG).exists() and not overwrite:
        raise OutputError(
            f"{directory} already holds a model: choose another directory, or pass --overwrite (overwrite=True)"
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
    """
    with writing_to(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=directory) as name:
            staging = Path(name)
            _fill(model, tokenizer, staging, training_args=training_args, also_bin=also_bin)
            _publish(staging, directory)


def read_model_dir(directory: Path, *, device: str = "auto") -> tuple[TokenClassificationModel, Any, CardioNERConfig]:
    """Load a directory with the installed classes; nothing in it is executed.

    Raises:
        ModelError: If it is missing, incomplete, cut, or not one of ours.
    """
    verify(directory)
    if device != "auto":
        _check_device(device)
    try:
        return load_custom_cardioner_multiclass_model(directory, device)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        problem = str(error).strip().partition("\n")[0]
        raise ModelError(f"{directory} cannot be loaded: {problem}") from error


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
        hint = f"; the checkpoints {', '.join(checkpoints)} are whole" if checkpoints else ""
        raise ModelError(f"{directory} is no model directory: it has no {CONFIG}{hint}")
    found = read_config(directory).get("model_type")
    if found != CardioNERConfig.model_type:
        raise ModelError(f"{directory}: expected a model of type {CardioNERConfig.model_type}, found {found}")
    wanted = [*CODE, "tokenizer.json", "tokenizer_config.json"]
    if missing := [name for name in wanted if not (directory / name).is_file()]:
        raise ModelError(
            f"{directory} lacks {', '.join(missing)}: copy the whole directory again, or save the model again"
        )
    _check_weights(directory)


def read_config(directory: Path) -> dict[str, Any]:
    """The content of `config.json`.

    Raises:
        ModelError: If it is no JSON object.
    """
    try:
        content = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{directory / CONFIG}: expected a JSON object, found a damaged file") from error
    if not isinstance(content, dict):
        raise ModelError(f"{directory / CONFIG}: expected a JSON object, found {type(content).__name__}")
    return content


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
        if isinstance(error, RuntimeError) and not full and "write" not in str(error):
            raise
        reason = "the disk is full: free some space" if full else str(error).partition("\n")[0]
        raise OutputError(f"{place} cannot be written: {reason}") from error


@dataclass(frozen=True, slots=True)
class Description:
    """What `inspect` tells of a directory.

    Attributes:
        facts: Names and values, in the order to show them.
        files: Size in bytes by name.
        warnings: What deserves a look: transitions that are not finite or look untrained, code that differs.
    """

    facts: dict[str, Any]
    files: dict[str, int]
    warnings: tuple[str, ...]


def describe(directory: Path) -> Description:
    """Describe a directory without running anything in it.

    Raises:
        ModelError: If it is no whole model directory.
    """
    verify(directory)
    config = read_config(directory)
    encoder = config.get("encoder_config", {})
    weights = _read_weights(directory)
    hidden = config.get("classifier_hidden_layers")
    trained = _read_json(directory / TRAINING_ARGS)
    facts = {
        "model": config.get("custom_model_type"),
        "labels": [config["id2label"][str(index)] for index in range(len(config["id2label"]))],
        "head": " -> ".join(
            str(width) for width in [encoder.get("hidden_size"), *(hidden or []), len(config["id2label"])]
        ),
        "crf": bool(config.get("use_crf")),
        "encoder": "{model_type}, {num_hidden_layers} layers of {hidden_size}".format_map(defaultdict(str, encoder)),
        "parameters": sum(tensor.numel() for tensor in weights.values()),
        "window": f"{config.get('window_length')} sub-tokens, {config.get('window_context')} of context",
        "inference_dtype": config.get("inference_dtype"),
        "temperature": config.get("temperature"),
        "class_weights": config.get("class_weights"),
        "freeze_backbone": config.get("freeze_backbone"),
        "trained_from": trained.get("model"),
        "scores": {part: found["strict"]["micro"] for part, found in trained.get("scores", {}).items()},
        "versions": {
            "saved": {"transformers": config.get("transformers_version"), **trained.get("versions", {})},
            "installed": installed_versions(),
        },
    }
    files = {path.name: path.stat().st_size for path in sorted(directory.iterdir()) if path.is_file()}
    return Description(facts, files, (*_code_warnings(directory), *_crf_warnings(config, weights)))


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
    for stale in (PICKLED_WEIGHTS, TRAINING_ARGS, *(path.name for path in directory.glob("model*.safetensors*"))):
        (directory / stale).unlink(missing_ok=True)
    for name in [*names, CONFIG]:
        shutil.move(staging / name, directory / name)


def _check_weights(directory: Path) -> None:
    """Refuse weights that are missing or shorter than their header says."""
    index = directory / f"{WEIGHTS}.index.json"
    shards = sorted(set(_read_json(index).get("weight_map", {}).values())) if index.is_file() else [WEIGHTS]
    if (directory / PICKLED_WEIGHTS).is_file() and not any((directory / name).is_file() for name in shards):
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


def _read_weights(directory: Path) -> dict[str, torch.Tensor]:
    """All weights by name."""
    files = sorted(directory.glob("model*.safetensors"))
    if not files:
        return dict(torch.load(directory / PICKLED_WEIGHTS, weights_only=True, map_location="cpu"))
    weights: dict[str, torch.Tensor] = {}
    for path in files:
        with safe_open(path, framework="pt") as file:
            weights |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    return weights


def _crf_warnings(config: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> Iterator[str]:
    """Transitions that are not finite, or that all still lie where a CRF's initial values do."""
    names = ("start_transitions", "end_transitions", "transitions")
    found = {name: weights[f"crf.{name}"] for name in names if f"crf.{name}" in weights}
    if config.get("use_crf") and len(found) < len(names):
        yield f"the CRF lacks {', '.join(sorted(set(names) - set(found)))}"
    for name, values in found.items():
        if not values.isfinite().all():
            yield f"crf.{name} holds values that are not finite: the model cannot be used"
    transitions = found.get("transitions")
    if transitions is None:
        return
    if not transitions.any():
        yield "crf.transitions are all 0, their initial value: the CRF was never trained"
    elif (transitions.abs() <= 0.1).all() and transitions.all():
        yield "crf.transitions all lie within 0.1 of 0, as pytorch-crf draws them: the CRF looks untrained"


def _code_warnings(directory: Path) -> Iterator[str]:
    """Code files that differ from the ones this version ships."""
    home = Path(__file__).parent / "multiclass"
    for name in CODE:
        if (directory / name).read_bytes() != (home / name).read_bytes():
            yield f"{name} is not the one of cardioner {__version__}: trust_remote_code=True would run other code"


def _check_device(device: str) -> None:
    """Refuse a device that torch does not have.

    Raises:
        UsageError: Naming it.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"the device {device!r} is not available here: use auto, cpu, or cuda where there is a GPU"
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object, empty where the file is missing or none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


__all__ = [
    "Description",
    "check_output",
    "describe",
    "installed_versions",
    "read_config",
    "read_model_dir",
    "verify",
    "write_model_dir",
    "writing_to",
]
