"""What a model directory is, told without running anything in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig

from cardioner import __version__
from cardioner.errors import ModelError
from cardioner.model_dir.custom_code import needed_code
from cardioner.model_dir.directory import head_of, installed_versions
from cardioner.model_dir.file_check import compare_files, promised_manifest
from cardioner.model_dir.layout import (
    CODE,
    PICKLED_WEIGHTS,
    TRAINING_ARGS,
    check_whole,
    object_under,
    read_config,
    read_json,
    refused_pickle,
)
from cardioner.model_dir.signing import signer


@dataclass(frozen=True, slots=True)
class Description:
    """What `inspect` tells of a directory.

    Attributes:
        facts: Names and values, in the order to show them.
        files: Size in bytes by name.
        warnings: What deserves a look: files that are not as the manifest says, transitions that are not finite or look
            untrained, code that differs.
    """

    facts: dict[str, Any]
    files: dict[str, int]
    warnings: tuple[str, ...]


def describe(directory: Path) -> Description:
    """Describe a directory without running anything in it.

    Raises:
        ModelError: If it is no whole model directory.
    """
    check_whole(directory)
    config = read_config(directory)
    encoder = AutoConfig.for_model(**config["encoder_config"])
    weights = _read_weights(directory)
    manifest = promised_manifest(directory, config)
    altered = [] if manifest is None else compare_files(directory, manifest)
    trained = read_json(directory / TRAINING_ARGS)
    scores = object_under(trained, "scores")
    facts = {
        "model": config.get("custom_model_type"),
        "labels": [config["id2label"][str(index)] for index in range(len(config["id2label"]))],
        "head": head_of(config),
        "crf": bool(config.get("use_crf")),
        "encoder": f"{encoder.model_type}, {encoder.num_hidden_layers} layers of {encoder.hidden_size}",
        "parameters": sum(tensor.numel() for tensor in weights.values()),
        "window": f"{config.get('window_length')} sub-tokens, {config.get('window_context')} of context",
        "inference_dtype": config.get("inference_dtype"),
        "temperature": config.get("temperature"),
        "class_weights": config.get("class_weights"),
        "freeze_backbone": config.get("freeze_backbone"),
        "trained_from": trained.get("model"),
        "code_of_the_auto_classes": _code(directory, config),
        "manifest": "none" if manifest is None else f"{len(manifest.files)} files",
        "signature": signer(directory),
        "scores": {part: object_under(scores[part], "strict").get("micro") for part in scores},
        "versions": {
            "saved": {"transformers": config.get("transformers_version"), **object_under(trained, "versions")},
            "installed": installed_versions(),
        },
    }
    files = {path.name: path.stat().st_size for path in sorted(directory.iterdir()) if path.is_file()}
    told = [f"{finding.name}: {finding.problem} (see cardioner verify)" for finding in altered if finding.serious]
    if manifest is None:
        told = ["there is no manifest: nothing tells whether this is what was saved"]
    warnings = (*told, *_code_warnings(directory, config), *_crf_warnings(config, weights))
    return Description(facts, files, warnings)


def _read_weights(directory: Path) -> dict[str, torch.Tensor]:
    """All weights by name."""
    files = sorted(directory.glob("model*.safetensors"))
    if not files:
        try:
            return dict(torch.load(directory / PICKLED_WEIGHTS, weights_only=True, map_location="cpu"))
        except UnpicklingError as error:
            raise ModelError(refused_pickle(directory)) from error
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


def _code(directory: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Every file that `trust_remote_code=True` would run, and whether it is the one that this version ships."""
    home = Path(__file__).parents[1] / "multiclass"
    found = {}
    beside = sorted(path.name for path in directory.iterdir() if path.suffix.lower() == ".py")
    for name in dict.fromkeys([*needed_code(directory, config), *beside]):
        shipped = name in CODE and (directory / name).read_bytes() == (home / name).read_bytes()
        other = "not that of" if name in CODE else "a file of its own, no part of"
        found[name] = f"{'as in' if shipped else other} cardioner {__version__}"
    return found


def _code_warnings(directory: Path, config: Mapping[str, Any]) -> Iterator[str]:
    """Code files that differ from the ones this version ships, or are none of them."""
    for name, found in _code(directory, config).items():
        if not found.startswith("as in"):
            yield f"{name} is {found}: trust_remote_code=True would run other code"
