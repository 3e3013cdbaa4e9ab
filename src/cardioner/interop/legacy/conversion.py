"""A model of the original CardioNER in the current form: the same weights under the current names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cardioner.data.labels import LabelSet
from cardioner.errors import ModelError, UsageError, listed
from cardioner.interop.legacy.directory import (
    LegacyModel,
    encoder_of,
    labels_of,
    lacking_in,
    list_under,
    read_legacy_model,
    tokenizer_of,
)
from cardioner.interop.legacy.heads import with_one_head
from cardioner.model_dir.inspect import inspect
from cardioner.model_dir.json_files import in_one_line
from cardioner.model_dir.layout import CONFIG, PICKLED_WEIGHTS, WEIGHTS
from cardioner.model_dir.positions import max_positions
from cardioner.model_dir.save import check_output, write_model_dir
from cardioner.multiclass.modeling import CardioNERConfig, TokenClassificationModel, TokenClassificationModelCRF
from cardioner.training.arguments import pick_window_length
from cardioner.training.options import TrainingOptions

_ENCODER_NAMES = ("roberta", "backbone", "bert")
_MOST_NUMBERED = 1 << 24
"""Most numbers that an encoder may hold besides its weights, such as its positions."""
_LINEAR = re.compile(r"classifier\.(?:(\d+)\.)?(\d+)\.weight")
"""A layer of the head or, with tags per type, of the head of a type."""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What a directory of the original CardioNER holds, in the order to show it, and what its users should know."""

    facts: dict[str, str]
    warnings: tuple[str, ...]


def upgrade(
    old: str | Path, new: str | Path, *, backbone: str | Path | None = None, overwrite: bool = False
) -> Upgrade:
    """Write a model that the original CardioNER saved as a current model directory, in float32.

    Args:
        old: The old directory; it is not changed.
        new: Where to write.
        backbone: A folder with the encoder's `config.json` and tokenizer, for models that lack these.
        overwrite: Whether a model in `new` may be replaced.

    Raises:
        ModelError: If `old` is not such a directory, holds more than weights, lacks some or has others, or if the
            encoder's configuration or the tokenizer is not on this machine. Nothing is downloaded.
        UsageError: If `backbone` is not an encoder's folder.
        OutputError: If `new` cannot be written.
    """
    old, new = Path(old), Path(new)
    source = read_legacy_model(old, Path(backbone) if backbone else None)
    check_output(new, overwrite=overwrite)
    if source.has_heads:
        source = with_one_head(source)
    encoder, labels = encoder_of(source), labels_of(source)
    weights = _renamed(source, labels)
    tokenizer = tokenizer_of(source, encoder)
    config = _new_config(source, weights, encoder=encoder, labels=labels)
    model = _build(source, weights, config)
    write_model_dir(model, tokenizer, new)
    kinds = {str(value.dtype).removeprefix("torch.") for value in source.weights.values() if value.is_floating_point()}
    facts = {
        "encoder": f"{encoder['model_type']}, configured by {source.backbone if lacking_in(source.config) else old}",
        "head": " -> ".join(map(str, [model.config.build_encoder_config().hidden_size, *_widths(weights)])),
        "crf": "yes" if model.uses_crf else "no",
        "weights": f"{source.file}, {' and '.join(sorted(kinds))}, written as float32",
        "labels": ", ".join(labels.tags),
        "windows": f"{config.window_length} sub-tokens, {config.window_context} of context",
    }
    return Upgrade(facts, (*_warnings(source, labels, crf=model.uses_crf), *inspect(new).warnings))


def _renamed(source: LegacyModel, labels: LabelSet) -> dict[str, Tensor]:
    """The weights under their current names, without those that no logit depends on."""
    groups = {name.partition(".")[0] for name in source.weights}
    family = str(source.config.get("model_type")).replace("-", "_")
    encoders = sorted(groups & {*_ENCODER_NAMES, family, family.partition("_")[0]})
    if len(encoders) != 1:
        raise ModelError(
            f"{source.weights_file}: expected the encoder's weights under one of the names "
            f"{', '.join(_ENCODER_NAMES)}, found {listed(groups)}"
        )
    head = _head_layers(source)
    renamed = {}
    for name, value in source.weights.items():
        group, _, rest = name.partition(".")
        if group == encoders[0] and (rest.startswith("pooler.") or rest == "embeddings.position_ids"):
            continue
        place, _, kind = name.rpartition(".")
        new = f"backbone.{rest}" if group == encoders[0] else f"{head[place]}.{kind}" if place in head else name
        renamed[new] = value
    rows, tags = _widths(renamed)[-1], len(labels.tags)
    if rows != tags:
        extra = ": an early CardioNER gave its CRF one tag more than it named" if rows == tags + 1 else ""
        raise ModelError(f"{source.weights_file}: the head scores {rows} tags, {CONFIG} names {tags}{extra}")
    return renamed


def _head_layers(source: LegacyModel) -> dict[str, str]:
    """The old names of the head's linear layers, and the current ones."""
    if source.types:
        return {}  # they have the current names
    matches = filter(None, map(_LINEAR.fullmatch, source.weights))
    numbers = sorted(int(found[2]) for found in matches if not found[1])
    if "classifier.weight" in source.weights and not numbers:
        return {"classifier": "classifier"}
    if numbers in ([0], [1]):  # a Sequential of one linear layer, perhaps behind a dropout
        return {f"classifier.{numbers[0]}": "classifier"}
    if len(numbers) < 2 or numbers != list(range(0, 3 * len(numbers), 3)):
        there = listed(name for name in source.weights if name.startswith("classifier"))
        raise ModelError(
            f"{source.weights_file}: expected a head of one linear layer (classifier.weight), or of several with "
            f"ReLU and dropout between them (classifier.0.weight, classifier.3.weight, ...), found {there or 'none'}"
        )
    return {f"classifier.{number}": f"classifier.{number}" for number in numbers}


def _widths(weights: Mapping[str, Tensor]) -> list[int]:
    """The widths of the head's layers, the number of tags last; takes weights under their current names."""
    layers = sorted((int(found[2]), name) for name in weights if (found := _LINEAR.fullmatch(name)))
    names: dict[int, list[str]] = {}
    for number, name in layers or [(0, "classifier.weight")]:
        names.setdefault(number, []).append(name)
    rows = [[weights[name].shape[0] if weights[name].dim() else 0 for name in each] for each in names.values()]
    return [*(each[0] for each in rows[:-1]), sum(rows[-1])]


def _new_config(
    source: LegacyModel, weights: Mapping[str, Tensor], *, encoder: dict[str, Any], labels: LabelSet
) -> CardioNERConfig:
    """The current configuration, with a head as the weights have it."""
    context = TrainingOptions().window_context
    hidden, given = _widths(weights)[:-1], list_under(source.config, "classifier_hidden_layers")
    if given and given != hidden:
        raise ModelError(
            f"{source.place}: {CONFIG} gives the head hidden layers of {given}, {source.file} has layers of {hidden}"
        )
    dropout = source.config.get("classifier_dropout")
    usable = isinstance(dropout, (int, float)) and 0 <= dropout < 1
    return CardioNERConfig(
        encoder_config=encoder,
        id2label=labels.id2label,
        label2id=labels.label2id,
        classifier_hidden_layers=hidden,
        classifier_activation="gelu" if source.types else "relu",
        classifier_dropout=float(dropout) if usable and dropout is not None else 0.1,
        class_weights=_class_weights(source.config, labels),
        freeze_backbone=source.config.get("freeze_backbone") is True,
        window_length=pick_window_length(None, max_positions(encoder), context=context),
        window_context=context,
    )


def _class_weights(config: Mapping[str, Any], labels: LabelSet) -> list[float] | None:
    """The class weights of the old loss, if there is one for each tag."""
    found = list_under(config, "class_weights")
    usable = len(found) == len(labels.tags) and all(isinstance(value, (int, float)) for value in found)
    return [float(value) for value in found] if usable else None


def _build(source: LegacyModel, weights: dict[str, Tensor], config: CardioNERConfig) -> TokenClassificationModel:
    """The model with the old weights; it is first built without memory, as sizes in the configuration may be wrong."""
    named = [source.config.get("custom_model_type"), *list_under(source.config, "architectures")]
    with_crf = source.config.get("use_crf") is True or any(str(name).endswith("CRF") for name in named)
    with_crf = with_crf or any(name.startswith("crf.") for name in weights)
    kind = TokenClassificationModelCRF if with_crf else TokenClassificationModel
    with in_one_line(f"{source.place}: no model can be built from its configuration"):
        with torch.device("meta"):
            sketch = kind(config)
        _check_weights(source, weights, sketch.state_dict())
        if sum(buffer.numel() for buffer in sketch.buffers()) > _MOST_NUMBERED:
            raise ModelError(f"{source.place}: its configuration asks for more positions than fit into memory")
        model: TokenClassificationModel = kind(config).float()
    unread = {name: torch.zeros_like(value) for name, value in model.state_dict().items() if name not in weights}
    model.load_state_dict({name: value.float() for name, value in weights.items()} | unread)
    model.eval()
    return model


def _check_weights(source: LegacyModel, weights: Mapping[str, Tensor], sketch: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not exactly those of a model; a pooler, which no logit depends on, may be missing."""
    missing = [name for name in sketch if name not in weights and not name.startswith("backbone.pooler.")]
    common = weights.keys() & sketch.keys()
    wrong = {
        "missing": missing,
        "unexpected": [name for name in weights if name not in sketch],
        "misshapen": [
            f"{name} {tuple(weights[name].shape)}, expected {tuple(sketch[name].shape)}"
            for name in common
            if weights[name].shape != sketch[name].shape
        ],
        "not floating-point numbers": [name for name in common if not weights[name].is_floating_point()],
    }
    if problems := "; ".join(f"{kind}: {listed(names)}" for kind, names in wrong.items() if names):
        raise ModelError(
            f"{source.weights_file}: the weights are not those that the configuration describes (under their "
            f"current names, the encoder as backbone); {problems}"
        )


def _warnings(source: LegacyModel, labels: LabelSet, *, crf: bool) -> list[str]:
    """What the model's users should know."""
    warnings = [
        "the original was trained with padding labelled as O, which favours O: score the model on your own notes"
    ]
    if crf and not source.types:
        warnings += [
            "its training by cross-entropy never reached the CRF's transitions: unless another "
            "program trained them, argmax may tag better than Viterbi",
            "Viterbi now gives only legal BIO tags: where the original gave others, the spans differ; logits are equal",
        ]
        if source.config.get("use_crf") is not True:
            warnings.append(
                f"{CONFIG} does not set use_crf: it was taken from the weights or the name of the model's class"
            )
    try:
        labels.check_scheme()
    except UsageError as error:
        warnings.append(str(error))
    if len([name for name in (WEIGHTS, PICKLED_WEIGHTS) if (source.place / name).is_file()]) > 1:
        warnings.append(f"{PICKLED_WEIGHTS} was not read, as there is {WEIGHTS}")
    if source.config.get("class_weights") and _class_weights(source.config, labels) is None:
        warnings.append("class_weights do not fit the labels and were dropped: logits do not depend on them")
    return warnings
