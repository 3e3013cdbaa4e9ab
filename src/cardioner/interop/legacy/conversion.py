"""An old model in today's form: the same weights under today's names."""

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
from cardioner.interop.legacy.old import (
    BUILDING,
    Old,
    encoder_of,
    first_line,
    labels_of,
    lacking_in,
    list_under,
    read_old,
    tokenizer_of,
)
from cardioner.model_dir.encoder import max_positions
from cardioner.model_dir.inspect import inspect
from cardioner.model_dir.layout import CONFIG, PICKLED_WEIGHTS, WEIGHTS
from cardioner.model_dir.save import check_output, write_model_dir
from cardioner.multiclass.modeling import CardioNERConfig, TokenClassificationModel, TokenClassificationModelCRF
from cardioner.training.arguments import pick_window_length
from cardioner.training.options import TrainingOptions

_ENCODER_NAMES = ("roberta", "backbone", "bert")
_MOST_NUMBERED = 1 << 24
"""Most numbers in what an encoder counts and does not learn, such as its positions."""
_LINEAR = re.compile(r"classifier\.(\d+)\.weight")


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What an old directory was found to hold.

    Attributes:
        facts: Names and values, in the order to show them.
        notes: What whoever uses the model should know.
    """

    facts: dict[str, str]
    notes: tuple[str, ...]


def upgrade(old: Path, new: Path, *, backbone: Path | None = None, overwrite: bool = False) -> Upgrade:
    """Write a model that the original CardioNER saved as a model directory of today, in float32.

    Args:
        old: The old directory; it is not changed.
        new: Where to write.
        backbone: A folder with the encoder's `config.json`, for models that do not hold it, and with a tokenizer.
        overwrite: Whether a model in `new` may be replaced.

    Raises:
        ModelError: If it is no such directory, holds more than weights, lacks some or has others, or if the encoder's
            configuration or the tokenizer is not at hand. Nothing is fetched.
        OutputError: If `new` cannot be written.
    """
    check_output(new, overwrite=overwrite)
    read = read_old(old, backbone)
    encoder = encoder_of(read)
    labels = labels_of(read)
    weights = _renamed(read, labels)
    tokenizer = tokenizer_of(read, encoder)
    config = _new_config(read, weights, encoder=encoder, labels=labels)
    model = _loaded(read, weights, config)
    write_model_dir(model, tokenizer, new)
    kinds = {str(value.dtype).removeprefix("torch.") for value in read.weights.values() if value.is_floating_point()}
    facts = {
        "encoder": f"{encoder['model_type']}, configured by {read.backbone if lacking_in(read.config) else old}",
        "head": " -> ".join(map(str, [model.config.build_encoder_config().hidden_size, *_widths(weights)])),
        "crf": "yes" if model.uses_crf else "no",
        "weights": f"{read.file}, {' and '.join(sorted(kinds))}, written as float32",
        "labels": ", ".join(labels.tags),
        "windows": f"{config.window_length} sub-tokens, {config.window_context} of context",
    }
    return Upgrade(facts, (*_notes(read, labels, crf=model.uses_crf), *inspect(new).warnings))


def _renamed(read: Old, labels: LabelSet) -> dict[str, Tensor]:
    """The weights by today's names; what no logit depends on is left out.

    Raises:
        ModelError: If the encoder has no name that is known, or the head is none that the original built.
    """
    groups = {name.partition(".")[0] for name in read.weights}
    family = str(read.config.get("model_type")).replace("-", "_")
    encoders = sorted(groups & {*_ENCODER_NAMES, family, family.partition("_")[0]})
    if len(encoders) != 1:
        raise ModelError(
            f"{read.place / read.file}: expected the encoder's weights under one of the names "
            f"{', '.join(_ENCODER_NAMES)}, found {listed(groups)}"
        )
    head = _head_layers(read)
    renamed = {}
    for name, value in read.weights.items():
        group, _, rest = name.partition(".")
        if group == encoders[0] and (rest.startswith("pooler.") or rest == "embeddings.position_ids"):
            continue
        place, _, kind = name.rpartition(".")
        new = f"backbone.{rest}" if group == encoders[0] else f"{head[place]}.{kind}" if place in head else name
        renamed[new] = value
    rows, tags = _widths(renamed)[-1], len(labels.tags)
    if rows != tags:
        extra = ": an early CardioNER gave its CRF one tag more than it named" if rows == tags + 1 else ""
        raise ModelError(f"{read.place / read.file}: the head scores {rows} tags, {CONFIG} names {tags}{extra}")
    return renamed


def _head_layers(read: Old) -> dict[str, str]:
    """Old names of the head's linear layers to today's."""
    numbers = sorted(int(found[1]) for name in read.weights if (found := _LINEAR.fullmatch(name)))
    if "classifier.weight" in read.weights and not numbers:
        return {"classifier": "classifier"}
    if numbers in ([0], [1]):  # a Sequential of one linear layer, perhaps behind a dropout
        return {f"classifier.{numbers[0]}": "classifier"}
    if len(numbers) < 2 or numbers != list(range(0, 3 * len(numbers), 3)):
        there = listed(name for name in read.weights if name.startswith("classifier"))
        raise ModelError(
            f"{read.place / read.file}: expected a head of one linear layer (classifier.weight), or of several with "
            f"ReLU and dropout between them (classifier.0.weight, classifier.3.weight, ...), found {there or 'none'}"
        )
    return {f"classifier.{number}": f"classifier.{number}" for number in numbers}


def _widths(weights: Mapping[str, Tensor]) -> list[int]:
    """The widths of the head's layers behind the encoder, the number of tags last; by today's names."""
    numbers = sorted(int(found[1]) for name in weights if (found := _LINEAR.fullmatch(name)))
    names = [f"classifier.{number}.weight" for number in numbers] or ["classifier.weight"]
    return [weights[name].shape[0] if weights[name].dim() else 0 for name in names]


def _new_config(
    read: Old, weights: Mapping[str, Tensor], *, encoder: dict[str, Any], labels: LabelSet
) -> CardioNERConfig:
    """Today's configuration; the head is what the weights make it."""
    context = TrainingOptions().window_context
    hidden, given = _widths(weights)[:-1], list_under(read.config, "classifier_hidden_layers")
    if given and given != hidden:
        raise ModelError(
            f"{read.place}: {CONFIG} gives the head hidden layers of {given}, {read.file} has layers of {hidden}"
        )
    dropout = read.config.get("classifier_dropout")
    usable = isinstance(dropout, (int, float)) and 0 <= dropout < 1
    return CardioNERConfig(
        encoder_config=encoder,
        id2label=labels.id2label,
        label2id=labels.label2id,
        classifier_hidden_layers=hidden,
        classifier_dropout=float(dropout) if usable and dropout is not None else 0.1,
        class_weights=_class_weights(read.config, labels),
        freeze_backbone=read.config.get("freeze_backbone") is True,
        window_length=pick_window_length(None, max_positions(encoder), context=context),
        window_context=context,
    )


def _class_weights(config: Mapping[str, Any], labels: LabelSet) -> list[float] | None:
    """The weights of the old loss, if there is one for each tag."""
    found = list_under(config, "class_weights")
    usable = len(found) == len(labels.tags) and all(isinstance(value, (int, float)) for value in found)
    return [float(value) for value in found] if usable else None


def _loaded(read: Old, weights: dict[str, Tensor], config: CardioNERConfig) -> TokenClassificationModel:
    """Today's model with the old weights.

    It is first built without memory: sizes that the weights do not have must not cost any.

    Raises:
        ModelError: Naming weights that are missing, unexpected, of another shape or no real numbers.
    """
    named = [read.config.get("custom_model_type"), *list_under(read.config, "architectures")]
    with_crf = read.config.get("use_crf") is True or any(str(name).endswith("CRF") for name in named)
    with_crf = with_crf or any(name.startswith("crf.") for name in weights)
    kind = TokenClassificationModelCRF if with_crf else TokenClassificationModel
    try:
        with torch.device("meta"):
            sketch = kind(config)
        _check_weights(read, weights, sketch.state_dict())
        if sum(buffer.numel() for buffer in sketch.buffers()) > _MOST_NUMBERED:
            raise ModelError(f"{read.place}: its configuration asks for more positions than fit into memory")
        model: TokenClassificationModel = kind(config).float()
    except BUILDING as error:
        raise ModelError(f"{read.place}: its configuration makes no model: {first_line(error)}") from error
    unread = {name: torch.zeros_like(value) for name, value in model.state_dict().items() if name not in weights}
    model.load_state_dict({name: value.float() for name, value in weights.items()} | unread)
    model.eval()
    return model


def _check_weights(read: Old, weights: Mapping[str, Tensor], sketch: Mapping[str, Tensor]) -> None:
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
        "not of real numbers": [name for name in common if not weights[name].is_floating_point()],
    }
    if told := "; ".join(f"{kind}: {listed(names)}" for kind, names in wrong.items() if names):
        raise ModelError(
            f"{read.place / read.file}: the weights are not those that the configuration describes (named as today, "
            f"the encoder as backbone); {told}"
        )


def _notes(read: Old, labels: LabelSet, *, crf: bool) -> list[str]:
    """What whoever uses the model should know."""
    notes = [
        "the original labelled padding as O while it trained, which favours O: score the model on notes of your own"
    ]
    if crf:
        notes += [
            "the original trained by cross-entropy, which gives the CRF's transitions no gradient: unless another "
            "program trained them, argmax may tag better than Viterbi",
            "tags that BIO forbids are no longer given: where the original gave one, the spans differ; logits do not",
        ]
        if read.config.get("use_crf") is not True:
            notes.append(f"{CONFIG} does not say use_crf; the weights or the name of the model's class do")
    try:
        labels.check_scheme()
    except UsageError as error:
        notes.append(str(error))
    if len([name for name in (WEIGHTS, PICKLED_WEIGHTS) if (read.place / name).is_file()]) > 1:
        notes.append(f"{PICKLED_WEIGHTS} was not read: {WEIGHTS} lies beside it")
    if read.config.get("class_weights") and _class_weights(read.config, labels) is None:
        notes.append("class_weights do not fit the labels and were left out: logits do not depend on them")
    return notes
