"""Whether a `config.json` only describes a model: no code, no other places, no sizes that a machine could choke on.

What the keys that are refused would do is listed in `cardioner.model_dir.untrusted.directory`.
"""

from __future__ import annotations

import inspect
import keyword
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from transformers import CONFIG_MAPPING

from cardioner.model_dir.untrusted.files import refuse, shown
from cardioner.multiclass.modeling import CardioNERConfig

MOST_TAGS = 16_384
MOST_TAGS_OF_A_CRF = 2_048
"""Its transitions, and the rules which of them exist, are the square of it."""

_CODE = {"auto_map", "custom_pipelines", "trust_remote_code", "custom_generate"}
_PLACES = {"base_model_name_or_path", "configuration_files", "gguf_file", "name_or_path", "transformers_weights"}
_PLACES |= {"backbone", "use_pretrained_backbone", "use_timm_backbone", "timm_model_id", "adapter_config"}
_LOADING = {"quantization_config", "fusion_config", "per_layer_config", "distributed_config", "kernel_config"}
_LOADING |= {"attribute_map", "sub_configs", "sub_configs_defaults", "base_model_tp_plan", "base_model_pp_plan"}
_LOADING |= {"base_model_fsdp_plan", "base_model_ep_plan", "extra_files", "extra_config_files", "base_config_key"}
_FORBIDDEN = {**dict.fromkeys(_CODE, "code"), **dict.fromkeys(_PLACES, "another place")}
_FORBIDDEN |= dict.fromkeys(_LOADING, "another way to load")
_IMPLEMENTATION = re.compile(r"_?(attn|experts|moe)_implementation(_internal|_autoset)?")
_IMPLEMENTATIONS = {"eager", "sdpa", "flex_attention", "grouped_mm", "batched_mm"}
"""Those that are part of transformers; others are fetched from the hub, flash attention too where it is missing."""
_KINDS = {"float64", "float32", "float16", "bfloat16"}
_KIND_KEYS = {"dtype", "torch_dtype"}
_OWN_CLASS = re.compile(r"([^\W\d]\w{0,99})\.[^\W\d]\w{0,199}")
_OWN_CONFIG = f"modeling.{CardioNERConfig.__name__}"
_PIPELINE = "pipeline.CardioNERPipeline"
_NEVER_A_USERS = {"windows", "tagging", "inference", "pipeline"}
"""Files of ours in every version. A later one, such as crf.py, may be a user's own in an older directory."""
_TEXTS = {"id2label", "label2id", "task_specific_params", "vocab_list"}
"""Objects and lists whose texts are anything, and mean nothing to a loader."""

_SIZES = {"hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"}
_COUNTED = re.compile(r"(num|n)_(\w+_)?(layers?|heads?|labels|blocks|groups|groups_\w+|levels|stages)|depths|layers")
_MANY = re.compile(r"(\w*_)?(vocab\w*|words|ids?|theta|tokens?|rows|base\w*)")
_MOST_COUNTED = 1_024
_MOST = 1 << 20
_MOST_OF_MANY = 1 << 31
"""Bounds of whole numbers in a configuration: of layers and the like, of most, and of vocabularies and ids."""
_MOST_COMPUTED = 1 << 21
"""Most numbers of a table of sines that some families compute one by one in Python."""


class Found(NamedTuple):
    """A value in a configuration, with its key and whether the key belongs to the outermost object."""

    key: str
    value: Any
    outermost: bool


def check_config(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse what names code or other places, and sizes that cannot be.

    Args:
        path: The `config.json`.
        config: Its content: of a model of ours, as its `model_type` says.

    Raises:
        ModelError: Naming the first key.
    """
    encoder = config.get("encoder_config")
    for found in _walk(config):
        _check_key(path, found)
    check_numbers(path, config)
    _check_classes(path, config)
    _check_pipelines(path, config.get("custom_pipelines"))
    _check_settings(path, config)
    if isinstance(encoder, dict):
        _check_encoder(path, encoder)
    _check_shadows(path, config, CardioNERConfig)


def check_numbers(path: Path, config: Mapping[str, Any], *, loops_alone: bool = False) -> None:
    """Refuse numbers so large that a loop or a table of that length would hang or fill the memory.

    Args:
        path: The `config.json`.
        config: Its content.
        loops_alone: Whether only what is counted in loops matters: sizes of tensors are checked elsewhere.

    Raises:
        ModelError: Naming the first key.
    """
    for found in _walk(config):
        if isinstance(found.value, float) and not math.isfinite(found.value):
            refuse(path, f"expected a number under {shown(found.key)}, found {found.value}")
        if type(found.value) is not int:
            continue
        counted = _COUNTED.fullmatch(found.key)
        most = _MOST_COUNTED if counted else _MOST_OF_MANY if _MANY.fullmatch(found.key) else _MOST
        if abs(found.value) > most and (counted or not loops_alone):
            more = ", which do not fit the weights of a tagger" if counted else ""
            refuse(path, f"expected {shown(found.key)} of at most {most:,}, found {shown(found.value, 24)}{more}")
    for table in (config, config.get("encoder_config")):
        if isinstance(table, dict):
            _check_table(path, table)


def check_labels(path: Path, config: Mapping[str, Any]) -> list[str]:
    """The tags in the order of their ids, where the two label maps agree.

    Raises:
        ModelError: Saying how they do not.
    """
    by_id, by_tag = config.get("id2label"), config.get("label2id")
    if not isinstance(by_id, dict) or not by_id or set(by_id) != {str(index) for index in range(len(by_id))}:
        refuse(path, "expected id2label to name the tags from 0 on", "save the model again")
    tags = [by_id[str(index)] for index in range(len(by_id))]
    if not all(isinstance(tag, str) and tag.isprintable() and 0 < len(tag) <= 1000 for tag in tags):
        refuse(path, "expected id2label to name the tags by texts without control characters", "save the model again")
    if len(set(tags)) != len(tags):
        refuse(path, "expected id2label to name the tags, each once; found one twice", "save the model again")
    most = MOST_TAGS_OF_A_CRF if config.get("use_crf") is True else MOST_TAGS
    if len(tags) > most:
        refuse(path, f"expected id2label to name the tags, at most {most:,} of them; found {len(tags):,}")
    ids = {tag: index for index, tag in enumerate(tags)}
    if by_tag is not None and (by_tag != ids or any(type(index) is not int for index in by_tag.values())):
        refuse(path, "id2label and label2id disagree: which of them the model learned is not known")
    return tags


def _walk(config: Mapping[str, Any], *, outermost: bool = True) -> Iterator[Found]:
    """Every key with its value, lists opened, at any depth; label maps are left out."""
    for key, value in config.items():
        yield Found(key, value, outermost)
        if key in _TEXTS:
            continue
        stack = [value]
        while stack:
            part = stack.pop()
            if isinstance(part, dict):
                yield from _walk(part, outermost=False)
            elif isinstance(part, list):
                stack += part
            elif part is not value:
                yield Found(key, part, outermost)


def _check_key(path: Path, found: Found) -> None:
    """Refuse a key that makes a loader do more than build what is described."""
    key, value, outermost = found
    if value is None or value is False or value in ("", {}, []):
        return
    told = shown(key)
    if _IMPLEMENTATION.fullmatch(key):
        if value is not True and not (isinstance(value, str) and value in _IMPLEMENTATIONS):
            refuse(path, f"{told} names {shown(value)}, which is no part of transformers and would be fetched and run")
        return
    if key in _KIND_KEYS and not (isinstance(value, str) and value.removeprefix("torch.") in _KINDS):
        refuse(path, f"expected {told} to name a kind of real numbers, found {shown(value)}")
    if outermost and key in {"auto_map", "custom_pipelines"}:
        return
    if key in _FORBIDDEN or key.endswith("name_or_path"):
        kind = _FORBIDDEN.get(key, "another place")
        refuse(path, f"{told} names {kind}: a model directory describes its model and nothing else")
    if key.startswith("__") and key != "__float__":
        refuse(path, f"{shown(key)} sets what belongs to the library that reads it")


def _check_table(path: Path, table: Mapping[str, Any]) -> None:
    """Refuse tables of sines that would be computed for minutes."""
    names = ("max_position_embeddings", "n_positions"), ("hidden_size", "dim", "emb_dim", "embedding_size")
    computes = table.get("model_type") == "roformer" or any(
        table.get(key) is True for key in ("sinusoidal_pos_embds", "sinusoidal_embeddings")
    )
    rows, columns = (max((table[n] for n in group if type(table.get(n)) is int), default=0) for group in names)
    if computes and rows * columns > _MOST_COMPUTED:
        refuse(path, f"expected positions of at most {_MOST_COMPUTED:,} numbers, found {rows * columns:,}")


def _check_classes(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse an `auto_map` that names more than our file and one of the user's, both beside the weights."""
    places = config.get("auto_map") or {}
    if isinstance(places, dict):
        _check_kinds(path, places)
    for place in places.values() if isinstance(places, dict) else [None]:
        found = _OWN_CLASS.fullmatch(place) if isinstance(place, str) else None
        if found is None or keyword.iskeyword(found[1]) or found[1] in _NEVER_A_USERS:
            refuse(path, f"expected auto_map to name classes such as modeling.X, found {shown(place)}")
    names = [config.get("custom_model_type"), *(_listed(config.get("architectures")))]
    for name in names:
        if name is not None and not (isinstance(name, str) and name.isidentifier() and len(name) <= 200):
            refuse(path, f"expected the name of a class in custom_model_type and architectures, found {shown(name)}")


def _check_kinds(path: Path, places: Mapping[str, Any]) -> None:
    """Refuse an `auto_map` with another configuration than ours, or with more than that and a model."""
    if others := sorted(map(shown, places.keys() - {"AutoConfig", "AutoModelForTokenClassification"})):
        refuse(path, f"auto_map names code for {others[0]}: a tagger has a configuration and one model")
    if places.get("AutoConfig", _OWN_CONFIG) != _OWN_CONFIG:
        refuse(path, f"expected auto_map to name {_OWN_CONFIG}, found {shown(places['AutoConfig'])}")


def _listed(value: Any) -> list[Any]:
    """A list, or the one thing that stands for it."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _check_pipelines(path: Path, pipelines: Any) -> None:
    """Refuse another pipeline than ours."""
    if not pipelines:
        return
    ours = isinstance(pipelines, dict) and set(pipelines) == {"token-classification"}
    entry = pipelines["token-classification"] if ours else None
    if not isinstance(entry, dict) or entry.get("impl") != _PIPELINE or entry.get("type", "text") != "text":
        refuse(path, f"custom_pipelines names code: expected {_PIPELINE} for token-classification, and nothing else")


def _check_settings(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse settings of ours that no saved model has."""

    def expect(key: str, what: str, *, right: bool) -> None:
        if key in config and not right:
            refuse(path, f"expected {key} to be {what}, found {shown(config[key])}")

    for key in ("use_crf", "freeze_backbone"):
        expect(key, "true or false", right=type(config.get(key)) is bool)
    for key, least in (("window_length", 1), ("window_context", 0)):
        expect(key, f"a whole number, {least} or more", right=_is_size(config.get(key), least))
    hidden, weights, temperature = (
        config.get(key) for key in ("classifier_hidden_layers", "class_weights", "temperature")
    )
    widths = isinstance(hidden, list) and len(hidden) <= 64 and all(_is_size(width, 1) for width in hidden)
    if hidden is not None and not widths:
        refuse(
            path.parent,
            f"cannot be loaded: expected classifier_hidden_layers to be whole numbers, found {shown(hidden)}",
            "save the model again",
        )
    for key in ("classifier_dropout", "label_smoothing"):
        value = config.get(key)
        expect(key, "a share from 0 to 1", right=_is_number(value, most=1))
    expect("temperature", "a number above 0", right=_is_number(temperature) and temperature != 0)
    expect("inference_dtype", "float32 or bfloat16", right=config.get("inference_dtype") in ("float32", "bfloat16"))
    listed = isinstance(weights, list) and all(map(_is_number, weights))
    expect("class_weights", "numbers of 0 or more", right=weights is None or listed)


def _is_size(value: Any, least: int) -> bool:
    return type(value) is int and least <= value <= _MOST


def _is_number(value: Any, most: float = math.inf) -> bool:
    """Whether something is a finite number, 0 or more."""
    return type(value) in {int, float} and math.isfinite(value) and 0 <= value <= most


def _check_encoder(path: Path, encoder: Mapping[str, Any]) -> None:
    """Refuse an encoder without sizes, or whose sizes are no whole numbers above 0."""
    family = encoder.get("model_type")
    if family is None:
        return
    if not isinstance(family, str) or family == CardioNERConfig.model_type or family.startswith("timm"):
        refuse(path, f"expected a family of encoders in encoder_config, found {shown(family)}")
    kind = CONFIG_MAPPING[family] if family in CONFIG_MAPPING else None  # noqa: SIM401 - it has no get of its own
    known_as = getattr(kind, "attribute_map", {})
    for name in _SIZES | {known_as.get(size, size) for size in _SIZES} | {"intermediate_size"}:
        if encoder.get(name) is not None and not (type(encoder[name]) is int and encoder[name] > 0):
            refuse(path, f"expected {name} of the encoder to be a whole number above 0, found {shown(encoder[name])}")
    if kind is not None:
        _check_shadows(path, encoder, kind)


def _check_shadows(path: Path, config: Mapping[str, Any], kind: type) -> None:
    """Refuse keys that would replace a method of the class that reads them, or cannot be set at all."""
    nowhere = object()
    for key in config.keys() - {"_name_or_path", "_attn_implementation"}:
        found = inspect.getattr_static(kind, key, nowhere)
        fixed = isinstance(found, property) and found.fset is None
        fixed |= key.startswith("_") and found is not nowhere
        if fixed or callable(found) or isinstance(found, (classmethod, staticmethod)):
            refuse(path, f"{shown(key)} would replace a part of the class that reads it")
