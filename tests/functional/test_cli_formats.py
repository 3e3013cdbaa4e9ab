"""One vocabulary for formats: `--from` reads and `--to` writes, in every command, and neither looks at the suffix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from cardioner.cli import app
from cardioner.cli.inputs import Readable, Writable
from cardioner.cli.predict import TaggedFormat
from cardioner.data.formats import FORMATS, READERS, read_corpus, write_corpus

Run = Callable[..., Any]
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
READING = (
    "check",
    "split",
    "adapt",
    "train",
    "distill",
    "merge",
    "ablate",
    "predict",
    "evaluate",
    "compare",
    "convert",
    "select",
    "serve",
)
WRITING = ("predict", "convert", "serve")


def flags(name: str, *, hidden: bool) -> Iterator[str]:
    """The options of a command that are shown, or those that are not."""
    for parameter in COMMANDS[name].params:
        if getattr(parameter, "hidden", False) == hidden:
            yield from parameter.opts


def test_every_command_reads_with_from_and_writes_with_to() -> None:
    for name in COMMANDS.keys() - {"export"}:
        shown = set(flags(name, hidden=False))
        assert ("--from" in shown, "--to" in shown) == (name in READING, name in WRITING), name
        assert "--format" not in shown


def test_commands_take_every_format_and_predict_those_that_hold_texts_as_they_are() -> None:
    assert get_args(Readable) == tuple(READERS)
    assert get_args(Writable) == FORMATS
    assert set(get_args(TaggedFormat)) == set(FORMATS) - {"datasets"}


@pytest.fixture
def odd(corpus: Path, tmp_path: Path) -> Path:
    """JSON lines in a file whose suffix says nothing."""
    write_corpus(read_corpus(corpus / "dev"), tmp_path / "notes.jsonl", "jsonl")
    return (tmp_path / "notes.jsonl").rename(tmp_path / "notes.data")


@pytest.mark.parametrize("option", ["--from", "--format"])
def test_a_format_that_is_given_is_read_whatever_the_suffix(option: str, run: Run, odd: Path, tmp_path: Path) -> None:
    assert run("check", odd, option, "jsonl").code == 0
    assert run("convert", odd, tmp_path / "out.tsv", option, "jsonl").code == 0
    assert run("evaluate", odd, odd, option, "jsonl").code == 0
    assert run("split", odd, option, "jsonl", "--ratios", "1,1,0", "--output", tmp_path / "s.json").code in (0, 3)


def test_what_a_suffix_of_several_formats_was_read_as_is_said(run: Run, odd: Path, tmp_path: Path) -> None:
    notes = odd.rename(tmp_path / "notes.json")
    assert f"{notes} was read as jsonl (another format: --from)" in " ".join(run("evaluate", notes, notes).err.split())
    assert "was read as" not in run("evaluate", notes, notes, "--from", "jsonl").err


def test_predict_reads_with_from_and_writes_with_to(run: Run, saved: Path, odd: Path, tmp_path: Path) -> None:
    done = run("predict", saved, odd, "--from", "jsonl", "--to", "jsonl", "--output", tmp_path / "a")
    assert done.code == 0
    assert len(read_corpus(tmp_path / "a", "jsonl")) == 2
    done = run("predict", saved, odd, "--from", "jsonl", "--format", "jsonl", "--output", tmp_path / "b")
    assert done.code == 0
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()


@pytest.mark.parametrize("command", [("check",), ("convert", "out.jsonl"), ("predict", "--output", "out.jsonl")])
def test_the_advice_is_an_option_that_the_command_has(
    command: tuple[str, ...], run: Run, saved: Path, tmp_path: Path
) -> None:
    odd = tmp_path / "notes.data"
    odd.write_text("No fever.")
    name, *rest = command
    places = [tmp_path / one if one.startswith("out") else one for one in rest]
    done = run(name, *([saved] if name == "predict" else []), odd, *places)
    assert done.code == 3
    assert "name the format (--from)" in done.error
    assert "--from" in set(flags(name, hidden=False))


def test_notes_without_spans_are_what_predict_expects(run: Run, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "n.jsonl").write_text('{"id": "a", "text": "No fever."}\n')
    done = run("predict", saved, tmp_path / "n.jsonl", "--output", tmp_path / "out.jsonl")
    assert done.code == 0
    assert "without tags" not in done.err
    assert "notes without tags" in run("convert", tmp_path / "n.jsonl", tmp_path / "out.tsv").err


def test_a_model_in_the_place_of_the_notes_is_called_one(run: Run, saved: Path, corpus: Path, tmp_path: Path) -> None:
    done = run("predict", corpus / "dev", saved, "--output", tmp_path / "out")
    assert done.code == 2
    assert f"{saved} is a model directory" in done.error
    assert "first the model, then the notes" in done.error
