"""Whatever a damaged or hostile folder of an encoder makes a library raise, the user reads one line."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

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
        {"unk_token": ""},
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


# The same entrance as that of model directories.


def fill(folder: Path, value: float) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.word_embeddings.weight"][-1, -1] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def replace_by_pickle(folder: Path, content: Any) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / "pytorch_model.bin")


class Trap:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("sprung"),)


TIMM = {"model_type": "timm_wrapper", "model_args": {"checkpoint_path": "weights.pt"}}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda folder: edit(folder / "config.json", num_hidden_layers=10_000_000), "num_hidden_layers of at most"),
        (lambda folder: edit(folder / "config.json", num_hidden_layers=1000), "asks for an encoder of more"),
        (lambda folder: edit(folder / "config.json", vocab_size=2**31 - 1), "asks for"),
        (lambda folder: edit(folder / "config.json", vision_config=TIMM), "found timm_wrapper"),
        (lambda folder: edit(folder / "config.json", model_type="perception_lm", vision_config=TIMM), "perception_lm"),
        (lambda folder: edit(folder / "config.json", sub={"checkpoint_path": "x"}), "another place"),
        (lambda folder: fill(folder, float("nan")), "not finite"),
        (lambda folder: fill(folder, float("inf")), "not finite"),
        (lambda folder: replace_by_pickle(folder, {"a": Trap()}), "holds more than weights"),
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), "an adapter would be loaded"),
        (lambda folder: (folder / "tokenizer.json").write_text("{" * 100_000), "tokenizer.json"),
        (lambda folder: (folder / "notes").symlink_to("/etc/hostname"), "a link out of the directory"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 7 + b"\x7f{}"), "cut or damaged"),
    ],
)
def test_hostile_encoder_is_refused_at_once(
    change: Callable[[Path], Any], told: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    change(folder)
    begun = time.process_time()
    with pytest.raises(ModelError, match=told):
        load_encoder(folder)
    assert time.process_time() - begun < 2
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_encoder_in_a_pickle_of_weights_is_read(zipped: bool, folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    prefixed = {f"bert.{name}": value for name, value in weights.items()} | {"cls.predictions.bias": torch.zeros(9)}
    torch.save(prefixed, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    found = load_encoder(folder).weights
    assert all(torch.equal(found[name], value) for name, value in weights.items() if name in found)


def test_snapshot_in_the_cache_of_hugging_face_may_link_to_its_own_files(folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "models--some-lab--some-encoder"
    snapshot = home / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (home / "blobs").mkdir()
    for path in folder.iterdir():
        path.rename(home / "blobs" / path.name)
        (snapshot / path.name).symlink_to(Path("..", "..", "blobs", path.name))
    assert load_encoder(snapshot).config["model_type"] == "bert"
    assert load_tokenizer(snapshot).is_fast
    (snapshot / "vocab.txt").symlink_to("/etc/hostname")
    with pytest.raises(ModelError, match="a link out of the directory"):
        load_encoder(snapshot)


def test_paths_that_a_tokenizer_was_once_made_from_are_left_over(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", special_tokens_map_file="/somewhere/else/special_tokens_map.json")
    assert load_tokenizer(folder).is_fast
    edit(folder / "tokenizer_config.json", special_tokens_map_file=str(folder / "config.json"))
    with pytest.raises(ModelError, match="special_tokens_map_file names code of its own or other files"):
        load_tokenizer(folder)
