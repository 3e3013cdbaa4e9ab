"""Hostile directories are refused at every door: one clear line, nothing run, memory and time in bounds."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import cardioner
from cardioner.errors import ModelError

Change = Callable[[Path], Any]

MARKER = "sprung"
"""What code in a directory would write, in the working directory."""
CODE = f"import pathlib\npathlib.Path({MARKER!r}).touch()\nraise SystemExit('code of the directory has run')\n"
MOST_MEGABYTES = 400
MOST_SECONDS = 20.0


class Trap:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(MARKER),)


def edit(name: str, **changes: Any) -> Change:
    """Change keys of a JSON file."""

    def change(place: Path) -> None:
        content = json.loads((place / name).read_text(encoding="utf-8"))
        (place / name).write_text(json.dumps({**content, **changes}), encoding="utf-8")

    return change


def encoder(**changes: Any) -> Change:
    """Change keys of the encoder's configuration, with code beside it that some keys name."""

    def change(place: Path) -> None:
        (place / "evil.py").write_text(CODE)
        config = json.loads((place / "config.json").read_text(encoding="utf-8"))
        edit("config.json", encoder_config={**config["encoder_config"], **changes})(place)

    return change


def config(**changes: Any) -> Change:
    """Change keys of `config.json`, with code beside it that some keys name."""

    def change(place: Path) -> None:
        (place / "evil.py").write_text(CODE)
        edit("config.json", **changes)(place)

    return change


def tokenizer(**changes: Any) -> Change:
    return edit("tokenizer.json", **changes)


def settings(**changes: Any) -> Change:
    return edit("tokenizer_config.json", **changes)


def write(name: str, content: bytes) -> Change:
    return lambda place: (place / name).write_bytes(content)


def hollow(name: str) -> Change:
    """Make a file a terabyte long, without a byte of it on the disk."""

    def change(place: Path) -> None:
        with (place / name).open("r+b") as file:
            file.truncate(1 << 40)

    return change


def put(name: str, make: Callable[[Path], Any]) -> Change:
    """Put something else in place of a file."""

    def change(place: Path) -> None:
        (place / name).unlink(missing_ok=True)
        make(place / name)

    return change


def pickled(content: Any, *, compressed: bool = False) -> Change:
    """Replace the weights by a pickle."""

    def change(place: Path) -> None:
        (place / "model.safetensors").unlink()
        torch.save(content, place / "pytorch_model.bin")
        if compressed:
            with zipfile.ZipFile(place / "pytorch_model.bin") as archive:
                members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
            with zipfile.ZipFile(place / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as archive:
                for name, data in members.items():
                    archive.writestr(name, data)

    return change


def header(**entry: Any) -> Change:
    """Change what the header of the weights says of one of them."""

    def change(place: Path) -> None:
        data = (place / "model.safetensors").read_bytes()
        length = int.from_bytes(data[:8], "little")
        entries = json.loads(data[8 : 8 + length])
        entries["classifier.0.bias"] |= entry
        text = json.dumps(entries).encode()
        (place / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])

    return change


def weights(change_them: Callable[[dict[str, torch.Tensor]], Any]) -> Change:
    def change(place: Path) -> None:
        found = load_file(place / "model.safetensors")
        change_them(found)
        save_file(found, place / "model.safetensors", metadata={"format": "pt"})

    return change


def index(name: str) -> Change:
    """Name another file as the place of the weights."""

    def change(place: Path) -> None:
        (place / "model.safetensors").rename(place.parent / f"{place.name}.safetensors")
        (place / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))

    return change


MULTIPLY = [{"type": "Replace", "pattern": {"String": "e"}, "content": "ee" * 8}] * 9
LONG_TABLE = base64.b64encode(b"\0\0\0\0" + b"x" * 100_000 + b"\0").decode()
SPLIT = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
CASES: dict[str, tuple[str, Change]] = {
    "pickle with code": ("pytorch_model.bin", pickled({"a": Trap()})),
    "pickle in a list": ("pytorch_model.bin", pickled([Trap()])),
    "pickle that unfolds": ("pytorch_model.bin", pickled({"a": torch.zeros(1 << 20)}, compressed=True)),
    "pickle of a view": ("pytorch_model.bin", pickled({"a": torch.zeros(1).expand(1 << 40)})),
    "pickle that is no zip": (
        "pytorch_model.bin",
        lambda place: (pickled({})(place), write("pytorch_model.bin", b"\x80\x02}.")(place)),
    ),
    "header beyond the file": ("model.safetensors", write("model.safetensors", b"\xff" * 7 + b"\x7f{}")),
    "header of another shape": ("model.safetensors", header(shape=[1 << 40])),
    "header of another kind": ("model.safetensors", header(dtype="F8_E5M2")),
    "header with an offset beyond": ("model.safetensors", header(data_offsets=[1 << 40, (1 << 40) + 32])),
    "header with a negative size": ("model.safetensors", header(shape=[-8])),
    "weights cut": (
        "model.safetensors",
        lambda place: os.truncate(place / "model.safetensors", (place / "model.safetensors").stat().st_size - 9),
    ),
    "weights and more": (
        "model.safetensors",
        lambda place: (place / "model.safetensors").write_bytes((place / "model.safetensors").read_bytes() + b"PK"),
    ),
    "weights of a terabyte": ("model.safetensors", hollow("model.safetensors")),
    "weights of another head": (
        "cannot be loaded",
        weights(lambda found: found.update({"classifier.0.bias": torch.zeros(9)})),
    ),
    "weights of whole numbers": (
        "cannot be loaded",
        weights(lambda found: found.update({"classifier.0.bias": torch.zeros(8, dtype=torch.int64)})),
    ),
    "index out": ("model.safetensors.index.json", index("../index out.safetensors")),
    "index to a root": ("model.safetensors.index.json", index("/etc/passwd")),
    "index with a zero": ("model.safetensors.index.json", index("model\0.safetensors")),
    "link out": ("model.safetensors", put("model.safetensors", lambda path: path.symlink_to("/etc/hostname"))),
    "link to a device": ("tokenizer.json", put("tokenizer.json", lambda path: path.symlink_to("/dev/zero"))),
    "pipe": ("config.json", put("config.json", os.mkfifo)),
    "pipe of weights": ("model.safetensors", put("model.safetensors", os.mkfifo)),
    "pipe of code": ("modeling.py", put("modeling.py", os.mkfifo)),
    "folder": ("tokenizer.json", put("tokenizer.json", Path.mkdir)),
    "adapter": ("adapter_config.json", write("adapter_config.json", b'{"base_model_name_or_path": "evil/repo"}')),
    "huge config": ("config.json", hollow("config.json")),
    "huge tokenizer": ("tokenizer.json", hollow("tokenizer.json")),
    "huge code": ("modeling.py", hollow("modeling.py")),
    "deep config": ("config.json", write("config.json", b'{"a":' * 200_000 + b"1" + b"}" * 200_000)),
    "many parts": ("tokenizer.json", write("tokenizer.json", b'{"model": [' + b"[]," * 20_000_000 + b"[]]}")),
    "no UTF-8": ("config.json", write("config.json", b'{"model_type": "\xff"}')),
    "same key twice": (
        "config.json",
        lambda place: (place / "config.json").write_text(
            (place / "config.json").read_text().replace("{", '{"model_type": "bert",', 1)
        ),
    ),
    "negative size": ("config.json", encoder(hidden_size=-16)),
    "no layers": ("config.json", encoder(num_hidden_layers=0)),
    "size that is true": ("config.json", encoder(num_attention_heads=True)),
    "size with a fraction": ("config.json", encoder(hidden_size=16.5)),
    "endless layers": ("config.json", encoder(num_hidden_layers=10**9)),
    "many layers": ("config.json", encoder(num_hidden_layers=1000)),
    "huge vocabulary": ("config.json", encoder(vocab_size=2**31 - 1)),
    "wide encoder": ("config.json", encoder(hidden_size=1 << 20, intermediate_size=1 << 20)),
    "endless positions": ("config.json", encoder(max_position_embeddings=10**11)),
    "many positions": ("config.json", encoder(max_position_embeddings=1 << 20)),
    "computed positions": (
        "config.json",
        encoder(model_type="roformer", max_position_embeddings=1 << 20, embedding_size=1 << 10),
    ),
    "endless head": ("config.json", config(classifier_hidden_layers=[1 << 40])),
    "wide head": ("config.json", config(classifier_hidden_layers=[1 << 20])),
    "many labels": (
        "config.json",
        config(id2label={str(i): f"B-{i}" for i in range(300_000)}, label2id={f"B-{i}": i for i in range(300_000)}),
    ),
    "labels by number": ("config.json", encoder(num_labels=10**10)),
    "labels that disagree": ("config.json", config(label2id={"O": 1})),
    "label with a line": ("config.json", config(id2label={"0": "O\nerror: trust me", "1": "B-X"})),
    "code of its own": ("config.json", config(auto_map={"AutoModelForTokenClassification": "evil.sub.Model"})),
    "code of a repository": ("config.json", config(auto_map={"AutoConfig": "evil/repo--modeling.Config"})),
    "pipeline": ("config.json", config(custom_pipelines={"token-classification": {"impl": "evil.Pipeline"}})),
    "nested code": ("config.json", encoder(auto_map={"AutoModel": "evil.Model"})),
    "kernel": ("config.json", encoder(_attn_implementation="evil/kernel")),
    "internal kernel": ("config.json", config(_attn_implementation_internal="evil/kernel")),
    "other weights": ("config.json", config(transformers_weights="../other.safetensors")),
    "other configuration": ("config.json", config(configuration_files=["config.4.0.0.json"])),
    "quantized": ("config.json", config(quantization_config={"quant_method": "gptq"})),
    "repository": ("config.json", encoder(_name_or_path="evil/repo")),
    "vision backbone": ("config.json", encoder(backbone="resnet50", use_pretrained_backbone=True)),
    "vision encoder of another library": (
        "config.json",
        encoder(
            model_type="perception_lm", vision_config={"model_type": "timm_wrapper", "model_args": {"a": "evil.pt"}}
        ),
    ),
    "arguments for another library": ("config.json", encoder(sub=[{"checkpoint_path": "evil.pt"}])),
    "name without end": ("config.json", config(**{"_vocab" * 60_000: 1})),
    "name without end in a tokenizer": ("tokenizer_config.json", settings(**{"vocab" * 60_000: 1})),
    "pattern that calls itself": (
        "tokenizer.json",
        tokenizer(pre_tokenizer={**SPLIT, "pattern": {"Regex": r"(?<x>a+)\g<x>+"}}),
    ),
    "nested forever": ("config.json", encoder(model_type="cardioner_multiclass")),
    "kind of numbers": ("config.json", config(dtype="load")),
    "tokenizer with code": ("tokenizer_config.json", settings(auto_map={"AutoTokenizer": [None, "evil.T"]})),
    "tokenizer elsewhere": ("tokenizer_config.json", settings(vocab_file="/etc/passwd")),
    "slow tokenizer": ("tokenizer_config.json", settings(tokenizer_class="BertJapaneseTokenizer")),
    "tokenizer that pads": ("tokenizer_config.json", settings(tokenizer_padding={"length": 10**10})),
    "padding": ("tokenizer.json", tokenizer(padding={"strategy": {"Fixed": 10**10}, "pad_id": 0})),
    "text that multiplies": ("tokenizer.json", tokenizer(normalizer={"type": "Sequence", "normalizers": MULTIPLY})),
    "table of texts": (
        "tokenizer.json",
        tokenizer(normalizer={"type": "Precompiled", "precompiled_charsmap": LONG_TABLE}),
    ),
    "endless pattern": ("tokenizer.json", tokenizer(pre_tokenizer=SPLIT)),
    "special tokens": (
        "tokenizer.json",
        tokenizer(
            post_processor={
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "x", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "special_tokens": {"x": {"id": "x", "ids": [1] * 1000, "tokens": ["x"] * 1000}},
            }
        ),
    ),
    "ids beyond": ("tokenizer.json", tokenizer(model={"type": "WordPiece", "unk_token": "a", "vocab": {"a": 999_999}})),
}


@pytest.fixture(scope="session")
def without_manifest(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model that promises no manifest: what is refused is so for what it is."""
    place = Path(shutil.copytree(saved, tmp_path_factory.mktemp("sound") / "model"))
    (place / "cardioner.json").unlink(missing_ok=True)
    content = json.loads((place / "config.json").read_text(encoding="utf-8"))
    content.pop("manifest", None)
    (place / "config.json").write_text(json.dumps(content), encoding="utf-8")
    return place


@pytest.fixture(scope="session")
def hostile(without_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A directory of each kind."""
    home = tmp_path_factory.mktemp("hostile")
    made = {name: Path(shutil.copytree(without_manifest, home / name)) for name in CASES}
    for name, place in made.items():
        CASES[name][1](place)
    return made


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a marker would appear."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", CASES)
def test_hostile_directory_is_refused_in_one_line(name: str, hostile: Mapping[str, Path], run: Any) -> None:
    begun = time.monotonic()
    outcome = run("inspect", hostile[name])
    assert outcome.code == ModelError.exit_code
    assert str(hostile[name]) in outcome.error
    assert CASES[name][0] in outcome.error or "cannot be loaded" in outcome.error
    assert len(outcome.err.strip().splitlines()) == 1, outcome.err
    with pytest.raises(ModelError) as caught:
        cardioner.load(hostile[name])
    assert str(caught.value) == outcome.error.removeprefix("error: ")
    assert time.monotonic() - begun < MOST_SECONDS
    assert not Path(MARKER).exists()


MEASURE = """
import json, resource, sys, time, warnings
import cardioner, torch
from transformers.utils import logging
warnings.simplefilter("ignore")
logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_num_threads(1)
most, sound, *places = sys.argv[1:]
cardioner.load(sound, device="cpu").predict_text("Chest pain and syncope.")
if sys.platform == "linux":
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + int(most), used + int(most)))
found = {}
for place in places:
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        cardioner.load(place, device="cpu")
        refused = ""
    except Exception as error:
        refused = type(error).__name__
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    found[place] = (refused, time.monotonic() - begun, grown)
print(json.dumps(found))
"""


def test_memory_and_time_are_bounded(hostile: Mapping[str, Path], without_manifest: Path) -> None:
    arguments = [str(MOST_MEGABYTES << 20), str(without_manifest), *map(str, hostile.values())]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *arguments], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert {place: refused for place, (refused, *_) in found.items() if refused != "ModelError"} == {}
    assert {place: seconds for place, (_, seconds, _) in found.items() if seconds > MOST_SECONDS} == {}
    assert sum(grown for *_, grown in found.values()) < MOST_MEGABYTES << 10  # in kilobytes
    assert not Path(MARKER).exists()
