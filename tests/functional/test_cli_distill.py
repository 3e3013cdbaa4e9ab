"""`cardioner distill`, from teachers and notes to a directory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from cardioner.data.documents import Document
from cardioner.data.formats import read_corpus
from cardioner.model_dir.load import enter, read_model_dir
from cardioner.multiclass.encoding import plan_windows
from cardioner.training.distillation import Teachers, divergence, sequence_layer
from cardioner.training.features import build_features
from cardioner.training.initialization import Start
from cardioner.training.options import Distillation, TrainingOptions
from cardioner.training.trainer import ModelTrainer

Run = Callable[..., Any]
TINY = ("--epochs", "1", "--batch-size", "2", "--device", "cpu", "--precision", "float32", "--learning-rate", "0.005")


@pytest.fixture
def distill(run: Run, saved: Path, tmp_path: Path) -> Run:
    """`cardioner distill` with the trained model as the teacher; further arguments are appended."""

    def execute(*arguments: Any, teachers: Sequence[Path] = (saved,)) -> Any:
        return run("distill", *teachers, "--output", tmp_path / "student", *TINY, *arguments)

    return execute


def distance(teacher: Path, student: Path, documents: Sequence[Document]) -> float:
    """The mean divergence of a student from its teacher over the windows of notes, at temperature 1."""
    model, tokenizer, config = read_model_dir(student, device="cpu")
    teachers = Teachers.read(Distillation(teachers=teacher, teacher_temperature=1.0))
    bare = [document.with_spans(()) for document in documents]
    features = build_features(bare, tokenizer, plan_windows(config, tokenizer), labels=teachers.labels).features
    start = Start(model, tokenizer, "", (), ())
    lesson = teachers.teach(features, start, device=torch.device("cpu"), progress=lambda *_, **__: None)
    total = 0.0
    for number, feature in enumerate(features):
        ids = torch.tensor([feature["input_ids"]])
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            target = lesson.of([number], ids.device)
            total += divergence(sequence_layer(model), logits, torch.ones_like(ids), target, temperature=1.0).item()
    return total / len(features)


def test_distilling_brings_a_student_nearer_to_its_teacher(
    distill: Run, opinionated: Callable[..., Path], encoder_dir: Callable[[str], Path], corpus: Path, tmp_path: Path
) -> None:
    """One layer of an encoder, on notes without annotations: what it computes afterwards is like the teacher."""
    teacher, encoder = opinionated(use_crf=True, window_length=64), encoder_dir("bert")
    start = ModelTrainer(model=encoder, distillation=Distillation(teachers=teacher), options=TrainingOptions(layers=1))
    start.save_model(tmp_path / "start")
    done = distill(
        *("--layers", "1", "--backbone", encoder, "--unlabelled", corpus / "train"),
        *("--epochs", "5", "--batch-size", "1", "--learning-rate", "0.01"),
        teachers=[teacher],
    )
    assert (done.code, done.out) == (0, "")
    notes = read_corpus(corpus / "train").documents
    first, last = (distance(teacher, tmp_path / name, notes) for name in ("start", "student"))
    assert 0 < last < first / 2
    enter(tmp_path / "student")


def test_corpus_evaluation_and_unlabelled_notes_reach_the_record(
    distill: Run, saved: Path, corpus: Path, tmp_path: Path
) -> None:
    done = distill(
        *("--corpus", corpus / "train", "--eval", corpus / "dev", "--unlabelled", corpus / "dev", "--json"),
        *("--teacher-weight", "0.25", "--teacher-temperature", "1.5"),
    )
    assert done.code == 0
    for told in (
        "Learning from 1 teacher, on 4 annotated notes and 2 unlabelled notes",
        "warning: 2 of 2 evaluation notes have the same text as an unlabelled note",
        "Newly initialised: nothing",
        "Evaluation notes",
    ):
        assert told in done.err
    digest = json.loads((saved / "cardioner.json").read_text())["digest"]
    expected = {"manifests": [digest], "teacher_weight": 0.25, "teacher_temperature": 1.5}
    assert done.json["distillation"] == expected
    assert {name: part["documents"] for name, part in done.json["documents"].items()} == {
        "training": 4,
        "unlabelled": 2,
        "evaluation": 2,
    }
    _, _, config = read_model_dir(tmp_path / "student", device="cpu")
    assert (config.use_crf, config.classifier_hidden_layers, config.window_length) == (True, [8], 64)


def test_a_record_repeats_a_distillation_but_not_as_a_training(
    distill: Run, run: Run, saved: Path, corpus: Path, tmp_path: Path
) -> None:
    given = ("--corpus", corpus / "train", "--layers", "1")
    assert distill(*given, "--teacher-weight", "0.3", "--seed", "4").code == 0
    record = tmp_path / "student" / "training_args.json"
    content = json.loads(record.read_text())
    output = ("--output", tmp_path / "again")
    done = run("train", "--train", corpus / "train", "--config", record, *output)
    assert done.code == 2
    assert "learned from teachers, which the record does not hold" in done.error
    again = ("--corpus", corpus / "train", "--backbone", saved)
    assert run("distill", saved, "--config", record, *again, *output).code == 0
    repeated = json.loads((tmp_path / "again" / "training_args.json").read_text())
    for name in ("distillation", "options", "learning_rate", "use_crf"):
        assert repeated[name] == content[name]


def test_a_finished_distillation_has_nothing_to_resume(distill: Run, corpus: Path) -> None:
    given = ("--train", corpus / "train", "--layers", "1")
    assert distill(*given).code == 0
    done = distill(*given, "--resume")
    assert (done.code, "nothing left to do" in done.err) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "give notes to learn from: annotated ones with --train PATH, others with --unlabelled PATH"),
        (("--teacher-weight", "2"), "--teacher-weight: expected 1.0 or less; found '2'"),
        (("--scheme", "BIOES"), "there is no option --scheme"),
        (("--overlap", "flat"), "there is no option --overlap"),
        (("--unlabelled", "{corpus}/train", "--layers", "3"), "layers: expected at most 2"),
        (("--unlabelled", "{corpus}/train", "--backbone", "{roberta}"), "a student has the tokenizer of its teachers"),
        (("--train", "{corpus}/train", "--map", "DRUG=DEVICE"), "the data also has DEVICE (1)"),
    ],
)
def test_what_cannot_work_is_one_clear_line(
    distill: Run, corpus: Path, encoder_dir: Callable[[str], Path], arguments: Sequence[str], problem: str
) -> None:
    places = {"corpus": corpus, "roberta": encoder_dir("roberta")}
    done = distill(*(argument.format(**places) for argument in arguments))
    assert done.code in (2, 3)
    assert problem in done.error


def test_a_student_never_replaces_its_teacher(distill: Run, saved: Path, corpus: Path, tmp_path: Path) -> None:
    teacher = shutil.copytree(saved, tmp_path / "student")
    before = (teacher / "cardioner.json").read_bytes()
    done = distill("--unlabelled", corpus / "train", "--overwrite", teachers=[teacher])
    assert f"{teacher} is one of the models that the new one is made from" in done.error
    assert (teacher / "cardioner.json").read_bytes() == before


def test_a_folder_without_a_model_teaches_nothing(distill: Run, corpus: Path, tmp_path: Path) -> None:
    done = distill("--train", corpus / "train", teachers=[tmp_path / "nowhere"])
    assert done.code == 4
    assert "nowhere" in done.error
