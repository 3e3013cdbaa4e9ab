"""Whether a directory is safe to read: looked at file by file before transformers, torch or tokenizers see any of it.

A model directory is data from a stranger. What follows is what these libraries do with it beyond reading a model
(found in the sources of transformers 5.23 and torch 2.10), and where it is refused.

- Links out, pipes, devices, sockets: other files of the reader's are read, or opening waits for ever: `files`.
- JSON that is huge, deep, or says a thing twice: memory, a crash, each reader believes another: `files`.
- `adapter_config.json`, `adapter_model.*`: where peft is installed an adapter is loaded too, perhaps a pickle: here.
- `auto_map`, `custom_pipelines`, `trust_remote_code` in `config.json`: code of the directory or of another repository
  (`name--file.Class`) is imported, or the user is asked on standard input: `config`, as all that follows for
  `config.json`.
- `attn_implementation`, `experts_implementation` in any spelling: a kernel is fetched from the hub and run
  (CVE-2026-4372); so it is for `flash_attention_2` where that is not installed.
- `configuration_files`, `transformers_weights`, `gguf_file`: other files are read in place of those checked.
- `name_or_path`, `base_model_name_or_path`, `backbone`, `use_pretrained_backbone`, families of timm: other places are
  asked for a model.
- `quantization_config`, `fusion_config`, `per_layer_config`, `distributed_config`: weights are loaded in another way,
  classes are patched.
- `dtype` of any name, keys that are names of methods or begin with `_`: any attribute of torch is taken, methods are
  replaced.
- `id2label` and `label2id` that disagree: spans get wrong names.
- Sizes that the weights do not have: memory for what is not there, loops of any length: `config` for what counts
  before anything is built, `sketch` for the rest.
- Headers that lie, an index that names other places: memory, other files: `weights`.
- A pickle that is compressed, or holds more than tensors: memory, code: `pickles`.
- `auto_map`, `*_file`, `fast_tokenizer_files`, `gguf_file`, `tokenizer_padding`, `*_kwargs` and a `tokenizer_class`
  that is none of `tokenizers` in `tokenizer_config.json`: code, other files, options of other libraries:
  `tokenizer`.
- A `tokenizer.json` whose normalizers multiply, whose post processor adds without end, whose ids the encoder does not
  know, whose patterns do not end: memory, time, an index error on some notes: `tokenizer`, `patterns`.

Files that are read and can do none of this: `generation_config.json` (of models that write), `chat_template.jinja` and
`additional_chat_templates` (kept as text). Code files are never imported by `cardioner.load`: whether they are the ones
that were saved is for the manifest. What is not covered: numbers that are not finite, files that change while they are
read, and what `patterns` names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cardioner.model_dir.custom_code import own_file, tags_in_its_own_way
from cardioner.model_dir.untrusted.config import check_config, check_labels, check_numbers
from cardioner.model_dir.untrusted.files import (
    CONFIG,
    INDEX,
    PICKLED_WEIGHTS,
    TOKENIZER,
    TOKENIZER_CONFIG,
    WEIGHTS,
    check_are_files,
    check_bounded,
    check_entries,
    read_object,
    refuse,
)
from cardioner.model_dir.untrusted.sketch import check_encoder, check_head
from cardioner.model_dir.untrusted.stored import Stored
from cardioner.model_dir.untrusted.tokenizer import check_class, check_tokenizer
from cardioner.model_dir.untrusted.weights import read_weights
from cardioner.multiclass.modeling import CardioNERConfig

_READ = (CONFIG, WEIGHTS, INDEX, PICKLED_WEIGHTS, TOKENIZER, TOKENIZER_CONFIG, "cardioner.json", "training_args.json")
_RECORDS = {"cardioner.json", "training_args.json"}
_MOST_CODE = 4 << 20
_ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")


def check_safe(directory: Path) -> None:
    """Refuse a directory that would do more to its reader than be read, before any library reads it.

    Nothing of it is executed, and what is missing is not its affair: that is told by who needs it. A directory of
    another program, or of the original CardioNER, is looked at as far as it can be without knowing what it is.

    Args:
        directory: The directory; what is no directory passes.

    Raises:
        ModelError: Naming the file, what was expected, what was found, and what to do.
    """
    if not directory.is_dir():
        return
    files = check_entries(directory)
    check_are_files(directory, (name for name in _READ if name not in files))
    if adapters := [name for name in _ADAPTERS if name in files]:
        refuse(directory / adapters[0], "an adapter would be loaded on top of the model", "delete it")
    _check_beside(directory, files)
    if CONFIG not in files:
        return
    config = read_object(directory / CONFIG)
    check_class(directory / CONFIG, config.get("tokenizer_class"))
    if config.get("model_type") != CardioNERConfig.model_type:
        check_numbers(directory / CONFIG, config, loops_alone=True)  # the rest is for `upgrade` to say
        read_weights(directory, files)
        check_tokenizer(directory, files, rows=None, window=None)
        return
    check_labels(directory / CONFIG, config)
    check_config(directory / CONFIG, config)
    rows = _check_fit(directory, config, read_weights(directory, files))
    window = config.get("window_length")
    check_tokenizer(directory, files, rows=rows, window=window)


def _check_beside(directory: Path, files: frozenset[str]) -> None:
    """Refuse what is read beside the model, and held against nobody, only if reading it would fill the memory."""
    for name in files:
        size = (directory / name).stat().st_size
        if name.endswith(".py") and size > _MOST_CODE:
            refuse(directory / name, f"expected code of at most {_MOST_CODE:,} bytes, found {size:,}")
    for name in sorted(files & _RECORDS):
        check_bounded(directory / name)


def _check_fit(directory: Path, config: dict[str, Any], weights: dict[str, Stored] | None) -> int | None:
    """Refuse a configuration that the weights do not fill; the number of sub-tokens that the encoder knows."""
    encoder = config.get("encoder_config")
    if weights is None or not isinstance(encoder, dict) or "model_type" not in encoder:
        return None
    if not (tags_in_its_own_way(config) or own_file(config)):
        check_head(directory, config, weights)
    return check_encoder(directory, encoder, weights)
