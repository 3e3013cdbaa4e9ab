"""Whether a `config.json` only describes a model: no code, no other places, no sizes that a machine could choke on.

What the keys that are refused would do is listed in `cardioner.model_dir.untrusted.structure`, which keys those are in
`cardioner.model_dir.layout`. What needs no transformers is checked in `settings`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
)

from cardioner.model_dir.json_files import refuse, shown
from cardioner.model_dir.untrusted.settings import check_key, check_numbers, check_settings, walk
from cardioner.multiclass.modeling import CardioNERConfig

_BUILT_BY_OTHERS = frozenset({"layoutlmv2"})
"""Families of documents' encoders that another library (detectron2) builds a part of."""
_SIZES = {"hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"}


def check_config(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse what names code or other places, and sizes that cannot be."""
    check_settings(path, config)
    if isinstance(config.get("encoder_config"), dict):
        check_encoder_config(path, config["encoder_config"])
    _check_shadows(path, config, CardioNERConfig)


def check_encoder_config(path: Path, encoder: Mapping[str, Any]) -> None:
    """Refuse an encoder that names code or other places, has no sizes, or is built of more than a text encoder."""
    for found in walk(path, encoder, outermost=False):
        check_key(path, found)
        if found.key == "model_type" and not is_text_encoder(found.value):
            ours = found.value == CardioNERConfig.model_type
            refuse(
                path,
                "expected a family of encoders that give one vector per sub-token of a text and are built of "
                f"transformers' own classes, such as BERT, RoBERTa or ModernBERT; found {shown(found.value)}",
                "name the encoder that this tagger began from" if ours else "use a model of such a family",
            )
    check_numbers(path, encoder)
    if "model_type" in encoder:
        kind = CONFIG_MAPPING[encoder["model_type"]]
        _check_sizes(path, encoder, kind)
        _check_shadows(path, encoder, kind)


def is_text_encoder(family: Any) -> bool:
    """Whether a family reads texts in both directions, and whether all that is built for it are classes of its own.

    A configuration that nests one of any family has transformers build whatever a stranger names there: for families of
    timm, another library with arguments of the stranger's.
    """
    if not isinstance(family, str) or family in _BUILT_BY_OTHERS:
        return False
    if family not in {*MODEL_FOR_MASKED_LM_MAPPING_NAMES, *MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES}:
        return False
    return not reads_one_way(family) and not _nests_any(CONFIG_MAPPING[family])


def reads_one_way(family: Any) -> bool:
    """Whether a family reads a text from left to right, as models that write texts do."""
    return family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and family not in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def _nests_any(kind: type[PretrainedConfig]) -> bool:
    """Whether a configuration has a place, at any depth, for one of any family."""
    return any(part is AutoConfig or _nests_any(part) for part in kind.sub_configs.values())


def _check_sizes(path: Path, encoder: Mapping[str, Any], kind: type) -> None:
    """Refuse sizes that are no whole numbers above 0, under the names that a family has for them."""
    known_as = getattr(kind, "attribute_map", {})
    for name in _SIZES | {known_as.get(size, size) for size in _SIZES} | {"intermediate_size"}:
        if encoder.get(name) is not None and not (type(encoder[name]) is int and encoder[name] > 0):
            refuse(path, f"expected {name} of the encoder to be a whole number above 0, found {shown(encoder[name])}")


def _check_shadows(path: Path, config: Mapping[str, Any], kind: type) -> None:
    """Refuse keys that would replace a method of the class that reads them, or cannot be set at all."""
    nowhere = object()
    for key in config.keys() - {"_name_or_path", "_attn_implementation"}:
        found = inspect.getattr_static(kind, key, nowhere)
        fixed = isinstance(found, property) and found.fset is None
        fixed |= key.startswith("_") and found is not nowhere
        if fixed or callable(found) or isinstance(found, (classmethod, staticmethod)):
            refuse(path, f"{shown(key)} would replace a part of the class that reads it")
