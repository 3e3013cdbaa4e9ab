"""Whatever a damaged or hostile folder of an encoder makes a library raise, the user reads one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cardioner.errors import ModelError
from cardioner.model_dir.encoder import load_encoder, load_tokenizer

Dir = Callable[[str], Path]


@pytest.fixture
def folder(encoder_dir: Dir, tmp_path: Path) -> Path:
    """A copy of a tiny encoder's folder, to be damaged."""
    return Path(shutil.copytree(encoder_dir("bert"), tmp_path / "encoder"))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def refused(load: Callable[[Path], Any], folder: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not str(caught.value).rstrip().endswith(":")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": "wide"},
        {"hidden_size": [16]},
        {"hidden_size": -16},
        {"hidden_size": None},
        {"num_attention_heads": 0},
        {"num_attention_heads": 3},
        {"vocab_size": {}},
        {"dtype": "float33"},
        {"dtype": 7},
        {"id2label": 5},
        {"id2label": {"x": "O"}},
        {"to_dict": 5},
        {"use_return_dict": True},
        {"hidden_act": ["gelu"]},
        {"model_type": ["bert"]},
        {"model_type": None},
        {"layer_norm_eps": "small"},
        {"auto_map": 5, "model_type": "unheard-of"},
        {"quantization_config": {"quant_method": "no such"}},
    ],
)
def test_hostile_configuration_is_refused_in_one_line(changes: dict[str, Any], folder: Path) -> None:
    edit(folder / "config.json", **changes)
    refused(load_encoder, folder)


@pytest.mark.parametrize("content", ["[]", "5", "null", "{", '"text"', "\x00", "[" * 100_000])
def test_configuration_that_is_no_object_is_refused_in_one_line(content: str, folder: Path) -> None:
    (folder / "config.json").write_text(content)
    refused(load_encoder, folder)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"model": {"type": "BPE"}}', '{"added_tokens": 5, "model": {}}'])
def test_damaged_tokenizer_is_refused_in_one_line(content: str, folder: Path) -> None:
    (folder / "tokenizer.json").write_text(content)
    refused(load_tokenizer, folder)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "changes",
    [
        {"added_tokens_decoder": {"x": 5}},
        {"added_tokens_decoder": 5},
        {"tokenizer_class": 5},
        {"tokenizer_object": {}, "tokenizer_class": "PreTrainedTokenizerFast", "pad_token": 5},
        {"extra_special_tokens": 5},
        {"auto_map": 5},
    ],
)
def test_hostile_settings_of_a_tokenizer_are_refused_in_one_line(changes: dict[str, Any], folder: Path) -> None:
    edit(folder / "tokenizer_config.json", **changes)
    refused(load_tokenizer, folder)


def test_an_interruption_is_no_error_of_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cardioner.model_dir.encoder.AutoTokenizer.from_pretrained", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load_tokenizer(folder)
