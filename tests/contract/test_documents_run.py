"""The documentation can be followed: every block runs in order, as written, and prints what the page says."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, redirect_stdout
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from safetensors.torch import load_file, save_file

from cardioner import LabelSet, ModelTrainer, read_corpus
from cardioner.cli import app, main
from cardioner.model_dir import encoder as default
from cardioner.model_dir.layout import TOKENIZER_FILES, WEIGHTS

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "examples" / "corpus"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page.parent.name != "adr"),
]
SLOW = (
    *("choose-a-recipe", "cross-validate", "export-to-onnx", "tag-without-torch", "train-on-several-gpus"),
    *("train-on-few-notes", "adapt-an-encoder", "distill-a-smaller-model", "hand-over-a-model", "training-options"),
    "your-own-notes",
)
"""Pages that train many models, start processes or export graphs."""
MOST_EPOCHS = 5
"""Of a training that is not told how many; more would only take time."""
_ON_CLUSTERS = (
    pytest.mark.cluster,
    pytest.mark.enable_socket,
    pytest.mark.filterwarnings("ignore"),  # Ray's and Spark's own
)
MARKS = {"tag-on-a-cluster": _ON_CLUSTERS, "train-on-a-cluster": _ON_CLUSTERS}
"""Pages that are run when something is asked for that they need."""
NOT_RUN = {
    "make": "it installs from a package index, and `make test` runs these tests; `make --dry-run` is run in its place",
    "pip": "it installs from a package index",
    "env/bin/pip": "it installs from a wheelhouse, which `make wheelhouse` collects and proves",
    "python3 -m venv": "it makes the environment of the line above",
    ".": "it activates that environment, or the one that `make` makes",
    "hf": "it downloads an encoder",
    "cardioner push": "it sends a model to a hub; tests/unit/interop/test_transfer.py has one on this machine",
    "cardioner pull": "it asks that hub",
    "cardioner serve": "it serves until it is stopped; tests/functional/test_cli_serve.py runs it",
    "curl": "it asks that server",
    "sudo": "it installs a service",
    "docker": "it makes and runs an image",
}
"""The commands that are not run, by how they begin, and why."""
GIVEN = {
    "README": ("examples", "notes"),
    "CONTRIBUTING": (),
    "SECURITY": ("model",),
    "first-model": ("examples",),
    "your-own-notes": ("examples",),
    "affirmed-findings": ("examples",),
    "resume-training": ("notes",),
    "train-on-several-gpus": ("notes",),
    "train-on-a-cluster": ("notes", "encoder"),
    "upgrade-an-old-model": ("old-model", "encoder", "new-notes"),
    "export-to-the-hub": ("linear",),
    "cross-validate": ("notes", "new-notes"),
    "tag-overlapping-types": ("notes",),
    "use-several-models": ("model", "another-model", "notes", "new-notes"),
    "another-language": ("examples", "encoder", "model"),
    "correct-in-the-browser": ("examples", "model", "fixed"),
}
"""What a page takes as given; otherwise a model and notes."""
BY_DEFAULT = ("examples", "model", "notes", "new-notes")
NOTES = {
    "train": ("en-0001", "en-0002", "es-0001", "nl-0001"),
    "validation": ("en-0015", "es-0009"),
    "test": ("en-0028", "es-0006", "nl-0006"),
}
"""The bundled notes that pages find, by part."""
PROGRAMS = {
    "python": "",
    "cardioner": "-m cardioner",
    "torchrun": "-m torch.distributed.run",
    "accelerate": "-m accelerate.commands.accelerate_cli",
}
"""What a shell finds under the names of programs, as arguments of this Python."""

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
    return [Block(*found) for found in _BLOCK.findall(page.read_text(encoding="utf-8"))]


def lines(block: Block) -> Iterator[str]:
    """The commands of a bash block, continued lines joined, comments left out."""
    for line in block.content.replace("\\\n", " ").splitlines():
        if command := line.partition(" #")[0].strip():
            yield command


def is_not_run(line: str) -> bool:
    return any(f"{line} ".startswith(f"{beginning} ") for beginning in NOT_RUN)


def commands(page: Path) -> list[str]:
    return [line for block in blocks(page) if block.language == "bash" for line in lines(block)]


def resolve(arguments: list[str]) -> tuple[Any, list[str]]:
    """The command that arguments name, and what is left of them."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands") and arguments and not arguments[0].startswith("-"):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    return command, arguments


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_options_named_in_the_text_exist(page: Path) -> None:
    for found in _INLINE.findall(page.read_text(encoding="utf-8")):
        command, rest = resolve(found.split()[1:])
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} - {"--help"} <= known, found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_are_in_blocks_that_are_run(page: Path) -> None:
    for block in blocks(page):
        begins = block.content.split(maxsplit=1)[0]
        assert block.language in ("bash", "python") or begins not in {*PROGRAMS, *NOT_RUN}, block.content


# What pages take as given ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def supplies(tmp_path_factory: pytest.TempPathFactory, encoder_dir: Callable[[str], Path]) -> Path:
    """A tiny encoder, some bundled notes, models with and without a CRF, and one of the original CardioNER."""
    place = tmp_path_factory.mktemp("supplies")
    shutil.copytree(encoder_dir("bert"), place / "encoder")
    for part, ids in NOTES.items():
        for folder in (place / "examples" / "corpus" / part, place / "notes" / part):
            folder.mkdir(parents=True)
            for path in (CORPUS / part).iterdir():
                if path.stem in ids:
                    shutil.copy(path, folder)
    for copy in ("new-notes", "fixed"):
        shutil.copytree(place / "notes" / "test", place / copy)
    corpus = read_corpus(place / "notes" / "train")
    label2id = LabelSet.from_types(corpus.labels).label2id
    with pytest.MonkeyPatch.context() as patch:
        set_default_encoder(patch, place / "encoder")
        for kind in ("model", "linear"):
            trainer = ModelTrainer(label2id, use_crf=kind == "model", num_train_epochs=1, output_dir=place / kind)
            trainer.train(corpus)
    make_old(place / "model", place / "old-model")
    shutil.copytree(place / "linear", place / "another-model")
    return place


def make_database(place: Path) -> None:
    """A database with the two tables of OMOP that a page takes as given, as far as it needs them."""
    with closing(sqlite3.connect(place)) as database, database:
        database.execute("CREATE TABLE note (note_id INTEGER PRIMARY KEY, note_text TEXT)")
        database.execute("INSERT INTO note VALUES (1, 'Severe aortic stenosis.'), (2, 'Syncope.')")
        database.execute(
            "CREATE TABLE note_nlp (note_nlp_id, note_id, section_concept_id, snippet, offset, lexical_variant, "
            "note_nlp_concept_id, note_nlp_source_concept_id, nlp_system, nlp_date, nlp_datetime, term_exists, "
            "term_temporal, term_modifiers)"
        )


def make_tables(stem: str, place: Path) -> None:
    """The tables that a page takes as given."""
    if stem == "tag-a-table-or-a-database":
        make_database(place / "archive.sqlite")
    if stem == "scale":
        (place / "archive").mkdir()
        pq.write_table(pa.table({"note_id": [1], "note_text": ["Syncope."]}), place / "archive" / "1.parquet")
    if stem == "tag-on-a-cluster":
        pq.write_table(pa.table({"note_id": [1], "note_text": ["Syncope."], "ward": ["a"]}), place / "notes.parquet")


def set_default_encoder(patch: pytest.MonkeyPatch, encoder: Path) -> None:
    """Take another encoder for the default one, also where `default_encoder` was imported by name before."""
    patch.setattr(default, "_default_folder", lambda: encoder)
    patch.setattr(default, "DEFAULT_SHA256", sha256((encoder / WEIGHTS).read_bytes()).hexdigest())


def make_old(new: Path, old: Path) -> None:
    """A model as the original saved it: the encoder's own configuration, and the encoder under the name `roberta`."""
    old.mkdir()
    config = json.loads((new / "config.json").read_text(encoding="utf-8"))
    own = {key: config[key] for key in ("id2label", "label2id", "classifier_hidden_layers", "use_crf")}
    (old / "config.json").write_text(json.dumps({**config["encoder_config"], **own}), encoding="utf-8")
    weights = {key.replace("backbone.", "roberta.", 1): value for key, value in load_file(new / WEIGHTS).items()}
    save_file(weights, old / WEIGHTS)
    for file in TOKENIZER_FILES:
        shutil.copy(new / file, old)


@pytest.fixture
def page(
    supplies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Path]:
    """A page, with a folder that has what it takes as given as the current one; the default encoder is the tiny one."""
    wanted: Path = request.param
    place, programs = tmp_path / "work", tmp_path / "bin"
    for given in GIVEN.get(wanted.stem, BY_DEFAULT):
        shutil.copytree(supplies / given, place / ("model" if given == "linear" else given))
    place.mkdir(exist_ok=True)
    programs.mkdir()
    for program, arguments in PROGRAMS.items():
        (programs / program).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments} "$@"\n')
        (programs / program).chmod(0o755)
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CARDIONER_KEY_PASSWORD", "open sesame")
    set_default_encoder(monkeypatch, supplies / "encoder")
    if wanted.stem in SLOW:  # and in the processes that they start
        (programs / "sitecustomize.py").write_text(
            "from pathlib import Path\n\nimport cardioner.model_dir.findings\n\n"
            f"cardioner.model_dir.findings.MOST_EPOCHS = {MOST_EPOCHS}\n\n"
            "import cardioner.model_dir.encoder as default\n\n"
            f"default._default_folder = lambda: Path({str(supplies / 'encoder')!r})\n"
            f"default.DEFAULT_SHA256 = {default.DEFAULT_SHA256!r}\n"
        )
        monkeypatch.setenv("PYTHONPATH", str(programs))
    make_tables(wanted.stem, place)
    monkeypatch.setenv("CARDIONER_DATABASE_URL", f"sqlite:///{place}/archive.sqlite")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "120")  # of a machine that has other work
    if wanted.stem == "export-to-onnx":  # a tiny encoder loses more to 8 bits than a real one
        monkeypatch.setattr("cardioner.interop.onnx_check.SHARE", 0.5)
        monkeypatch.setattr("cardioner.interop.onnx_check.LEAST_SPANS", 1)
    monkeypatch.setattr("cardioner.training.arguments.MOST_EPOCHS", MOST_EPOCHS)
    if wanted.stem == "train-on-few-notes":  # there are even fewer here
        monkeypatch.setattr("cardioner.training.sweep.curve.LEAST", 1)
    before = set(sys.modules)
    yield wanted
    for written in {path.stem for path in place.glob("*.py")} & (set(sys.modules) - before):
        del sys.modules[written]


# Running them ---------------------------------------------------------------------------------------------------------


def run_command(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a line of a page: a command of ours in this process, anything else in a shell."""
    if line.startswith("make "):
        subprocess.run(["make", "--dry-run", *shlex.split(line)[1:]], cwd=ROOT, check=True, capture_output=True)
    elif line.startswith("cardioner ") and not is_not_run(line):
        monkeypatch.setattr(sys, "argv", shlex.split(line))
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, line
    elif not is_not_run(line):
        subprocess.run(["bash", "-c", line], check=True)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(each, marks=MARKS.get(each.stem, pytest.mark.slow if each.stem in SLOW else ()))
        for each in PAGES
        if any(block.language in ("bash", "python") for block in blocks(each))
    ],
    ids=name,
    indirect=True,
)
def test_a_page_runs_as_written(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {"__name__": page.stem}
    printed = ""
    for block in blocks(page):
        out = StringIO()
        if block.title:
            Path(block.title).write_text(block.content, encoding="utf-8")
        elif block.language == "bash":
            for line in lines(block):
                run_command(line, monkeypatch)
        elif block.language == "python":
            with redirect_stdout(out):
                exec(compile(block.content, name(page), "exec"), names)
        elif block.language == "text" and printed:
            assert block.content == printed
        printed = out.getvalue()
