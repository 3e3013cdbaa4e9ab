"""The command line in this process, and a tiny corpus whose every note holds a word that must never be printed."""

from __future__ import annotations

import json
import multiprocessing
import re
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import Browser, sync_playwright

sys.path.append(str(Path(__file__).parent))  # for the modules of these tests that are none themselves
from watching import lab, watch  # noqa: F401 - fixtures

from cardioner.cli import main
from cardioner.cli.console import notices, output
from cardioner.data.documents import Document, Span
from cardioner.data.formats import write_corpus
from cardioner.model_dir.save import write_model_dir
from cardioner.prediction.predictor import Predictor

CANARY = "zyxwvcanary"
"""A word of every note: no output may hold it."""

TINY = ("--epochs", "1", "--batch-size", "2", "--max-length", "64", "--device", "cpu", "--learning-rate", "0.005")


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of complaint; a failed test if there is none, or more, or a traceback."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        assert self.out == ""
        return lines[0]

    @property
    def json(self) -> Any:
        """Standard output, which must be JSON and nothing else."""
        return json.loads(self.out)


Run = Callable[..., Outcome]

LIMIT = 60
"""Seconds within which a run that is not killed must end."""


class Runs:
    """Starts the command line in processes of their own, which have everything imported that it takes."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        patch.setenv("OMP_NUM_THREADS", "1")  # tiny tensors: threads would only wait for each other
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(
            ["cardioner.cli", "cardioner.prediction.predictor", "cardioner.training.trainer"]
        )

    def __call__(self, *arguments: Any, seconds: float = LIMIT) -> int | None:
        """The exit code; `None` if it had not ended after that time and was killed."""
        self._patch.setattr(sys, "argv", ["cardioner", *map(str, arguments)])
        process = self._context.Process(
            target=runpy.run_module, args=("cardioner",), kwargs={"run_name": "__main__", "alter_sys": False}
        )
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            return None
        return process.exitcode


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium of the system, without a window."""
    flags = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        yield browser
        browser.close()


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Run the command in a process of its own, which may be killed."""
    return Runs(monkeypatch)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command; whatever it prints must be free of the notes' words."""
    for console in (output, notices):
        monkeypatch.setattr(console, "_width", 200)

    def execute(*arguments: Any) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["cardioner", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        streams = capsys.readouterr()
        outcome = Outcome(int(caught.value.code or 0), streams.out, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", streams.err))
        for text in (outcome.out, outcome.err):
            assert CANARY not in text.lower()
            assert "bisoprolol" not in text.lower()
        return outcome

    return execute


def note(identifier: str, *marked: tuple[str, str]) -> Document:
    """A note with these words marked, and the canary."""
    text, spans = f"{CANARY} was seen. ", []
    for words, label in marked:
        spans.append(Span(len(text), len(text) + len(words), label))
        text += f"{words}, "
    return Document(identifier, f"{text}and {CANARY} left with bisoprolol.\n", tuple(spans))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A brat folder `train` of four notes, one without entities, and `dev` of two."""
    place = tmp_path_factory.mktemp("corpus")
    train = [
        note("t1", ("chest pain", "SYMPTOM"), ("atrial fibrillation", "DISEASE")),
        note("t2", ("syncope", "SYMPTOM"), ("heart failure", "DISEASE")),
        note("t3", ("dyspnoea", "SYMPTOM"), ("furosemida", "DRUG")),
        note("t4"),
    ]
    dev = [note("d1", ("syncope", "SYMPTOM"), ("atrial fibrillation", "DISEASE")), note("d2", ("metoprolol", "DRUG"))]
    write_corpus(train, place / "train")
    write_corpus(dev, place / "dev")
    return place


@pytest.fixture(scope="session")
def write_notes() -> Callable[[Path, Sequence[Document]], Path]:
    """Write notes as a brat folder."""

    def write(place: Path, documents: Sequence[Document]) -> Path:
        write_corpus(documents, place)
        return place

    return write


@pytest.fixture(scope="session")
def make_note() -> Callable[..., Document]:
    """A note with words marked."""
    return note


@pytest.fixture
def train(run: Run, corpus: Path, encoder_dir: Callable[[str], Path], tmp_path: Path) -> Run:
    """`cardioner train` on the tiny corpus; further arguments are appended."""

    def execute(*arguments: Any, folders: Sequence[Any] | None = None, output: Path | None = None) -> Outcome:
        parts = ("--train", corpus / "train", "--eval", corpus / "dev") if folders is None else folders
        place = output or tmp_path / "model"
        return run("train", *parts, "--backbone", encoder_dir("bert"), "--output", place, *TINY, *arguments)

    return execute


@pytest.fixture(scope="session")
def saved(corpus: Path, encoder_dir: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory that the command line trained, with a CRF and an MLP head."""
    place = tmp_path_factory.mktemp("saved") / "model"
    arguments = [
        *("cardioner", "train", "--train", str(corpus / "train"), "--eval", str(corpus / "dev")),
        *("--backbone", str(encoder_dir("bert")), "--output", str(place), "--crf", "--hidden-layers", "8"),
        *TINY,
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as caught:
            main()
    assert not caught.value.code
    return place


@pytest.fixture
def opinionated(
    make_model: Callable[..., Any], tokenizers: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """A model directory with weights large enough to find spans everywhere, made as asked."""

    def build(*, scale: float = 1.0, **settings: Any) -> Path:
        model = make_model("bert", **settings)
        with torch.no_grad():
            for parameter in model.classifier.parameters():
                parameter.mul_(scale)
        place = tmp_path_factory.mktemp("opinionated") / "model"
        write_model_dir(model, tokenizers["wordpiece"], place)
        return place

    return build


_LOADED: dict[str, Any] = {}


@pytest.fixture
def tagger(opinionated: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model directory with a CRF, which is made and loaded once in a session, for tests of what is around a model."""
    if not _LOADED:
        place = opinionated(use_crf=True)
        _LOADED.update(place=place, predictor=Predictor.from_pretrained(place, device="cpu"))
    monkeypatch.setattr(Predictor, "from_pretrained", lambda *_, **__: _LOADED["predictor"])
    return Path(_LOADED["place"])
