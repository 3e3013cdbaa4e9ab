"""The saved directory: written whole or not at all, and checked before it is trusted."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors
import torch
from transformers import AutoConfig

from cardioner import __version__
from cardioner._io import grant_default_permissions, publish, reporting_failed_writes
from cardioner.errors import ModelError, OutputError, UsageError
from cardioner.model_dir.card import model_card
from cardioner.model_dir.custom_code import adopt, check_class, check_place, own_file
from cardioner.model_dir.file_check import check_foreign, checked_manifest
from cardioner.model_dir.golden_outputs import check_canary, make_canary
from cardioner.model_dir.layout import (
    CARD,
    CODE,
    CONFIG,
    PICKLED_WEIGHTS,
    TOKENIZER,
    TRAINING_ARGS,
    WEIGHTS,
    check_whole,
    read_config,
    read_json,
    refused_pickle,
)
from cardioner.model_dir.manifest import MANIFEST, SIGNATURE, Manifest, list_files, read_manifest
from cardioner.model_dir.signing import check_signature
from cardioner.multiclass.modeling import (
    CardioNERConfig,
    TokenClassificationModel,
    load_custom_cardioner_multiclass_model,
)

_OWN = {CARD, CONFIG, *CODE, *TOKENIZER}
PARTIAL = ".partial-"
"""How the names of folders begin that are being written."""
_OLD_TOKENIZER = ("special_tokens_map.json", "added_tokens.json")
"""What transformers 4 writes and every version reads: left from another model, it would change the tokenizer."""
_OF_ELSEWHERE = {"hf_token", "token", "is_local", "local_files_only", "max_length", "stride", "truncation_strategy"}
_OF_ELSEWHERE |= {"pad_to_multiple_of", "auto_map", "trust_remote_code", "gguf_file", "fast_tokenizer_files", "vocab"}
_OF_ELSEWHERE |= {"init_inputs", "tokenizer_padding", "tokenizer_truncation", "_commit_hash", "merges"}
_ENDINGS = ("_kwargs", "_file", "_path")
"""What a tokenizer's settings may say of other files, other places, code, and texts that were cut."""
_NO_SETTINGS = {"hf_token", "token", "_name_or_path", "name_or_path", "documents", "scores", "calibration", "versions"}
_NO_SETTINGS |= {"labels", "epochs", "history", "seconds"}
"""What of a training's record has a place of its own in the manifest, or none."""
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
    standing = [name for name in (CONFIG, WEIGHTS, CARD, *TOKENIZER, *CODE) if (directory / name).exists()]
    if standing and not overwrite:
        raise OutputError(
            f"{directory} already holds {'a model' if CONFIG in standing else ', '.join(standing)}: "
            "choose another directory, or pass --overwrite (overwrite=True)"
        )
    check_foreign(directory, {*_OWN, *_belongings(directory)})
    with reporting_failed_writes(directory):
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
    check_foreign(directory, {*_OWN, *_belongings(directory)})
    with reporting_failed_writes(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=directory) as name:
            staging = Path(name)
            _fill(model, tokenizer, staging, training_args=training_args, also_bin=also_bin)
            _publish(staging, directory)


def read_model_dir(
    directory: Path,
    *,
    device: str = "auto",
    model_class: type[TokenClassificationModel] | None = None,
    key: Path | None = None,
) -> tuple[TokenClassificationModel, Any, CardioNERConfig]:
    """Load a directory with the installed classes, or with a given one; nothing in it is executed.

    What it holds must be what its manifest lists, and compute what it says; a directory of a version that wrote no
    manifest is loaded without.

    Args:
        directory: The directory.
        device: `auto` takes the GPU where there is one; or a device as torch names it.
        model_class: The subclass that saved it, where one did that tags in a way of its own.
        key: A public key: the directory must be signed with its other half.

    Raises:
        ModelError: If it is missing, incomplete, altered, not one of ours, not signed as it should be, computes
            something else than when it was saved, or is the work of a class that is not given.
        UsageError: If there is no such device, or no key in that file.
    """
    check_whole(directory)
    config = read_config(directory)
    check_class(directory, config, model_class)
    manifest = checked_manifest(directory, config)
    if key is not None or ((directory / SIGNATURE).exists() and find_spec("cryptography")):
        check_signature(directory, key)
    if device != "auto":
        _check_device(device)
    model, tokenizer, loaded = load_unchecked(directory, device, model_class)
    if manifest is not None and (problems := list(check_canary(manifest.canary, model, tokenizer))):
        raise ModelError(
            f"{directory} does not compute here what it did when it was saved: {'; '.join(problems)}. "
            f"It was saved with {_versions(manifest.versions)}: install these, or see cardioner verify"
        )
    return model, tokenizer, loaded


def _versions(found: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {found[name]}" for name in ("torch", "transformers", "tokenizers") if name in found)


def load_unchecked(
    directory: Path, device: str, model_class: type[TokenClassificationModel] | None = None
) -> tuple[TokenClassificationModel, Any, CardioNERConfig]:
    """Load a directory that the caller has checked.

    Raises:
        ModelError: If its parts do not fit together all the same.
    """
    try:
        return load_custom_cardioner_multiclass_model(directory, device, model_class=model_class)
    except UnpicklingError as error:
        raise ModelError(refused_pickle(directory)) from error
    except Exception as error:
        problem = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ModelError(
            f"{directory} cannot be loaded: {problem} (copy the whole directory again, or save the model again)"
        ) from error


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
    shutil.rmtree(staging / "additional_chat_templates", ignore_errors=True)  # nothing to a tagger
    _clean_tokenizer_config(staging / "tokenizer_config.json")
    if training_args is not None:
        kept = {key: value for key, value in training_args.items() if key not in _SECRETS}
        text = json.dumps(kept, indent=2, sort_keys=True, ensure_ascii=False)
        (staging / TRAINING_ARGS).write_text(text + "\n", encoding="utf-8")
    if also_bin:
        torch.save(model.state_dict(), staging / PICKLED_WEIGHTS)
    config = {**read_config(staging), "manifest": MANIFEST}
    (staging / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    manifest = _manifest(model, tokenizer, training_args or {})
    (staging / CARD).write_text(model_card(config, manifest, head=head_of(config)), encoding="utf-8")
    files = list_files(staging, (path.name for path in staging.iterdir()))
    (staging / MANIFEST).write_bytes(manifest.model_copy(update={"files": files}).to_bytes())


def _manifest(model: TokenClassificationModel, tokenizer: Any, record: Mapping[str, Any]) -> Manifest:
    """The manifest of a model, without files yet.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        record: As in `training_args.json`; may be empty.
    """
    return Manifest(
        versions=installed_versions(),
        labels=model.config.tags,
        training={key: value for key, value in record.items() if key not in _NO_SETTINGS},
        documents=record.get("documents", {}),
        scores={part: _strict(found) for part, found in record.get("scores", {}).items()},
        calibration=record.get("calibration"),
        canary=make_canary(model, tokenizer),
        files={},
    )


def _strict(scores: Mapping[str, Any]) -> dict[str, Any]:
    """The headline among scores."""
    return {name: scores[name] for name in ("documents", "strict", "intervals") if name in scores}


def _clean_tokenizer_config(path: Path) -> None:
    """Drop where the tokenizer came from, code that it named, and how long its last user cut texts."""
    content = json.loads(path.read_text(encoding="utf-8"))
    kept = {key: value for key, value in content.items() if key not in _OF_ELSEWHERE and not key.endswith(_ENDINGS)}
    if kept.get("tokenizer_class") == "TokenizersBackend":  # what transformers 5 calls it, and 4 does not know
        kept["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _publish(staging: Path, directory: Path) -> None:
    """Replace the model that stands in a directory by the files of a finished staging folder."""
    grant_default_permissions(staging)
    stale = _belongings(directory)
    (directory / CONFIG).unlink(missing_ok=True)
    for name in stale:
        (directory / name).unlink(missing_ok=True)
    publish(staging, directory, sorted(path.name for path in staging.iterdir()), key=CONFIG)


def _belongings(directory: Path) -> set[str]:
    """The files of the model that stands in a directory, which go when another takes its place."""
    own = own_file(read_json(directory / CONFIG))
    try:
        manifest = read_manifest(directory)
    except ModelError:
        manifest = None
    weights = (path.name for path in directory.glob("model*.safetensors*"))
    entries = {} if manifest is None else manifest.files
    there = [name for name in entries if (directory / name).is_file()]
    listed_there = [name for name, entry in list_files(directory, there).items() if entry == entries[name]]
    return {
        *(MANIFEST, SIGNATURE, PICKLED_WEIGHTS, TRAINING_ARGS),
        *(*_OLD_TOKENIZER, *weights, *filter(None, [own]), *listed_there),
    }


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
