"""Bad input: one clear line on standard error, the class's exit code, and not a word of a note."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cardioner.data.documents import Document
from cardioner.model_dir import save
from cardioner.multiclass.modeling import TokenClassificationModel


@pytest.fixture
def notes(write_notes: Callable[..., Path], make_note: Callable[..., Document], tmp_path: Path) -> Path:
    """A folder with one annotated note, to be damaged."""
    return write_notes(tmp_path / "notes", [make_note("bad", ("chest pain", "SYMPTOM"))])


@pytest.mark.parametrize("command", ["train", "predict", "evaluate", "inspect"])
def test_a_missing_folder_is_named(command: str, run: Callable[..., Any], saved: Path, tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    arguments = {
        "train": ("--train", missing, "--output", tmp_path / "m"),
        "predict": (saved, missing, "--output", tmp_path / "o"),
        "evaluate": (missing, missing),
        "inspect": (missing,),
    }[command]
    done = run(command, *arguments)
    assert done.code == (4 if command == "inspect" else 3)
    assert str(missing) in done.error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        ("T1\tSYMPTOM 22 32\tbisoprolol\n", "bad.ann:1: the quote does not match the text at 22 to 32"),
        ("\nT1\tSYMPTOM 22 9999\tx\n", "bad.ann:2: the span 22 to 9999 ends after the text"),
        ("T1\tSYMPTOM 22 22\t\n", "bad.ann:1: a span needs start < end, found 22 to 22"),
        ("bisoprolol\n", "bad.ann:1: expected a line that starts with T"),
    ],
)
def test_a_malformed_annotation_is_named_by_file_and_line(
    annotation: str, said: str, train: Callable[..., Any], notes: Path, tmp_path: Path
) -> None:
    (notes / "bad.ann").write_text(annotation)
    done = train(folders=("--train", notes))
    assert done.code == 3
    assert said in done.error
    assert not (tmp_path / "model").exists()


def test_a_type_that_training_never_saw_is_refused_in_the_evaluation_notes(
    train: Callable[..., Any], corpus: Path, notes: Path
) -> None:
    (notes / "bad.ann").write_text((notes / "bad.ann").read_text().replace("SYMPTOM", "FINDING"))
    done = train(folders=("--train", corpus / "train", "--eval", notes))
    assert done.code == 3
    assert "FINDING (1)" in done.error
    assert "--map" in done.error


def test_a_training_set_without_entities_is_refused(train: Callable[..., Any], notes: Path) -> None:
    assert "--map" in train("--map", "SYMPTOM=", folders=("--train", notes)).error
    (notes / "bad.ann").write_text("")
    done = train(folders=("--train", notes))
    assert done.code == 3
    assert "1 note and no entity" in done.error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--epochs", "many"), "--epochs"),
        (("--epochs", "0"), "--epochs"),
        (("--no-such-option",), "--no-such-option"),
        (("--hidden-layers", "a,b"), "--hidden-layers"),
        (("--hidden-layers", "8,-1"), "--hidden-layers"),
        (("--class-weights", "most"), "--class-weights"),
        (("--class-weights", "B-NOPE=2"), "B-NOPE"),
        (("--classifier-dropout", "1"), "--classifier-dropout"),
        (("--device", "tpu"), "device"),
        (("--learning-rate", "nan"), "--learning-rate"),
        (("--max-length", "500"), "max_length 500 is more than the 128"),
        (("--seed", "-1"), "seed"),
        (("--map", "DRUG"), "--map takes OLD=NEW"),
        (("--map", "DRUG=A", "--map", "DRUG=B"), "two names"),
        (("--splits", "x.json"), "--corpus"),
        (("--corpus", "x"), "--splits"),
        (("--corpus", "x", "--splits", "y"), "takes the place of --train, --eval"),
    ],
)
def test_an_option_that_cannot_work_is_one_line_and_code_2(
    arguments: tuple[str, ...], said: str, train: Callable[..., Any], tmp_path: Path
) -> None:
    done = train(*arguments)
    assert done.code == 2
    assert said in done.error
    assert not (tmp_path / "model" / "config.json").exists()


def test_a_missing_option_and_an_unknown_decoder_are_usage_errors(
    run: Callable[..., Any], saved: Path, corpus: Path, tmp_path: Path
) -> None:
    assert "--output" in run("train", "--train", corpus / "train").error
    done = run("predict", saved, corpus / "dev", "--output", tmp_path / "o", "--decode", "beam")
    assert done.code == 2
    assert "--decode" in done.error
    assert run("no-such-command").code == 2


def test_a_type_that_no_note_has_cannot_be_mapped(train: Callable[..., Any]) -> None:
    done = train("--map", "NOPE=X")
    assert done.code == 3
    assert "NOPE" in done.error


@pytest.mark.parametrize("command", ["predict", "inspect"])
@pytest.mark.parametrize("damage", ["cut weights", "no weights", "no code", "no tokenizer", "no config", "cut config"])
def test_a_damaged_model_directory_is_refused_with_the_file(
    damage: str, command: str, run: Callable[..., Any], saved: Path, corpus: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(saved, model)
    kind, _, part = damage.partition(" ")
    name = {
        "weights": "model.safetensors",
        "code": "modeling.py",
        "tokenizer": "tokenizer.json",
        "config": "config.json",
    }[part]
    if kind == "cut":
        (model / name).write_bytes((model / name).read_bytes()[:-100])
    else:
        (model / name).unlink()
    arguments = (corpus / "dev", "--output", tmp_path / "o") if command == "predict" else ()
    done = run(command, model, *arguments)
    assert done.code == 4
    assert name in done.error
    assert not (tmp_path / "o").exists()


def no_space(*_: Any, **__: Any) -> None:
    """What writing to a full disk does."""
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_no_model_behind(
    train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TokenClassificationModel, "save_pretrained", no_space)
    done = train()
    assert done.code == 5
    assert "the disk is full" in done.error
    assert not list((tmp_path / "model").rglob("config.json"))
    assert not list((tmp_path / "model").rglob(".partial-*"))


def test_a_disk_that_fills_during_a_second_training_leaves_the_first_model(
    train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train().code == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    monkeypatch.setattr(save, "publish", no_space)
    done = train("--overwrite", "--seed", "5")
    assert done.code == 5
    assert "the disk is full" in done.error
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir() if path.is_file()}


def test_a_full_disk_while_predictions_are_written_is_told(
    run: Callable[..., Any], saved: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "rename", no_space)
    done = run("predict", saved, corpus / "dev", "--output", tmp_path / "o")
    assert done.code == 5
    assert "free some space" in done.error


def test_a_file_in_place_of_the_output_directory_is_refused(train: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "model").write_text("x")
    done = train()
    assert done.code == 5
    assert "is a file" in done.error


def test_a_training_that_diverges_has_its_own_code(train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TokenClassificationModel, "loss", lambda _, logits, __: logits.sum() * float("nan"))
    done = train()
    assert done.code == 6
    assert "lower learning rate" in done.error


def test_an_encoder_that_is_none_is_refused(train: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "gpt").mkdir()
    (tmp_path / "gpt" / "config.json").write_text('{"model_type": "gpt2"}')
    done = train("--backbone", tmp_path / "gpt")
    assert done.code == 4
    assert "no encoder" in done.error
