"""Failures leave no word of a note either: not in what is printed, logged or written, nor in any error of a chain."""

from __future__ import annotations

import errno
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from leaks import CANARIES, Search
from watching import Lab, Watch, note, quoting, raised

from cardioner.cli.console import TRACEBACK
from cardioner.data.documents import Document
from cardioner.data.formats import read_corpus, write_corpus
from cardioner.data.labels import LabelSet
from cardioner.data.notes import NoteSource
from cardioner.errors import DataError, OutputError
from cardioner.multiclass.modeling import TokenClassificationModel
from cardioner.prediction import batch_job
from cardioner.prediction.engines import torch as torch_engine
from cardioner.prediction.predictor import Predictor
from cardioner.training import features
from cardioner.training.hf_trainer import SpanTrainer
from cardioner.training.sweep.process import Job, Problem, _work
from cardioner.training.sweep.trial import Parts, Trial

WORD, QUOTE = CANARIES["broken"], CANARIES["quote"]
HEADER = "filename\tlabel\tstart_span\tend_span\ttext\n"
TEXT = f"{WORD} and {WORD} {WORD} .\n"


def row(**values: Any) -> str:
    """A line of JSON lines, and one that is whole."""
    return json.dumps({"id": "a", "text": TEXT, "tags": [], **values}) + "\n" + json.dumps({"id": "b", "text": TEXT})


def tag(**values: Any) -> str:
    return row(tags=[{"start": 0, "end": 4, "tag": "X", **values}])


MALFORMED: dict[str, tuple[str, str | bytes]] = {
    # brat: the annotations of a.txt
    "quote that disagrees": ("a.ann", f"T1\tX 0 4\t{QUOTE}\n"),
    "quote that is one off": ("a.ann", f"T1\tX 1 11\t{WORD}\n"),
    "offsets behind the text": ("a.ann", f"T1\tX 0 9999\t{WORD}\n"),
    "offsets that are turned": ("a.ann", f"T1\tX 4 0\t{WORD}\n"),
    "offsets that are words": ("a.ann", f"T1\tX {WORD} {WORD}\t{WORD}\n"),
    "no offsets": ("a.ann", f"T1\t{WORD} {WORD}\n"),
    "no kind of line": ("a.ann", f"{WORD} {QUOTE}\n"),
    "spaces for tabs": ("a.ann", f"T1 X 0 4 {WORD}\n"),
    "fragments that overlap": ("a.ann", f"T1\tX 0 6;2 8\t{WORD}\n"),
    "annotations in another encoding": ("a.ann", f"T1\tX 0 10\t{WORD} ".encode() + b"\xff\xfe\n"),
    "note in another encoding": ("a.txt", f"{WORD} ".encode() + b"\xff\xfe " + WORD.encode()),
    "note with half of a pair": ("a.txt", TEXT.encode() + b"\xed\xa0\x80" + TEXT.encode()),
    "two problems": ("a.ann", f"T1\tX 0 4\t{QUOTE}\n{WORD}\nT2\tX 0 9999\t{WORD}\n"),
    # TSV: the table beside a.txt
    "no header": ("t.tsv", f"a\tX\t0\t10\t{WORD}\n{WORD}\t{QUOTE}\n"),
    "header that is prose": ("t.tsv", f"{WORD} {QUOTE}\n{WORD}\n"),
    "short row": ("t.tsv", f"{HEADER}a\tX\t{WORD}\n"),
    "broken row": ("t.tsv", f"{HEADER}a\tX\t0\t10\t{WORD}\n{WORD}\n{QUOTE} {WORD}\tx\n"),
    "offsets of a row that are words": ("t.tsv", f"{HEADER}a\tX\t{WORD}\t{QUOTE}\t{WORD}\n"),
    "mention that disagrees": ("t.tsv", f"{HEADER}a\tX\t0\t4\t{QUOTE}\n"),
    "row behind the text": ("t.tsv", f"{HEADER}a\tX\t0\t9999\t{WORD}\n"),
    "row without a note": ("t.tsv", f"{HEADER}b\tX\t0\t10\t{WORD}\na\tX\t0\t10\t{WORD}\n"),
    "row without a label": ("t.tsv", f"{HEADER}a\t\t0\t10\t{WORD}\n"),
    "quotation mark that is left open": ("t.tsv", f'{HEADER}a\tX\t0\t9999\t"{WORD}\n{QUOTE}\n'),
    "table in another encoding": ("t.tsv", HEADER.encode() + f"a\tX\t0\t10\t{WORD}".encode() + b"\xff\n"),
    # JSON lines
    "no JSON": ("n.jsonl", f"{WORD} {QUOTE}\n"),
    "JSON that is cut": ("n.jsonl", f'{{"id": "a", "text": "{WORD} {QUOTE}\n'),
    "a string": ("n.jsonl", f'"{WORD}"\n'),
    "a list": ("n.jsonl", f'["{WORD}"]\n'),
    "a key twice": ("n.jsonl", f'{{"{WORD}": 1, "{WORD}": 2, "text": "{WORD}"}}\n'),
    "a number that JSON lacks": ("n.jsonl", f'{{"text": "{WORD}", "tags": [NaN]}}\n'),
    "digits by the thousand": ("n.jsonl", f'{{"text": "{WORD}", "tags": [{{"start": {"1" * 5000}}}]}}\n'),
    "nesting": ("n.jsonl", f'{{"text": "{WORD}", "tags": {"[" * 100_000}\n'),
    "no text": ("n.jsonl", json.dumps({"id": "a", "note": TEXT})),
    "text that is a list": ("n.jsonl", row(text=[TEXT])),
    "text with half of a pair": ("n.jsonl", row(text=f"{TEXT}\ud800{TEXT}")),
    "id that is text in a list": ("n.jsonl", row(id=[TEXT])),
    "spans that are words": ("n.jsonl", row(tags=TEXT)),
    "a span that is a word": ("n.jsonl", row(tags=[TEXT])),
    "two lists of spans": ("n.jsonl", row(spans=[TEXT])),
    "a label in a list": ("n.jsonl", tag(tag=[WORD])),
    "a label with half of a pair": ("n.jsonl", tag(tag=f"{WORD}\ud800")),
    "two labels": ("n.jsonl", tag(label=WORD)),
    "offsets that are strings": ("n.jsonl", tag(start=WORD)),
    "a score that is a word": ("n.jsonl", tag(score=WORD)),
    "fragments that are words": ("n.jsonl", tag(fragments=[[WORD, QUOTE]])),
    "a span behind the text": ("n.jsonl", tag(end=9999)),
    "JSON in another encoding": ("n.jsonl", row().encode() + b"\xff\xfe"),
    "the same id twice": ("n.jsonl", json.dumps({"id": "a", "text": TEXT}) + "\n" + row()),
    # CoNLL
    "a word without a tag": ("n.conll", f"x\tO\n{WORD}\n"),
    "a tag that is a word": ("n.conll", f"x\tO\n{WORD}\t{QUOTE}\n"),
    "a column too many": ("n.conll", f"x\tO\n{WORD}\t{QUOTE}\tO\n"),
    "spaces among tabs": ("n.conll", f"x\tO\n{WORD} O\n"),
    "words in another encoding": ("n.conll", f"x\tO\n{WORD}".encode() + b"\xff\tO\n"),
}
"""The files that are wrong; of the folder formats, one of the folder."""


def place_of(name: str, folder: Path) -> Path:
    """Write a malformed corpus."""
    folder.mkdir(parents=True)
    file, content = MALFORMED[name]
    if file.startswith(("a.", "t.")):
        (folder / "a.txt").write_text(TEXT)
    if file == "a.txt":
        (folder / "a.ann").write_text(f"T1\tX 0 10\t{WORD}\n")
    (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder if file.startswith(("a.", "t.")) else folder / file


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_notes_are_told_without_a_word_of_them(
    name: str, lab: Lab, watch: Watch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = place_of(name, tmp_path_factory.mktemp("malformed") / "notes")
    for line in (
        ("check", place),
        ("split", place, "--output", "s.json"),
        ("convert", place, "o.conll"),
        ("evaluate", place, place, "--html", "e.html", "--ids-only"),
        ("train", "--train", place, "--backbone", lab.encoder, "--output", "m"),
    ):
        done = watch(*line)
        assert done.code == DataError.exit_code or line[0] == "evaluate", (line, done.err)
        assert done.leaks == []
    assert watch("convert", place, "o.jsonl", "--on-error", "skip", may_hold=["o.jsonl"]).leaks == []
    assert watch("predict", lab.model, place, "--output", "tagged", may_hold=["tagged", "o.jsonl"]).leaks == []


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_readers_raise_no_word_of_malformed_notes(name: str, on_error: str, tmp_path: Path) -> None:
    search, place = Search(CANARIES.values()), place_of(name, tmp_path / "notes")
    reading, reports, issues = [], [], []
    reading += raised(lambda: issues.extend(read_corpus(place, on_error=on_error).report.issues))
    assert reading or on_error == "skip"
    reading += raised(lambda: list(NoteSource((place,)).read(reports)))
    assert [found for error in reading for found in search.in_errors(error)] == []
    assert not search.finds(repr((issues, reports)))


# Commands ------------------------------------------------------------------------------------------------------------


def no_space(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


def fails_at(count: int, error: BaseException, real: Callable[..., Any]) -> Callable[..., Any]:
    """A function that works until it is called for so many times."""
    calls = iter(range(1, 10**6))

    def call(*arguments: Any, **named: Any) -> Any:
        if next(calls) == count:
            raise error
        return real(*arguments, **named)

    return call


def no_loss(_: Any, logits: Any, __: Any) -> Any:
    return logits.sum() * float("nan")


def told_ids(_: Any, __: Any, inputs: Any, **___: Any) -> Any:
    raise RuntimeError(f"cannot read {inputs['input_ids'].tolist()}")


TRAINING: dict[str, tuple[Any, str, Any, int]] = {
    "loss that is no number": (TokenClassificationModel, "loss", no_loss, 6),
    "tokenizer": (features, "encode_notes", lambda _, texts: quoting(texts), 3),
    "encoder": (SpanTrainer, "compute_loss", told_ids, 1),
    "scoring": (torch_engine, "tag_texts", lambda _, __, texts, **___: quoting(texts), 6),
    "full disk": (TokenClassificationModel, "save_pretrained", no_space, 5),
}
"""What fails, and the exit code."""


@pytest.mark.parametrize("failure", TRAINING)
def test_a_training_that_fails_leaves_no_word(failure: str, lab: Lab, watch: Watch, monkeypatch: Any) -> None:
    owner, name, failing, code = TRAINING[failure]
    monkeypatch.setattr(owner, name, failing)
    done = watch("train", *lab.parts(), "--output", "m")
    assert (done.code, done.leaks) == (code, []), done.err
    assert "Traceback" not in done.err


def test_a_training_that_is_interrupted_and_gone_on_with_leaves_no_word(
    lab: Lab, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("train", *lab.parts(), "--crf", "--epochs", "2", "--checkpoint-steps", "1", "--output", "m")
    with monkeypatch.context() as patch:
        real = TokenClassificationModel.forward
        patch.setattr(TokenClassificationModel, "forward", fails_at(9, KeyboardInterrupt(), real))
        done = watch(*command)
    assert (done.code, done.leaks) == (130, []), done.err
    assert list((watch.place / "m" / "checkpoints").glob("checkpoint-*"))
    done = watch(*command, "--resume")
    assert (done.code, done.leaks) == (0, []), done.err


def test_training_notes_that_do_not_fit_are_told_without_a_word(lab: Lab, watch: Watch, tmp_path_factory: Any) -> None:
    place = tmp_path_factory.mktemp("odd")
    write_corpus([note("d1", labels=("FINDING", "DISEASE", "DRUG"))], place / "dev")
    write_corpus([Document("t1", note("t1").text)], place / "bare")
    (place / "note.txt").write_text(note("t1").text)
    for line, code in (
        (("train", *lab.parts(), "--eval", place / "dev", "--output", "m"), 3),
        (("train", "--train", place / "bare", "--eval", lab.notes / "dev", "--output", "m"), 3),
        (("train", *lab.parts(), "--map", "DRUG=", "--eval", lab.notes / "dev", "--test", place / "dev"), 2),
        (("train", *lab.parts(), "--config", place / "note.txt", "--output", "m"), 2),
        (("train", "--corpus", lab.notes / "train", "--splits", place / "note.txt", "--output", "m"), 3),
        (("predict", place / "note.txt", lab.notes / "dev", "--output", "o"), 4),
        (("inspect", place / "note.txt"), 4),
        (("evaluate", lab.notes / "dev", place / "bare"), 3),
        (("compare", lab.notes / "train", place / "bare", "--gold", lab.notes / "dev"), 3),
    ):
        done = watch(*line)
        assert (done.code, done.leaks) == (code, []), (line, done.err)


def test_notes_that_cannot_be_tagged_are_told_without_a_word(lab: Lab, watch: Watch, monkeypatch: Any) -> None:
    real = torch_engine.tag_texts

    def some(model: Any, tokenizer: Any, texts: Any, **named: Any) -> Any:
        return quoting(texts) if any(" d2 " in text for text in texts) else real(model, tokenizer, texts, **named)

    monkeypatch.setattr(torch_engine, "tag_texts", some)
    done = watch("predict", lab.model, lab.notes / "dev", "--output", "tagged", may_hold=["tagged"])
    assert (done.code, done.leaks) == (3, []), done.err
    assert "not tagged: d2" in done.err
    monkeypatch.setattr(torch_engine, "tag_texts", lambda _, __, texts, **___: quoting(texts))
    done = watch("predict", lab.model, lab.notes / "train", "--output", "other", may_hold=["tagged"])
    assert (done.code, done.leaks) == (3, []), done.err


@pytest.mark.parametrize(
    ("owner", "name", "error"),
    [
        (Predictor, "_tag", KeyboardInterrupt()),
        (batch_job, "_move", KeyboardInterrupt()),
        (batch_job, "_move", OSError(errno.ENOSPC, "No space left on device")),
    ],
)
def test_what_is_left_of_a_tagging_that_is_cut_off_holds_no_word(
    owner: Any, name: str, error: BaseException, lab: Lab, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("predict", lab.model, lab.notes / "dev", "--output", "tagged")
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fails_at(1, error, getattr(owner, name)))
        done = watch(*command)
    assert done.leaks == []
    left = {path.name: path.stat().st_size for path in (watch.place / "tagged.partial").iterdir()}
    assert left.pop("moving", 0) == 0, "it only marks that the output was being moved"
    assert [*left] == ["resume.sqlite"]
    done = watch(*command, "--resume", may_hold=["tagged"])
    assert (done.code, done.leaks) == (0, []), done.err


@pytest.mark.parametrize("content", [f"{WORD} ".encode() + b"\xff", f'{{"text": "{WORD}'.encode(), b"", b'{"a": 1}\n'])
def test_standard_input_is_refused_without_a_word(content: bytes, lab: Lab, watch: Watch, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    done = watch("predict", lab.model, "-", "--output", "tagged", may_hold=["tagged"])
    assert done.leaks == []


def test_a_conversion_that_fails_leaves_nothing(lab: Lab, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "replace", no_space)
    monkeypatch.setattr(Path, "rename", no_space)
    for form in ("brat", "tsv", "jsonl", "conll", "datasets"):
        done = watch("convert", lab.notes / "train", f"to-{form}", "--to", form)
        assert (done.code, done.leaks) == (OutputError.exit_code, []), done.err


def test_an_ablation_tells_of_a_recipe_that_fails_without_a_word(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: list[Any] = []

    class Pipe:
        send = told.append

    train = read_corpus(lab.notes / "train").documents
    labels = LabelSet.from_types(("SYMPTOM", "DISEASE", "DRUG"))
    trial = Trial(name="simple", labels=labels, parts=Parts(train), arguments={"model": str(lab.encoder)})
    job = Job(trial=trial, folder=tmp_path, held_out=train, decoders=("argmax",))
    for owner, name, failing, _ in (TRAINING["tokenizer"], TRAINING["encoder"]):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, failing)
            _work(job, Pipe)  # type: ignore[arg-type]
    problems = [one for one in told if isinstance(one, Problem)]
    assert len(problems) == 2
    assert not any(lab.search.finds(repr(one)) for one in told)


def test_all_that_a_library_says_is_shown_to_who_asks_for_it(lab: Lab, watch: Watch, monkeypatch: Any) -> None:
    monkeypatch.setattr(SpanTrainer, "compute_loss", told_ids)
    monkeypatch.setenv(TRACEBACK, "1")
    assert "RuntimeError" in watch("train", *lab.parts(), "--output", "m").leaks
