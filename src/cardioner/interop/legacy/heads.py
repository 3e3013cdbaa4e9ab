"""Models of the original CardioNER with a head, and perhaps a CRF, for each entity type, as one head of tags per type.

Weights of such a type `X` are `X_dense_0`, `X_dense_1`, ..., linear layers as wide as the encoder with GELU behind
them, `X_classifier` with the rows O, B, I, and `X_crf` with the parameters of pytorch-crf. Its configuration lists the
types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cardioner.data.labels import LabelSet
from cardioner.errors import ModelError, many
from cardioner.interop.legacy.directory import LegacyModel, list_under
from cardioner.model_dir.json_files import object_under
from cardioner.model_dir.layout import CONFIG
from cardioner.multiclass.modeling import legal_transitions

_TAGS = ["O", "B", "I"]
_PARTS = ("weight", "bias")
_CRF = {"start_transitions": (3,), "end_transitions": (3,), "transitions": (3, 3)}
"""The parameters of a type's CRF, and their shapes."""


def with_one_head(source: LegacyModel) -> LegacyModel:
    """The same model with the names of ours: all heads as one, all CRFs as one, and tags per type.

    Raises:
        ModelError: If the heads are not alike, or have other tags than O, B and I.
    """
    labels = LabelSet.from_types(_types(source), overlap="per-type")
    weights = dict(source.weights)
    hidden = _hidden(source, labels.types)
    for name in [name for name in weights if name.startswith("loss_fns.")]:
        del weights[name]  # class weights, which no logit depends on
    for part in _PARTS:
        for layer in range(hidden):
            for index, label in enumerate(labels.types):
                place = f"classifier.{index}.{3 * layer}" if len(labels.types) > 1 else f"classifier.{3 * layer}"
                weights[f"{place}.{part}"] = _taken(source, weights, f"{label}_dense_{layer}.{part}")
        last = [_taken(source, weights, f"{label}_classifier.{part}") for label in labels.types]
        _check_alike(source, labels, last, (len(_TAGS), *last[0].shape[1:]))
        weights |= _last(last, part, hidden)
    crf = any(f"{label}_crf.{name}" in weights for label in labels.types for name in _CRF)
    for name, shape in _CRF.items() if crf else ():
        fields = [_taken(source, weights, f"{label}_crf.{name}") for label in labels.types]
        _check_alike(source, labels, fields, shape)
        weights[f"crf.{name}"] = torch.stack(fields) if len(fields) > 1 else fields[0]
    return replace(source, weights=_legal(weights), config=_config(source, labels, crf=crf), types=labels.types)


def _types(source: LegacyModel) -> list[str]:
    """The entity types, once the tags of each are known to be O, B and I."""
    types = list_under(source.config, "entity_types")
    if not types or not all(isinstance(one, str) and one for one in types) or len(set(types)) != len(types):
        raise ModelError(f"{source.place / CONFIG}: expected entity_types to name each type once")
    by_id = object_under(source.config, "id2label")
    if [by_id.get(str(index)) for index in range(max(len(by_id), len(_TAGS)))] != _TAGS:
        raise ModelError(
            f"{source.place / CONFIG}: expected id2label to give the tags O, B and I of each head, in this order; "
            f"found {many(len(by_id), 'entry', 'entries')}"
        )
    return types


def _hidden(source: LegacyModel, types: tuple[str, ...]) -> int:
    """How many hidden layers each head has."""
    counts = {label: sum(name.startswith(f"{label}_dense_") for name in source.weights) // 2 for label in types}
    given = source.config.get("number_of_layers_per_head", 1)
    if set(counts.values()) != {given}:
        found = ", ".join(f"{label} {count}" for label, count in counts.items())
        raise ModelError(f"{source.place}: {CONFIG} gives each head {given} hidden layers, {source.file}: {found}")
    return int(given)


def _taken(source: LegacyModel, weights: dict[str, Tensor], name: str) -> Tensor:
    """A weight, which is no longer among the others."""
    if name not in weights:
        raise ModelError(f"{source.weights_file} lacks {name}: expected the same weights for each type")
    return weights.pop(name)


def _check_alike(source: LegacyModel, labels: LabelSet, weights: list[Tensor], shape: tuple[int, ...]) -> None:
    """Refuse heads that score another number of tags, or have unlike weights."""
    for label, value in zip(labels.types, weights, strict=True):
        if value.shape != shape:
            raise ModelError(
                f"{source.weights_file}: expected heads that are alike and score the tags O, B and I; that of "
                f"{label} has weights of the shape {tuple(value.shape)} where {shape} was expected"
            )


def _last(rows: list[Tensor], part: str, hidden: int) -> dict[str, Tensor]:
    """The last layers of all types under their current names: one layer if nothing lies before them."""
    if not hidden:
        return {f"classifier.{part}": torch.cat(rows)}
    places = [f"classifier.{index}" for index in range(len(rows))] if len(rows) > 1 else ["classifier"]
    return {f"{place}.{3 * hidden}.{part}": value for place, value in zip(places, rows, strict=True)}


def _legal(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights, with 0 for transitions that do not exist, for which the original has -1e9."""
    legal = legal_transitions(["O", "B-X", "I-X"])
    rules = {"crf.start_transitions": legal.start, "crf.transitions": legal.transitions}
    known = {name: torch.tensor(rule) for name, rule in rules.items() if name in weights}
    return weights | {name: torch.where(rule, weights[name], 0) for name, rule in known.items()}


def _config(source: LegacyModel, labels: LabelSet, *, crf: bool) -> dict[str, Any]:
    """The configuration with the tags, and what else a model with one head says."""
    names = {str(index): tag for index, tag in labels.id2label.items()}
    weights: Mapping[str, Any] = object_under(source.config, "class_weights")
    by_tag = [weight for label in labels.types for weight in list_under(weights, label)]
    own = {"id2label": names, "label2id": labels.label2id, "use_crf": crf, "class_weights": by_tag or None}
    return source.config | own
