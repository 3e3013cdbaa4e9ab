"""`cardioner predict --resume`: killed at any moment and started again, it ends with the output of a quiet run."""

from __future__ import annotations

import io
import json
import random
import shutil
import sqlite3
import stat
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from cardioner.data.documents import Document
from cardioner.data.formats import write_corpus
from cardioner.data.formats.files import read_text
from cardioner.prediction.batch_job import BatchJob
from cardioner.prediction.predictor import Predictor
from cardioner.prediction.resume_log import ResumeLog

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


def finished(place: Path, form: str = "brat") -> list[tuple[int, bytes]]:
    """The rows of the finished notes, those of an unfinished group not among them; read from a copy of the log."""
    log = BatchJob(place, form).log
    if not log.exists() or not log.stat().st_size:
        return []
    copy = shutil.copytree(log.parent, place.with_name("copy"))
    database = sqlite3.connect(copy / log.name)
    rows = database.execute("SELECT number, content FROM notes").fetchall() if tables(database) else []
    database.close()
    shutil.rmtree(copy)
    return rows


def tables(database: sqlite3.Connection) -> list[str]:
    return [name for (name,) in database.execute("SELECT name FROM sqlite_master")]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["brat", "jsonl"])
def test_killed_at_random_moments_it_loses_nothing_and_repeats_nothing(
    form: str, opinionated: Callable[..., Path], many: Path, start: Callable[..., int | None], tmp_path: Path
) -> None:
    dice = random.Random(form)
    arguments = ("predict", opinionated(use_crf=True), many, "--to", form, "--device", "cpu", "--output")
    assert start(*arguments, tmp_path / "warm") == 0
    began = time.perf_counter()
    assert start(*arguments, tmp_path / "quiet") == 0
    seconds = time.perf_counter() - began
    assert any(b"score" in held for held in content(tmp_path / "quiet").values()), "there is something to lose"
    kills, resumed = 0, 0
    for number in count():
        if kills >= KILLS // 2 and (resumed or kills >= 5 * KILLS):  # slow machines are killed before anything is left
            break
        place = tmp_path / f"after-{number}"
        before: list[tuple[int, bytes]] = []
        if form == "brat" and number % 2:
            place.mkdir()  # into a folder that is there, files move one by one
        while (code := start(*arguments, place, "--resume", seconds=dice.uniform(0, seconds))) is None:
            kills += 1
            left = finished(place, form)
            whole = not left and place.exists() and content(place) == content(tmp_path / "quiet")
            if whole and not BatchJob(place, form).folder.exists():  # it was killed when all was done
                code = 0
                break
            assert whole or left[: len(before)] == before, (
                "finished notes stay as they are until all are in their place"
            )
            before = left
            resumed += bool(left)
        assert code == 0
        assert content(place) == content(tmp_path / "quiet")
        assert not BatchJob(place, form).folder.exists()
    assert resumed, "some run was cut off after its first group"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".") or path.suffix]


def change(log: Path, statement: str) -> None:
    """Change a resume log behind its back."""
    database = sqlite3.connect(log)
    with database:
        database.execute(statement)
    database.close()


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
            patch.setattr(BatchJob, "clear", lambda _: None)
            assert run(*asked, place).code == 0
        whole, job = content(place), BatchJob(place, "brat")
        if when == "before a group was finished":
            change(job.log, "DELETE FROM notes")
            shutil.rmtree(place)
        elif when == "before anything was written":
            job.log.write_bytes(b"")
            shutil.rmtree(place)
        elif when == "while the output was staged":
            shutil.rmtree(place)
            (job.folder / "staged" / ".0123.part").mkdir(parents=True)
            (job.folder / "staged" / ".0123.part" / "d1.txt").write_text("half")
        elif when == "while files moved to their place":
            for path in [place / "d1.ann", place / "t2.ann", *place.glob("*.txt")]:
                path.unlink()
        elif when == "while the resume log was removed":
            job.log.unlink()
        return whole

    return stop


@pytest.mark.parametrize(
    "when",
    [
        "before anything was written",
        "before a group was finished",
        "while the output was staged",
        "while files moved to their place",
        "when all was in its place",
        "while the resume log was removed",
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
    assert ("Finished before: 6 notes" in done.err) == finished_before


def test_without_resume_an_unfinished_run_is_refused_and_overwrite_starts_again(
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
    assert "Finished before" not in done.err
    assert content(place) == whole


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--min-score", "0.5"), "minimum score"),
        (("--decode", "argmax"), "decoder"),
        (("--dtype", "bfloat16"), "dtype"),
        (("--batch-tokens", "77"), "batch size"),
        (("--ensemble",), "model"),
        (("--vote", "majority", "--ensemble"), "combination of models"),
    ],
)
def test_the_resume_log_of_another_request_is_refused(
    arguments: tuple[str, ...],
    said: str,
    stopped: Callable[[Path, str], Snapshot],
    asked: tuple[Any, ...],
    run: Callable[..., Any],
    tmp_path: Path,
) -> None:
    stopped(tmp_path / "out", "while the output was staged")
    log = BatchJob(tmp_path / "out", "brat").log
    before = log.read_bytes()
    more = (*arguments, asked[1]) if arguments[-1] == "--ensemble" else arguments
    refused = run(*asked, tmp_path / "out", "--resume", *more)
    assert refused.code == 5
    assert said in refused.error
    assert log.read_bytes() == before


@pytest.mark.parametrize("change", ["edited", "removed", "added before", "unreadable"])
def test_notes_that_changed_meanwhile_are_noticed(
    change: str, opinionated: Callable[..., Path], corpus: Path, run: Callable[..., Any], tmp_path: Path
) -> None:
    notes, place = tmp_path / "notes", tmp_path / "out"
    shutil.copytree(corpus / "train", notes)
    arguments = ("predict", opinionated(), notes, "--device", "cpu", "--output", place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchJob, "clear", lambda _: None)
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


def test_a_run_reads_each_note_once(
    asked: tuple[Any, ...], run: Callable[..., Any], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a note that changes while it is tagged, or before it is written, comes out as it was when it was tagged."""
    shutil.copytree(corpus / "train", tmp_path / "notes")
    read = []

    def once(path: Path, encoding: str) -> str:
        read.append(path.name)
        text = read_text(path, encoding)
        path.write_text("another text")
        return text

    monkeypatch.setattr("cardioner.data.notes.read_text", once)
    assert run(*asked[:2], tmp_path / "notes", "--output", tmp_path / "out").code == 0
    assert read == ["t1.txt", "t2.txt", "t3.txt", "t4.txt"]
    assert (tmp_path / "out" / "t2.txt").read_bytes() == (corpus / "train" / "t2.txt").read_bytes()


def test_the_resume_log_holds_no_text_and_only_its_owner_may_read_it(
    stopped: Callable[[Path, str], Snapshot], corpus: Path, tmp_path: Path
) -> None:
    stopped(tmp_path / "out", "when all was in its place")
    job = BatchJob(tmp_path / "out", "brat")
    assert stat.S_IMODE(job.log.stat().st_mode) == 0o600
    assert stat.S_IMODE(job.folder.stat().st_mode) & 0o077 == 0
    held = job.log.read_bytes()
    words = {word for path in corpus.rglob("*.txt") for word in path.read_text().split() if len(word) > 4}
    assert "bisoprolol." in words
    assert not [word for word in words if word.encode() in held]
    digests = {json.loads(row)["digest"] for _, row in finished(tmp_path / "out")}
    assert len(digests) == 6


def test_a_changed_letter_in_the_resume_log_is_named_and_costs_its_group(
    stopped: Callable[[Path, str], Snapshot], asked: tuple[Any, ...], run: Callable[..., Any], tmp_path: Path
) -> None:
    whole = stopped(tmp_path / "out", "while the output was staged")
    changed = "CAST(replace(CAST(content AS TEXT), 'DISEASE', 'DISUASE') AS BLOB)"
    change(BatchJob(tmp_path / "out", "brat").log, f"UPDATE notes SET content = {changed} WHERE number = 2")
    done = run(*asked, tmp_path / "out", "--resume")
    assert done.code == 0
    assert "the row of note 2 ('t2') is damaged: note 1 and those after it are tagged again" in done.err
    assert content(tmp_path / "out") == whole


def test_what_version_0_2_0_left_is_refused_with_what_to_do(
    asked: tuple[Any, ...], run: Callable[..., Any], tmp_path: Path
) -> None:
    journal = tmp_path / "out.partial" / "journal.jsonl"
    journal.parent.mkdir()
    journal.write_text('{"journal": 1, "key": "00", "request": {}}\n')
    for more in ((), ("--resume",)):
        refused = run(*asked, tmp_path / "out", *more)
        assert refused.code == 5
        assert "an earlier version of cardioner" in refused.error
        assert "--overwrite" in refused.error
    assert run(*asked, tmp_path / "out", "--overwrite").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_resume_log_that_another_run_writes_is_left_alone(
    stopped: Callable[[Path, str], Snapshot], asked: tuple[Any, ...], run: Callable[..., Any], tmp_path: Path
) -> None:
    stopped(tmp_path / "out", "while the output was staged")
    log = BatchJob(tmp_path / "out", "brat").log
    database = sqlite3.connect(log)
    (request,) = database.execute("SELECT request FROM run").fetchone()
    database.close()
    other = ResumeLog.resume(log, json.loads(request))
    assert other is not None
    for option in ("--resume", "--overwrite"):
        refused = run(*asked, tmp_path / "out", option)
        assert refused.code == 5
        assert "another run" in refused.error
    other.close()
    assert run(*asked, tmp_path / "out", "--resume").code == 0


def test_notes_that_are_piped_in_again_are_resumed(
    run: Callable[..., Any], opinionated: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = "".join(json.dumps({"id": f"n{number}", "text": f"syncope {number}"}) + "\n" for number in range(150))
    arguments = ("predict", opinionated(), "-", "--device", "cpu", "--output")
    tag = Predictor._tag

    def pipe(place: Path, *more: str, text: str = notes) -> Any:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        return run(*arguments, place, *more)

    def interrupt(self: Predictor, documents: list[Document], **others: Any) -> list[Document]:
        if documents[0].id == "n128":
            raise KeyboardInterrupt
        return tag(self, documents, **others)

    assert pipe(tmp_path / "quiet.jsonl").code == 0
    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "_tag", interrupt)
        stopped = pipe(tmp_path / "out.jsonl")
    assert stopped.code == 130
    assert "Stopped after 128 notes: to resume, repeat the command with --resume" in stopped.err
    assert "changed" in pipe(tmp_path / "out.jsonl", "--resume", text=notes[9:]).error
    done = pipe(tmp_path / "out.jsonl", "--resume")
    assert done.code == 0
    assert "Finished before: 128 notes" in done.err
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "quiet.jsonl").read_bytes()


def test_a_folder_of_somebody_else_in_the_way_is_never_touched(
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
    refused = run("predict", tmp_path / "no-model", *asked[2:], place, "--resume")  # before a model is loaded
    assert refused.code == 5
    assert "already holds .ann files" in refused.error
    assert content(place) == {"d1.ann": b"T1\tOTHER 0 1\tz\n"}
    assert run(*asked, place, "--resume", "--overwrite").code == 0
    assert len(content(place)) == 12


def test_a_run_that_is_interrupted_says_how_to_go_on(
    asked: tuple[Any, ...], run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cardioner.prediction.batch_job._move", interrupt)
        done = run(*asked, tmp_path / "out")
    assert done.code == 130
    assert "Stopped after 6 notes: to resume, repeat the command with --resume" in done.err
    assert "Finished before: 6 notes" in run(*asked, tmp_path / "out", "--resume").err
