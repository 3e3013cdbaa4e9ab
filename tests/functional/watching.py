"""Notes with words that must be left nowhere, and commands and calls whose every trace is searched for them."""

from __future__ import annotations

import io
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from leaks import CANARIES, Records, Search

import cardioner.cli
from cardioner.data.documents import Document, Span
from cardioner.data.formats import write_corpus
from cardioner.data.labels import LabelSet
from cardioner.errors import CardioNERError
from cardioner.training.trainer import ModelTrainer

TINY = (
    *("--epochs", "1", "--batch-size", "4", "--max-length", "64", "--device", "cpu", "--learning-rate", "0.005"),
    *("--window-context", "2", "--training-context", "4"),
)


def note(identifier: str, *, labels: Sequence[str] = ("SYMPTOM", "DISEASE", "DRUG")) -> Document:
    """A note of several windows with every word in it, three of them marked; no two notes are the same."""
    text, spans = f"{CANARIES['context']} {identifier} : ", []
    for word, label in zip((CANARIES["mention"], CANARIES["not ASCII"], CANARIES["row"]), labels, strict=True):
        spans.append(Span(len(text), len(text) + len(word), label))
        text += f"{word} , "
    return Document(
        identifier, text + f"{CANARIES['cut']} " * 12 + f"{CANARIES['quote']} {CANARIES['broken']} .\n", tuple(spans)
    )


@dataclass(frozen=True)
class Lab:
    """Notes in every format, an encoder, and a model that learned from them.

    Attributes:
        notes: The folder: `train`, `dev` (brat), and the others by the names of the formats.
        encoder: The encoder's folder.
        model: The model directory.
        search: A search for the words in the notes.
    """

    notes: Path
    encoder: Path
    model: Path
    search: Any

    def parts(self) -> tuple[Any, ...]:
        """What a short training takes."""
        return ("--train", self.notes / "train", "--eval", self.notes / "dev", "--backbone", self.encoder, *TINY)


@pytest.fixture(scope="session")
def lab(
    encoder_dir: Callable[[str], Path], tokenizers: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Lab:
    """The notes, and a model whose opinions about them are random."""
    place = tmp_path_factory.mktemp("lab")
    train = [note(f"t{number}") for number in range(3)]
    write_corpus(train, place / "train")
    write_corpus([note("d1"), note("d2")], place / "dev")
    for form, name in (("tsv", "tsv"), ("jsonl", "n.jsonl"), ("conll", "n.conll"), ("datasets", "datasets")):
        write_corpus(train, place / name, form)
    labels, encoder = LabelSet.from_types(("SYMPTOM", "DISEASE", "DRUG")), encoder_dir("roberta")
    trainer = ModelTrainer(label2id=labels.label2id, model=encoder, max_length=64, output_dir=place / "model")
    with torch.no_grad():
        for parameter in trainer.model.classifier.parameters():
            torch.nn.init.normal_(parameter, std=0.7)  # finds spans everywhere
    trainer.save_model(place / "model")
    return Lab(place, encoder, place / "model", Search(CANARIES.values(), tokenizers["byte-bpe"]))


# Running -------------------------------------------------------------------------------------------------------------


@dataclass
class Watched:
    """What came of something, and where a word was found."""

    code: int = 0
    out: str = ""
    err: str = ""
    leaks: list[str] = field(default_factory=list)


@contextmanager
def descriptors(place: Path) -> Iterator[Callable[[], bytes]]:
    """What this process and those it starts write to the descriptors themselves."""
    target = place / "descriptors"
    saved = [os.dup(1), os.dup(2)]
    with target.open("wb") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        try:
            yield target.read_bytes
        finally:
            for number, old in enumerate(saved, start=1):
                os.dup2(old, number)
                os.close(old)


@contextmanager
def every_logger() -> Iterator[Any]:
    """Every logger at DEBUG, however much libraries and this project want to be quiet."""
    records, touched = Records(), [logging.getLogger()]
    touched += [one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    before = [(logger, logger.level) for logger in touched]
    with pytest.MonkeyPatch.context() as patch:
        for logger, _ in before:
            logger.level = logging.DEBUG
            if not logger.propagate or logger is logging.root:
                logger.addHandler(records)
        logging.root.setLevel(logging.DEBUG)  # which makes the others forget what they were asked before
        patch.setattr(logging.Logger, "setLevel", lambda *_: None)
        yield records
    for logger, level in before:
        logger.removeHandler(records)
        logger.level = level
    logging.root.setLevel(logging.root.level)


class Watch:
    """Does something in an empty home and folder, and searches all that it leaves.

    Args:
        search: The search.
        place: The folder.
        patch: Takes everything back in the end.
    """

    def __init__(self, search: Search, place: Path, patch: pytest.MonkeyPatch) -> None:
        self.search, self.place, self._patch = search, place, patch
        for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"):
            (place / "home" / name).mkdir(parents=True)
            patch.setenv(name, str(place / "home" / name))
        for name in ("HF_DEBUG", "TRANSFORMERS_VERBOSITY", "OMP_NUM_THREADS"):
            patch.setenv(name, {"TRANSFORMERS_VERBOSITY": "debug"}.get(name, "1"))
        patch.setattr(tempfile, "tempdir", str(place / "home" / "TMPDIR"))
        patch.chdir(place)

    def __call__(self, *arguments: Any, may_hold: Sequence[str] = ()) -> Watched:
        """Run a command.

        Args:
            arguments: Of the command line.
            may_hold: Files and folders of the place that may hold text.
        """
        self._patch.setattr(sys, "argv", ["cardioner", *map(str, arguments)])
        return self.do(cardioner.cli.main, may_hold=may_hold)

    def do(self, action: Callable[[], Any], *, may_hold: Sequence[str] = ()) -> Watched:
        done = Watched()
        errors: list[BaseException] = []
        out, err = io.StringIO(), io.StringIO()
        said = cardioner.cli.complain

        def spy(text: str) -> None:
            if isinstance(caught := sys.exc_info()[1], CardioNERError):  # others end here, and only their place is told
                errors.append(caught)
            said(text)

        self._patch.setattr(cardioner.cli, "complain", spy)
        with ExitStack() as stack:
            written = stack.enter_context(descriptors(self.place))
            records = stack.enter_context(every_logger())
            stack.enter_context(redirect_stdout(out))
            stack.enter_context(redirect_stderr(err))
            try:
                action()
            except SystemExit as end:
                done.code = int(end.code or 0)
            except BaseException as error:  # noqa: BLE001 - whatever is raised is searched
                errors.append(error)
                done.code = -1
            sys.stdout.flush()
        self._patch.setattr(cardioner.cli, "complain", said)
        done.out, done.err = out.getvalue(), err.getvalue()
        streams = {"stdout": done.out, "stderr": done.err, "descriptors": written()}
        done.leaks += [name for name, content in streams.items() if self.search.finds(content)]
        done.leaks += [line for line in records.said if self.search.finds(line)]
        done.leaks += [name for error in [*errors, *records.errors] for name in self.search.in_errors(error)]
        done.leaks += self.search.in_files(self.place, [self.place / name for name in may_hold])
        done.leaks += self.search.in_files(Path(os.environ["HF_HOME"]))
        return done


def raised(action: Callable[[], Any]) -> list[CardioNERError]:
    """The error that a call raises, if it does."""
    try:
        action()
    except CardioNERError as error:
        return [error]
    return []


def quoting(texts: Any, *_: Any, **__: Any) -> Any:
    """A library that fails and quotes what it was given."""
    raise ValueError(f"cannot read {texts!r}")


@pytest.fixture
def watch(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Runs something in an empty home and folder, and searches all that it leaves."""
    return Watch(lab.search, tmp_path, monkeypatch)
