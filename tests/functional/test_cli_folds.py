"""`cardioner train --folds` and `--seeds`: members, their table, their summary, and `predict` with all of them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cardioner.data.documents import Document
from cardioner.training.trainer import ModelTrainer

TYPES = ("DISEASE", "DRUG")


@pytest.fixture
def notes(
    tmp_path: Path, write_notes: Callable[..., Path], make_note: Callable[..., Document]
) -> Callable[[int], Path]:
    """A brat folder of so many notes, each unlike the others, with an entity of each type."""

    def write(count: int, types: tuple[str, ...] = TYPES) -> Path:
        documents = []
        for number in range(count):
            chance = random.Random(number)
            words = ["".join(chance.choices("aeionrst", k=6)) for _ in range(20)]
            marked = zip((" ".join(words[:10]), " ".join(words[10:])), types, strict=False)
            documents.append(make_note(f"note{number}", *marked))
        return write_notes(tmp_path / "notes", documents)

    return write


def rows(text: str, name: str) -> list[list[str]]:
    """The figures of the rows of a table that begin with a name."""
    lines = (line.strip("│┃ ") for line in text.splitlines())
    cells = ([cell.strip() for cell in line.split("│")] for line in lines if "│" in line)
    return [row for row in cells if row[0] == name]


def test_folds_are_trained_told_and_used_as_one_model(
    train: Callable[..., Any], run: Callable[..., Any], notes: Callable[[int], Path], tmp_path: Path
) -> None:
    place = notes(4)
    done = train("--folds", "2", "--crf", "--json", folders=("--train", place), output=tmp_path / "out")
    assert done.code == 0, done.err
    summary = done.json
    assert summary == json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [member["name"] for member in summary["members"]] == ["fold-1", "fold-2"]
    assert summary["pooled"]["0"]["strict"]["micro"]["tp"] + summary["pooled"]["0"]["strict"]["micro"]["fn"] == 8
    assert "Strict spans on held-out folds" in done.err
    for name, figures in (("mean", summary["mean"]), ("deviation", summary["deviation"])):
        assert rows(done.err, name)[0][2:] == [f"{figures[key]:.3f}" for key in ("precision", "recall", "f1")]
    assert len(rows(done.err, "all folds")) == 1

    arguments = ("--to", "jsonl", "--device", "cpu")
    assert run("predict", tmp_path / "out", place, "--output", tmp_path / "a", *arguments).code == 0
    first, second = (tmp_path / "out" / f"fold-{number}" for number in (1, 2))
    listed = run("predict", first, place, "--ensemble", second, "--output", tmp_path / "b", *arguments)
    assert listed.code == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_member_that_is_gone_is_named(
    train: Callable[..., Any], run: Callable[..., Any], notes: Callable[[int], Path], tmp_path: Path
) -> None:
    place = notes(4)
    assert train("--seeds", "2", folders=("--train", place, "--eval", place), output=tmp_path / "out").code == 0
    arguments = (place, "--output", tmp_path / "tagged", "--device", "cpu")
    assert run("predict", tmp_path / "out", *arguments).code == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    summary["members"][1]["name"] = "gone"
    (tmp_path / "out" / "summary.json").write_text(json.dumps(summary))
    done = run("predict", tmp_path / "out", *arguments, "--overwrite")
    assert done.code == 4
    assert "gone" in done.error


def test_seeds_are_compared_on_the_evaluation_notes_and_resumed(
    train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = ModelTrainer.train, []

    def interrupt(self: ModelTrainer, *arguments: Any, **keywords: Any) -> Any:
        calls.append(self.output_dir.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, *arguments, **keywords)

    monkeypatch.setattr(ModelTrainer, "train", interrupt)
    done = train("--seeds", "2", "--seed", "4", output=tmp_path / "out")
    assert done.code == 130
    assert "The same command with --resume continues" in done.err
    again = train("--seeds", "2", "--seed", "4", "--resume", output=tmp_path / "out")
    assert again.code == 0, again.err
    assert calls == ["seed-4", "seed-5", "seed-5"]
    assert "seed-4: finished before" in again.err
    assert "Strict spans on evaluation notes" in again.err
    assert "all folds" not in again.err
    other = train("--seeds", "2", "--seed", "4", "--resume", "--warmup", "0.5", output=tmp_path / "out")
    assert other.code == 2
    assert "warmup (it was 0.1, now 0.5)" in other.error


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--folds", "5"), 3, "at least 5 groups of documents"),
        (("--folds", "1"), 2, "--folds"),
        (("--seeds", "0"), 2, "--seeds"),
        (("--seeds", "2"), 2, "give test or evaluation notes"),
        (("--folds", "2", "--html", "page.html"), 2, "--html is a page about one training"),
        (("--folds", "2", "--early-stopping", "1"), 2, "early_stopping needs evaluation data"),
    ],
)
def test_what_cannot_be_repeated_is_one_line(
    arguments: tuple[str, ...], code: int, said: str, train: Callable[..., Any], notes: Callable[..., Path]
) -> None:
    folders = ("--train", notes(4))
    for _ in range(2):  # a refusal leaves nothing that would be in the way of the next run
        done = train(*arguments, folders=folders)
        assert done.code == code
        assert said in done.error


def test_folds_that_would_lack_a_type_are_refused(train: Callable[..., Any], corpus: Path, tmp_path: Path) -> None:
    done = train("--folds", "2", folders=("--train", corpus / "train"), output=tmp_path / "out")
    assert done.code == 3
    assert "no entity of the type DRUG" in done.error
    assert "--map TYPE=" in done.error
    assert not (tmp_path / "out").exists()


def test_a_folder_of_repeated_trainings_is_not_written_over(
    train: Callable[..., Any], notes: Callable[[int], Path], tmp_path: Path
) -> None:
    folders = ("--train", notes(4))
    assert train("--folds", "2", folders=folders, output=tmp_path / "out").code == 0
    done = train("--folds", "2", folders=folders, output=tmp_path / "out")
    assert done.code == 5
    assert "--resume" in done.error
    assert train("--folds", "2", "--overwrite", folders=folders, output=tmp_path / "out").code == 0


@pytest.mark.slow
def test_a_curve_is_trained_told_and_kept(
    train: Callable[..., Any], notes: Callable[[int], Path], tmp_path: Path
) -> None:
    place, out = notes(20), tmp_path / "out"
    arguments = ("--curve", "--seeds", "2", "--json")
    done = train(*arguments, folders=("--train", place, "--eval", place), output=out)
    assert done.code == 0, done.err
    assert done.json == json.loads((out / "curve.json").read_text())
    assert [row["notes"] for row in done.json["trainings"]] == [5, 10, 20] * 2
    assert [row[0] for size in (5, 10, 20) for row in rows(done.err, str(size))] == ["5", "10", "20"]
    assert "100 more notes" in done.err
    saved = {path: path.stat().st_mtime_ns for path in out.glob("*/model.safetensors")}
    assert len(saved) == 6
    again = train(*arguments, "--resume", folders=("--train", place, "--eval", place), output=out)
    assert again.json == done.json
    assert {path: path.stat().st_mtime_ns for path in saved} == saved


def test_a_curve_is_not_asked_for_together_with_what_it_excludes(
    train: Callable[..., Any], notes: Callable[[int], Path], tmp_path: Path
) -> None:
    place = notes(4)
    assert "--curve and --folds divide the notes" in train("--curve", "--folds", "2", folders=("--train", place)).error
    assert "one training" in train("--curve", "--html", tmp_path / "page.html", folders=("--train", place)).error
    assert "20 training notes or more; found 4" in train("--curve", folders=("--train", place, "--eval", place)).error
