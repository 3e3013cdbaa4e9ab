"""Writing a model directory: whole or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from cardioner._io import grant_default_permissions, publish, reporting_failed_writes
from cardioner.errors import ModelError, OutputError, listed
from cardioner.model_dir.card import model_card
from cardioner.model_dir.custom_code import adopt, check_place, own_file
from cardioner.model_dir.golden_outputs import record_golden_outputs
from cardioner.model_dir.json_files import read_json
from cardioner.model_dir.layout import (
    CARD,
    CODE,
    CONFIG,
    GRAPH_FILES,
    MANIFEST,
    MEMBERS,
    OLD_TOKENIZER_FILES,
    PARTIAL,
    PICKLED_WEIGHTS,
    SECRETS,
    SIGNATURE,
    SUMMARY,
    TOKENIZER_CONFIG,
    TOKENIZER_FILES,
    TRAINING_ARGS,
    WEIGHTS,
    dropped_from_tokenizer,
    foreign_files,
)
from cardioner.model_dir.manifest import Manifest, installed_versions, list_files, read_manifest
from cardioner.multiclass.modeling import CardioNERConfig, TokenClassificationModel

_KEPT_APART = SECRETS | {"documents", "scores", "calibration", "versions", "labels", "epochs", "history", "seconds"}
"""What of a training's record has a place of its own in the manifest, or none."""


def check_output(
    directory: str | Path,
    *,
    overwrite: bool,
    model_class: type = TokenClassificationModel,
    made_from: Iterable[Path] = (),
    after_members: bool = False,
) -> None:
    """Refuse a place that cannot become a model directory for a model of this class.

    Args:
        directory: The place.
        overwrite: Whether a model that is there may be replaced.
        model_class: The class of the model.
        made_from: Directories of other models whose digests its record will have: none of them is replaced.
        after_members: Whether models in it may wait for one that learns from them.

    Raises:
        OutputError: If it is one of those, a file or the folder of a repeated training, holds members, a model or files
            named like a model's and `overwrite` is off, another program's model or the user's own file of the model's
            class, or cannot be written.
    """
    directory = Path(directory)
    check_place(model_class, directory)
    if any(part.resolve() == directory.resolve() for part in made_from):
        raise OutputError(f"{directory} is one of the models that the new one is made from: choose another directory")
    if directory.exists() and not directory.is_dir():
        raise OutputError(f"{directory} is a file: expected a directory to write the model to")
    if "members" in read_json(directory / SUMMARY):
        raise OutputError(
            f"{directory} holds the models of a repeated training, which are used as one: choose another directory"
        )
    if not after_members:
        check_no_members(directory)
    if read_json(directory / CONFIG).get("model_type", CardioNERConfig.model_type) != CardioNERConfig.model_type:
        raise OutputError(f"{directory} holds another program's model, which is never replaced: choose another one")
    if not overwrite:
        check_free(directory, (CONFIG, WEIGHTS, CARD, *TOKENIZER_FILES, *CODE))
    _check_nothing_foreign(directory)
    with reporting_failed_writes(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass


def check_no_members(directory: Path) -> None:
    """Refuse a directory in which models wait for one that is to learn from them.

    Raises:
        OutputError: Saying how to go on.
    """
    if (directory / MEMBERS / SUMMARY).is_file():
        raise OutputError(
            f"{directory} holds an interrupted training with --recipe best: continue it with --recipe best --resume, "
            "replace it with --overwrite, or choose another directory"
        )


def check_free(directory: Path, names: Iterable[str]) -> None:
    """Refuse a directory that holds a model, or files named like a model's.

    Raises:
        OutputError: Naming them.
    """
    if standing := [name for name in names if (directory / name).exists()]:
        raise OutputError(
            f"{directory} already holds {'a model' if CONFIG in standing else ', '.join(standing)}: "
            "choose another directory, or pass --overwrite (overwrite=True)"
        )


def write_model_dir(
    model: TokenClassificationModel,
    tokenizer: Any,
    directory: str | Path,
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
        UsageError: If the model's class is a user's and its file cannot travel: see `custom_code`.
    """
    directory, kind = Path(directory), type(model)
    if issubclass(kind, TokenClassificationModel):
        adopt(kind)
        check_place(kind, directory)
    _check_nothing_foreign(directory)
    with reporting_failed_writes(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=directory) as name:
            staging = Path(name)
            _fill(model, tokenizer, staging, training_args=training_args, also_bin=also_bin)
            _publish(staging, directory)


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
    _clean_tokenizer_config(staging / TOKENIZER_CONFIG)
    if training_args is not None:
        kept = {key: value for key, value in training_args.items() if key not in SECRETS}
        text = json.dumps(kept, indent=2, sort_keys=True, ensure_ascii=False)
        (staging / TRAINING_ARGS).write_text(text + "\n", encoding="utf-8")
    if also_bin:
        torch.save(model.state_dict(), staging / PICKLED_WEIGHTS)
    config = {**read_json(staging / CONFIG), "manifest": MANIFEST}
    (staging / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    manifest = _manifest(model, tokenizer, training_args or {})
    (staging / CARD).write_text(model_card(config, manifest), encoding="utf-8")
    files = list_files(staging, (path.name for path in staging.iterdir()))
    (staging / MANIFEST).write_bytes(manifest.model_copy(update={"files": files}).to_bytes())


def _manifest(model: TokenClassificationModel, tokenizer: Any, record: Mapping[str, Any]) -> Manifest:
    """The manifest of a model, without files yet; the record is that of `training_args.json` and may be empty."""
    return Manifest(
        versions=installed_versions(),
        labels=model.config.tags,
        training={key: value for key, value in record.items() if key not in _KEPT_APART},
        documents=record.get("documents", {}),
        scores={
            part: {name: found[name] for name in ("documents", "strict", "intervals", "attributes") if name in found}
            for part, found in record.get("scores", {}).items()
        },
        calibration=record.get("calibration"),
        golden_outputs=record_golden_outputs(model, tokenizer),
        files={},
    )


def _clean_tokenizer_config(path: Path) -> None:
    """Drop where the tokenizer came from, code that it named, and how long its last user cut texts."""
    content = json.loads(path.read_text(encoding="utf-8"))
    kept = {key: value for key, value in content.items() if not dropped_from_tokenizer(key)}
    if kept.get("tokenizer_class") == "TokenizersBackend":  # what transformers 5 calls it, and 4 does not know
        kept["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _publish(staging: Path, directory: Path) -> None:
    """Replace the model that stands in a directory by the files of a finished staging folder."""
    grant_default_permissions(staging)
    for name in [CONFIG, *_replaced_files(directory)]:
        (directory / name).unlink(missing_ok=True)
    publish(staging, directory, sorted(path.name for path in staging.iterdir()), key=CONFIG)


def _replaced_files(directory: Path) -> set[str]:
    """The files of the model that stands in a directory, which go when another takes its place.

    What its manifest lists is only the model's if it is what the manifest says.
    """
    try:
        manifest = read_manifest(directory)
    except ModelError:
        manifest = None
    entries = {} if manifest is None else manifest.files
    found = list_files(directory, [name for name in entries if (directory / name).is_file()])
    unchanged = [name for name, entry in found.items() if entry == entries[name]]
    weights = [path.name for path in directory.glob("model*.safetensors*")]
    own = own_file(read_json(directory / CONFIG))
    fixed = {MANIFEST, SIGNATURE, PICKLED_WEIGHTS, TRAINING_ARGS, *OLD_TOKENIZER_FILES, *GRAPH_FILES}
    return {*fixed, *weights, *unchanged, *filter(None, [own])}


def _check_nothing_foreign(directory: Path) -> None:
    """Refuse a place for a model with files that would be taken for a part of it."""
    own = {CARD, CONFIG, *CODE, *TOKENIZER_FILES, *_replaced_files(directory)}
    if foreign := foreign_files(directory, own):
        raise OutputError(
            f"{directory} holds {listed(foreign)}, which would be taken for a part of the model: choose another one"
        )
