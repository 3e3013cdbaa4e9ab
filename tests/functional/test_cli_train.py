"""`cardioner train`, from a folder of notes to a directory."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from cardioner.data.documents import Document, Span
from cardioner.errors import ModelError, OutputError
from cardioner.evaluation.pairing import Pair
from cardioner.model_dir.load import enter, read_model_dir
from cardioner.training.checkpoints import last_checkpoint
from cardioner.training.trainer import ModelTrainer


def test_folders_train_to_a_directory_with_every_option_in_it(
    train: Callable[..., Any], corpus: Path, tmp_path: Path
) -> None:
    done = train(
        *("--test", corpus / "dev", "--crf", "--hidden-layers", "12,8", "--classifier-dropout", "0.2"),
        *("--freeze-backbone", "--class-weights", "balanced", "--seed", "7", "--also-bin", "--tracking", "tensorboard"),
        *("--gradient-accumulation", "2", "--weight-decay", "0.05"),
    )
    assert (done.code, done.out) == (0, "")
    for told in ("Training a tagger for DISEASE, DRUG, SYMPTOM", "Newly initialised", "Test notes", "micro", "Model: "):
        assert told in done.err
    assert ("scores of spans are not calibrated" in done.err, "fitted to" in done.err) == (True, False)
    _, _, config = read_model_dir(tmp_path / "model", device="cpu")
    assert (config.use_crf, config.classifier_hidden_layers, config.classifier_dropout) == (True, [12, 8], 0.2)
    assert (config.freeze_backbone, config.window_length) == (True, 64)
    assert len(config.class_weights) == 7
    record = json.loads((tmp_path / "model" / "training_args.json").read_text())
    assert (record["gradient_accumulation_steps"], record["weight_decay"]) == (2, 0.05)
    assert record["options"]["seed"] == 7
    assert (tmp_path / "model" / "pytorch_model.bin").is_file()
    assert list((tmp_path / "model" / "logs").iterdir())


def test_every_option_of_training_reaches_the_record(train: Callable[..., Any], tmp_path: Path) -> None:
    wishes = {
        "window-context": 3,
        "training-context": 5,
        "seed": 2,
        "warmup": 0.25,
        "schedule": "constant",
        "head-learning-rate": 0.004,
        "crf-learning-rate": 0.02,
        "layer-decay": 0.8,
        "unfreeze-per-epoch": 1,
        "early-stopping": 2,
        "attention-dropout": 0.05,
        "label-smoothing": 0.05,
        "max-gradient-norm": 0.5,
        "attribute-weight": 2.0,
        "precision": "float32",
        "device": "cpu",
        "checkpoint-steps": 7,
        "tracking": "none",
        "language": "nl",
        "license": "apache-2.0",
        "data-name": "discharge letters",
        "data-license": "not to be passed on",
        "layers": 1,
    }
    done = train(
        *(str(part) for name, value in wishes.items() for part in (f"--{name}", value)),
        "--also-bin",
        "--list-documents",
    )
    assert done.code == 0, done.err
    options = json.loads((tmp_path / "model" / "training_args.json").read_text())["options"]
    switched = {"also_bin": True, "list_documents": True, "attributes_only": False}
    assert options == {**{name.replace("-", "_"): value for name, value in wishes.items()}, **switched}


def test_attributes_are_learned_shown_and_recorded(
    train: Callable[..., Any],
    run: Callable[..., Any],
    make_note: Callable[..., Document],
    write_notes: Callable[..., Path],
    tmp_path: Path,
) -> None:
    def saying(name: str, **said: Any) -> Document:
        note = make_note(name, ("chest pain", "SYMPTOM"), ("syncope", "SYMPTOM"))
        return note.with_spans(replace(span, attributes=said) for span in note.spans)

    notes = [saying("a", Negation=True), saying("b", Certainty="possible"), saying("c")]
    folder = write_notes(tmp_path / "notes", notes)
    folders = ("--train", folder, "--eval", folder, "--test", folder)
    done = train("--attributes", "all", folders=folders)
    assert done.code == 0, done.err
    assert "Attributes to learn: Certainty (possible); Negation (present or absent)" in done.err
    assert done.err.count("Attributes of strictly matched spans, and end to end") == 2
    known = {"Certainty": [None, "possible"], "Negation": [None, True]}
    assert read_model_dir(tmp_path / "model", device="cpu").config.attributes == known
    record = json.loads((tmp_path / "model" / "training_args.json").read_text())
    assert record["attributes"] == known
    assert record["scores"]["test"]["attributes"]["per_attribute"].keys() == known.keys()
    assert "It says of each: Certainty (possible); Negation." in (tmp_path / "model" / "README.md").read_text()
    assert json.loads(run("inspect", tmp_path / "model", "--json").out)["facts"]["attributes"] == known
    rows = [line.strip("│ ").rpartition("│")[2].strip() for line in run("inspect", tmp_path / "model").out.splitlines()]
    assert {"Certainty none, possible", "Negation none, yes"} <= set(rows)

    again = train(*("--config", tmp_path / "model" / "training_args.json"), folders=folders, output=tmp_path / "again")
    assert again.code == 0, again.err
    assert read_model_dir(tmp_path / "again", device="cpu").config.attributes == known
    lone = train("--attributes", "Negation", "--attributes-only", folders=folders, output=tmp_path / "lone")
    assert (lone.code, lone.error.count("\n")) == (2, 0)
    assert "is an encoder alone" in lone.error
    tags = train("--attributes-only", "--scheme", "BIOES", folders=folders, output=tmp_path / "lone")
    assert (tags.code, tags.error.count("\n")) == (2, 0)
    assert "leave out --scheme and --overlap" in tags.error
    wrong = train("--attributes", "Negation,Tense", folders=folders, output=tmp_path / "wrong")
    assert wrong.code != 0
    assert "no span of the training notes has the attribute 'Tense'; found 'Certainty', 'Negation'" in wrong.error
    quoted = train("--attributes", '"all", "time, place"', folders=folders, output=tmp_path / "quoted")
    assert "no span of the training notes has the attribute 'all', 'time, place'" in quoted.error
    unclosed = train("--attributes", '"Negation,Certainty', folders=folders, output=tmp_path / "quoted")
    assert (unclosed.code, "expected quotes around the whole of a name" in unclosed.error) == (2, True)


def test_json_is_the_record_alone(train: Callable[..., Any], tmp_path: Path) -> None:
    done = train("--json")
    assert done.json == json.loads((tmp_path / "model" / "training_args.json").read_text())


def test_a_page_of_the_training_is_written_beside_it(train: Callable[..., Any], tmp_path: Path) -> None:
    page = tmp_path / "training.html"
    done = train("--html", page)
    assert done.code == 0, done.err
    assert f"Page: {page}" in done.err
    assert "<svg" in page.read_text(encoding="utf-8") or "<img" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "code"), [("page.txt", 2), ("old.html", 5), ("train/page.html", 2)])
def test_a_page_that_could_not_be_written_is_refused_before_training(
    name: str, code: int, train: Callable[..., Any], corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "old.html").write_text("mine")
    place = corpus / name if "/" in name else tmp_path / name
    done = train("--html", place)
    assert done.code == code
    assert str(place) in done.error
    assert not (tmp_path / "model").exists()
    assert (tmp_path / "old.html").read_text() == "mine"


def test_resuming_what_is_finished_does_nothing_and_is_no_error(train: Callable[..., Any], tmp_path: Path) -> None:
    assert train("--resume").code == 0
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "model").iterdir()}
    done = train("--resume", "--json")
    assert done.code == 0
    assert "is finished: there is nothing left to do" in done.err
    assert done.json == json.loads((tmp_path / "model" / "training_args.json").read_text())
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "model").iterdir()} == before


def test_only_the_first_of_several_processes_speaks(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ModelTrainer, "train", lambda *_, **__: pytest.fail("no training"))
    monkeypatch.setenv("RANK", "1")
    done = train(folders=("--train", tmp_path / "none"))
    assert [line for line in done.err.splitlines() if line] == [done.error]


def test_a_splits_file_divides_one_corpus(train: Callable[..., Any], corpus: Path, tmp_path: Path) -> None:
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps({"train": ["t1", "t2"], "validation": ["t3"]}))
    done = train(folders=("--corpus", corpus / "train", "--splits", splits), output=tmp_path / "m")
    assert done.code == 3  # t3 has a type that the training part has not
    assert "DRUG (1)" in done.error
    splits.write_text(json.dumps({"train": ["t1", "t3"], "validation": ["t2"]}))
    done = train(folders=("--corpus", corpus / "train", "--splits", splits), output=tmp_path / "m")
    assert done.code == 0
    assert "1 of 4 notes are in no part" in done.err


def test_bioes_tags_train_and_predict(
    train: Callable[..., Any], run: Callable[..., Any], corpus: Path, tmp_path: Path
) -> None:
    assert train("--scheme", "bioes", "--crf", "--map", "DRUG=", "--map", "SYMPTOM=").code == 0
    _, _, config = read_model_dir(tmp_path / "model", device="cpu")
    assert config.tags == ["O", "B-DISEASE", "I-DISEASE", "E-DISEASE", "S-DISEASE"]
    assert run("predict", tmp_path / "model", corpus / "dev", "--output", tmp_path / "out").code == 0
    assert run("evaluate", corpus / "dev", tmp_path / "out", "--map", "DRUG=", "--map", "SYMPTOM=").code == 0


def test_map_renames_and_drops_types(train: Callable[..., Any], tmp_path: Path) -> None:
    assert train("--map", "DRUG=MEDICATION", "--map", "SYMPTOM=").code == 0
    _, _, config = read_model_dir(tmp_path / "model", device="cpu")
    assert config.tags == ["O", "B-DISEASE", "I-DISEASE", "B-MEDICATION", "I-MEDICATION"]


def test_an_earlier_model_directory_is_taken_over_and_reported(train: Callable[..., Any], saved: Path) -> None:
    done = train("--backbone", saved, "--hidden-layers", "8", "--crf")
    assert done.code == 0
    assert "Reused besides the encoder: classifier.0.weight" in done.err
    assert "Newly initialised: nothing" in done.err


def test_a_directory_that_holds_a_model_is_only_replaced_on_request(train: Callable[..., Any], tmp_path: Path) -> None:
    assert train().code == 0
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    refused = train("--seed", "3")
    assert refused.code == 5
    assert "--overwrite" in refused.error
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before
    assert train("--seed", "3", "--overwrite").code == 0
    assert (tmp_path / "model" / "model.safetensors").read_bytes() != before


def test_overlapping_spans_are_counted_in_one_table(
    train: Callable[..., Any], tmp_path: Path, write_notes: Callable[..., Path], make_note: Callable[..., Document]
) -> None:
    base = make_note("a", ("severe chest pain", "SYMPTOM"))
    (span,) = base.spans
    inner = [Span(span.start + 7, span.end, label) for label in ("SYMPTOM", "DISEASE")]
    notes = write_notes(tmp_path / "notes", [base.with_spans([span, *inner])])
    done = train("--overlap", "flat", folders=("--train", notes))
    assert done.code == 0
    assert done.err.count("Spans that the tags cannot represent") == 1
    rows = [line.split() for line in done.err.splitlines() if "nested" in line]
    assert [[cell for cell in row if cell.isalnum()] for row in rows] == [
        ["nested", "DISEASE", "1"],
        ["nested", "SYMPTOM", "1"],
    ]


@pytest.mark.parametrize("epochs", [0, 2])
def test_an_interruption_says_where_the_last_whole_checkpoint_is(
    epochs: int, train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = ModelTrainer._tag, []

    def tag(self: ModelTrainer, data: Any) -> Any:
        calls.append(data)
        if len(calls) > epochs:
            raise KeyboardInterrupt
        return original(self, data)

    monkeypatch.setattr(ModelTrainer, "_tag", tag)
    done = train("--epochs", "5")
    assert (done.code, done.out) == (130, "")
    told = next(line for line in done.err.splitlines() if line.startswith("Interrupted"))
    if epochs:
        enter(Path(told.partition("checkpoint is ")[2]))
    else:
        assert told == "Interrupted: no checkpoint was finished"
    assert ("--resume" in done.err) == bool(epochs)
    assert not (tmp_path / "model" / "config.json").exists()


INTERRUPTIBLE = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a test run in the background would take away
runpy.run_module("cardioner", run_name="__main__")
"""


def test_a_real_interrupt_signal_ends_a_real_process_cleanly(
    corpus: Path, encoder_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    model = tmp_path / "model"
    command = [
        *(
            sys.executable,
            "-c",
            INTERRUPTIBLE,
            "train",
            "--train",
            str(corpus / "train"),
            "--eval",
            str(corpus / "dev"),
        ),
        *("--backbone", str(encoder_dir("bert")), "--output", str(model), "--epochs", "100000", "--device", "cpu"),
        *("--max-length", "64"),
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ},
        text=True,
    )
    limit = time.monotonic() + 60
    while last_checkpoint(model) is None and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    enter(Path(err.partition("the last whole checkpoint is ")[2].partition("\n")[0].strip()))


def test_held_out_notes_that_are_also_learned_from_are_told(
    run: Callable[..., Any], corpus: Path, encoder_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    part = corpus / "train"
    arguments = ("--train", part, "--eval", part, "--backbone", encoder_dir("bert"), "--epochs", "1")
    done = run("train", *arguments, "--output", tmp_path / "model")
    assert done.code == 0
    assert "evaluation notes have the same text as a training note" in done.err


def test_without_a_terminal_lines_say_how_far_training_is_and_a_log_file_gets_them_with_the_time(
    train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cardioner._progress.EVERY", 0.0)
    log = tmp_path / "train.log"
    log.write_text("before\n")
    done = train("--epochs", "2", "--log-file", log)
    assert done.code == 0
    shown, logged = done.err.splitlines(), log.read_text().splitlines()
    steps = [line for line in shown if line.startswith("training: ")]
    assert len(steps) > 1
    for line in steps:
        assert re.fullmatch(r"training: \d of \d steps, loss \d\.\d{4}(, [\d.]+ steps/s, \d:\d\d:\d\d left)?", line)
    assert logged[0] == "before"
    without_time = [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", "", line) for line in logged[1:]]
    assert without_time == shown


def test_errors_are_in_the_log_file_too(train: Callable[..., Any], tmp_path: Path) -> None:
    done = train("--backbone", tmp_path / "nowhere", "--log-file", tmp_path / "train.log")
    assert done.error in (tmp_path / "train.log").read_text()


def test_a_log_file_that_cannot_be_written_is_refused(train: Callable[..., Any], tmp_path: Path) -> None:
    done = train("--log-file", tmp_path / "nowhere" / "train.log")
    assert done.code == OutputError.exit_code
    assert done.error == f"error: {tmp_path / 'nowhere' / 'train.log'} cannot be written: No such file or directory"


def test_a_model_that_finds_nothing_is_named_so_wherever_it_is_described(
    train: Callable[..., Any], run: Callable[..., Any], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tag(_: Any, __: Any, data: Any, **___: Any) -> list[Pair]:
        return [Pair(note, note.with_spans(())) for note in data.documents]

    monkeypatch.setattr("cardioner.training.trainer.tag_dataset", tag)
    done, model = train(), tmp_path / "model"
    predicted = run("predict", model, corpus / "dev", "--output", tmp_path / "tagged")
    described = run("inspect", model)
    verified = run("verify", model)
    record, card = ((model / name).read_text() for name in ("training_args.json", "README.md"))
    said = (done.err, predicted.err, described.out, verified.err, record, card)
    assert ["finds nothing" in text for text in said] == [True] * len(said)
    assert ["too few mentions" in text for text in said] == [True] * len(said)
    assert "is sound" in verified.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--max-length", "20"), "max_length 20 is too short: windows share 16 sub-tokens .*, so the minimum is 40"),
        (("--class-weights", "B-X=2"), "class_weights names B-X; the model's tags are O, B-DISEASE"),
        (("--backbone", "no/such/encoder"), "there is no folder no/such/encoder: expected an encoder's folder, or a"),
    ],
)
def test_arguments_that_cannot_work_are_refused_in_plain_words(
    arguments: tuple[str, ...], said: str, train: Callable[..., Any]
) -> None:
    assert re.search(said, train(*arguments).error)


def spoilt(weights: dict[str, torch.Tensor], _: dict[str, Any]) -> None:
    """Weights that are no numbers."""
    name = next(name for name in weights if name.endswith("word_embeddings.weight"))
    weights[name][3] = torch.nan


def inflated(_: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
    """More layers than the weights have, or any machine can hold."""
    config["num_hidden_layers"] = 10_000_000


@pytest.mark.parametrize(("change", "said"), [(spoilt, "finite"), (inflated, "num_hidden_layers|layers")])
def test_an_encoder_that_cannot_be_trained_is_refused_before_training(
    change: Callable[..., None],
    said: str,
    train: Callable[..., Any],
    encoder_dir: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    encoder = tmp_path / "encoder"
    shutil.copytree(encoder_dir("bert"), encoder)
    weights, config = load_file(encoder / "model.safetensors"), json.loads((encoder / "config.json").read_text())
    change(weights, config)
    save_file(weights, encoder / "model.safetensors", metadata={"format": "pt"})
    (encoder / "config.json").write_text(json.dumps(config))
    done = train("--backbone", encoder)
    assert done.code == ModelError.exit_code
    assert re.search(said, done.error)
    assert str(encoder) in done.error
    assert not (tmp_path / "model" / "checkpoints").exists()
