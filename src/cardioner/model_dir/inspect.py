"""What a model directory is, found out without running anything in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from cardioner import __version__
from cardioner.errors import many
from cardioner.model_dir.card import head_of
from cardioner.model_dir.custom_code import needed_code
from cardioner.model_dir.entrance import Report
from cardioner.model_dir.findings import never_found
from cardioner.model_dir.graph_settings import graph_facts
from cardioner.model_dir.json_files import object_under, read_json, shown
from cardioner.model_dir.layout import CODE, TRAINING_ARGS
from cardioner.model_dir.load import enter
from cardioner.model_dir.manifest import installed_versions
from cardioner.model_dir.signing import signer
from cardioner.model_dir.untrusted.structure import load_weights, not_finite


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a directory is: facts in the order to show them, the sizes of its files, and what deserves a look."""

    facts: dict[str, Any]
    files: dict[str, int]
    warnings: tuple[str, ...]


def inspect(directory: str | Path) -> Inspection:
    """Say what is in a directory, without running anything in it.

    Raises:
        ModelError: If it is no whole model directory.
    """
    report = Report(keep_changes=True)
    entered = enter(directory, report=report)
    path, config, manifest = entered.path, entered.config, entered.manifest
    files = {file.name: file.stat().st_size for file in sorted(path.iterdir()) if file.is_file()}
    weights = load_weights(path, frozenset(files))
    code = _code(path, config)
    warnings = [f"{issue.name}: {issue.problem} (see cardioner verify)" for issue in report.issues if issue.serious]
    if manifest is None:
        warnings = ["there is no manifest: nothing says whether this is what was saved"]
    facts = _facts(path, config)
    facts |= {
        "parameters": sum(tensor.numel() for tensor in weights.values()),
        "code_of_the_auto_classes": code,
        "manifest": "none" if manifest is None else many(len(manifest.files), "file"),
        "signature": signer(path),
    }
    if graph := graph_facts(path):
        facts["graph"] = graph
    warnings += filter(None, [never_found(read_json(path / TRAINING_ARGS))])
    files = {shown(name, 255): size for name, size in files.items()}
    return Inspection(facts, files, (*warnings, *_code_warnings(code), *_weight_warnings(config, weights)))


def _facts(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """What the configuration and the record of the training say."""
    encoder = AutoConfig.for_model(**config["encoder_config"])
    trained = read_json(path / TRAINING_ARGS)
    scores = object_under(trained, "scores")
    return {
        "model": config.get("custom_model_type"),
        "labels": [config["id2label"][str(index)] for index in range(len(config["id2label"]))],
        **({"attributes": config["attributes"]} if config.get("attributes") else {}),
        "head": head_of(config),
        "crf": bool(config.get("use_crf")),
        "encoder": f"{encoder.model_type}, {encoder.num_hidden_layers} layers of {encoder.hidden_size}",
        "window": f"{config.get('window_length')} sub-tokens, {config.get('window_context')} of context",
        **{key: config.get(key) for key in ("inference_dtype", "temperature", "class_weights", "freeze_backbone")},
        "trained_from": trained.get("model"),
        **_teachers(object_under(trained, "distillation")),
        "scores": {part: object_under(scores[part], "strict").get("micro") for part in scores},
        "versions": {
            "saved": {"transformers": config.get("transformers_version"), **object_under(trained, "versions")},
            "installed": installed_versions(),
        },
    }


def _teachers(taught: Mapping[str, Any]) -> dict[str, Any]:
    """What a distilled model learned from besides annotations; nothing of any other."""
    digests = taught.get("manifests")
    recipe = " (recipe best)" if taught.get("recipe") == "best" else ""
    return {"taught_by": f"{many(len(digests), 'model')}{recipe}"} if isinstance(digests, list) else {}


def _weight_warnings(config: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> Iterator[str]:
    """Weights that are not finite, transitions that are missing or all still lie where their initial values do."""
    for name in not_finite(weights):
        yield f"{name} holds values that are not finite: the model cannot be used"
    names = ("start_transitions", "end_transitions", "transitions")
    found = {name: weights[f"crf.{name}"] for name in names if f"crf.{name}" in weights}
    if config.get("use_crf") and len(found) < len(names):
        yield f"the CRF lacks {', '.join(sorted(set(names) - set(found)))}"
    transitions = found.get("transitions")
    if transitions is None:
        return
    if not transitions.any():
        yield "crf.transitions are all 0, their initial value: the CRF was never trained"
    elif (transitions.abs() <= 0.1).all() and transitions.all():
        yield "crf.transitions all lie within 0.1 of 0, as pytorch-crf draws them: the CRF looks untrained"


def _code(directory: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Every file that `trust_remote_code=True` would run, and whether it is the one that this version ships."""
    home, ours = Path(__file__).parents[1] / "multiclass", CODE
    found = {}
    beside = sorted(path.name for path in directory.iterdir() if path.suffix.lower() == ".py")
    for name in dict.fromkeys([*needed_code(directory, config), *beside]):
        shipped = name in ours and (directory / name).read_bytes() == (home / name).read_bytes()
        other = "not that of" if name in ours else "a file of its own, no part of"
        found[name] = f"{'as in' if shipped else other} cardioner {__version__}"
    return found


def _code_warnings(code: Mapping[str, str]) -> Iterator[str]:
    """Code files that differ from the ones this version ships, or are none of them."""
    for name, found in code.items():
        if not found.startswith("as in"):
            yield f"{name} is {found}: trust_remote_code=True would run other code"
