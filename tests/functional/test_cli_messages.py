"""Messages say what is wrong and what to do, in the words of whoever reads them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("predict", "--html", "x"), "there is no option --html here, only with check, train, distill, evaluate"),
        (("check", "--htm", "x"), "there is no option --htm; the nearest is --html"),
        (("check", "--zyx", "x"), "there is no option --zyx ("),
        (("inspect", "modelx"), "modelx does not exist; expected a model directory"),
        (("verify", "modelx"), "modelx does not exist; expected a model directory"),
        (("upgrade", "modelx", "new"), "modelx does not exist; expected a model directory of the original CardioNER"),
        (("sign", "modelx", "--key", "keyx"), "keyx does not exist; expected the file of a key"),
        (("train", "--train", "x", "--output", "y", "--class-weights", "b"), "expected balanced, or weights of tags"),
    ],
)
def test_a_mistake_is_answered_with_what_to_do(
    command: tuple[str, ...], said: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*command)
    assert said in done.error
    assert "Value error" not in done.error
    assert [path.name for path in tmp_path.iterdir()] in ([], ["new"])


def test_what_check_shows_is_in_plain_words(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("No oedema of the legs.")
    (tmp_path / "a.ann").write_text(
        "T1\tSIGN 3 9\toedema\nT2\tSIGN 3 14\toedema of t\nN1\tReference T1 ICD:R60\tx\n#1\tN T1\tx\n"
    )
    done = run("check", tmp_path)
    assert done.code == 0
    for said in (
        "│ min ",
        " max ┃",
        "Spans that the tags cannot represent",
        "normalizations",
        "comments",
        "1 document,",
    ):
        assert said.replace("│", "┃") in done.out.replace("│", "┃"), said


def test_bytes_that_are_no_text_are_located(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"No\xffne")
    (tmp_path / "a.ann").touch()
    assert "a.txt: byte 2 is not valid UTF-8" in run("check", tmp_path).out


@pytest.mark.parametrize("shown", ["", "--json"])
def test_a_reader_that_goes_away_is_told_of_nothing(shown: str, corpus: Path) -> None:
    shell = f"{sys.executable} -m cardioner check {corpus / 'train'} {shown} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("1", "")


def test_a_missing_model_leaves_no_folder(run: Run, tmp_path: Path) -> None:
    assert run("upgrade", tmp_path / "nowhere", tmp_path / "new").code == 4
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "notes", "--from", "bla"], "--from: bla is not one of brat, tsv,"),
        (["evaluate", "a", "b", "--bootstrap", "-1"], "--bootstrap: expected 0 or more; found '-1'"),
        (["predict", "m", "n", "--min-score", "2"], "--min-score: expected 1.0 or less; found '2'"),
        (["train", "--output", "m", "--folds", "1"], "--folds: expected 2 or more; found '1'"),
        (["check", "notes", "--html"], "(see cardioner check --help)"),
    ],
)
def test_a_wrong_value_is_told_in_the_same_words_whatever_checks_it(run: Run, arguments: list[str], said: str) -> None:
    done = run(*arguments)
    assert done.code == 2
    assert said in done.error.replace("python -m ", "")


def test_a_folder_without_notes_is_told_without_empty_tables(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    done = run("check", tmp_path)
    assert done.code == 3
    assert "(it has a config.json, as model directories do)" in " ".join(done.out.replace("│", " ").split())
    assert "Entities per type" not in done.out
