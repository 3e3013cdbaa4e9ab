"""Where commands write: never in the place of something else, never in a place that the user did not mean."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cardioner.data.documents import Document, Span
from cardioner.data.formats import read_corpus, write_corpus

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two notes whose text may be printed."""
    place = tmp_path_factory.mktemp("plain") / "notes"
    notes = [Document("d1", "Syncope and fever.", (Span(0, 7, "SYMPTOM"),)), Document("d2", "Metoprolol.")]
    write_corpus(notes, place)
    return place


@pytest.fixture
def writers(saved: Path, plain: Path) -> dict[str, Callable[[Any], tuple[Any, ...]]]:
    """Commands that write notes, with a place for their output."""
    return {
        "predict": lambda place: ("predict", saved, plain, "--output", place, "--device", "cpu"),
        "convert": lambda place: ("convert", plain, place),
    }


Writers = dict[str, Callable[[Any], tuple[Any, ...]]]
both = pytest.mark.parametrize("name", ["predict", "convert"])


@both
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json"])
def test_a_suffix_of_no_format_is_refused(name: str, suffix: str, run: Run, writers: Writers, tmp_path: Path) -> None:
    done = run(*writers[name](tmp_path / f"x{suffix}"))
    assert done.code == 2
    suffixes = ".tsv, .jsonl, .conll, .pubtator, .bioc, .spacy"
    assert f"no format has the suffix {suffix}; expected {suffixes}, or" in done.error
    assert not list(tmp_path.iterdir())


@both
@pytest.mark.parametrize("form", ["jsonl", "tsv", "conll"])
def test_a_dash_is_standard_output(
    name: str, form: str, run: Run, writers: Writers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*writers[name](tmp_path / f"file.{form}")).code == 0
    done = run(*writers[name]("-"), *(() if form == "jsonl" else ("--to", form)))
    assert done.code == 0
    assert done.out == (tmp_path / f"file.{form}").read_text()
    assert "Notes: standard output" in done.err
    assert [path.name for path in tmp_path.iterdir()] == [f"file.{form}"]


@both
def test_a_folder_does_not_go_to_standard_output(
    name: str, run: Run, writers: Writers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*writers[name]("-"), "--to", "brat")
    assert done.code == 5
    assert "- is a stream; expected a folder" in done.error
    assert not list(tmp_path.iterdir())


def test_what_goes_to_standard_output_cannot_be_resumed(run: Run, writers: Writers) -> None:
    done = run(*writers["predict"]("-"), "--resume")
    assert done.code == 2
    assert "leave out --resume" in done.error


@both
def test_a_pipe_is_written_to_and_stays_a_pipe(name: str, run: Run, writers: Writers, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    done = run(*writers[name](pipe))
    reader.join(10)
    assert done.code == 0
    assert [json.loads(line)["id"] for line in got[0].splitlines()] == ["d1", "d2"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


@both
def test_a_symbolic_link_stays_one(name: str, run: Run, writers: Writers, tmp_path: Path) -> None:
    real, link = tmp_path / "there" / "real.jsonl", tmp_path / "link.jsonl"
    real.parent.mkdir()
    link.symlink_to(real)
    assert run(*writers[name](link)).code == 0
    assert len(read_corpus(real)) == 2
    assert run(*writers[name](link)).code == 5
    real.write_text("")
    assert run(*writers[name](link), "--overwrite").code == 0
    assert len(read_corpus(real)) == 2
    assert link.is_symlink()
    assert [path.name for path in real.parent.iterdir()] == ["real.jsonl"]


@both
def test_an_open_file_of_a_process_is_added_to(name: str, run: Run, writers: Writers, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        file.write(b"before\n")
        file.flush()
        assert run(*writers[name](f"/dev/fd/{file.fileno()}")).code == 0
    assert (tmp_path / "log").read_bytes().startswith(b'before\n{"id": "d1"')


@both
@pytest.mark.parametrize("form", ["brat", "tsv"])
def test_a_folder_that_holds_other_files_is_refused(
    name: str, form: str, run: Run, writers: Writers, tmp_path: Path
) -> None:
    (tmp_path / "other.txt").write_text("another note")
    before = sorted(tmp_path.iterdir())
    done = run(*writers[name](tmp_path), "--to", form)
    assert done.code == 5
    assert f"{tmp_path} holds 1 other file, such as other.txt" in done.error
    assert sorted(tmp_path.iterdir()) == before
    assert run(*writers[name](tmp_path), "--to", form, "--overwrite").code == 0
    assert (tmp_path / "other.txt").read_text() == "another note"


def test_a_model_is_not_written_among_other_files(run: Run, saved: Path, corpus: Path, tmp_path: Path) -> None:
    write_corpus(read_corpus(corpus / "dev"), tmp_path / "notes")
    before = sorted((tmp_path / "notes").iterdir())
    for command in (
        ("train", "--train", corpus / "train", "--output", tmp_path / "notes"),
        ("distill", saved, "--train", corpus / "train", "--output", tmp_path / "notes"),
        ("ablate", "--train", corpus / "train", "--output", tmp_path / "notes"),
        ("upgrade", saved, tmp_path / "notes"),
        ("export", "hub", saved, tmp_path / "notes"),
        ("export", "onnx", saved, tmp_path / "notes"),
    ):
        done = run(*command)
        assert done.code == 5, command
        assert "d1.ann" in done.error
    assert sorted((tmp_path / "notes").iterdir()) == before


def test_a_model_does_not_go_to_standard_output(
    run: Run, saved: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (
        ("train", "--train", corpus / "train", "--output", "-"),
        ("distill", saved, "--train", corpus / "train", "--output", "-"),
        ("ablate", "--train", corpus / "train", "--output", "-"),
        ("upgrade", saved, "-"),
        ("export", "hub", saved, "-"),
        ("export", "onnx", saved, "-"),
        ("sign", "--make-key", "-"),
    ):
        assert run(*command).code in (2, 5), command
    assert not list(tmp_path.iterdir())


def test_splits_are_json_and_may_go_to_standard_output(
    run: Run, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ("split", corpus / "train", "--ratios", "1,1,1", "--output")
    assert run(*arguments, "s.json").code == 0
    done = run(*arguments, "-")
    assert done.code == 0
    assert done.out == (tmp_path / "s.json").read_text()
    refused = run(*arguments, "s.csv")
    assert refused.code == 2
    assert "a name that ends in .json" in refused.error
    assert run("split", corpus / "train", "--folds", "2", "--output", "-").code == 5
    assert [path.name for path in tmp_path.iterdir()] == ["s.json"]


def test_a_page_that_holds_text_is_for_its_owner_alone(run: Run, corpus: Path, tmp_path: Path) -> None:
    page, link = tmp_path / "page.html", tmp_path / "link.html"
    link.symlink_to(page)
    old = os.umask(0o022)
    try:
        assert run("check", corpus / "train", "--html", link).code == 0
        assert stat.S_IMODE(page.stat().st_mode) == 0o600
        assert run("check", corpus / "train", "--html", link, "--overwrite", "--ids-only").code == 0
        assert stat.S_IMODE(page.stat().st_mode) == 0o644
        assert run("evaluate", corpus / "dev", corpus / "dev", "--html", tmp_path / "scores.html").code == 0
        assert stat.S_IMODE((tmp_path / "scores.html").stat().st_mode) == 0o600
    finally:
        os.umask(old)
    assert link.is_symlink()
