"""Whether the weights fill the model that a configuration describes, found out without memory.

The encoder is built on torch's `meta` device, where tensors have shapes and no numbers. While it grows, every part is
counted: a configuration that asks for more than the weights hold is stopped there, however large it is.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig, AutoModel

from cardioner._io import silenced
from cardioner.errors import ModelError, listed
from cardioner.model_dir.json_files import in_one_line, shown
from cardioner.model_dir.layout import CONFIG
from cardioner.model_dir.untrusted.weights import Stored
from cardioner.multiclass.modeling import CardioNERConfig
from cardioner.multiclass.tagging import tag_groups

_COMPUTED = ("sinusoidal_pos_embds", "sinusoidal_embeddings")
"""Tables that some families compute in Python while they are built; their shapes are the same without."""
_MOST_BUFFERED = 1 << 24
_MAKING = {"arange", "empty", "eye", "full", "linspace", "ones", "rand", "randn", "tensor", "zeros", "zeros_like"}
"""Functions of torch that make tensors of any size."""
_MOST_SECONDS = 5.0
"""Of the processor's time; the largest encoders known take a tenth of it."""
_MOST_LACKING = 1 << 24
_OURS = re.compile(r"backbone\.")
_COPY = "copy the whole directory again, or save the model again"


def check_encoder(directory: Path, encoder: Mapping[str, Any], weights: Mapping[str, Stored]) -> int | None:
    """Refuse an encoder that the weights do not fill; gives how many sub-tokens it has vectors for, if it tells."""
    with in_one_line(f"{directory} cannot be loaded: the encoder's configuration makes no encoder", f"({_COPY})"):
        with silenced("transformers"), torch.device("meta"), _Counted(directory, weights):
            model: Any = _without_numbers(encoder)
        shapes = dict(model.state_dict())
        rows = getattr(model.get_input_embeddings(), "num_embeddings", None)
    prefix = "backbone." if any(map(_OURS.match, weights)) else f"{model.base_model_prefix}."
    weights = {name.removeprefix(prefix): stored for name, stored in weights.items()}
    _check_sizes(directory, model, shapes, weights)
    for name, value in shapes.items():
        if name in weights and weights[name].shape != tuple(value.shape):
            found, asked = weights[name].shape, tuple(value.shape)
            _fail(directory, f"{name} has the shape {found}, and {CONFIG} asks for {asked}")
        if name in weights and weights[name].real != value.is_floating_point():
            _fail(directory, f"{name} holds another kind of numbers than {CONFIG} asks for")
    return rows if isinstance(rows, int) else None


def _check_sizes(
    directory: Path, model: nn.Module, shapes: Mapping[str, torch.Tensor], weights: Mapping[str, Stored]
) -> None:
    """Refuse an encoder for which loading would make memory beyond that of its weights."""
    asked, held = sum(value.numel() for value in model.parameters()), sum(value.numbers for value in weights.values())
    lacking = {name: value.numel() for name, value in shapes.items() if name not in weights}
    if asked > held:
        more = f" and lack {listed(lacking)}" if lacking else ""
        _fail(directory, f"{CONFIG} asks for an encoder of {asked:,} numbers, the weights hold {held:,}{more}")
    if (count := sum(lacking.values())) > _MOST_LACKING:  # a few may be named otherwise
        _fail(directory, f"the weights lack {count:,} of the numbers that {CONFIG} asks for")
    buffered = sum(value.numel() for value in model.buffers())
    if buffered > _MOST_BUFFERED:
        _fail(directory, f"{CONFIG} asks for {buffered:,} numbered positions, more than any encoder has")


def check_head(directory: Path, config: Mapping[str, Any], weights: Mapping[str, Stored]) -> None:
    """Refuse a head, or a CRF, whose weights have other shapes than the tags and the hidden layers ask for."""
    tags, asked = len(config["id2label"]), _head(config)
    for name, shape in asked.items():
        if name in weights and weights[name].shape != shape:
            _fail(directory, f"{name} has the shape {weights[name].shape}, and {CONFIG} asks for {shape} ({tags} tags)")
    layers = {name.rpartition(".")[0] for name in asked}
    for name, stored in weights.items():
        ours = name.startswith(("classifier.", "crf."))
        if ours and (not stored.real or name.rpartition(".")[0] not in layers | {"crf"}):
            _fail(directory, f"{shown(name)} is no weight of the head that {CONFIG} describes")
    if len(config.get("class_weights") or [0] * tags) != tags:
        _fail(directory, f"expected a weight in class_weights for each of {tags} tags")


def _head(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of the head's biases, and of a CRF's scores, by their names."""
    groups = tag_groups([config["id2label"][str(index)] for index in range(len(config["id2label"]))])
    tags, hidden = len(config["id2label"]), config.get("classifier_hidden_layers") or []
    heads = {"classifier.": tags}
    if hidden and len(groups) > 1:
        heads = {f"classifier.{index}.": len(group.tags) for index, group in enumerate(groups)}
    asked: dict[str, tuple[int, ...]] = {
        f"{name}{3 * index}.bias": (width,) for name, of in heads.items() for index, width in enumerate([*hidden, of])
    }
    if not hidden:
        asked = {"classifier.bias": (tags,)}
    if config.get("use_crf") is True:
        types = () if groups[0].label is None else (len(groups),)
        row, square = (*types, len(groups[0].tags)), (*types, len(groups[0].tags), len(groups[0].tags))
        asked |= {"crf.start_transitions": row, "crf.end_transitions": row, "crf.transitions": square}
    return asked


def _fail(directory: Path, problem: str) -> NoReturn:
    raise ModelError(f"{directory} cannot be loaded: {problem} ({_COPY})")


def _without_numbers(encoder: Mapping[str, Any]) -> nn.Module:
    """The encoder as `modeling` builds it; the kind of numbers, which transformers sets for all threads, left out."""
    kept = dict(CardioNERConfig(encoder_config=dict(encoder)).encoder_config)
    kept |= {key: False for key in _COMPUTED if key in kept}
    config = AutoConfig.for_model(**{key: kept[key] for key in kept if key not in {"dtype", "torch_dtype"}})
    try:
        return AutoModel.from_config(config, add_pooling_layer=False)  # type: ignore[no-any-return]
    except TypeError:  # families that have no such argument
        return AutoModel.from_config(config)  # type: ignore[no-any-return]


class _Counted(TorchFunctionMode):
    """Stops this thread, and no other, as soon as it makes more tensors than these weights can fill.

    Global hooks on modules would do the same and break other threads: the list of them may not change while it is read.
    """

    def __init__(self, directory: Path, weights: Mapping[str, Stored]) -> None:
        super().__init__()
        self._directory = directory
        numbers = sum(stored.numbers for stored in weights.values())
        self._begun = time.thread_time()
        # more than there are: a part may be built and replaced by another one
        self._left = {"numbers": 2 * numbers + _MOST_BUFFERED, "weights": 4 * len(weights) + 512}

    def __torch_function__(
        self, function: Any, types: Any, arguments: Any = (), options: Mapping[str, Any] | None = None
    ) -> Any:
        """Do what was called, and count it."""
        made = function(*arguments, **(options or {}))
        if time.thread_time() - self._begun > _MOST_SECONDS:
            _fail(self._directory, f"{CONFIG} asks for an encoder that takes too long to build")
        if getattr(function, "__name__", "") in _MAKING and isinstance(made, torch.Tensor):
            for what, count in (("weights", 1), ("numbers", made.numel())):
                self._left[what] -= count
                if self._left[what] < 0:
                    _fail(self._directory, f"{CONFIG} asks for an encoder of more {what} than the weights hold")
        return made
