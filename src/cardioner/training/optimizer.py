"""The layers of an encoder, whatever its family: which learn, and how fast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from cardioner.multiclass.heads import ATTRIBUTE_HEAD
from cardioner.training.options import TrainingOptions

_HEADS, _CRF, _BACKBONE = ("classifier.", ATTRIBUTE_HEAD), "crf.", "backbone."


def depths(model: nn.Module) -> dict[str, int]:
    """How far up each parameter stands: 0 for embeddings, 1 to n for the encoder's layers, n + 1 behind it.

    The layers are the longest of the encoder's outermost module lists. What stands beside them counts as embeddings
    where its name says so, else as part of the last layer (a final norm).
    """
    backbone = model.get_submodule(_BACKBONE[:-1])
    lists = [(name, part) for name, part in backbone.named_modules() if isinstance(part, nn.ModuleList)]
    outermost = [(name, part) for name, part in lists if not any(name.startswith(f"{other}.") for other, _ in lists)]
    place, layers = max(outermost, key=lambda pair: len(pair[1]), default=("", nn.ModuleList()))
    prefix, count = f"{_BACKBONE}{place}.", len(layers)

    def depth(name: str) -> int:
        """Of one parameter."""
        if not name.startswith(_BACKBONE):
            return count + 1
        if count and name.startswith(prefix):
            return 1 + int(name[len(prefix) :].partition(".")[0])
        return 0 if "emb" in name else count

    return {name: depth(name) for name, _ in model.named_parameters()}


def unfreeze_top(model: nn.Module, trainable: frozenset[str], layers: int) -> None:
    """Train the head and the uppermost layers, and nothing below them.

    Args:
        model: A model of `modeling.py`.
        trainable: Names of the parameters that are trained once everything is unfrozen.
        layers: Layers to train; one more than the encoder has includes its embeddings.
    """
    by_name = depths(model)
    lowest = max(by_name.values()) - layers
    for name, value in model.named_parameters():
        value.requires_grad_(name in trainable and by_name[name] >= lowest)


def parameter_groups(model: nn.Module, settings: Mapping[str, Any], options: TrainingOptions) -> list[dict[str, Any]]:
    """Parameters grouped by learning rate and weight decay, in the form that optimizers take.

    Matrices decay; biases, norms and the CRF do not. The rate of a layer of the encoder is `layer_decay` times that of
    the one above it.
    """
    by_name = depths(model)
    top = max(by_name.values()) - 1
    rate = settings["learning_rate"]

    def rate_of(name: str) -> float:
        """Of one parameter."""
        if name.startswith(_CRF):
            return options.crf_learning_rate
        if name.startswith(_BACKBONE):
            return float(rate * options.layer_decay ** (top - by_name[name]))
        own = options.head_learning_rate if name.startswith(_HEADS) else None
        return float(rate if own is None else own)

    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, value in model.named_parameters():
        if value.requires_grad:
            decay = settings["weight_decay"] if value.ndim >= 2 and not name.startswith(_CRF) else 0.0
            groups.setdefault((rate_of(name), decay), []).append(value)
    return [{"params": values, "lr": lr, "weight_decay": decay} for (lr, decay), values in groups.items()]


def optimizer(model: nn.Module, settings: Mapping[str, Any], options: TrainingOptions) -> torch.optim.Optimizer:
    """AdamW over `parameter_groups`."""
    return torch.optim.AdamW(parameter_groups(model, settings, options), lr=settings["learning_rate"], fused=True)
