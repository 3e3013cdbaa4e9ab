"""Whether a directory is safe to read: looked at file by file before transformers, torch or tokenizers see any of it.

A model directory is data from a stranger. What follows is what these libraries do with it beyond reading a model
(found in the sources of transformers 5.23 and torch 2.10), and where it is refused.

- Links out, pipes, devices, sockets: other files of the reader's are read, or opening waits for ever: `files`.
- JSON that is huge, deep, or says a thing twice: memory, a crash, each reader believes another: `json_files`.
- `adapter_config.json`, `adapter_model.*`: where peft is installed an adapter is loaded too, perhaps a pickle: here.
- `auto_map`, `custom_pipelines`, `trust_remote_code` in `config.json`: code of the directory or of another repository
  (`name--file.Class`) is imported, or the user is asked on standard input: `config`, as all that follows for
  `config.json`.
- `attn_implementation`, `experts_implementation` in any spelling: a kernel is fetched from the hub and run
  (CVE-2026-4372); so it is for `flash_attention_2` where that is not installed.
- `configuration_files`, `transformers_weights`, `gguf_file`: other files are read in place of those checked.
- `name_or_path`, `base_model_name_or_path`, `backbone`, `use_pretrained_backbone`: other places are asked for a model.
- Families that nest others of any kind, such as vision encoders of timm, whose `architecture`, `model_args` and
  `checkpoint_path` are handed to another library: only text encoders pass, wherever a family is named.
- Names of thousands of characters, on which patterns are tried for ever: `json_files`.
- `quantization_config`, `fusion_config`, `per_layer_config`, `distributed_config`: weights are loaded in another way,
  classes are patched.
- `dtype` of any name, keys that are names of methods or begin with `_`: any attribute of torch is taken, methods are
  replaced.
- `id2label` and `label2id` that disagree: spans get wrong names.
- Sizes that the weights do not have: memory for what is not there, loops of any length: `config` for what counts
  before anything is built, `shapes` for the rest.
- Headers that lie, an index that names other places: memory, other files: `weights`, here.
- A pickle that is compressed, or holds more than tensors: memory, code: `pickled`.
- `auto_map`, `*_file`, `fast_tokenizer_files`, `gguf_file`, `tokenizer_padding`, `*_kwargs` and a `tokenizer_class`
  that is none of `tokenizers` in `tokenizer_config.json`: code, other files, options of other libraries:
  `tokenizer`.
- A `tokenizer.json` whose normalizers multiply, whose post processor adds without end, whose ids the encoder does not
  know, whose patterns do not end: memory, time, an index error on some notes: `tokenizer`, `patterns`.

Files that are read and can do none of this: `generation_config.json` (of models that write), `chat_template.jinja` and
`additional_chat_templates` (kept as text). Code files are never imported by `cardioner.load`: whether they are the ones
that were saved is for the manifest. What is not covered: files that change while they are read, and what `patterns`
names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from cardioner.errors import ModelError
from cardioner.model_dir.custom_code import needed_code, own_file, tags_in_its_own_way
from cardioner.model_dir.json_files import in_one_line, read_object, refuse, shown
from cardioner.model_dir.layout import (
    ADAPTERS,
    CONFIG,
    INDEX,
    PICKLED_WEIGHTS,
    TOKENIZER_FILES,
    WEIGHTS,
)
from cardioner.model_dir.untrusted.config import check_config, check_encoder_config
from cardioner.model_dir.untrusted.pickled import load_pickle, read_pickle
from cardioner.model_dir.untrusted.settings import check_numbers
from cardioner.model_dir.untrusted.shapes import check_encoder, check_head
from cardioner.model_dir.untrusted.tokenizer import check_class, check_tokenizer
from cardioner.model_dir.untrusted.weights import Stored, check_names, read_header
from cardioner.multiclass.modeling import CardioNERConfig

_MOST_CODE = 4 << 20
_SHARD = re.compile(r"model[\w.-]*\.safetensors")
_MOST_SHARDS = 1000

Weights = Mapping[str, Stored]


def check_structure(directory: Path, files: frozenset[str], config: Mapping[str, Any], weights: Weights | None) -> None:
    """Refuse a model directory that is incomplete, is none of ours, or is not safe, as `check_safe` has it."""
    check_safe(directory, files, config, weights)
    if config.get("model_type") != CardioNERConfig.model_type:
        raise ModelError(
            f"{directory}: expected a model of type {CardioNERConfig.model_type}, found "
            f"{shown(config.get('model_type'))}: "
            "name a directory that cardioner saved; cardioner upgrade reads those of the original CardioNER"
        )
    encoder = config.get("encoder_config")
    if not isinstance(encoder, dict) or "model_type" not in encoder:
        raise ModelError(f"{directory / CONFIG}: expected the encoder's configuration in encoder_config: save it again")
    missing = [name for name in (*needed_code(directory, config), *TOKENIZER_FILES) if name not in files]
    if missing := missing or _missing_weights(directory, files):
        raise ModelError(
            f"{directory} lacks {', '.join(missing)}: copy the whole directory again, or save the model again"
        )


def check_safe(directory: Path, files: frozenset[str], config: Mapping[str, Any], weights: Weights | None) -> None:
    """Refuse a directory that would do more to its reader than be read, before any library reads it.

    Nothing of it is executed, and what is missing is for others to say. A directory of another program, or of the
    original CardioNER, is checked as far as it can be without knowing what it is.

    Args:
        directory: The directory.
        files: The names of its files, as `look` found them.
        config: Its `config.json`.
        weights: As `read_weights` found them.
    """
    _check_files(directory, files)
    check_class(directory / CONFIG, config.get("tokenizer_class"))
    if config.get("model_type") != CardioNERConfig.model_type:
        check_numbers(directory / CONFIG, config, loops_alone=True)  # the rest is for `upgrade` to say
        check_tokenizer(directory, files, rows=None, window=None)
        return
    check_config(directory / CONFIG, config)
    rows = None
    encoder = config.get("encoder_config")
    if weights is not None and isinstance(encoder, dict) and "model_type" in encoder:
        if not (tags_in_its_own_way(config) or own_file(config)):
            check_head(directory, config, weights)
        rows = check_encoder(directory, encoder, weights)
    check_tokenizer(directory, files, rows=rows, window=config.get("window_length"))


def check_encoder_folder(directory: Path, files: frozenset[str], config: Mapping[str, Any]) -> None:
    """Refuse the folder of a pretrained encoder as `check_safe` does a model directory.

    Args:
        directory: The folder.
        files: The names of its files, as `look` found them.
        config: Its `config.json`, without what names code or other places.
    """
    _check_files(directory, files)
    check_encoder_config(directory / CONFIG, config)
    weights = read_weights(directory, files)
    if weights is None:
        raise ModelError(f"{directory} lacks weights: expected {WEIGHTS} or {PICKLED_WEIGHTS}: copy it again")
    check_tokenizer(directory, files, rows=check_encoder(directory, config, weights), window=None)


def _check_files(directory: Path, files: frozenset[str]) -> None:
    """Refuse adapters, and code of any size."""
    if adapters := [name for name in ADAPTERS if name in files]:
        refuse(directory / adapters[0], "an adapter would be loaded on top of the model", "delete it")
    for name in files:
        size = (directory / name).stat().st_size
        if name.endswith(".py") and size > _MOST_CODE:
            refuse(directory / name, f"expected code of at most {_MOST_CODE:,} bytes, found {size:,}")


def read_weights(directory: Path, files: frozenset[str]) -> Weights | None:
    """The names and shapes of the weights that loading would read; `None` if a file of them is missing.

    Headers that lie, an index that names other places, and pickles of more than weights are refused.
    """
    headers = {name: read_header(directory / name) for name in sorted(files) if _SHARD.fullmatch(name)}
    if INDEX in files:
        if WEIGHTS in files:
            refuse(directory / INDEX, f"expected either it or {WEIGHTS}, found both: which one is read is not known")
        return _joined(directory, headers)
    if WEIGHTS in files:
        return headers[WEIGHTS]
    return read_pickle(directory / PICKLED_WEIGHTS) if PICKLED_WEIGHTS in files else None


def load_weights(directory: Path, files: frozenset[str]) -> dict[str, Tensor]:
    """The numbers of the weights that `read_weights` found, on the CPU."""
    names = [WEIGHTS] if WEIGHTS in files else sorted(filter(_SHARD.fullmatch, files))
    weights: dict[str, Tensor] = {}
    for name in names:
        with in_one_line(f"{directory / name} is cut or damaged"):
            weights |= load_file(directory / name)
    return weights or load_pickle(directory / PICKLED_WEIGHTS)


def check_finite(place: Path, weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not finite: such a model finds nothing in any note, and says so of none."""
    for name in not_finite(weights):
        raise ModelError(
            f"{place}: {shown(name)} holds numbers that are not finite, so the model would find nothing: "
            "copy the whole directory again, or train the model again"
        )


def not_finite(weights: Mapping[str, Tensor]) -> Iterator[str]:
    """The names of weights that hold numbers which are not finite.

    A sum is finite only if all numbers are, which one pass shows; it may also overflow where no number is wrong.
    """
    for name, value in weights.items():
        if value.is_floating_point() and not value.sum(dtype=torch.float32).isfinite() and not value.isfinite().all():
            yield name


def _missing_weights(directory: Path, files: frozenset[str]) -> list[str]:
    """The first file of weights that is needed and not there."""
    if INDEX in files:
        return sorted(set(_shards(directory / INDEX).values()) - files)[:1]
    return [] if files & {WEIGHTS, PICKLED_WEIGHTS} else [WEIGHTS]


def _shards(path: Path) -> dict[str, str]:
    """The files of weights by their names, each a file of the directory itself."""
    found = read_object(path).get("weight_map")
    if not isinstance(found, dict) or not found:
        refuse(path, "expected weight_map to name the files of the weights")
    for name in set(map(shown, found.values())):
        if not _SHARD.fullmatch(name):
            refuse(path, f"expected names such as model-00001-of-00002.safetensors, found {name}")
    if len(set(found.values())) > _MOST_SHARDS:
        refuse(path, f"expected at most {_MOST_SHARDS} files of weights")
    return found


def _joined(directory: Path, headers: Mapping[str, Weights]) -> Weights | None:
    """The weights of all files, each of them in the file that the index says."""
    shards = _shards(directory / INDEX)
    if not set(shards.values()) <= set(headers):
        return None
    joined: dict[str, Stored] = {}
    for file in sorted(set(shards.values())):
        here = {name for name, named in shards.items() if named == file}
        if here != headers[file].keys():
            refuse(directory / INDEX, f"the weights that it names in {file} are not those that {file} holds")
        joined |= headers[file]
    check_names(directory / INDEX, joined)
    return joined
