"""A directory is looked at before any library reads it: sound ones pass, whatever reaches beyond its model does not."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cardioner.errors import ModelError
from cardioner.model_dir.json_files import is_deeper, read_json, read_object
from cardioner.model_dir.manifest import read_manifest
from cardioner.model_dir.save import write_model_dir
from cardioner.model_dir.untrusted import structure
from cardioner.model_dir.untrusted.files import look
from cardioner.multiclass import TokenClassificationModel

MakeModel = Callable[..., TokenClassificationModel]
TOKENIZER_OF = {"bert": "wordpiece", "electra": "wordpiece", "roberta": "byte-bpe", "modernbert": "byte-bpe"}


def check_safe(directory: Path) -> None:
    """Look at a directory, and at what is in its files."""
    files = look(directory)
    if "config.json" in files:
        structure.check_safe(
            directory, files, read_object(directory / "config.json"), structure.read_weights(directory, files)
        )


def change(directory: Path, name: str = "config.json", **changes: Any) -> None:
    content = json.loads((directory / name).read_text(encoding="utf-8"))
    (directory / name).write_text(json.dumps({**content, **changes}), encoding="utf-8")


def change_encoder(directory: Path, **changes: Any) -> None:
    encoder = json.loads((directory / "config.json").read_text(encoding="utf-8"))["encoder_config"]
    change(directory, encoder_config={**encoder, **changes})


def refused(directory: Path, *told: str) -> None:
    """Check that a directory is refused in one line with these words."""
    with pytest.raises(ModelError) as caught:
        check_safe(directory)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 1200
    for words in told:
        assert words in message, message


# What passes.


@pytest.mark.parametrize("use_crf", [False, True])
@pytest.mark.parametrize("family", ["bert", "electra", "roberta", "modernbert", "xlm-roberta", "deberta-v2"])
def test_every_family_passes(
    family: str, use_crf: bool, make_model: MakeModel, tokenizers: dict[str, Any], tmp_path: Path
) -> None:
    model = make_model(
        family, use_crf=use_crf, scheme="BIOES", classifier_hidden_layers=[8, 4], class_weights=[1.0] * 13
    )
    write_model_dir(model, tokenizers[TOKENIZER_OF.get(family, "unigram")], tmp_path, also_bin=True)
    check_safe(tmp_path)
    (tmp_path / "model.safetensors").unlink()  # what is left of the weights is a pickle
    check_safe(tmp_path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_half_precision_and_in_several_files_pass(
    dtype: torch.dtype, make_model: MakeModel, tokenizers: dict[str, Any], tmp_path: Path
) -> None:
    model = make_model(use_crf=True).to(dtype)
    write_model_dir(model, tokenizers["wordpiece"], tmp_path)
    check_safe(tmp_path)
    model.save_pretrained(tmp_path, max_shard_size=5000)
    (tmp_path / "model.safetensors").unlink(missing_ok=True)
    assert (tmp_path / "model.safetensors.index.json").is_file()
    check_safe(tmp_path)


def test_what_people_keep_beside_a_model_passes(directory: Path) -> None:
    (directory / "checkpoints" / "checkpoint-3").mkdir(parents=True)
    (directory / "notes on this model.txt").write_text("mine")
    (directory / "optimizer.pt").write_bytes(b"no pickle that anyone reads")
    (directory / "added_tokens.json").write_text("{}")
    (directory / "link.txt").symlink_to(directory / "README.md")
    check_safe(directory)


def test_what_is_missing_is_somebody_elses_affair(directory: Path, tmp_path: Path) -> None:
    check_safe(tmp_path / "nowhere")
    for path in sorted(directory.iterdir()):
        path.unlink()
        check_safe(directory)


def test_a_directory_reached_by_a_link_passes(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(directory)
    check_safe(tmp_path / "link")


# Files.


def make_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the whole path may be too long for a socket's name
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "modeling.py", "extra.bin"])
@pytest.mark.parametrize(
    ("make", "told"),
    [
        (os.mkfifo, "found a pipe"),
        (make_socket, "found a socket"),
        (lambda path: path.symlink_to("/dev/zero"), "found a link out of the directory, to /dev/zero"),
        (lambda path: path.symlink_to("../../../../../../etc/passwd"), "cp -rL"),
        (lambda path: path.symlink_to("/etc"), "found a link out of the directory, to /etc"),
    ],
    ids=["pipe", "socket", "device", "link", "folder"],
)
def test_what_is_no_file_of_the_directory_is_refused_unopened(
    name: str, make: Callable[[Path], Any], told: str, directory: Path
) -> None:
    (directory / name).unlink(missing_ok=True)
    make(directory / name)
    refused(directory, str(directory / name), told)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_folder_in_place_of_a_file_is_refused(name: str, directory: Path) -> None:
    (directory / name).unlink()
    (directory / name).mkdir()
    refused(directory, str(directory / name), "found a folder")


def test_links_in_folders_of_templates_are_refused(directory: Path) -> None:
    (directory / "additional_chat_templates").mkdir()
    (directory / "additional_chat_templates" / "a.jinja").symlink_to("/etc/passwd")
    refused(directory, "a.jinja", "cp -rL")


def test_links_to_nothing_and_to_themselves_pass_for_missing(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors").symlink_to("model.safetensors")
    (directory / "other").symlink_to("nothing")
    check_safe(directory)


def test_names_with_line_breaks_are_told_in_one_line(directory: Path) -> None:
    os.mkfifo(directory / "a\nerror: b")
    refused(directory, "found a pipe")


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.bin", "adapter_model.safetensors"])
def test_adapters_are_refused(name: str, directory: Path) -> None:
    (directory / name).write_text('{"base_model_name_or_path": "other/repo"}')
    refused(directory, name, "an adapter would be loaded")


# JSON.


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "damaged"),
        (b"[]", "found list"),
        (b'"' + b"a" * 100 + b'"', "found str"),
        (b'{"a": "\xff\xfe"}', "UTF-8"),
        (b"\xff\xfe{\0}\0", "UTF-8"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "expected"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, "nested more than"),
        (b'{"a": NaN}', "found NaN"),
        (b'{"a": [-Infinity]}', "found -Infinity"),
        (b'{"a": ' + b"1" * 20_000 + b"}", "damaged"),
        (b'{"model_type": "cardioner_multiclass", "model_type": "bert"}', "the same key twice"),
        (b'{"a": [' + b"[]," * 7_000_000 + b"[]]}", "expected"),
    ],
    ids=["empty", "list", "text", "bytes", "utf-16", "deeper", "deep", "nan", "infinity", "digits", "twice", "parts"],
)
def test_json_that_is_none_or_hides_something_is_refused(name: str, content: bytes, told: str, directory: Path) -> None:
    (directory / name).write_bytes(content)
    refused(directory, str(directory / name), told)


def test_json_larger_than_any_description_is_refused_unread(directory: Path) -> None:
    for name in ("config.json", "tokenizer_config.json", "tokenizer.json"):
        with (directory / name).open("r+b") as file:
            file.truncate(1 << 40)
        refused(directory, "bytes, found 1,099,511,627,776")


@pytest.mark.parametrize(
    "content", [b"[" * 100_000 + b"]" * 100_000, b"[" * 900_000, b'{"a":' + b"[" * 150 + b"]" * 150]
)
def test_records_that_cannot_be_read_in_bounds_are_refused_or_say_nothing(content: bytes, directory: Path) -> None:
    for name in ("training_args.json", "cardioner.json"):
        (directory / name).write_bytes(content)
    with pytest.raises(ModelError, match=r"cardioner\.json"):
        read_manifest(directory)
    assert read_json(directory / "training_args.json") == {}


@pytest.mark.parametrize("content", ["[]", "{", '{"a": NaN}', ""])
def test_records_that_are_only_wrong_are_held_against_nobody(content: str, directory: Path) -> None:
    (directory / "training_args.json").write_text(content)
    check_safe(directory)


@pytest.mark.parametrize("name", ["modeling.py", "evil.py"])
def test_code_has_a_sane_size(name: str, directory: Path) -> None:
    with (directory / name).open("wb") as file:
        file.truncate(1 << 40)
    refused(directory, str(directory / name), "found 1,099,511,627,776")


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_depth_is_counted_in_lists_and_objects(depth: int) -> None:
    nested: Any = {}
    for level in range(depth - 1):
        nested = [nested, 1] if level % 2 else {"a": nested, "b": "c"}
    assert is_deeper(nested, depth - 1)
    assert not is_deeper(nested, depth)


def test_objects_are_read_as_they_are(tmp_path: Path) -> None:
    content = {"a": [1, 2.5, None, True, {"é": "\u2028"}], "b": {}}
    (tmp_path / "a.json").write_text(json.dumps(content), encoding="utf-8")
    assert read_object(tmp_path / "a.json") == content


# What a check leaves behind.


def test_other_threads_build_what_they_like_meanwhile(directory: Path) -> None:
    built, done = [], threading.Event()

    def build() -> None:
        while not done.is_set():
            layer = nn.Linear(1000, 500)
            built.append((layer.weight.device.type, 0 < float(layer.weight.detach().abs().max()) <= 1000**-0.5))

    worker = threading.Thread(target=build)
    worker.start()
    try:
        for _ in range(5):
            check_safe(directory)
    finally:
        done.set()
        worker.join()
    assert set(built) == {("cpu", True)}


def test_nothing_is_left_of_a_check(directory: Path) -> None:
    before = logging.getLogger("transformers").level
    change_encoder(directory, num_hidden_layers=1000)
    refused(directory, "asks for")
    assert logging.getLogger("transformers").level == before
    assert nn.Linear(2000, 2000).weight.device.type == "cpu"
    assert nn.init.zeros_(torch.empty(3)).tolist() == [0.0, 0.0, 0.0]


# Directories of the original, and of other programs.


def test_original_directories_pass_and_their_sizes_are_bounded(directory: Path) -> None:
    encoder = json.loads((directory / "config.json").read_text())["encoder_config"]
    old = {**encoder, "_name_or_path": "some/encoder", "backbone_model_name": "some/encoder", "use_crf": True}
    old |= {"auto_map": {"AutoModelForTokenClassification": "some/repo--modeling.X"}}
    (directory / "config.json").write_text(json.dumps(old))
    check_safe(directory)
    change(directory, num_hidden_layers=10**9)
    refused(directory, "expected num_hidden_layers of at most")
