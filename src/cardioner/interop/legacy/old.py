"""What an old directory holds: its weights, what its encoder is, its tags and its tokenizer, none of it trusted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.utils import cached_file

from cardioner.data.labels import LabelSet
from cardioner.errors import ModelError, UsageError
from cardioner.model_dir.encoder import load_tokenizer
from cardioner.model_dir.json_files import object_under, read_json, read_object
from cardioner.model_dir.layout import CONFIG, PICKLED_WEIGHTS, TOKENIZER_FILES, WEIGHTS, is_foreign
from cardioner.model_dir.untrusted.pickled import load_pickle
from cardioner.model_dir.untrusted.structure import check_safe, look, read_weights
from cardioner.multiclass.modeling import CardioNERConfig

_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
"""Without these a configuration says nothing of the encoder; families that name them otherwise say so themselves."""
_HEAD_KEYS = ("classifier_hidden_layers", "classifier_dropout", "class_weights", "use_crf", "freeze_backbone")
_OTHER_KEYS = ("custom_model_type", "backbone_model_name", "id2label", "label2id", "num_labels", "architectures")
_LOADING_KEYS = ("dtype", "torch_dtype", "requires_trust_remote_code")
_DROPPED = frozenset((*_HEAD_KEYS, *_OTHER_KEYS, *_LOADING_KEYS))
_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
BUILDING = (ValueError, TypeError, KeyError, AttributeError, RuntimeError, ArithmeticError, StrictDataclassError)
"""What libraries raise of a configuration that makes no model."""


@dataclass(frozen=True, slots=True)
class Old:
    """An old directory, read.

    Attributes:
        place: Where it is.
        config: Its `config.json`.
        weights: By their old names, as they were saved.
        file: The file that they are from.
        backbone: A folder with the encoder's configuration, the caller's or a local one that the model names.
    """

    place: Path
    config: dict[str, Any]
    weights: dict[str, Tensor]
    file: str
    backbone: Path | None


def read_old(old: Path, backbone: Path | None) -> Old:
    """Everything that is needed of the old directory, refusing what was never one.

    Raises:
        ModelError: If it is none, lacks weights, or holds more than weights where they should be.
        UsageError: If `backbone` is no encoder's folder.
    """
    if not (old / CONFIG).is_file():
        raise ModelError(f"{old}: expected a model directory of the original CardioNER, found no {CONFIG} in it")
    files = look(old)
    config = read_object(old / CONFIG)
    check_safe(old, files, config, read_weights(old, files))
    kind = config.get("model_type")
    if kind == CardioNERConfig.model_type:
        raise ModelError(f"{old} has today's form already: use it as it is")
    names = [config.get("custom_model_type"), config.get("problem_type"), *object_under(config, "auto_map").values()]
    named = " ".join(map(str, [kind, *names, *list_under(config, "architectures")])).lower()
    if re.search(r"multi[-_]?(label|head)", named):
        raise ModelError(f"{old} gives a sub-token several labels or has several heads: only multiclass models upgrade")
    if backbone is not None and not (backbone / CONFIG).is_file():
        raise UsageError(f"--backbone {backbone}: expected the encoder's folder, found no {CONFIG} in it")
    weights, file = _read_weights(old)
    if not all(name.isprintable() for name in weights):
        raise ModelError(f"{old / file}: expected names of weights, found control characters in them")
    return Old(old, config, weights, file, backbone or _local_backbone(config.get("backbone_model_name")))


def list_under(content: Mapping[str, Any], key: str) -> list[Any]:
    """A JSON list under a key, empty where there is none."""
    found = content.get(key)
    return found if isinstance(found, list) else []


def _local_backbone(name: Any) -> Path | None:
    """The folder of an encoder, if it is on this machine: as a folder, or in the cache of Hugging Face."""
    if not isinstance(name, str) or not name or "\0" in name:
        return None
    if (Path(name) / CONFIG).is_file():
        return Path(name)
    if not _HUB_NAME.fullmatch(name):
        return None
    try:
        found = cached_file(name, CONFIG, local_files_only=True)
    except (OSError, ValueError):
        return None
    return Path(found).parent if found else None


def _read_weights(old: Path) -> tuple[dict[str, Tensor], str]:
    """The weights, and the file that they are from; safetensors before pickles."""
    if not (old / WEIGHTS).is_file():
        return _unpickled(old), PICKLED_WEIGHTS
    try:
        return load_file(old / WEIGHTS), WEIGHTS
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{old / WEIGHTS} is cut or damaged: copy it again") from error


def _unpickled(old: Path) -> dict[str, Tensor]:
    """The weights of `pytorch_model.bin`, which may hold nothing but tensors."""
    if not (old / PICKLED_WEIGHTS).is_file():
        raise ModelError(f"{old} lacks weights: expected {WEIGHTS} or {PICKLED_WEIGHTS} in one piece: copy it again")
    return load_pickle(old / PICKLED_WEIGHTS)


def lacking_in(config: Mapping[str, Any]) -> list[str]:
    """What a configuration lacks to describe an encoder."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING_NAMES:
        return ["a model_type that transformers knows"]
    known_as = CONFIG_MAPPING[kind].attribute_map
    return [name for name in _SIZES if not isinstance(config.get(name, config.get(known_as.get(name, name))), int)]


def encoder_of(read: Old) -> dict[str, Any]:
    """The encoder's whole configuration, without anything that names code, other places or how to load it."""
    source, place = read.config, read.place
    if lacking := lacking_in(source):
        if read.backbone is None:
            raise ModelError(_what_to_fetch(read, lacking))
        source, place = read_json(read.backbone / CONFIG), read.backbone
        if lacking := lacking_in(source):
            raise ModelError(f"{place / CONFIG}: expected an encoder's configuration, found none: {', '.join(lacking)}")
    kept = {key: value for key, value in source.items() if not (key in _DROPPED or is_foreign(key))}
    try:
        found = AutoConfig.for_model(**kept)
        layers = found.num_hidden_layers
        whole: dict[str, Any] = found.to_dict()
    except BUILDING as error:
        raise ModelError(
            f"{place / CONFIG}: the encoder's configuration makes no encoder: {first_line(error)}"
        ) from error
    if not 0 < layers <= len(read.weights):
        raise ModelError(f"{place / CONFIG}: {layers} layers do not fit the {len(read.weights)} weights of {read.file}")
    return whole


def _what_to_fetch(read: Old, lacking: list[str]) -> str:
    """What to say where nothing here tells what the encoder is."""
    name = read.config.get("backbone_model_name")
    lacks = f"{read.place / CONFIG} lacks {', '.join(lacking)}: the encoder's own configuration is needed"
    if not isinstance(name, str) or not _HUB_NAME.fullmatch(name):
        return f"{lacks}. Give --backbone with a folder that holds the encoder's {CONFIG} and tokenizer"
    return (
        f"{lacks}, and {name} is not on this machine. Fetch it (hf download {name} --local-dir encoder --include "
        f"'*.json' '*.txt' '*.model') and give --backbone encoder"
    )


def labels_of(read: Old) -> LabelSet:
    """The tags in the order of their ids."""
    where, by_id = read.place / CONFIG, object_under(read.config, "id2label")
    tags = [by_id.get(str(index)) for index in range(len(by_id))]
    if not tags or not all(isinstance(tag, str) for tag in tags) or len(set(tags)) != len(tags):
        raise ModelError(f"{where}: expected id2label to name each tag once, ids from 0 on, found {len(by_id)} entries")
    labels = LabelSet(tuple(map(str, tags)))
    if object_under(read.config, "label2id") not in ({}, labels.label2id):
        raise ModelError(f"{where}: id2label and label2id disagree: which of them the model learned is not known")
    return labels


def tokenizer_of(read: Old, encoder: Mapping[str, Any]) -> Any:
    """The model's own tokenizer, or its encoder's."""
    places = [
        place for place in (read.place, read.backbone) if place and any((place / n).is_file() for n in TOKENIZER_FILES)
    ]
    if not places:
        raise ModelError(
            f"{read.place} has no tokenizer: put the encoder's tokenizer.json and tokenizer_config.json there, or give "
            "--backbone with a folder that has them"
        )
    if "auto_map" in read_json(places[0] / "tokenizer_config.json"):
        raise ModelError(
            f"the tokenizer in {places[0]} names code of its own (auto_map), which is never run: give it one of "
            "transformers' own, whose tokenizer_config.json has no auto_map"
        )
    try:
        tokenizer = load_tokenizer(places[0])
    except BUILDING as error:
        raise ModelError(f"the tokenizer in {places[0]} cannot be loaded: {first_line(error)}") from error
    known = AutoConfig.for_model(**encoder).vocab_size
    if len(tokenizer) > known:
        raise ModelError(
            f"the tokenizer in {places[0]} knows {len(tokenizer)} sub-tokens, the encoder {known}: "
            "it is another encoder's"
        )
    return tokenizer


def first_line(error: BaseException) -> str:
    """The first line of a library's message."""
    return str(error).strip().partition("\n")[0]
