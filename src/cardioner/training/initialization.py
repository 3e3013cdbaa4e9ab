"""The model that training starts from: a pretrained encoder, or an earlier model directory and its weights."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig

from cardioner.data.labels import LabelSet
from cardioner.errors import ModelError, UsageError, listed
from cardioner.model_dir.custom_code import adopt, tags_in_its_own_way
from cardioner.model_dir.encoder import default_encoder, load_encoder, load_tokenizer
from cardioner.model_dir.json_files import read_object
from cardioner.model_dir.layout import CONFIG
from cardioner.model_dir.load import read_model_dir
from cardioner.multiclass.heads import ATTRIBUTE_HEAD
from cardioner.multiclass.modeling import CardioNERConfig, TokenClassificationModel, TokenClassificationModelCRF


@dataclass(frozen=True, slots=True)
class Start:
    """A model before training.

    Attributes:
        model: The model.
        tokenizer: The tokenizer of its encoder.
        source: What it was asked for by.
        taken: Names of the weights that it took over.
        fresh: Names of the weights that start afresh.
        unsaid: Attributes that the source knows and the model does not.
    """

    model: TokenClassificationModel
    tokenizer: Any
    source: str
    taken: tuple[str, ...]
    fresh: tuple[str, ...]
    unsaid: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """Where weights come from.

    Attributes:
        config: The encoder's configuration.
        weights: By the names they have in our models.
        tags: What the rows of the label-sized weights mean; `None` for a bare encoder.
        name: What it was asked for by.
        activation: What lies behind the hidden layers of its head.
        attributes: What its head of attributes reads and says; `None` without one.
    """

    config: dict[str, Any]
    weights: dict[str, Tensor]
    tags: tuple[str, ...] | None
    name: str
    activation: str = "relu"
    attributes: tuple[Any, Any] | None = None


def read_source(
    name: str | Path | None,
    *,
    token: str | None = None,
    model_class: type[TokenClassificationModel] | None = None,
) -> Source:
    """Read an encoder or an earlier model directory.

    Args:
        name: A folder, a Hugging Face name, or `None` for the bundled default encoder.
        token: For a private name.
        model_class: The user's class that is to be trained, which an earlier directory may have been saved by.

    Raises:
        ModelError: If it cannot be read.
    """
    chosen = default_encoder() if name is None else Path(name)
    described = read_object(chosen / CONFIG) if (chosen / CONFIG).is_file() else {}
    if described.get("model_type") == CardioNERConfig.model_type:
        own = model_class if tags_in_its_own_way(described) else None
        model, _, config = read_model_dir(chosen, device="cpu", model_class=own)
        weights, tags = model.state_dict(), tuple(config.tags)
        said = (config.attributes, config.attribute_neighbours) if config.attributes else None
        return Source(config.encoder_config, weights, tags, str(chosen), config.classifier_activation, said)
    if not chosen.exists() and (str(name).startswith((".", "/", "~")) or str(name).count("/") > 1):
        raise ModelError(f"there is no folder {name}: expected an encoder's folder, or a Hugging Face name")
    source = str(chosen if chosen.exists() else name)
    encoder = load_encoder(source, token=token)
    weights = {f"backbone.{key}": value for key, value in encoder.weights.items()}
    return Source(encoder.config, weights, None, source)


def with_attention_dropout(source: Source, share: float) -> Source:
    """A source whose encoder drops this share of its attention while it learns; families have two names for it."""
    names = ("attention_probs_dropout_prob", "attention_dropout")
    return replace(source, config={**source.config, **{name: share for name in names if name in source.config}})


def with_layers(source: Source, count: int | None) -> Source:
    """A source with so many layers of its encoder, evenly spaced, the last one among them; `None` keeps all.

    Of 6 layers 3 are the second, the fourth and the sixth (Sun et al. 2019, Patient Knowledge Distillation).

    Raises:
        UsageError: If the encoder has fewer, or its layers are not one list of equals.
    """
    if count is None:
        return source
    config = AutoConfig.for_model(**source.config)
    layers, place = config.num_hidden_layers, _place_of_layers(source)
    if count > layers:
        raise UsageError(f"layers: expected at most {layers}, which {source.name} has; found {count}")
    kept = {(number + 1) * layers // count - 1: number for number in range(count)}
    weights = {}
    for name, value in source.weights.items():
        found = place.match(name)
        if found is None:
            weights[name] = value
        elif (number := kept.get(int(found[2]))) is not None:
            weights[f"{found[1]}{number}{found[3]}"] = value
    for name, value in config.to_dict().items():
        if isinstance(value, list) and len(value) == layers:  # one setting a layer
            setattr(config, name, [value[number] for number in kept])
    config.num_hidden_layers = count
    return replace(source, config=config.to_dict(), weights=weights)


def _place_of_layers(source: Source) -> re.Pattern[str]:
    """A pattern of the names of a layer's weights: what stands before its number, the number, what stands behind it.

    Raises:
        UsageError: If there is no such list of layers.
    """
    layers = AutoConfig.for_model(**source.config).num_hidden_layers
    numbers: dict[str, dict[str, set[str]]] = {}
    for name in source.weights:
        if found := re.match(r"(backbone\..*?\.)(\d+)(\..*)$", name):
            numbers.setdefault(found[1], {}).setdefault(found[2], set()).add(found[3])
    for prefix, parts in numbers.items():
        if sorted(map(int, parts)) == list(range(layers)) and len({frozenset(part) for part in parts.values()}) == 1:
            return re.compile(rf"({re.escape(prefix)})(\d+)(\..*)$")
    raise UsageError(
        f"layers: the layers of {source.name} ({source.config.get('model_type')}) are not alike, or are no plain list: "
        "leave layers out, and take a smaller encoder"
    )


def build(
    source: Source,
    labels: LabelSet,
    *,
    use_crf: bool,
    tokenizer: Any = None,
    token: str | None = None,
    model_class: type[TokenClassificationModel] | None = None,
    **settings: Any,
) -> Start:
    """A model with the source's weights wherever name and shape agree, and, of label-sized ones, the tags too.

    Args:
        source: Where weights come from.
        labels: The tags of the new model.
        use_crf: Whether it has a CRF; of a user's class, its base decides.
        tokenizer: In place of the source's own; or where to read one.
        token: For a private name.
        model_class: A user's subclass of one of our models.
        **settings: For `CardioNERConfig`.

    Raises:
        UsageError: If the class cannot be saved so that it loads anywhere, or has no CRF and one is asked for.
    """
    config = CardioNERConfig(
        encoder_config=source.config,
        id2label=labels.id2label,
        label2id=labels.label2id,
        classifier_activation=source.activation,
        **settings,
    )
    model = _class_for(model_class, use_crf=use_crf)(config)
    _freeze_unreached(model)
    taken = _matching(model, source, labels)
    model.load_state_dict({name: source.weights[name] for name in taken}, strict=False)
    fresh = tuple(name for name, _ in model.named_parameters() if name not in taken)
    if tokenizer is None or isinstance(tokenizer, (str, Path)):
        tokenizer = load_tokenizer(tokenizer or source.name, token=token)
    known = source.attributes[0] if source.attributes else {}
    unsaid = tuple(name for name in known if name not in model.config.attributes)
    return Start(model, tokenizer, source.name, taken, fresh, unsaid)


def freeze_tagger(start: Start, directory: Path) -> None:
    """Leave of a model nothing to learn but its attributes, and have it tag as its directory does.

    Raises:
        UsageError: If it did not take over the whole tagger.
    """
    if others := [name for name in start.fresh if not name.startswith(ATTRIBUTE_HEAD)]:
        raise UsageError(f"attributes_only leaves the tagger as it is; with these arguments it lacks {listed(others)}")
    for name, parameter in start.model.named_parameters():
        parameter.requires_grad_(name.startswith(ATTRIBUTE_HEAD))
    before = CardioNERConfig.from_dict(read_object(directory / CONFIG))
    for name in ("window_context", "score_temperature", "inference_dtype", "inference_dtypes", "class_weights"):
        setattr(start.model.config, name, getattr(before, name))


def _class_for(model_class: type[TokenClassificationModel] | None, *, use_crf: bool) -> type[TokenClassificationModel]:
    """The class of a new model."""
    if model_class is None:
        return TokenClassificationModelCRF if use_crf else TokenClassificationModel
    adopt(model_class)
    if use_crf and not model_class.uses_crf:
        raise UsageError(
            f"{model_class.__name__} has no CRF, and use_crf asks for one: build it on TokenClassificationModelCRF, or "
            "leave use_crf out"
        )
    return model_class


def _matching(model: TokenClassificationModel, source: Source, labels: LabelSet) -> tuple[str, ...]:
    """The weights of a source that mean the same thing in a model."""
    linear = [name for name, part in model.named_modules() if isinstance(part, nn.Linear)]
    last = [name for name in linear if name.startswith("classifier")][-1]
    by_tag: tuple[str, ...] = ()  # the weights with a row per tag, and those of heads that have one type each
    if source.tags != labels.tags:
        by_tag = ("crf.", f"{last}." if labels.overlap == "flat" else "classifier.")
    if source.attributes != (model.config.attributes, model.config.attribute_neighbours):
        by_tag += (ATTRIBUTE_HEAD,)
    return tuple(
        name
        for name, value in model.state_dict().items()
        if name in source.weights and source.weights[name].shape == value.shape and not name.startswith(by_tag)
    )


def _freeze_unreached(model: TokenClassificationModel) -> None:
    """Take out of training what of an encoder no token's loss reaches (entity embeddings, contact heads).

    It would break DDP. A class of the user's own may have parts that learn in training mode alone: they are left.
    """
    ids = torch.full((1, 9), 1)
    model.eval()
    first = torch.tensor([group.first for group in model.config.tag_groups])
    labels = torch.zeros_like(ids) if model.types is None else first.expand(*ids.shape, -1)
    outputs = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels)
    loss = outputs.loss
    if loss is None:
        raise UsageError(f"forward of {type(model).__name__} gives no loss when it is given labels: set outputs.loss")
    if model.attribute_head is not None and getattr(outputs, "attribute_logits", None) is None:
        raise UsageError(
            f"forward of {type(model).__name__} gives no attribute_logits, and attributes are to be learned: set "
            "outputs.attribute_logits, as the forward that it builds on does"
        )
    loss.backward()
    for parameter in model.backbone.parameters():
        parameter.requires_grad_(parameter.grad is not None)
    model.zero_grad()
