"""Notes leave no word anywhere but where it is asked for: the search finds planted words, and commands leave none.

Everything that a run prints, logs, raises or writes is searched. What may hold text is listed with each run. Failures
are in `test_privacy_of_failures.py`.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import logging
import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from leaks import CANARIES, Records
from safetensors.torch import save_file
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from watching import Lab, Watch, note

from cardioner.cli import app
from cardioner.errors import DataError
from cardioner.multiclass.encoding import encode_notes
from cardioner.multiclass.windows import cut
from cardioner.training.sweep import ablation, process

# The search ----------------------------------------------------------------------------------------------------------

WORD = CANARIES["not ASCII"]


def packed(write: Callable[[io.BytesIO], None]) -> bytes:
    content = io.BytesIO()
    write(content)
    return content.getvalue()


def zipped(content: bytes) -> bytes:
    def write(target: io.BytesIO) -> None:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("inner.bin", content)

    return packed(write)


def event(word: str) -> bytes:
    """An event file of TensorBoard."""
    content = Event(summary=Summary(value=[Summary.Value(tag=word, simple_value=1.0)])).SerializeToString()
    return packed(lambda target: RecordWriter(target).write(content))


CONTAINERS: dict[str, Callable[[str], bytes]] = {
    "plain": lambda word: f"a {word} b".encode(),
    "upper case": lambda word: f"a {word.upper()} b".encode(),
    "cut": lambda word: f"a {word[:-4]}".encode(),
    "UTF-16": lambda word: f"a {word} b".encode("utf-16"),
    "UTF-32": lambda word: f"a {word} b".encode("utf-32-be"),
    "JSON": lambda word: json.dumps({"a": word}).encode(),
    "repr": lambda word: ascii(word).encode() + repr(word.encode()).encode(),
    "hexadecimal": lambda word: word.encode().hex().encode(),
    "base64": lambda word: base64.b64encode(f"a{word}b".encode()),
    "base64, one further": lambda word: base64.b64encode(f"ab{word}".encode()),
    "base64, two further": lambda word: base64.b64encode(f"abc{word}".encode()),
    "gzip": lambda word: gzip.compress(f"a {word} b".encode()),
    "gzip in base64 in a page": lambda word: b"<p>" + base64.b64encode(gzip.compress(f"a {word} b".encode() * 9)),
    "zip in zip": lambda word: zipped(zipped(word.encode())),
    "pickle of torch": lambda word: packed(lambda target: torch.save({"note": word}, target)),
    "event of TensorBoard": event,
    "HTML": lambda word: "".join(f"&#{ord(one)};" for one in word).encode(),
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("word", CANARIES)
def test_the_search_finds_every_word_in_every_container(container: str, word: str, lab: Lab, tmp_path: Path) -> None:
    content = CONTAINERS[container]
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_bytes(content(CANARIES[word]))
    assert lab.search.in_files(tmp_path) == [str(tmp_path / "sub" / "file")]
    assert lab.search.in_files(tmp_path, [tmp_path / "sub"]) == []
    (tmp_path / "sub" / "file").write_bytes(content("bisoprolol"))
    assert lab.search.in_files(tmp_path) == []


@pytest.mark.parametrize("word", CANARIES)
def test_the_search_finds_the_sub_tokens_of_every_word(
    word: str, lab: Lab, tokenizers: dict[str, Any], tmp_path: Path
) -> None:
    ids = tokenizers["byte-bpe"](f"seen {CANARIES[word]} today")["input_ids"]
    np.savez(tmp_path / "a.npz", ids=np.array(ids))
    save_file({"ids": torch.tensor(ids, dtype=torch.int32)}, tmp_path / "b.safetensors")
    torch.save(torch.tensor(ids), tmp_path / "c.pt")
    (tmp_path / "d.json").write_text(json.dumps(ids))
    (tmp_path / "e.txt").write_text(str(tokenizers["byte-bpe"].convert_ids_to_tokens(ids)))
    (tmp_path / CANARIES[word]).touch()
    assert len(lab.search.in_files(tmp_path)) == 6


def test_the_search_finds_words_in_errors_that_are_hidden_and_in_records(lab: Lab) -> None:
    def fail() -> None:
        try:
            f"{WORD}\ud800".encode()
        except UnicodeEncodeError:
            raise DataError("nothing to see") from None

    with pytest.raises(DataError) as caught:
        fail()
    assert lab.search.in_errors(caught.value) == ["UnicodeEncodeError"]
    records = Records()
    records.handle(logging.makeLogRecord({"msg": "read %s", "args": (WORD,)}))
    assert lab.search.finds(records.said[0])


def test_a_border_of_windows_cuts_the_word_that_is_to_be_cut(tokenizers: dict[str, Any]) -> None:
    document = note("t0")
    (encoded,) = encode_notes(tokenizers["byte-bpe"], [document.text])
    borders = [encoded.offsets[one.own_start][0] for one in cut(len(encoded.ids), length=62, context=2, special=2)[1:]]
    word = len(CANARIES["cut"])
    starts = [start for start in range(len(document.text)) if document.text[start : start + word] == CANARIES["cut"]]
    assert any(start + 4 < border < start + word - 4 for border in borders for start in starts)


# Success -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Commands, one after the other, in the same folder.

    Attributes:
        lines: What makes the command lines of it.
        may_hold: Files and folders that may hold text, and why.
    """

    lines: Callable[[Lab], Sequence[Sequence[Any]]]
    may_hold: dict[str, str] = field(default_factory=dict)


NOTES = "it is the notes"
CASES = {
    "check": Case(
        lambda lab: [
            ("check", lab.notes / "train", lab.notes / "dev"),
            *(("check", lab.notes / name, "--json") for name in ("tsv", "n.jsonl", "n.conll", "datasets")),
            ("check", lab.notes / "train", "--backbone", lab.encoder, "--html", "c.html", "--ids-only"),
        ]
    ),
    "check, page with text": Case(
        lambda lab: [("check", lab.notes / "train", "--html", "c.html")], {"c.html": "asked for without --ids-only"}
    ),
    "split": Case(
        lambda lab: [
            ("split", lab.notes / "train", "--output", "s.json", "--ratios", "34,33,33"),
            ("split", lab.notes / "train", "--output", "folds", "--folds", "2"),
            ("split", lab.notes / "train", "--output", "o.json", "--older", "en", "--ratios", "34,33,33"),
        ]
    ),
    "convert": Case(
        lambda lab: [
            ("convert", lab.notes / source, f"to-{target}", "--to", target)
            for source, target in (
                *(("train", "tsv"), ("tsv", "jsonl"), ("n.jsonl", "conll"), ("n.conll", "datasets")),
                *(("datasets", "brat"), ("train", "docbin")),
            )
        ],
        {f"to-{target}": NOTES for target in ("brat", "tsv", "jsonl", "conll", "datasets", "docbin")},
    ),
    "train with TensorBoard": Case(
        lambda lab: [
            ("train", *lab.parts(), "--output", "m", "--tracking", "tensorboard", "--html", "t.html", "--json"),
        ]
    ),
    "train with MLflow": Case(
        lambda lab: [
            (*("train", *lab.parts(), "--output", "m", "--tracking", "mlflow", "--crf", "--checkpoint-steps", "1"),),
            ("inspect", "m"),
        ]
    ),
    "train with early stopping": Case(
        lambda lab: [
            ("train", *lab.parts(), "--epochs", "3", "--early-stopping", "1", "--output", "m", "--also-bin"),
        ]
    ),
    "folds": Case(
        lambda lab: [
            ("train", *lab.parts()[:2], *lab.parts()[4:], "--folds", "2", "--output", "folds"),
            ("predict", "folds", lab.notes / "dev", "--output", "tagged"),
        ],
        {"tagged": NOTES},
    ),
    "predict": Case(
        lambda lab: (
            [
                ("predict", lab.model, lab.notes / "dev", "--output", name)
                for name in ("tagged", "t.tsv", "t.jsonl", "t.conll")
            ]
            + [
                (
                    "predict",
                    lab.model,
                    lab.notes / "dev",
                    "--ensemble",
                    lab.model,
                    "--vote",
                    "score",
                    "--output",
                    "vote",
                ),
            ]
        ),
        {
            **dict.fromkeys(("tagged", "t.jsonl", "t.conll", "vote"), NOTES),
            "t.tsv": "its last column is the mention",
        },
    ),
    "evaluate": Case(
        lambda lab: [
            ("predict", lab.model, lab.notes / "dev", "--output", "tagged"),
            ("evaluate", lab.notes / "dev", "tagged", "--train", lab.notes / "train", "--official", "multicardioner"),
            ("evaluate", lab.notes / "dev", "tagged", "--json", "--bootstrap", "9", "--train", lab.notes / "train"),
            ("evaluate", lab.notes / "dev", "tagged", "--html", "e.html", "--ids-only"),
            ("evaluate", lab.notes / "dev", "tagged", "--html", "text.html"),
            ("compare", "tagged", lab.notes / "dev", "--gold", lab.notes / "dev", "--bootstrap", "9"),
            ("compare", "tagged", "tagged", "--gold", lab.notes / "dev", "--bootstrap", "9", "--json"),
        ],
        {"tagged": NOTES, "text.html": "asked for without --ids-only"},
    ),
    "ablate": Case(
        lambda lab: [
            ("ablate", *lab.parts(), "--recipes", "simple", "--bootstrap", "9", "--output", "recipes"),
        ]
    ),
    "adapt": Case(
        lambda lab: [
            (
                *("adapt", lab.notes / "train", "--output", "encoder", "--backbone", lab.encoder, "--epochs", "1"),
                *("--log-file", "adapt.log"),
            ),
            ("adapt", lab.notes / "n.jsonl", "--output", "other", "--backbone", lab.encoder, "--epochs", "1", "--json"),
        ]
    ),
    "merge": Case(
        lambda lab: [
            (
                "merge",
                lab.model,
                shutil.copytree(lab.model, lab.model.with_name("copy"), dirs_exist_ok=True),
                "--eval",
                lab.notes / "dev",
                "--output",
                "m",
                "--log-file",
                "merge.log",
            ),
        ]
    ),
    "select": Case(
        lambda lab: [
            (
                "select",
                lab.notes / "dev",
                "--model",
                lab.model,
                "--annotated",
                lab.notes / "train",
                "--output",
                "order",
            ),
        ]
    ),
    "distill": Case(
        lambda lab: [
            (
                "distill",
                lab.model,
                *lab.parts(),
                "--unlabelled",
                lab.notes / "n.jsonl",
                "--layers",
                "1",
                "--output",
                "m",
            ),
        ]
    ),
    "model": Case(
        lambda lab: [
            *(("inspect", lab.model), ("inspect", lab.model, "--json"), ("export", "hub", lab.model, "hub")),
            ("export", "onnx", lab.model, "onnx", "--check", lab.notes / "dev"),
        ]
    ),
}


WITHOUT_NOTES = {"upgrade", "verify", "sign", "serve", "push", "pull"}
"""Commands that take a model alone; what is in one is searched behind every training. Requests to a server are searched
in `tests/unit/server`."""


def test_every_command_that_takes_notes_is_run(lab: Lab) -> None:
    run = {line[0] for case in CASES.values() for line in case.lines(lab)}
    assert {command.callback.__name__ for command in app.registered_commands} - WITHOUT_NOTES <= run


def work_here(job: process.Job, receive: Callable[[process.Message], None]) -> None:
    """Do in this process, which is watched, what an ablation does in one of its own."""

    class Pipe:
        send = staticmethod(receive)

    process._work(job, Pipe())  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CASES)
def test_no_word_is_left_but_where_it_is_asked_for(
    name: str, lab: Lab, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    monkeypatch.setattr(ablation, "run_apart", work_here)
    for line in case.lines(lab):
        done = watch(*line, may_hold=case.may_hold)
        assert done.code == 0, done.err
        assert done.leaks == []
    for place in case.may_hold:  # else the list would be longer than it need be
        others = [other for other in watch.place.iterdir() if other.name != place]
        assert lab.search.in_files(watch.place, others), place


def test_a_model_directory_holds_no_word_and_its_tokenizer_learned_none(lab: Lab) -> None:
    assert lab.search.in_files(lab.model) == []
    assert (lab.model / "tokenizer.json").read_bytes() == (lab.encoder / "tokenizer.json").read_bytes()
