"""The model that training starts from: a pretrained encoder, or an earlier model directory and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cardioner.errors import ModelError
from cardioner.labels import LabelSet
from cardioner.model_dir import CONFIG, read_config, read_model_dir
from cardioner.multiclass.encoder import default_encoder, load_encoder, load_tokenizer
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
    """

    model: TokenClassificationModel
    tokenizer: Any
    source: str
    taken: tuple[str, ...]
    fresh: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Where weights come from.

    Attributes:
        config: The encoder's configuration.
        weights: By the names they have in our models.
        tags: What the rows of the label-sized weights mean; `None` for a bare encoder.
        name: What it was asked for by.
    """

    config: dict[str, Any]
    weights: dict[str, Tensor]
    tags: tuple[str, ...] | None
    name: str


def read_source(name: str | Path | None, *, token: str | None = None) -> Source:
    """Read an encoder or an earlier model directory.

    Args:
        name: A folder, a Hugging Face name, or `None` for the embedded default encoder.
        token: For a private name.

    Raises:
        ModelError: If it cannot be read.
    """
    chosen = default_encoder() if name is None else Path(name)
    if _is_ours(chosen):
        model, _, config = read_model_dir(chosen, device="cpu")
        return Source(config.encoder_config, model.state_dict(), tuple(config.tags), str(chosen))
    if not chosen.exists() and str(name).startswith((".", "/", "~")):
        raise ModelError(f"there is no folder {name}: expected an encoder's folder, or a Hugging Face name")
    encoder = load_encoder(chosen if chosen.exists() else str(name), token=token)
    weights = {f"backbone.{key}": value for key, value in encoder.weights.items()}
    return Source(encoder.config, weights, None, encoder.name)


def build(
    source: Source, labels: LabelSet, *, use_crf: bool, tokenizer: Any = None, token: str | None = None, **settings: Any
) -> Start:
    """A model with the source's weights wherever name and shape agree, and, of label-sized ones, the tags too.

    Args:
        source: Where weights come from.
        labels: The tags of the new model.
        use_crf: Whether it has a CRF.
        tokenizer: In place of the source's own.
        token: For a private name.
        **settings: For `CardioNERConfig`.
    """
    config = CardioNERConfig(
        encoder_config=source.config, id2label=labels.id2label, label2id=labels.label2id, **settings
    )
    model = (TokenClassificationModelCRF if use_crf else TokenClassificationModel)(config)
    _freeze_unreached(model)
    taken = _matching(model, source, labels)
    model.load_state_dict({name: source.weights[name] for name in taken}, strict=False)
    fresh = tuple(name for name, _ in model.named_parameters() if name not in taken)
    chosen = tokenizer if tokenizer is not None else load_tokenizer(source.name, token=token)
    return Start(model, chosen, source.name, taken, fresh)


def _matching(model: nn.Module, source: Source, labels: LabelSet) -> tuple[str, ...]:
    """The weights of a source that mean the same thing in a model."""
    same_tags = source.tags == labels.tags
    label_sized = {name for name, _ in model.named_parameters() if _is_label_sized(name, model)}
    return tuple(
        name
        for name, value in model.state_dict().items()
        if name in source.weights
        and source.weights[name].shape == value.shape
        and (same_tags or name not in label_sized)
    )


def _freeze_unreached(model: TokenClassificationModel) -> None:
    """Take out of training what no token's loss reaches (entity embeddings, contact heads): it would break DDP."""
    ids = torch.full((1, 9), 1)
    model.eval()
    model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=torch.zeros_like(ids)).loss.backward()
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None


def _is_label_sized(name: str, model: nn.Module) -> bool:
    """Whether a weight has a row per tag: the last layer of the head, and the CRF."""
    linear = [
        key for key, module in model.named_modules() if key.startswith("classifier") and isinstance(module, nn.Linear)
    ]
    return name.startswith(("crf.", f"{linear[-1]}."))


def _is_ours(folder: Path) -> bool:
    """Whether a folder is an earlier model directory."""
    if not (folder / CONFIG).is_file():
        return False
    content: Mapping[str, Any] = read_config(folder)
    return content.get("model_type") == CardioNERConfig.model_type
