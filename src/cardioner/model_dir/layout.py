"""What a model directory is made of: the names of its files, and the keys that may never come from one.

This is the one place for both: every list of such keys in the package is here, but for the few that `modeling.py` keeps
for itself, as it travels without cardioner.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from cardioner.multiclass.code_files import COMPANIONS

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED_WEIGHTS = "pytorch_model.bin"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
TOKENIZER_FILES = (TOKENIZER, TOKENIZER_CONFIG)
OLD_TOKENIZER_FILES = ("special_tokens_map.json", "added_tokens.json")
"""What transformers 4 writes and every version reads: left from another model, it would change the tokenizer."""
TRAINING_ARGS = "training_args.json"
CARD = "README.md"
"""The one file that people may edit."""
MANIFEST = "cardioner.json"
SIGNATURE = "cardioner.sig"
GRAPH = "model.onnx"
GRAPH_SETTINGS = "onnx.json"
GRAPH_FILES = (GRAPH, GRAPH_SETTINGS)
"""What the light engine reads beside the tokenizer: the graph, and how to use it. A model may lack both."""
CODE = ("modeling.py", *COMPANIONS)
"""The code files that travel with every model."""
FIRST_CODE = ("modeling.py", "windows.py", "tagging.py", "inference.py", "pipeline.py")
"""The code files of the first release, which those of every later one have too."""
TORCH_FREE_CODE = ("attributes.py", "encoding.py", "windows.py", "tagging.py")
"""The code files among these that need no torch; exports that run without it hold them too."""
SUMMARY = "summary.json"
"""What lies beside the models of a repeated training, and names them."""
MEMBERS = ".members"
"""The folder, in a model directory that is to be, of the models that the one there will learn from."""
PARTIAL = ".partial-"
"""How the names of folders begin that are being written."""

READ_BY_US = (CONFIG, WEIGHTS, INDEX, PICKLED_WEIGHTS, *TOKENIZER_FILES, MANIFEST, TRAINING_ARGS, *GRAPH_FILES)
ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
"""Where peft is installed, transformers loads these on top of the model."""
CHECKPOINT_FILES = ("checkpoint.json", "optimizer.pt", "scheduler.pt", "rng_state*.pth", "trainer_state.json")
"""What training puts into its checkpoints beside the model; nothing of it is read when a model is loaded."""
_READ_BY_LOADERS = (
    *("*.bin", "*.gguf", "*.h5", "*.jinja", "*.model", "*.msgpack", "*.pickle", "*.pkl", "*.pt", "*.pth", "*.tiktoken"),
    *("*.py", "*.pyc", "*.pyd", "*.safetensors", "*.so", "*config*.json", "*index.json", "*processor*.json"),
    *("*token*.json", "*vocab*.json", "*vocab*.txt", "chat_template*", "merges.txt", "bpe.codes", "dict.txt"),
)
"""Files that transformers, or a model's code, may look for in a model directory, and load without being asked."""

CODE_KEYS = {"auto_map", "custom_generate", "custom_pipelines", "trust_remote_code"}
"""Code that is imported and run."""
PLACE_KEYS = {
    *("adapter_config", "architecture", "backbone", "backbone_config", "backbone_kwargs", "checkpoint_path"),
    *("configuration_files", "detectron2_config_args", "gguf_file", "model_args", "model_kwargs", "pretrained"),
    *("pretrained_cfg", "pretrained_cfg_overlay", "pretrained_backbone", "timm_model_id", "transformers_weights"),
    *("use_pretrained_backbone", "use_timm_backbone"),
}
"""Other files or repositories that are read, other libraries (timm, detectron2) that build a model."""
_PLACE_ENDS = ("name_or_path", "_path", "_file", "_dir", "_url")
LOADING_KEYS = {
    *("attribute_map", "base_config_key", "base_model_ep_plan", "base_model_fsdp_plan", "base_model_pp_plan"),
    *("base_model_tp_plan", "distributed_config", "extra_config_files", "extra_files", "fusion_config"),
    *("kernel_config", "per_layer_config", "quantization_config", "sub_configs", "sub_configs_defaults"),
}
"""Another way to build a model or to load its weights."""
OUR_CODE_KEYS = {"auto_map", "custom_pipelines"}
"""What our own `config.json` may have in its outermost object, where the values are checked."""
ENCODER_LOADING_KEYS = (
    *("distributed_config", "fusion_config", "per_layer_config", "quantization_config", "transformers_weights"),
)
"""An encoder whose configuration has one of these is not what the rest of it describes."""
IMPLEMENTATION = re.compile(r"_?(attn|experts|moe)_implementation(_internal|_autoset)?")
_IMPLEMENTATIONS = {"eager", "sdpa", "flex_attention", "grouped_mm", "batched_mm"}
"""Those that are part of transformers; others are fetched from the hub, flash attention too where it is missing."""
_TOKENIZER_CODE = {
    *("auto_map", "cache_dir", "chat_template_file", "code_revision", "custom_pipelines"),
    *("fast_tokenizer_files", "gguf_file", "init_inputs", "jumanpp_kwargs", "mecab_kwargs", "merges"),
    *("post_processor", "pretrained_model_name_or_path", "proxies", "revision", "sp_model_kwargs"),
    *("subfolder", "sudachi_kwargs", "tokenizer", "tokenizer_object", "tokenizer_padding"),
    *("tokenizer_truncation", "trust_remote_code", "vocab"),
}
_TOKENIZER_FILE = re.compile(
    r"\w*(vocab|merges|tokenizer|spm|source|target|emoji|tokens?|map|model|template)\w*_(file|path)"
)
_LAST_USE = {"is_local", "local_files_only", "max_length", "pad_to_multiple_of", "stride", "truncation_strategy"}
"""How a tokenizer was last loaded and used, which transformers writes down."""
SECRETS = {"hf_token", "token", "_name_or_path", "name_or_path"}


def foreign_files(directory: Path, own: Collection[str]) -> list[str]:
    """Files beside a model's own that would be loaded with it, sorted; there may be no directory yet."""
    entries = directory.iterdir() if directory.is_dir() else ()
    names = (path.name for path in entries if path.name not in own and not path.is_dir())
    return [name for name in read_by_loaders(names) if not matches(name, CHECKPOINT_FILES)]


def read_by_loaders(names: Iterable[str]) -> list[str]:
    """Of the names of files in a model directory, those that may be loaded without being asked for, sorted."""
    return sorted(name for name in names if not name.startswith(".") and matches(name.lower(), _READ_BY_LOADERS))


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a file's name fits one of these patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def refused_in_config(key: str) -> str | None:
    """What a key of a `config.json` names that no model directory may name; `None` for a harmless key."""
    kinds = {"code": CODE_KEYS, "another place": PLACE_KEYS, "another way to load": LOADING_KEYS}
    found = next((kind for kind, keys in kinds.items() if key in keys), None)
    return "another place" if found is None and key.endswith(_PLACE_ENDS) else found


def is_foreign(key: str) -> bool:
    """Whether a key of an encoder's configuration names code, other places, kernels, or another way to load it."""
    return key.startswith("_") or refused_in_config(key) is not None or IMPLEMENTATION.fullmatch(key) is not None


def is_implementation(value: Any) -> bool:
    """Whether the value of an `IMPLEMENTATION` key is code that transformers itself has."""
    return value is True or (isinstance(value, str) and value in _IMPLEMENTATIONS)


def refused_in_tokenizer(key: str) -> bool:
    """Whether a key of a `tokenizer_config.json` names code, other files, or options of other libraries."""
    private = key.startswith("_") and key != "_name_or_path"
    return private or key in _TOKENIZER_CODE or _TOKENIZER_FILE.fullmatch(key) is not None


def dropped_from_tokenizer(key: str) -> bool:
    """Whether a key of a `tokenizer_config.json` is left out when a tokenizer is saved."""
    elsewhere = key in SECRETS or key.endswith(("_kwargs", "_file", "_path"))
    return elsewhere or key in _LAST_USE or refused_in_tokenizer(key)
