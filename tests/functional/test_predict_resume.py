"""`cardioner predict --resume`: killed at any moment and started again, it ends with the very output of a quiet run."""

from __future__ import annotations

import json
import random
import shutil
import stat
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from cardioner.data.documents import Document
from cardioner.data.formats import write_corpus
from cardioner.prediction.batch_job import Bench
from cardioner.prediction.resume_log import Journal

KILLS = 12
"""How often a run is killed, at random moments."""

Snapshot = dict[str, bytes]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of notes that make several groups, of any length."""
    dice, folder = random.Random(3), tmp_path_factory.mktemp("many") / "notes"
    words = ["syncope", "heart", "failure", "metoprolol", "no", "chest", "pain.", "zyxwvcanary\n", "2.5", "mg"]
    notes = [
        Document(f"{number % 7}/n{number:03}", " ".join(dice.choices(words, k=dice.choice([0, 3, 40, 40, 400]))))
        for number in range(200)
    ]
    write_corpus(notes, folder)
    for path in folder.rglob("*.ann"):
        path.unlink()
    return folder


def content(place: Path) -> Snapshot:
    """Every file at a place, by its name there."""
    files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in files}


def finished(place: Path) -> bytes:
    """The part of a journal that counts: all up to the line behind the last whole group."""
    journal = Bench(place).journal
    lines = journal.read_bytes().splitlines(keepends=True) if journal.exists() else []
    marks = [index for index, line in enumerate(lines) if line.startswith(b'{"finished"') and line.endswith(b"\n")]
    return b"".join(lines[: marks[-1] + 1]) if marks else b""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["brat", "jsonl"])
def test_killed_at_random_moments_it_loses_nothing_and_repeats_nothing(
    form: str, opinionated: Callable[..., Path], many: Path, start: Callable[..., int | None], tmp_path: Path
) -> None:
    dice = random.Random(form)
    arguments = ("predict", opinionated(use_crf=True), many, "--format", form, "--device", "cpu", "--output")
    assert start(*arguments, tmp_path / "warm") == 0
    began = time.perf_counter()
    assert start(*arguments, tmp_path / "quiet") == 0
    seconds = time.perf_counter() - began
    assert any(b"score" in held for held in content(tmp_path / "quiet").values()), "there is something to lose"
    kills, resumed = 0, 0
    for number in count():
        if kills >= KILLS // 2:
            break
        place, before = tmp_path / f"after-{number}", b""
        if form == "brat" and number % 2:
            place.mkdir()  # into a folder that is there, files move one by one
        while (code := start(*arguments, place, "--resume", seconds=dice.uniform(0, seconds))) is None:
            kills += 1
            left = finished(place)
            whole = not left and place.exists() and content(place) == content(tmp_path / "quiet")
            assert whole or left.startswith(before), "finished notes stay as they are until all are in their place"
            before = left
            resumed += bool(left)
        assert code == 0
        assert content(place) == content(tmp_path / "quiet")
        assert not Bench(place).folder.exists()
    assert resumed, "some run was cut off after its first group"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".") or path.suffix]


# What an earlier run left, state by state ----------------------------------------------------------------------------


@pytest.fixture
def asked(opinionated: Callable[..., Path], corpus: Path) -> tuple[Any, ...]:
    """The arguments of a run over a few notes, the output behind them still to come."""
    return ("predict", opinionated(), corpus / "train", corpus / "dev", "--device", "cpu", "--output")


@pytest.fixture
def stopped(
    asked: tuple[Any, ...], run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path, str], Snapshot]:
    """Brings a place to where a run that was cut off can leave it; gives what the output should have become."""

    def stop(place: Path, when: str) -> Snapshot:
        with monkeypatch.context() as patch:
            patch.setattr(Bench, "clear", lambda _: None)
            assert run(*asked, place).code == 0
        whole, bench = content(place), Bench(place)
        lines = bench.journal.read_bytes().splitlines(keepends=True)
        if when in {"before a group was finished", "while the header was written"}:
            kept = lines[:3] if when.startswith("before") else [lines[0][:-9]]
            bench.journal.write_bytes(b"".join(kept))
            shutil.rmtree(place)
        elif when == "while the output was staged":
            shutil.rmtree(place)
            (bench.folder / "staged" / ".0123.part").mkdir(parents=True)
            (bench.folder / "staged" / ".0123.part" / "d1.txt").write_text("half")
        elif when == "while files moved to their place":
            for path in [place / "d1.ann", place / "t2.ann", *place.glob("*.txt")]:
                path.unlink()
        elif when == "while the journal was removed":
            bench.journal.unlink()
        return whole

    return stop


@pytest.mark.parametrize(
    "when",
    [
        "while the header was written",
        "before a group was finished",
        "while the output was staged",
        "while files moved to their place",
        "when all was in its place",
        "while the journal was removed",
    ],
)
def test_from_wherever_a_run_stopped_it_goes_on_to_the_same_output(
    when: str,
    stopped: Callable[[Path, str], Snapshot],
    asked: tuple[Any, ...],
    run: Callable[..., Any],
    tmp_path: Path,
) -> None:
    place = tmp_path / "out"
    whole = stopped(place, when)
    done = run(*asked, place, "--resume")
    assert done.code == 0
    assert content(place) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    finished_before = when in {
        "while the output was staged",
        "while files moved to their place",
        "when all was in its place",
    }
    assert ("6 of 6 notes were finished before" in done.err) == finished_before


def test_without_resume_a_journal_is_refused_and_overwrite_starts_afresh(
    stopped: Callable[[Path, str], Snapshot], asked: tuple[Any, ...], run: Callable[..., Any], tmp_path: Path
) -> None:
    place = tmp_path / "out"
    whole = stopped(place, "while the output was staged")
    refused = run(*asked, place)
    assert refused.code == 5
    assert "--resume" in refused.error
    assert "--overwrite" in refused.error
    done = run(*asked, place, "--overwrite")
    assert done.code == 0
    assert "finished before" not in done.err
    assert content(place) == whole


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--min-score", "0.5"), "least score"),
        (("--decode", "argmax"), "decoder"),
        (("--dtype", "bfloat16"), "dtype"),
        (("--batch-tokens", "77"), "batch size"),
        (("--ensemble",), "model"),
    ],
)
def test_the_journal_of_another_request_is_refused(
    arguments: tuple[str, ...],
    said: str,
    stopped: Callable[[Path, str], Snapshot],
    asked: tuple[Any, ...],
    run: Callable[..., Any],
    tmp_path: Path,
) -> None:
    stopped(tmp_path / "out", "while the output was staged")
    journal = Bench(tmp_path / "out").journal.read_bytes()
    more = (*arguments, asked[1]) if arguments == ("--ensemble",) else arguments
    refused = run(*asked, tmp_path / "out", "--resume", *more)
    assert refused.code == 5
    assert said in refused.error
    assert Bench(tmp_path / "out").journal.read_bytes() == journal


@pytest.mark.parametrize("change", ["edited", "removed", "added before", "unreadable"])
def test_notes_that_changed_meanwhile_are_noticed(
    change: str, opinionated: Callable[..., Path], corpus: Path, run: Callable[..., Any], tmp_path: Path
) -> None:
    notes, place = tmp_path / "notes", tmp_path / "out"
    shutil.copytree(corpus / "train", notes)
    arguments = ("predict", opinionated(), notes, "--device", "cpu", "--output", place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bench, "clear", lambda _: None)
        assert run(*arguments).code == 0
    shutil.rmtree(place)
    if change == "edited":
        (notes / "t2.txt").write_text("another text")
    elif change == "removed":
        (notes / "t4.txt").unlink()
    elif change == "unreadable":
        (notes / "t1.txt").write_bytes(b"\xff")
    else:
        (notes / "a.txt").write_text("a new note")
    done = run(*arguments, "--resume")
    assert done.code == 3
    assert "changed" in done.error
    assert not place.exists()


def test_a_note_that_changes_between_tagging_and_writing_is_noticed(
    asked: tuple[Any, ...], run: Callable[..., Any], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(corpus / "train", tmp_path / "notes")
    write = Bench.write

    def edit_and_write(*arguments: Any, **others: Any) -> Any:
        (tmp_path / "notes" / "t2.txt").write_text("another text")
        return write(*arguments, **others)

    monkeypatch.setattr(Bench, "write", edit_and_write)
    done = run(*asked[:2], tmp_path / "notes", "--output", tmp_path / "out")
    assert done.code == 3
    assert "'t2' is not what it was" in done.error
    assert not (tmp_path / "out").exists()


def test_the_journal_holds_no_text_and_only_its_owner_may_read_it(
    stopped: Callable[[Path, str], Snapshot], corpus: Path, tmp_path: Path
) -> None:
    stopped(tmp_path / "out", "when all was in its place")
    bench = Bench(tmp_path / "out")
    assert stat.S_IMODE(bench.journal.stat().st_mode) == 0o600
    assert stat.S_IMODE(bench.folder.stat().st_mode) & 0o077 == 0
    held = bench.journal.read_text()
    words = {word for path in corpus.rglob("*.txt") for word in path.read_text().split() if len(word) > 4}
    assert "bisoprolol." in words
    assert not [word for word in words if word in held]
    digests = [row["digest"] for row in map(json.loads, held.splitlines()) if "id" in row]
    assert len(set(digests)) == len(digests) == 6


def test_a_journal_that_another_run_writes_is_left_alone(
    stopped: Callable[[Path, str], Snapshot], asked: tuple[Any, ...], run: Callable[..., Any], tmp_path: Path
) -> None:
    stopped(tmp_path / "out", "while the output was staged")
    bench = Bench(tmp_path / "out")
    request = json.loads(bench.journal.read_bytes().splitlines()[0])["request"]
    other = Journal.resume(bench.journal, request)
    assert other is not None
    for wish in ("--resume", "--overwrite"):
        refused = run(*asked, tmp_path / "out", wish)
        assert refused.code == 5
        assert "another run" in refused.error
    other.close()
    assert run(*asked, tmp_path / "out", "--resume").code == 0


def test_a_folder_of_somebody_else_in_the_journals_place_is_never_touched(
    asked: tuple[Any, ...], run: Callable[..., Any], tmp_path: Path
) -> None:
    mine = tmp_path / "out.partial" / "thesis.tex"
    mine.parent.mkdir()
    mine.write_text("mine")
    for wish in ("--resume", "--overwrite"):
        refused = run(*asked, tmp_path / "out", wish)
        assert refused.code == 5
        assert "in the way" in refused.error
    assert mine.read_text() == "mine"


def test_resume_replaces_no_output_that_is_another(
    asked: tuple[Any, ...], run: Callable[..., Any], tmp_path: Path
) -> None:
    place = tmp_path / "out"
    place.mkdir()
    (place / "d1.ann").write_text("T1\tOTHER 0 1\tz\n")
    refused = run(*asked, place, "--resume")
    assert refused.code == 5
    assert "d1.ann" in refused.error
    assert content(place) == {"d1.ann": b"T1\tOTHER 0 1\tz\n"}
    assert run(*asked, place, "--resume", "--overwrite").code == 0
    assert len(content(place)) == 12


def test_a_run_that_is_interrupted_says_how_to_go_on(
    asked: tuple[Any, ...], run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cardioner.prediction.batch_job.write_corpus", interrupt)
        done = run(*asked, tmp_path / "out")
    assert done.code == 130
    assert "Stopped after 6 notes: the same command with --resume goes on" in done.err
    assert "6 of 6 notes were finished before" in run(*asked, tmp_path / "out", "--resume").err
