"""Tagging a whole corpus with a resume log: the same groups wherever a run stopped, and nothing is tagged twice."""

from __future__ import annotations

import sqlite3
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cardioner.data.documents import Document, Span
from cardioner.data.formats import write_corpus
from cardioner.errors import DataError, OutputError
from cardioner.multiclass import windows
from cardioner.multiclass.windows import Coverage
from cardioner.prediction.batch_job import BatchJob, tag_all
from cardioner.prediction.predictor import Predictions
from cardioner.prediction.resume_log import Entry, ResumeLog

REQUEST = {"model": "one"}
NOTES = [Document(f"n{number}", "x" * size) for number, size in enumerate([5, 3, 0, 60, 2, 2, 2, 2, 9, 1, 70, 80, 4])]


class GroupWise:
    """Finds in each note a span that tells which notes it was tagged together with."""

    def __init__(self) -> None:
        self.tagged: list[str] = []

    def predict(self, documents: Iterable[Document], *, batch_tokens: int, advance: Callable[..., None]) -> Predictions:
        def find(group: list[Document], count: Callable[[Coverage], None]) -> list[Document]:
            if any(len(note.text) == 9 for note in group):
                raise RuntimeError(group[0].text)
            self.tagged += [note.id for note in group]
            together = "+".join(note.id for note in group)
            count(Coverage(len(group), 2, batch_tokens, sum(len(note.text) for note in group)))
            return [note.with_spans([Span(0, 1, together, 0.1)] if note.text else []) for note in group]

        return Predictions(documents, find, advance)


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "READ_AHEAD", 3)
    monkeypatch.setattr(windows, "READ_AHEAD_CHARACTERS", 50)


def writer_of(job: BatchJob, documents: Iterable[Document]) -> Callable[[Path], Any]:
    """Writes notes in the form of a job."""
    return partial(write_corpus, documents, format=job.form)


class StopError(Exception):
    """Ends a run, as a kill would."""


def run(
    place: Path, notes: Iterable[Document], reports: list[Coverage]
) -> tuple[list[str], list[Document], tuple[int, ...]]:
    """What was tagged in this run, what came out of all, and what it came to."""
    predictor: Any = GroupWise()
    with BatchJob(place, "jsonl").open(ResumeLog, REQUEST, resume=True) as log:
        documents = list(tag_all(predictor, notes, log, batch_tokens=7, advance=reports.append))
        return predictor.tagged, documents, log.coverage


def test_stopped_at_any_note_it_tags_what_is_left_in_the_same_groups(tmp_path: Path) -> None:
    reports: list[Coverage] = []
    tagged, quiet, counts = run(tmp_path / "quiet", NOTES, reports)
    assert sorted(tagged) == sorted(note.id for note in NOTES if note.id != "n8")
    assert [note.id for note in quiet] == [note.id for note in NOTES if note.id != "n8"]
    assert reports[-1] == counts == (12, counts[1], counts[2], sum(len(note.text) for note in NOTES) - 9)
    for stop in range(len(NOTES)):

        def notes(stop: int = stop) -> Iterator[Document]:
            yield from NOTES[:stop]
            raise StopError

        place = tmp_path / f"stopped-{stop}"
        with pytest.raises(StopError):
            run(place, notes(), [])
        with BatchJob(place, "jsonl").open(ResumeLog, REQUEST, resume=True) as log:
            done = {entry.id for entry in log.entries()}
        reports.clear()
        again, documents, total = run(place, NOTES, reports)
        assert documents == quiet
        assert total == counts
        assert sorted(again) == sorted(set(tagged) - done)
        assert all(report.documents >= len(done - {"n8"}) for report in reports), "earlier runs count"
        assert run(place, NOTES, []) == ([], quiet, counts)


def test_a_note_whose_row_was_changed_is_tagged_again_with_its_group(tmp_path: Path) -> None:
    tagged, quiet, counts = run(tmp_path / "out", NOTES, [])
    database = sqlite3.connect(BatchJob(tmp_path / "out", "jsonl").log)
    with database:
        content = "CAST(replace(CAST(content AS TEXT), 'n5', 'n6') AS BLOB)"
        database.execute(f"UPDATE notes SET content = {content} WHERE number = 6")
    database.close()
    again, documents, total = run(tmp_path / "out", NOTES, [])
    assert again == tagged[tagged.index("n4") :]
    assert (documents, total) == (quiet, counts)


def test_a_group_is_closed_by_notes_or_by_characters(tmp_path: Path) -> None:
    _, documents, _ = run(tmp_path / "out", NOTES, [])
    groups = list(dict.fromkeys(span.label for note in documents for span in note.spans))
    assert groups == ["n0+n1+n2", "n3", "n4+n5+n6", "n7", "n9", "n10", "n11", "n12"]  # n8 spoils its group


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (NOTES[:-1], "expected 'n12' as note 13, found none"),
        ([Document("n0", "y"), *NOTES[1:]], "the text of 'n0' is not what it was"),
        ([Document("new", "bisoprolol"), *NOTES], "expected 'n0' as note 1, found 'new'"),
    ],
)
def test_other_notes_than_those_that_were_tagged_are_refused_without_a_word_of_them(
    change: list[Document], said: str, tmp_path: Path
) -> None:
    run(tmp_path / "out", NOTES, [])
    with pytest.raises(DataError, match=f"^the notes changed since .*: {said}; start again") as caught:
        run(tmp_path / "out", change, [])
    assert "bisoprolol" not in str(caught.value)
    assert run(tmp_path / "out", NOTES, [])[0] == []


def test_notes_that_are_added_behind_the_finished_ones_are_tagged(tmp_path: Path) -> None:
    run(tmp_path / "out", NOTES, [])
    tagged, documents, _ = run(tmp_path / "out", [*NOTES, Document("new", "x")], [])
    assert tagged == ["new"]
    assert documents[-1].id == "new"


def test_notes_are_read_once_and_ahead_by_a_group_at_most(tmp_path: Path) -> None:
    read = 0

    def notes() -> Iterator[Document]:
        nonlocal read
        for document in NOTES:
            read += 1
            yield document

    predictor: Any = GroupWise()
    behind: list[int] = []
    with BatchJob(tmp_path / "out", "jsonl").open(ResumeLog, REQUEST, resume=False) as log:
        for _ in tag_all(predictor, notes(), log, batch_tokens=7, advance=lambda _: behind.append(read - log.finished)):
            pass
    assert max(behind) == 3
    assert read == len(NOTES)


def test_a_run_that_fails_before_its_first_group_leaves_nothing_and_a_later_one_what_is_finished(
    tmp_path: Path,
) -> None:
    def notes(count: int) -> Iterator[Document]:
        yield from NOTES[:count]
        raise DataError("no more")

    for count, left in ((2, []), (4, ["out.partial"])):
        with pytest.raises(DataError, match="no more"):
            run(tmp_path / "out", notes(count), [])
        assert [path.name for path in tmp_path.iterdir()] == left


def test_a_root_is_no_output() -> None:
    with pytest.raises(OutputError, match="cannot be an output"):
        BatchJob(Path("/"), "brat")


def test_moving_into_a_folder_keeps_other_documents_and_refuses_other_content(tmp_path: Path) -> None:
    place = tmp_path / "out"
    place.mkdir()
    (place / "other.txt").write_text("stays")
    (place / "a.txt").write_text("another text")
    job = BatchJob(place, "brat")
    with job.open(ResumeLog, REQUEST, resume=False) as log:
        log.append([Entry("a", "1")], ())
        with pytest.raises(OutputError, match=r"a\.txt exists and is something else"):
            job.write(writer_of(job, [Document("a", "text")]), overwrite=False)
        (place / "a.txt").write_text("text")
        job.write(writer_of(job, [Document("a", "text")]), overwrite=False)
    assert {path.name for path in place.iterdir()} == {"a.txt", "a.ann", "other.txt"}
    job.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(("form", "name"), [("jsonl", "o.jsonl"), ("tsv", "o.tsv"), ("conll", "o.conll")])
def test_a_file_is_replaced_by_the_same_or_on_request(form: str, name: str, tmp_path: Path) -> None:
    job = BatchJob(tmp_path / name, form)
    notes = [Document("a", "text", (Span(0, 4, "X"),))]
    with job.open(ResumeLog, REQUEST, resume=False):
        job.write(writer_of(job, notes), overwrite=False)
        job.write(writer_of(job, notes), overwrite=False)
        (tmp_path / name).write_text("something else")
        with pytest.raises(OutputError, match="exists and is something else"):
            job.write(writer_of(job, notes), overwrite=False)
        assert (tmp_path / name).read_text() == "something else"
    job.clear()
    with pytest.raises(OutputError, match="exists"):
        job.check(resume=False, overwrite=False)
    with job.open(ResumeLog, REQUEST, resume=False):
        job.write(writer_of(job, notes), overwrite=True)
    assert "something else" not in (tmp_path / name).read_text()
    job.clear()


@pytest.mark.parametrize("content", [b"", b"cut off", b"SQLite format 3\x00"])
def test_what_an_earlier_version_left_is_refused_or_thrown_away_on_request(content: bytes, tmp_path: Path) -> None:
    job = BatchJob(tmp_path / "out", "brat")
    job.folder.mkdir()
    (job.folder / "journal.jsonl").write_bytes(content)
    for resume in (True, False):
        with pytest.raises(OutputError, match=r"earlier version of cardioner.*start again with --overwrite"):
            job.check(resume=resume, overwrite=False)
    job.check(resume=True, overwrite=True)
    with job.open(ResumeLog, REQUEST, resume=True) as log:
        assert log.finished == 0
    assert [path.name for path in job.folder.iterdir()] == ["resume.sqlite"]


def test_notes_are_forgotten_once_they_are_finished(tmp_path: Path) -> None:
    size = 200_000

    def notes(count: int) -> Iterator[Document]:
        return (Document(f"n{number}", f"{number} {'x' * size}") for number in range(count))

    def peak(count: int) -> int:
        predictor: Any = GroupWise()
        job = BatchJob(tmp_path / f"{count}.jsonl", "jsonl")
        tracemalloc.start()
        with job.open(ResumeLog, REQUEST, resume=False) as log:
            tagged = tag_all(predictor, notes(count), log, batch_tokens=7, advance=lambda _: None)
            job.write(writer_of(job, tagged), overwrite=False)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(1)
    assert peak(60) - peak(3) < 3 * size
