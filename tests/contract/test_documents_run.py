"""The code in the documentation runs and prints what the page says; the commands and options that it names exist."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from cardioner import LabelSet, ModelTrainer, read_corpus
from cardioner.cli import app, main

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "examples" / "corpus"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page.parent.name != "adr"),
]
EXECUTED = ("first-model", "your-own-notes", "another-language", "read-an-evaluation", "hand-over-a-model")
"""Pages whose commands are run too."""
EXECUTED += ("verify-and-sign-a-model", "export-to-the-hub")
FROM_SCRATCH = ("first-model", "your-own-notes")
"""Pages that make the model or the notes themselves."""
GIVEN = ("model", "notes", "new-notes")
TINY = ("--backbone", "encoder", "--epochs", "1", "--batch-size", "4", "--max-length", "64", "--device", "cpu")
NOTES = {
    "train": ("en-0001", "en-0002", "es-0001", "nl-0001"),
    "validation": ("en-0015", "es-0009"),
    "test": ("en-0028", "es-0006", "nl-0006"),
}
"""The bundled notes that pages find, by part."""

_BLOCK = re.compile(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`(cardioner [a-z][^`]*)`")


class Block(NamedTuple):
    """A fenced block: its language, the file that it is, and its content."""

    language: str
    title: str
    content: str


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page; commands without a mark of their language are bash too."""
    text = page.read_text(encoding="utf-8")
    return [
        Block("bash" if content.startswith(("cardioner ", "pip ")) else language, title, content)
        for language, title, content in _BLOCK.findall(text)
    ]


def lines(block: Block) -> Iterator[str]:
    """The commands of a bash block, continued lines joined, comments left out."""
    for line in block.content.replace("\\\n", " ").splitlines():
        if command := line.partition(" #")[0].strip():
            yield command


def commands(page: Path) -> list[str]:
    return [line for block in blocks(page) if block.language == "bash" for line in lines(block)]


def resolve(arguments: list[str]) -> tuple[Any, list[str]]:
    """The command that arguments name, and what is left of them."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands") and arguments and not arguments[0].startswith("-"):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    return command, arguments


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name)
def test_commands_of_a_page_can_be_parsed(page: Path, supplies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(supplies)  # a file for --config is read
    for line in commands(page):
        words = shlex.split(line)
        if "cardioner" in words and "install" not in words:
            command, rest = resolve(words[words.index("cardioner") + 1 :])
            with command.make_context("cardioner", rest):
                pass
        elif words[0] == "make":
            targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
            assert {word for word in words[1:] if "=" not in word} <= set(targets)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_options_named_in_the_text_exist(page: Path) -> None:
    for found in _INLINE.findall(page.read_text(encoding="utf-8")):
        command, rest = resolve(found.split()[1:])
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} - {"--help"} <= known, found


@pytest.fixture(scope="session")
def supplies(tmp_path_factory: pytest.TempPathFactory, encoder_dir: Callable[[str], Path]) -> Path:
    """What pages take as given: a tiny encoder, some bundled notes, and models with and without a CRF."""
    place = tmp_path_factory.mktemp("supplies")
    shutil.copytree(encoder_dir("bert"), place / "encoder")
    for part, ids in NOTES.items():
        for folder in (place / "examples" / "corpus" / part, place / "notes" / part):
            folder.mkdir(parents=True)
            for path in (CORPUS / part).iterdir():
                if path.stem in ids:
                    shutil.copy(path, folder)
    shutil.copytree(place / "notes" / "test", place / "new-notes")
    corpus = read_corpus(place / "notes" / "train")
    for kind in ("model", "linear"):
        trainer = ModelTrainer(
            LabelSet.from_types(corpus.labels).label2id,
            model=place / "encoder",
            use_crf=kind == "model",
            num_train_epochs=1,
            max_length=64,
            output_dir=place / kind,
        )
        trainer.train(corpus)
    return place


@pytest.fixture
def workplace(
    supplies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Path]:
    """A folder with what the page takes as given, as the current one; the default encoder is the tiny one."""
    given = () if request.param.stem in FROM_SCRATCH else GIVEN
    for folder in ("encoder", "examples", *given):
        shutil.copytree(supplies / folder, tmp_path / folder)
    if request.param.stem == "export-to-the-hub":
        shutil.copytree(supplies / "linear", tmp_path / "model", dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("CARDIONER_KEY_PASSWORD", "open sesame")
    for module in ("cardioner.model_dir.encoder", "cardioner.training.initialization"):
        monkeypatch.setattr(f"{module}.default_encoder", lambda: tmp_path / "encoder", raising=False)
    before = set(sys.modules)
    yield request.param
    for written in {path.stem for path in tmp_path.glob("*.py")} & (set(sys.modules) - before):
        del sys.modules[written]


def run_command(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a line of a page: a command of ours in this process, with tiny settings, or one that handles files."""
    words = shlex.split(line)
    if words[0] in ("cp", "mkdir"):
        subprocess.run(["bash", "-c", line], check=True)
    if words[0] != "cardioner":
        return
    monkeypatch.setattr(sys, "argv", [*words, *(TINY if words[1] == "train" else ())])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code, line


def runnable(page: Path) -> bool:
    return page.stem in EXECUTED or any(block.language == "python" for block in blocks(page))


@pytest.mark.parametrize("workplace", [page for page in PAGES if runnable(page)], ids=name, indirect=True)
def test_code_of_a_page_runs_and_prints_what_it_says(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {"__name__": workplace.stem}
    printed = ""
    for block in blocks(workplace):
        if block.language == "bash" and workplace.stem in EXECUTED:
            for line in lines(block):
                run_command(line, monkeypatch)
        elif block.language == "python" and block.title:
            Path(block.title).write_text(block.content, encoding="utf-8")
        elif block.language == "python":
            out = StringIO()
            with redirect_stdout(out):
                exec(compile(block.content, name(workplace), "exec"), names)
            printed = out.getvalue()
            continue
        elif block.language == "text" and printed:
            assert block.content == printed
        printed = ""
