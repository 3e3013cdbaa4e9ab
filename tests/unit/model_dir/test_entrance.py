"""One entrance: manifest and signature first, finite weights, golden outputs that test something, and no hang."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from cardioner.errors import ModelError
from cardioner.model_dir import entrance, load
from cardioner.model_dir.inspect import inspect
from cardioner.model_dir.load import read_model_dir
from cardioner.model_dir.manifest import GoldenOutputs, list_files, read_manifest
from cardioner.model_dir.signing import make_signing_key, write_signature
from cardioner.model_dir.untrusted.structure import not_finite
from cardioner.model_dir.verify import verify

MOST_SECONDS = 2.0
FRAGMENTS = (
    *(b"\n", b" ", b"\0", b"\xff", b"[", b"{", b'{"a":', b'"', b"\\", b"a", b"1", b"vocab", b"_vocab", b"import ."),
    *(b"from .a\n", b"from\n.", b"(a", b"<|x|>", b"[0,", b'"a",'),
)
"""What a file may repeat without end: white space, brackets, names, numbers, beginnings of code and of patterns."""


@pytest.fixture
def whole(pristine: Path, tmp_path: Path) -> Path:
    """A directory with its manifest, to change."""
    return Path(shutil.copytree(pristine, tmp_path / "model"))


def rewrite(directory: Path, **changes: Any) -> None:
    """Give a directory another manifest, which lists its files as they are now."""
    manifest = read_manifest(directory)
    assert manifest is not None
    files = list_files(directory, manifest.files)
    (directory / "cardioner.json").write_bytes(manifest.model_copy(update={"files": files, **changes}).to_bytes())


def edit_weights(directory: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(directory / "model.safetensors")
    change(weights)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


# Manifest and signature.


@pytest.mark.parametrize("damage", ["unsigned", "another key", "changed file", "changed manifest"])
def test_with_a_key_nothing_else_is_read_before_manifest_and_signature(
    damage: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("key", "other"):
        make_signing_key(tmp_path / name)
    if damage != "unsigned":
        write_signature(whole, tmp_path / ("other" if damage == "another key" else "key"))
    if damage.startswith("changed"):
        with (whole / ("config.json" if damage == "changed file" else "cardioner.json")).open("ab") as file:
            file.write(b" ")

    def reads(*_: Any, **__: Any) -> None:
        raise AssertionError("it was read")

    monkeypatch.setattr(entrance, "read_object", reads)
    for name in ("read_weights", "check_structure"):
        monkeypatch.setattr(load, name, reads)
    with pytest.raises(ModelError):
        read_model_dir(whole, key=tmp_path / "key.pub")
    assert not verify(whole, key=tmp_path / "key.pub").sound


def test_labels_that_contradict_the_configuration_are_refused(whole: Path) -> None:
    manifest = read_manifest(whole)
    assert manifest is not None
    rewrite(whole, labels=[manifest.labels[0], *reversed(manifest.labels[1:])])
    with pytest.raises(ModelError, match=r"labels that it lists are not those of config\.json"):
        read_model_dir(whole)
    assert not verify(whole).sound


# Weights.


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["backbone.embeddings.word_embeddings.weight", "crf.end_transitions"])
def test_a_weight_that_is_not_finite_is_refused_wherever_it_stands(name: str, value: float, whole: Path) -> None:
    edit_weights(whole, lambda weights: weights[name].view(-1)[-1:].fill_(value))
    rewrite(whole)
    with pytest.raises(ModelError, match=f"{name} holds numbers that are not finite"):
        read_model_dir(whole)
    assert any(name in issue.problem for issue in verify(whole).issues if issue.serious)
    assert any(name in warning for warning in inspect(whole).warnings)


def test_large_weights_whose_sum_overflows_pass() -> None:
    weights = {"a": torch.full((40,), 3e38), "b": torch.full((40,), 6e4, dtype=torch.float16), "c": torch.ones(2).int()}
    assert list(not_finite(weights)) == []


# Golden outputs.


def golden(whole: Path) -> dict[str, Any]:
    manifest = read_manifest(whole)
    assert manifest is not None
    assert manifest.golden_outputs is not None
    return manifest.golden_outputs.model_dump()


def ragged(found: dict[str, Any]) -> None:
    found["input_ids"][1].pop()


def beyond(found: dict[str, Any]) -> None:
    found["input_ids"][0][0] = 10**30


def negative(found: dict[str, Any]) -> None:
    found["input_ids"][0][0] = -1


def unattended(found: dict[str, Any]) -> None:
    found["attention_mask"] = [[0] * len(row) for row in found["attention_mask"]]
    found["tags"] = [[] for _ in found["tags"]]


def doubled(found: dict[str, Any]) -> None:
    found["attention_mask"][0][0] = 2


def empty(found: dict[str, Any]) -> None:
    found.update(input_ids=[], attention_mask=[], emissions=[], tags=[])


def hollow(found: dict[str, Any]) -> None:
    found.update(input_ids=[[]], attention_mask=[[]], emissions=[[]], tags=[[]])


def too_long(found: dict[str, Any]) -> None:
    for name in ("input_ids", "attention_mask", "emissions"):
        found[name] = [(row * 40)[:500] for row in found[name]]
    found["tags"] = [[0] * sum(row) for row in found["attention_mask"]]


def narrow(found: dict[str, Any]) -> None:
    found["emissions"] = [[scores[:-1] for scores in row] for row in found["emissions"]]


def untagged(found: dict[str, Any]) -> None:
    found["tags"][0].pop()


def without_texts(found: dict[str, Any]) -> None:
    found["texts"] = []


def cut_outside(found: dict[str, Any]) -> None:
    found["texts"][0]["offsets"][0] = (5, 10**9)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (cut_outside, "sub-tokens inside their texts"),
        (ragged, "rows of one length"),
        (beyond, "expected ids below"),
        (negative, "expected ids below"),
        (unattended, "every row attends to something"),
        (doubled, "a mask of 0 and 1"),
        (empty, "as many rows of each kind"),
        (hollow, "rows of one length"),
        (too_long, "at most a window"),
        (narrow, "emissions a position"),
        (untagged, "a tag for each attended position"),
        (without_texts, "expected texts"),
    ],
)
def test_golden_outputs_that_test_nothing_are_refused_in_one_line(
    change: Callable[[dict[str, Any]], None], told: str, whole: Path
) -> None:
    found = golden(whole)
    change(found)
    rewrite(whole, golden_outputs=GoldenOutputs(**found))
    with pytest.raises(ModelError, match=told) as caught:
        read_model_dir(whole)
    assert "\n" not in str(caught.value)
    assert not verify(whole).sound


def test_an_encoder_that_cannot_read_the_golden_outputs_is_refused_in_one_line(whole: Path) -> None:
    """Its table of positions, and the configuration, are shorter than a window."""
    name = "backbone.embeddings.position_embeddings.weight"
    edit_weights(whole, lambda weights: weights.update({name: weights[name][:4].clone()}))
    config = json.loads((whole / "config.json").read_text())
    config["encoder_config"]["max_position_embeddings"] = 4
    (whole / "config.json").write_text(json.dumps(config))
    rewrite(whole)
    with pytest.raises(ModelError, match="cannot be run") as caught:
        read_model_dir(whole)
    assert "\n" not in str(caught.value)
    assert [issue.name for issue in verify(whole).issues] == [entrance.GOLDEN]


@pytest.mark.parametrize("name", ["x" * 5000, "é" * 200])
def test_a_manifest_that_lists_a_name_that_no_file_can_have_is_refused_in_one_line(name: str, whole: Path) -> None:
    manifest = read_manifest(whole)
    assert manifest is not None
    files = {**manifest.files, name: manifest.files["config.json"]}
    (whole / "cardioner.json").write_bytes(manifest.model_copy(update={"files": files}).to_bytes())
    with pytest.raises(ModelError, match=r"cardioner\.json does not agree"):
        read_model_dir(whole)
    assert not verify(whole).sound


# Names.


@pytest.mark.skipif(os.name != "posix", reason="names are texts there")
@pytest.mark.parametrize("name", [b"extra\xff.bin", b"notes\xfe", b"a\x1b[2Jb.bin", b"a\nb"])
def test_names_of_files_reach_json_and_terminals_as_printable_text(name: bytes, whole: Path) -> None:
    (whole / os.fsdecode(name)).write_bytes(b"x")
    found = json.dumps(verify(whole).to_dict(), ensure_ascii=False)
    assert json.loads(found.encode("utf-8"))["issues"]
    assert found.isprintable()
    assert all(shown.isprintable() for shown in inspect(whole).files)


# Time.


def answer_to(directory: Path, name: str, content: bytes) -> float:
    """Seconds until a directory with such a file is loaded or refused, whichever comes."""
    (directory / name).write_bytes(content)
    begun = time.process_time()
    for read in (read_model_dir, inspect):
        with suppress(ModelError):
            read(directory)
    return (time.process_time() - begun) / 2


FILES = (
    *("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("cardioner.json", "cardioner.sig", "training_args.json", "model.safetensors", "model.safetensors.index.json"),
    *("pytorch_model.bin", "README.md", "modeling.py", "pipeline.py", "crf.py", "vocab.txt", "chat_template.jinja"),
)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "cardioner.json", "modeling.py"])
@pytest.mark.parametrize("fragment", [b"\n", b'{"a":', b"_vocab"])
def test_a_repeated_fragment_is_answered_soon(name: str, fragment: bytes, directory: Path) -> None:
    assert answer_to(directory, name, fragment * (100_000 // len(fragment))) < MOST_SECONDS


@pytest.mark.parametrize("key", ["vocab", "_vocab", "vocab_", "a_file", "num_", "attn_implementation", "Ab"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "tokenizer.json", "added_tokens.json"])
def test_a_name_without_end_is_answered_soon(name: str, key: str, directory: Path) -> None:
    path = directory / name
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    text = json.dumps({**content, key * 60_000: 1})
    assert answer_to(directory, name, text.encode()) < MOST_SECONDS


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_million_bytes_of_any_fragment_in_any_file_are_answered_soon(name: str, directory: Path) -> None:
    sound = (directory / name).read_bytes() if (directory / name).exists() else b""
    for fragment in FRAGMENTS:
        repeated = fragment * (1_000_000 // len(fragment))
        inside = b'{"a": "' + repeated.replace(b'"', b"'") + b'"}' if name.endswith(".json") else sound + repeated
        for content in (repeated, inside):
            assert answer_to(directory, name, content) < MOST_SECONDS, fragment
