"""`cardioner verify` and `cardioner sign`, as someone uses them who makes models, and someone who receives them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cardioner
from cardioner.errors import ModelError, UsageError
from cardioner.model_dir.save import write_model_dir
from cardioner.model_dir.signing import make_signing_key, write_signature


@pytest.fixture
def model(make_model: Callable[..., Any], tokenizers: dict[str, Any], tmp_path: Path) -> Path:
    write_model_dir(make_model(use_crf=True), tokenizers["wordpiece"], tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def signed(run: Any, model: Path, tmp_path: Path) -> Path:
    """A signed model; the keys lie beside it as `key` and `key.pub`."""
    for arguments in (("--make-key", tmp_path / "key"), (model, "--key", tmp_path / "key")):
        done = run("sign", *arguments)
        assert (done.code, done.out) == (0, ""), done.err
    return model


def test_a_sound_directory_is_said_to_be_sound(run: Any, model: Path) -> None:
    done = run("verify", model)
    assert done.code == 0
    assert "is sound" in done.err
    assert "computes what it did" in done.err
    assert "not signed" in done.err


def test_json_is_alone_and_complete(run: Any, model: Path) -> None:
    (model / "README.md").write_text("")
    done = run("verify", model, "--json")
    assert done.code == 0
    assert done.json == {
        "directory": str(model),
        "sound": True,
        "issues": [
            {
                "name": "README.md",
                "problem": "it has 0 bytes, and had " + done.json["issues"][0]["problem"].rpartition(" ")[2],
                "serious": False,
            }
        ],
        "files": len(list(model.iterdir())) - 1,
        "golden_outputs": True,
        "signed_by": None,
        "signature_names": None,
    }


def test_what_is_wrong_is_named_with_exit_code_4(run: Any, model: Path) -> None:
    (model / "tagging.py").write_text("raise SystemExit(1)\n")
    done = run("verify", model)
    assert done.code == ModelError.exit_code
    assert "tagging.py" in done.out
    assert "not to be trusted" in done.err
    assert run("verify", model, "--json").json["sound"] is False


def test_a_place_that_is_no_directory_is_one_clear_line(run: Any, tmp_path: Path) -> None:
    done = run("verify", tmp_path / "none")
    assert done.code == ModelError.exit_code
    assert "does not exist; expected a model directory" in done.error


def test_a_directory_without_a_manifest_is_not_called_sound(
    run: Any, model: Path, without_manifest: Callable[[Path], Path]
) -> None:
    done = run("verify", without_manifest(model))
    assert done.code == ModelError.exit_code
    assert "earlier version" in " ".join(done.out.split())


def test_a_signed_directory_is_proven_to_be(run: Any, signed: Path, tmp_path: Path) -> None:
    done = run("verify", signed, "--key", tmp_path / "key.pub", "--json")
    assert done.code == 0
    assert done.json["signed_by"].startswith("sha256:")
    assert done.json["signed_by"] == done.json["signature_names"]
    assert cardioner.load(signed, key=tmp_path / "key.pub").predict_text("") == ()


def test_a_forged_manifest_is_found_by_its_signature_alone(
    run: Any, signed: Path, make_model: Callable[..., Any], tokenizers: dict[str, Any], tmp_path: Path
) -> None:
    forged = tmp_path / "forged"
    write_model_dir(make_model(use_crf=False), tokenizers["wordpiece"], forged)
    make_signing_key(tmp_path / "forger")
    write_signature(forged, tmp_path / "forger")
    assert run("verify", forged).code == 0
    done = run("verify", forged, "--key", tmp_path / "key.pub", "--json")
    assert done.code == ModelError.exit_code
    assert [issue["name"] for issue in done.json["issues"]] == ["cardioner.sig"]
    with pytest.raises(ModelError, match="made with another key"):
        cardioner.load(forged, key=tmp_path / "key.pub")
    shutil.copyfile(signed / "cardioner.sig", forged / "cardioner.sig")
    with pytest.raises(ModelError, match="not the one that was signed"):
        cardioner.load(forged)


def test_a_missing_signature_is_no_signature(run: Any, signed: Path, tmp_path: Path) -> None:
    (signed / "cardioner.sig").unlink()
    assert run("verify", signed, "--key", tmp_path / "key.pub").code == ModelError.exit_code
    with pytest.raises(ModelError, match="is not signed"):
        cardioner.load(signed, key=tmp_path / "key.pub")


def test_what_is_not_sound_is_not_signed(run: Any, signed: Path, tmp_path: Path) -> None:
    (signed / "cardioner.sig").unlink()
    (signed / "windows.py").write_text("")
    done = run("sign", signed, "--key", tmp_path / "key")
    assert done.code == ModelError.exit_code
    assert "is not signed: windows.py" in done.error
    assert not (signed / "cardioner.sig").exists()


def test_a_model_saved_in_its_place_is_not_signed(
    signed: Path, make_model: Callable[..., Any], tokenizers: dict[str, Any]
) -> None:
    write_model_dir(make_model(), tokenizers["wordpiece"], signed)
    assert not (signed / "cardioner.sig").exists()


def test_a_model_saved_by_transformers_in_its_place_has_no_manifest(signed: Path) -> None:
    model = cardioner.load(signed).model
    model.save_pretrained(signed)
    assert not (signed / "cardioner.json").exists()
    assert "manifest" not in json.loads((signed / "config.json").read_text())
    cardioner.load(signed)


def test_an_encrypted_key_asks_for_its_password(
    run: Any, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARDIONER_KEY_PASSWORD", "open sesame")
    assert run("sign", "--make-key", tmp_path / "locked", "--encrypt").code == 0
    assert b"ENCRYPTED" in (tmp_path / "locked").read_bytes()
    monkeypatch.setenv("CARDIONER_KEY_PASSWORD", "wrong")
    assert "another password" in run("sign", model, "--key", tmp_path / "locked").error
    monkeypatch.setenv("CARDIONER_KEY_PASSWORD", "open sesame")
    assert run("sign", model, "--key", tmp_path / "locked").code == 0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "expected a model directory and --key"),
        (("model",), "expected a model directory and --key"),
        (("model", "--make-key", "k"), "signs nothing"),
        (("model", "--key", "no-key"), "does not exist"),
    ],
)
def test_wishes_that_cannot_work_are_one_clear_line(run: Any, arguments: tuple[str, ...], problem: str) -> None:
    done = run("sign", *arguments)
    assert done.code == UsageError.exit_code
    assert problem in done.error


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes only there")
def test_names_that_a_terminal_would_obey_are_shown_as_text(run: Any, model: Path) -> None:
    for name in (b"extra\xff.bin", b"clear\x1b[2J.bin", b"two\nlines.bin"):
        (model / os.fsdecode(name)).write_bytes(b"x")
    assert {issue["name"] for issue in json.loads(run("verify", model, "--json").out)["issues"]} == {
        "extra\\udcff.bin",
        "clear\\x1b[2J.bin",
        "two\\nlines.bin",
    }
    odd = model.rename(model.with_name("mo\x1b[2Jdel"))
    for command in ("verify", "inspect"):
        done = run(command, odd)
        assert "\x1b[2J" not in done.out + done.err
        assert "mo\\x1b[2Jdel" in done.err or command == "inspect"


def test_a_folder_of_notes_is_called_no_model_directory(run: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("No oedema.")
    done = run("verify", tmp_path)
    assert done.code == 4
    assert "is no model directory" in done.err
    assert "trusted" not in done.err
