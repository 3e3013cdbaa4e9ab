"""Ways in which a directory's word could be taken without being kept: each is refused, or said."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import cardioner
from cardioner.errors import ModelError, OutputError
from cardioner.model_dir import signing
from cardioner.model_dir.inspect import inspect
from cardioner.model_dir.manifest import read_manifest
from cardioner.model_dir.save import write_model_dir
from cardioner.model_dir.signing import make_signing_key, write_signature
from cardioner.model_dir.verify import verify


@pytest.fixture
def model(make_model: Callable[..., Any], tokenizers: dict[str, Any], tmp_path: Path) -> Path:
    write_model_dir(make_model(use_crf=True), tokenizers["wordpiece"], tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def signed(model: Path, tmp_path: Path) -> Path:
    make_signing_key(tmp_path / "key")
    write_signature(model, tmp_path / "key")
    return model


def change(directory: Path, **changes: Any) -> None:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    "auto_map",
    [
        {"AutoConfig": "evil.CardioNERConfig", "AutoModelForTokenClassification": "modeling.TokenClassificationModel"},
        {"AutoConfig": "modeling.CardioNERConfig", "AutoModel": "evil.Model"},
    ],
)
def test_no_configuration_of_a_file_of_its_own_is_accepted(
    auto_map: dict[str, str], model: Path, without_manifest: Callable[[Path], Path]
) -> None:
    change(without_manifest(model), auto_map=auto_map)
    (model / "evil.py").write_text("raise SystemExit('this must not run')\n")
    for read in (inspect, cardioner.load):
        with pytest.raises(ModelError, match="auto_map"):
            read(model)


def test_code_that_an_indented_import_brings_in_is_told_of(
    model: Path, without_manifest: Callable[[Path], Path]
) -> None:
    without_manifest(model)
    with (model / "tagging.py").open("a") as file:
        file.write("\ndef f():\n    from .evil import x\n")
    (model / "evil.py").write_text("x = 1\n")
    (model / "more.py").write_text("x = 1\n")
    found = inspect(model)
    assert {"evil.py", "more.py"} <= found.facts["code_of_the_auto_classes"].keys()
    assert sum(name in warning for warning in found.warnings for name in ("evil.py", "more.py")) == 2


def test_a_missing_manifest_is_warned_of(model: Path, without_manifest: Callable[[Path], Path]) -> None:
    assert inspect(model).warnings == ()
    assert "no manifest" in " ".join(inspect(without_manifest(model)).warnings)


@pytest.mark.parametrize("name", ["config.json", "cardioner.json", "cardioner.sig", "model.safetensors"])
def test_a_pipe_in_place_of_a_file_keeps_nobody_waiting(name: str, signed: Path) -> None:
    (signed / name).unlink()
    os.mkfifo(signed / name)
    found = verify(signed)
    assert not found.sound
    assert name in found.issues[0].problem


def test_a_link_to_a_device_is_not_read(signed: Path) -> None:
    (signed / "config.json").unlink()
    (signed / "config.json").symlink_to("/dev/zero")
    (issue,) = verify(signed).issues
    assert "config.json" in issue.problem


def test_a_manifest_that_would_fill_the_memory_is_not_parsed(model: Path) -> None:
    (model / "cardioner.json").write_text('{"a":[' + ",".join(['{"":{}}'] * 600_000) + "]}")
    (issue,) = verify(model).issues
    assert "cardioner.json" in issue.problem


def test_a_damaged_signature_gives_no_model(signed: Path) -> None:
    data = (signed / "cardioner.sig").read_bytes()
    (signed / "cardioner.sig").write_bytes(data[:40] + bytes([data[40] ^ 1]) + data[41:])
    assert [issue.name for issue in verify(signed).issues] == ["cardioner.sig"]
    with pytest.raises(ModelError, match=r"cardioner\.sig"):
        cardioner.load(signed)


def test_a_signature_without_its_manifest_gives_no_model(
    signed: Path, without_manifest: Callable[[Path], Path]
) -> None:
    without_manifest(signed)
    assert not verify(signed).sound
    with pytest.raises(ModelError, match=r"cardioner\.json is missing, which cardioner\.sig signs"):
        cardioner.load(signed)


def test_without_cryptography_a_signature_is_said_to_be_unchecked(
    signed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> Any:
        raise signing.MissingLibraryError("signatures need the package cryptography")

    monkeypatch.setattr(signing, "_library", missing)
    found = verify(signed)
    assert found.sound
    assert [(one.name, one.serious) for one in found.issues] == [("cardioner.sig", False)]


def test_a_bad_signature_can_be_made_anew(run: Any, signed: Path, tmp_path: Path) -> None:
    (signed / "cardioner.sig").write_text("nothing")
    assert run("sign", signed, "--key", tmp_path / "key").code == 0
    assert run("verify", signed, "--key", tmp_path / "key.pub").code == 0


def test_tagging_can_insist_on_a_signature(run: Any, model: Path, tmp_path: Path) -> None:
    make_signing_key(tmp_path / "key")
    (tmp_path / "note.txt").write_text("Patient denies chest pain.")
    asked = ("predict", model, tmp_path / "note.txt", "--output", tmp_path / "tagged", "--key", tmp_path / "key.pub")
    assert "is not signed" in run(*asked).error
    write_signature(model, tmp_path / "key")
    assert run(*asked).code == 0


def test_a_model_in_bfloat16_is_saved_and_read(
    make_model: Callable[..., Any], tokenizers: dict[str, Any], tmp_path: Path
) -> None:
    write_model_dir(make_model(use_crf=True).to(torch.bfloat16), tokenizers["wordpiece"], tmp_path / "model")
    assert verify(tmp_path / "model").sound
    assert cardioner.load(tmp_path / "model", device="cpu").predict_text("No oedema.") is not None


def test_a_tokenizer_with_templates_for_chats_is_saved(
    make_model: Callable[..., Any], tokenizers: dict[str, Any], tmp_path: Path
) -> None:
    tokenizer = tokenizers["byte-bpe"].__class__.from_pretrained(saved_tokenizer(tokenizers["byte-bpe"], tmp_path))
    tokenizer.chat_template = {"default": "x", "other": "y"}
    write_model_dir(make_model("roberta"), tokenizer, tmp_path / "model")
    assert verify(tmp_path / "model").sound


def saved_tokenizer(tokenizer: Any, folder: Path) -> Path:
    tokenizer.save_pretrained(folder / "tokenizer")
    return folder / "tokenizer"


def test_files_that_are_no_part_of_a_model_are_never_deleted_for_it(
    model: Path, make_model: Callable[..., Any], tokenizers: dict[str, Any]
) -> None:
    """A manifest of a stranger may list anything: what is not what it lists is not the model's."""
    manifest = read_manifest(model)
    assert manifest is not None
    files = {**manifest.files, "thesis.docx": manifest.files["config.json"]}
    (model / "cardioner.json").write_bytes(manifest.model_copy(update={"files": files}).to_bytes())
    (model / "thesis.docx").write_text("mine")
    write_model_dir(make_model(), tokenizers["wordpiece"], model)
    assert (model / "thesis.docx").read_text() == "mine"


@pytest.mark.parametrize("name", ["train.py", "vocab.txt"])
def test_a_place_with_files_that_a_loader_reads_takes_no_model_and_keeps_them(
    name: str, make_model: Callable[..., Any], tokenizers: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / name).write_text("mine")
    with pytest.raises(OutputError, match=name):
        write_model_dir(make_model(), tokenizers["wordpiece"], tmp_path / "model")
    assert (tmp_path / "model" / name).read_text() == "mine"


def test_converted_line_ends_are_called_by_their_name(model: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(model, tmp_path / "copy"))
    for path in copied.glob("*.json"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    with pytest.raises(ModelError, match="line ends were converted"):
        cardioner.load(copied)


def test_no_key_is_made_where_it_would_be_given_away(model: Path) -> None:
    with pytest.raises(OutputError, match="given away"):
        make_signing_key(model / "key")
