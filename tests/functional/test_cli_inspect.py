"""`cardioner inspect`, and the help of every command."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from safetensors.torch import load_file, save_file

from cardioner import __version__
from cardioner.cli import app
from cardioner.training.options import RENAMED

COMMANDS = (
    "check",
    "split",
    "train",
    "distill",
    "ablate",
    "predict",
    "evaluate",
    "compare",
    "convert",
    "inspect",
    "verify",
    "sign",
    "export hub",
    "upgrade",
)


def test_json_describes_labels_head_encoder_files_and_versions(run: Callable[..., Any], saved: Path) -> None:
    done = run("inspect", saved, "--json")
    facts = done.json["facts"]
    assert (done.code, done.err) == (0, "")
    assert facts["labels"] == ["O", "B-DISEASE", "I-DISEASE", "B-DRUG", "I-DRUG", "B-SYMPTOM", "I-SYMPTOM"]
    assert (facts["head"], facts["crf"]) == ("16 -> 8 -> 7", True)
    assert facts["versions"]["saved"]["cardioner"] == __version__
    assert done.json["files"]["model.safetensors"] == (saved / "model.safetensors").stat().st_size


def test_the_table_says_the_same_in_words(run: Callable[..., Any], saved: Path) -> None:
    done = run("inspect", saved)
    assert (done.code, done.err) == (0, "")
    for told in ("TokenClassificationModelCRF", "16 -> 8 -> 7", "B-DISEASE", "model.safetensors", "bert, 2 layers"):
        assert told in done.out


@pytest.mark.parametrize(("value", "warning"), [(float("nan"), "not finite"), (0.0, "never trained")])
def test_transitions_that_cannot_be_trusted_are_warned_of(
    value: float, warning: str, run: Callable[..., Any], saved: Path, tmp_path: Path
) -> None:
    shutil.copytree(saved, tmp_path / "copy")
    weights = load_file(tmp_path / "copy" / "model.safetensors")
    weights["crf.transitions"] = torch.full_like(weights["crf.transitions"], value)
    save_file(weights, tmp_path / "copy" / "model.safetensors", metadata={"format": "pt"})
    assert warning in " ".join(run("inspect", tmp_path / "copy", "--json").json["warnings"])
    assert warning in run("inspect", tmp_path / "copy").out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_a_line_for_every_option(name: str, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    command: Any = typer.main.get_command(app)
    for part in name.split():
        command = command.commands[part]
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", None)
    narrow = run(*name.split(), "--help").out
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 2000)
    wide = run(*name.split(), "--help").out
    shown = " ".join(wide.replace("│", " ").split())
    parameters = [parameter for parameter in command.params if parameter.name != "help" and not parameter.hidden]
    assert parameters
    hidden = {name for parameter in command.params if parameter.hidden for name in parameter.opts}
    shown_too = {name for parameter in parameters for name in parameter.opts}
    stand_for = {f"--{old}": f"--{new}".replace("_", "-") for old, new in RENAMED.items()}
    stand_for = {old.replace("_", "-"): new for old, new in stand_for.items()}
    stand_for["--format"] = "--to" if "--to" in shown_too else "--from"
    assert all(stand_for.get(name, name.replace("--no-", "--")) in shown_too for name in hidden), (
        "only opposites of switches and earlier names are hidden"
    )
    for parameter in parameters:
        assert parameter.help, parameter.name
        assert parameter.help in shown
        if parameter.param_type_name == "option":
            assert parameter.opts[0] in narrow
    assert set(command.help.split("\n\n")) <= {line.strip() for line in wide.split("\n")}, "one line a paragraph"
    assert f"Example: cardioner {name}" in shown


def test_the_bare_command_lists_the_commands_and_version_is_one_line(run: Callable[..., Any]) -> None:
    bare = run()
    assert bare.code == 0
    assert all(name.split()[0] in bare.out for name in COMMANDS)
    assert run("--version").out == f"{__version__}\n"
