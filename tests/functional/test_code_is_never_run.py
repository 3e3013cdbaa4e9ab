"""Code that lies in a model directory is never run: not by the command line, not by `cardioner.load`."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

import cardioner
from cardioner.errors import ModelError

MARKER = "sprung"
"""What code in a directory would write, in the working directory."""
CODE = f"import pathlib\npathlib.Path({MARKER!r}).touch()\nraise SystemExit('code of the directory has run')\n"


class Trap:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(MARKER),)


@pytest.fixture
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a marker would appear."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def model(opinionated: Callable[..., Path], working_directory: Path) -> Path:
    """A whole model that promises no manifest, so that code beside it is held against nobody."""
    place = Path(shutil.copytree(opinionated(), working_directory / "model"))
    (place / "cardioner.json").unlink(missing_ok=True)
    content = json.loads((place / "config.json").read_text(encoding="utf-8"))
    content.pop("manifest", None)
    (place / "config.json").write_text(json.dumps(content), encoding="utf-8")
    return place


@pytest.mark.parametrize("extra", ["modeling.py", "pipeline.py", "evil.py", "sitecustomize.py", "tokenization.py"])
def test_code_in_a_directory_is_run_at_no_door(extra: str, model: Path, run: Any, working_directory: Path) -> None:
    before = (model / extra).read_text(encoding="utf-8") if (model / extra).exists() else ""
    (model / extra).write_text(before + CODE, encoding="utf-8")
    (model / "evil.so").write_bytes(b"\x7fELF")
    (working_directory / "note.txt").write_text("Chest pain.")
    for command in (
        ("inspect", model),
        ("predict", model, working_directory / "note.txt", "--output", working_directory / "out", "--device", "cpu"),
        ("upgrade", model, working_directory / "new"),
        ("export", "hub", model, working_directory / "hub"),
    ):
        outcome = run(*command)
        assert outcome.code in {0, ModelError.exit_code}, outcome.err
        assert "has run" not in outcome.err + outcome.out
        assert "Traceback" not in outcome.err
    with suppress(ModelError):  # where a manifest is at hand, it is refused
        cardioner.load(model, device="cpu")
    assert not Path(MARKER).exists()


def test_file_that_auto_map_names_is_not_imported(model: Path, run: Any) -> None:
    (model / "evil.py").write_text(CODE)
    named = "evil.TokenClassificationModel"
    content = json.loads((model / "config.json").read_text(encoding="utf-8"))
    content["auto_map"] = {"AutoConfig": "modeling.CardioNERConfig", "AutoModelForTokenClassification": named}
    (model / "config.json").write_text(json.dumps(content), encoding="utf-8")
    assert "has run" not in run("inspect", model).err
    cardioner.load(model, device="cpu").predict_text("Chest pain.")
    assert not Path(MARKER).exists()


def test_every_trap_would_spring(working_directory: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": Trap()}, buffer)
    buffer.seek(0)
    torch.load(buffer, weights_only=False)
    assert (working_directory / MARKER).exists()
    (working_directory / MARKER).unlink()
    with pytest.raises(SystemExit):
        exec(CODE)
    assert (working_directory / MARKER).exists()
