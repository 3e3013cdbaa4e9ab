"""The options of `cardioner train` are those of the library, and those that the reference lists."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import typer

from cardioner.cli import app
from cardioner.cli.train_options import ArgumentOptions, FurtherOptions, NotesOptions, RunOptions
from cardioner.training.options import TrainingOptions
from cardioner.training.trainer import ModelTrainer

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "training-options.md"
NO_OPTION = {"label2id", "id2label", "tokenizer", "hf_token", "model_class", "options"}
"""Arguments of `ModelTrainer` that are objects, secrets, or made of other options."""


def defaults(group: Any) -> dict[str, Any]:
    return {option.name: option.default for option in fields(group)}


def test_every_training_option_has_its_name_and_default_on_the_command_line() -> None:
    own = vars(TrainingOptions())
    assert defaults(FurtherOptions) == {name: own[name] for name in own if name != "progress"}


def test_every_plain_argument_of_the_trainer_has_its_name_and_default_on_the_command_line() -> None:
    arguments = inspect.signature(ModelTrainer).parameters
    assert {option.name for option in fields(ArgumentOptions)} == set(arguments) - NO_OPTION
    given = {name: default for name, default in defaults(ArgumentOptions).items() if name != "output_dir"}
    assert given == {name: arguments[name].default for name in given}


def test_no_two_options_have_one_name() -> None:
    names = [
        option.name for group in (NotesOptions, ArgumentOptions, FurtherOptions, RunOptions) for option in fields(group)
    ]
    assert len(names) == len(set(names))


def rows() -> Iterator[str]:
    """The reference's rows, as the parser knows the options."""
    command = typer.main.get_command(app).commands["train"]  # type: ignore[attr-defined]
    for option in command.params:
        if not option.hidden and option.name not in ("help", "config"):
            name = option.opts[0]
            default = option.default.value if isinstance(option.default, Enum) else option.default
            shown = "" if option.required or default is None or default is False else f"`{default}`"
            yield f"| `{name}` | `{option.name}` | {shown} | {option.help} |".replace("  |", " |")


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: row.split("`")[1])
def test_the_reference_lists_every_option_as_the_help_does(row: str) -> None:
    assert row in REFERENCE.read_text(encoding="utf-8").splitlines()


def test_the_reference_lists_nothing_else() -> None:
    lines = REFERENCE.read_text(encoding="utf-8").splitlines()
    assert sorted(line for line in lines if line.startswith("| `--")) == sorted(rows())
