"""Reading a directory of the original CardioNER: weights, encoder, tags and tokenizer, none of it trusted."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import try_to_load_from_cache
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from cardioner.data.labels import LabelSet
from cardioner.errors import ModelError, UsageError, many
from cardioner.model_dir.encoder import load_tokenizer
from cardioner.model_dir.json_files import in_one_line, object_under, read_object
from cardioner.model_dir.layout import (
    CONFIG,
    INDEX,
    OLD_TOKENIZER_FILES,
    PICKLED_WEIGHTS,
    TOKENIZER_FILES,
    WEIGHTS,
    is_foreign,
)
from cardioner.model_dir.untrusted.config import check_encoder_config
from cardioner.model_dir.untrusted.files import look
from cardioner.model_dir.untrusted.structure import check_finite, check_safe, load_weights, read_weights
from cardioner.multiclass.modeling import CardioNERConfig

_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
"""Without these a configuration does not describe an encoder; some families have other names for them."""
_HEAD_KEYS = ("classifier_hidden_layers", "classifier_dropout", "class_weights", "use_crf", "freeze_backbone")
_OTHER_KEYS = ("custom_model_type", "backbone_model_name", "id2label", "label2id", "num_labels", "architectures")
_LOADING_KEYS = ("dtype", "torch_dtype", "requires_trust_remote_code")
_DROPPED = frozenset((*_HEAD_KEYS, *_OTHER_KEYS, *_LOADING_KEYS))
_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


@dataclass(frozen=True, slots=True)
class LegacyModel:
    """A directory of the original CardioNER, read.

    Attributes:
        place: Where it is.
        config: Its `config.json`.
        weights: Under the names that they were saved with.
        file: The file that they are from.
        backbone: A folder with the encoder's configuration: the caller's, or a local one that the model names.
        types: Of a model that had a head for each entity type, these types in the order of the tags.
    """

    place: Path
    config: dict[str, Any]
    weights: dict[str, Tensor]
    file: str
    backbone: Path | None
    types: tuple[str, ...] = ()

    @property
    def has_heads(self) -> bool:
        """Whether it has, or had, a head for each entity type."""
        return re.search(r"multi[-_]?head", _kinds(self.config)) is not None

    @property
    def weights_file(self) -> Path:
        """The file that the weights are from."""
        return self.place / self.file


def read_legacy_model(place: Path, backbone: Path | None) -> LegacyModel:
    """Read all that an upgrade needs, and refuse a directory of another program.

    Raises:
        ModelError: If it is not one of the original CardioNER, lacks weights, or holds more than weights in their file.
        UsageError: If `backbone` is not an encoder's folder.
    """
    if not (place / CONFIG).is_file():
        found = f"holds no {CONFIG}" if place.exists() else "does not exist"
        raise ModelError(f"{place} {found}; expected a model directory of the original CardioNER")
    files = look(place)
    config, described = read_object(place / CONFIG), read_weights(place, files)
    check_safe(place, files, config, described)
    kind = config.get("model_type")
    if kind == CardioNERConfig.model_type:
        raise ModelError(f"{place} is already in the current form: use it as it is")
    if re.search(r"multi[-_]?label", _kinds(config)):
        raise ModelError(
            f"{place} gives a sub-token several labels: only multiclass and multi-head models can be upgraded"
        )
    if backbone is not None and not (backbone / CONFIG).is_file():
        raise UsageError(f"--backbone {backbone}: expected the encoder's folder, found no {CONFIG} in it")
    if described is None:
        raise ModelError(f"{place} lacks weights: expected {WEIGHTS} or {PICKLED_WEIGHTS}: copy it again")
    file = next(name for name in (INDEX, WEIGHTS, PICKLED_WEIGHTS) if name in files)
    backbone = backbone or _cached_backbone(config.get("backbone_model_name"))
    weights = load_weights(place, files)
    check_finite(place / file, weights)
    return LegacyModel(place, config, weights, file, backbone)


def _kinds(config: Mapping[str, Any]) -> str:
    """What a configuration says of the kind of model, in lower case."""
    named = [config.get(key) for key in ("model_type", "custom_model_type", "problem_type")]
    return " ".join(
        map(str, [*named, *object_under(config, "auto_map").values(), *list_under(config, "architectures")])
    ).lower()


def list_under(content: Mapping[str, Any], key: str) -> list[Any]:
    """A JSON list under a key, empty where there is none."""
    found = content.get(key)
    return found if isinstance(found, list) else []


def _cached_backbone(name: Any) -> Path | None:
    """An encoder's folder in the cache of Hugging Face; a path that the model names is none of its business."""
    if not isinstance(name, str) or not _HUB_NAME.fullmatch(name):
        return None
    found = try_to_load_from_cache(name, CONFIG)
    return Path(found).parent if isinstance(found, str) else None


def lacking_in(config: Mapping[str, Any]) -> list[str]:
    """What a configuration lacks to describe an encoder."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING_NAMES:
        return ["a model_type that transformers knows"]
    known_as = CONFIG_MAPPING[kind].attribute_map
    return [name for name in _SIZES if not isinstance(config.get(name, config.get(known_as.get(name, name))), int)]


def encoder_of(model: LegacyModel) -> dict[str, Any]:
    """The encoder's whole configuration, without anything that names code, other places or how to load it."""
    source, place = model.config, model.place
    if lacking := lacking_in(source):
        if model.backbone is None:
            raise ModelError(_what_to_fetch(model, lacking))
        look(model.backbone)
        source, place = read_object(model.backbone / CONFIG), model.backbone
        if lacking := lacking_in(source):
            raise ModelError(f"{place / CONFIG}: expected an encoder's configuration, found none: {', '.join(lacking)}")
    kept = {key: value for key, value in source.items() if not (key in _DROPPED or is_foreign(key))}
    check_encoder_config(place / CONFIG, kept)
    with in_one_line(f"{place / CONFIG}: no encoder can be built from this configuration"):
        found = AutoConfig.for_model(**kept)
        layers = found.num_hidden_layers
        whole: dict[str, Any] = found.to_dict()
    if not 0 < layers <= len(model.weights):
        raise ModelError(
            f"{place / CONFIG}: {layers} layers do not fit the {many(len(model.weights), 'weight')} of {model.file}"
        )
    return whole


def _what_to_fetch(model: LegacyModel, lacking: list[str]) -> str:
    """The message for a model whose encoder is not described on this machine."""
    name = model.config.get("backbone_model_name")
    lacks = f"{model.place / CONFIG} lacks {', '.join(lacking)}: the encoder's own configuration is needed"
    if not isinstance(name, str) or not _HUB_NAME.fullmatch(name):
        return f"{lacks}. Give --backbone with a folder that holds the encoder's {CONFIG} and tokenizer"
    return (
        f"{lacks}, and {name} is not on this machine. Fetch it (hf download {name} --local-dir encoder --include "
        f"'*.json' '*.txt' '*.model') and give --backbone encoder"
    )


def labels_of(model: LegacyModel) -> LabelSet:
    """The tags in the order of their ids."""
    where, by_id = model.place / CONFIG, object_under(model.config, "id2label")
    tags = [by_id.get(str(index)) for index in range(len(by_id))]
    if not tags or not all(isinstance(tag, str) for tag in tags) or len(set(tags)) != len(tags):
        raise ModelError(
            f"{where}: expected id2label to name each tag once, ids from 0 on, found "
            f"{many(len(by_id), 'entry', 'entries')}"
        )
    labels = LabelSet(tuple(map(str, tags)))
    if object_under(model.config, "label2id") not in ({}, labels.label2id):
        raise ModelError(f"{where}: id2label and label2id disagree: expected the ids that the model was trained with")
    return labels


def tokenizer_of(model: LegacyModel, encoder: Mapping[str, Any]) -> Any:
    """The model's own tokenizer, or its encoder's."""
    places = [
        place
        for place in (model.place, model.backbone)
        if place and any((place / n).is_file() for n in TOKENIZER_FILES)
    ]
    if not places:
        raise ModelError(
            f"{model.place} has no tokenizer: put the encoder's {' and '.join(TOKENIZER_FILES)} there, or give "
            "--backbone with a folder that has them"
        )
    tokenizer = _tokenizer_beside(places[0], encoder) if model.types else load_tokenizer(places[0])
    known = AutoConfig.for_model(**encoder).vocab_size
    if len(tokenizer) > known:
        raise ModelError(
            f"the tokenizer in {places[0]} knows {many(len(tokenizer), 'sub-token')}, the encoder {known}: "
            "it is another encoder's"
        )
    return tokenizer


def _tokenizer_beside(place: Path, encoder: Mapping[str, Any]) -> Any:
    """The tokenizer of a folder whose own configuration names no family of encoders."""
    with TemporaryDirectory() as folder:
        (Path(folder) / CONFIG).write_text(json.dumps(encoder), encoding="utf-8")
        for name in (*TOKENIZER_FILES, *OLD_TOKENIZER_FILES):
            if (place / name).is_file():
                shutil.copy(place / name, folder)
        return load_tokenizer(folder)
