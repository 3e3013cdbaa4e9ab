"""Whether the settings of a `config.json` that are ours can be used, and no key of it names code or other places.

Nothing here imports transformers: the light engine checks a configuration with this file alone.
"""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cardioner.model_dir.json_files import check_name, refuse, shown
from cardioner.model_dir.layout import FIRST_CODE, IMPLEMENTATION, OUR_CODE_KEYS, is_implementation, refused_in_config
from cardioner.multiclass.attributes import attribute_groups
from cardioner.multiclass.tagging import tag_groups

MOST_TAGS = 16_384
MOST_TAGS_OF_A_CRF = 2_048
"""Its transitions, and the rules which of them exist, are the square of it."""


MOST_VALUES = 256
"""Attributes of a model, and values of one."""
_MOST_NEIGHBOURS = 64

_NEVER_A_USERS = {file.removesuffix(".py") for file in FIRST_CODE} - {"modeling"}
_KINDS = {"float64", "float32", "float16", "bfloat16"}
_KIND_KEYS = {"dtype", "torch_dtype"}
_TEXTS = {"attributes", "attribute_temperatures", "id2label", "label2id", "task_specific_params", "vocab_list"}
"""Objects and lists whose texts are anything, and mean nothing to a loader."""
_COUNTED = re.compile(
    r"(num|n)_(\w+_)?(layers?|heads?|labels|blocks|groups|groups_\w+|levels|stages)|depths|layers"
    r"|block_repeats|attention_window|tpu_short_seq_length"
)
_MANY = re.compile(r"(\w*_)?(vocab\w*|words|ids?|theta|tokens?|rows|base\w*)")
_MOST_COUNTED = 1_024
_MOST = 1 << 20
_MOST_OF_MANY = 1 << 31
"""Bounds of whole numbers in a configuration: of layers and the like, of most, and of vocabularies and ids."""
_MOST_COMPUTED = 1 << 21
"""Most numbers of a table of sines that some families compute one by one in Python."""


def _travels(place: str) -> str:
    """A class in our file or in one of the user's, which may have the name of a file of ours that is newer."""
    module, _, name = place.partition(".")
    if not module.isidentifier() or not name.isidentifier() or keyword.iskeyword(module) or module in _NEVER_A_USERS:
        raise ValueError
    return place


def _identifier(name: str) -> str:
    if not name.isidentifier():
        raise ValueError
    return name


def _filled(value: Any) -> Any:
    """Nothing, where there is an empty object or list."""
    return value or None


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class _AutoMap(_Part):
    """Our configuration and one model: code for anything else is none of a tagger's."""

    AutoConfig: Literal["modeling.CardioNERConfig"] = "modeling.CardioNERConfig"
    AutoModelForTokenClassification: Annotated[str, Field(max_length=300), AfterValidator(_travels)] = "modeling.X"


class _Pipeline(_Part):
    impl: Literal["pipeline.CardioNERPipeline"]
    type: Literal["text"] = "text"
    pt: list[str] = []


class _Pipelines(_Part):
    only: _Pipeline = Field(alias="token-classification")


def _values(values: list[str | bool | None]) -> list[str | bool | None]:
    attribute_groups({"X": values})
    if not all(value is None or value is True or (isinstance(value, str) and _is_name(value)) for value in values):
        raise ValueError
    return values


def _is_name(text: str) -> bool:
    return text.isprintable() and 0 < len(text) <= 1000


def _named(values: Mapping[str, Any]) -> Any:
    if not all(map(_is_name, values)):
        raise ValueError
    return values


_Value = Annotated[str | bool | None, Field(union_mode="left_to_right")]
AttributeValues = Annotated[
    dict[str, Annotated[list[_Value], Field(max_length=MOST_VALUES), AfterValidator(_values)]],
    Field(max_length=MOST_VALUES, description="for each attribute null, and behind it the values that it may have"),
    AfterValidator(_named),
]
AttributeTemperatures = Annotated[
    dict[str, Annotated[float, Field(gt=0)]], Field(max_length=MOST_VALUES, description="numbers above 0 by attribute")
]
_ClassName = Annotated[str, Field(max_length=200), AfterValidator(_identifier)]
_Dtype = Literal["float32", "bfloat16", "int8"]
_Share = Annotated[float, Field(ge=0, le=1, description="a share from 0 to 1")]


class _Settings(_Part):
    """The keys of a `config.json` that are ours; a description says what is expected of a value."""

    model_config = ConfigDict(extra="ignore")

    auto_map: Annotated[_AutoMap | None, BeforeValidator(_filled)] = Field(
        None, description="modeling.CardioNERConfig and a class such as modeling.X (it names code)"
    )
    custom_pipelines: Annotated[_Pipelines | None, BeforeValidator(_filled)] = Field(
        None, description="pipeline.CardioNERPipeline for token-classification alone (it names code)"
    )
    custom_model_type: _ClassName | None = Field(None, description="the name of a class")
    architectures: list[_ClassName] | _ClassName | None = Field(None, description="the name of a class")
    use_crf: bool = Field(False, description="true or false")
    freeze_backbone: bool = Field(False, description="true or false")
    window_length: int = Field(128, ge=1, le=_MOST, description="a whole number, 1 or more")
    window_context: int = Field(0, ge=0, le=_MOST, description="a whole number, 0 or more")
    classifier_hidden_layers: list[Annotated[int, Field(ge=1, le=_MOST)]] | None = Field(
        None, max_length=64, description="whole numbers above 0"
    )
    classifier_activation: Literal["relu", "gelu"] = Field("relu", description="relu or gelu")
    classifier_dropout: _Share = 0.0
    label_smoothing: _Share = 0.0
    temperature: float = Field(1.0, gt=0, description="a number above 0")
    inference_dtype: _Dtype = Field("float32", description="float32, bfloat16 or int8")
    inference_dtypes: list[_Dtype] = Field([], max_length=3, description="a list of float32, bfloat16 and int8")
    attributes: AttributeValues = {}
    attribute_neighbours: int = Field(0, ge=0, le=_MOST_NEIGHBOURS, description="a whole number, at most 64")
    attribute_temperatures: AttributeTemperatures = {}
    class_weights: list[Annotated[float, Field(ge=0)]] | None = Field(None, description="numbers of 0 or more")


class Found(NamedTuple):
    """A value in a configuration, with its key and whether the key belongs to the outermost object."""

    key: str
    value: Any
    outermost: bool


def check_settings(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse what names code or other places, sizes that cannot be, and values of our own keys that no model has."""
    _check_labels(path, config)
    for found in walk(path, config):
        check_key(path, found)
    check_numbers(path, config)
    _check_settings(path, config)


def check_numbers(path: Path, config: Mapping[str, Any], *, loops_alone: bool = False) -> None:
    """Refuse numbers so large that a loop or a table of that length would hang or fill the memory.

    With `loops_alone` only what is counted in loops matters: sizes of tensors are checked elsewhere.
    """
    for key, value, _ in walk(path, config):
        if isinstance(value, float) and not math.isfinite(value):
            refuse(path, f"expected a number under {shown(key)}, found {value}")
        if type(value) is not int:
            continue
        counted = _COUNTED.fullmatch(key)
        most = _MOST_COUNTED if counted else _MOST_OF_MANY if _MANY.fullmatch(key) else _MOST
        if abs(value) > most and (counted or not loops_alone):
            more = ", which do not fit the weights of a tagger" if counted else ""
            refuse(path, f"expected {shown(key)} of at most {most:,}, found {shown(value, 24)}{more}")
    for table in (config, config.get("encoder_config")):
        if isinstance(table, dict):
            _check_table(path, table)


def _check_labels(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse label maps that do not name each tag once, or disagree."""
    by_id, by_tag = config.get("id2label"), config.get("label2id")
    again = "save the model again"
    if not isinstance(by_id, dict) or not by_id or set(by_id) != {str(index) for index in range(len(by_id))}:
        refuse(path, "expected id2label to name the tags from 0 on", again)
    tags = [by_id[str(index)] for index in range(len(by_id))]
    if not all(isinstance(tag, str) and tag.isprintable() and 0 < len(tag) <= 1000 for tag in tags):
        refuse(path, "expected id2label to name the tags by texts without control characters", again)
    if len(set(tags)) != len(tags):
        refuse(path, "expected id2label to name the tags, each once; found one twice", again)
    try:
        tag_groups(tags)
    except ValueError as error:
        refuse(path, str(error), again)
    most = MOST_TAGS_OF_A_CRF if config.get("use_crf") is True else MOST_TAGS
    if len(tags) > most:
        refuse(path, f"expected id2label to name the tags, at most {most:,} of them; found {len(tags):,}")
    ids = {tag: index for index, tag in enumerate(tags)}
    if by_tag is not None and (by_tag != ids or any(type(index) is not int for index in by_tag.values())):
        refuse(path, "id2label and label2id disagree: which of them the model learned is not known")


def walk(path: Path, config: Mapping[str, Any], *, outermost: bool = True) -> Iterator[Found]:
    """Every key with its value, lists opened, at any depth; label maps are left out."""
    for key, value in config.items():
        check_name(path, key)
        yield Found(key, value, outermost)
        stack = [] if key in _TEXTS else [value]
        while stack:
            part = stack.pop()
            if isinstance(part, dict):
                yield from walk(path, part, outermost=False)
            elif isinstance(part, list):
                stack += part
            elif part is not value:
                yield Found(key, part, outermost)


def check_key(path: Path, found: Found) -> None:
    """Refuse a key that makes a loader do more than build what is described."""
    key, value, outermost = found
    if value is None or value is False or value in ("", {}, []):
        return
    if IMPLEMENTATION.fullmatch(key):
        if not is_implementation(value):
            refuse(
                path,
                f"{shown(key)} names {shown(value)}, which is no part of transformers and would be fetched and run",
            )
        return
    if key in _KIND_KEYS and not (isinstance(value, str) and value.removeprefix("torch.") in _KINDS):
        refuse(path, f"expected {shown(key)} to name a kind of real numbers, found {shown(value)}")
    if outermost and key in OUR_CODE_KEYS:
        return
    if kind := refused_in_config(key):
        refuse(path, f"{shown(key)} names {kind}: a model directory describes its model and nothing else")
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


def _check_settings(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse values of our own keys that no saved model has."""
    try:
        _Settings.model_validate(config)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = str(first["loc"][0])
        value = first["input"] if first["type"] != "extra_forbidden" else first["loc"][-1]
        expected = _Settings.model_fields[key].description
        refuse(path, f"expected {key} to be {expected}, found {shown(value)}", "save the model again")
