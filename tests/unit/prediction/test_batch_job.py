"""Tagging a whole corpus beside a journal: the same groups wherever a run stopped, and nothing is tagged twice."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cardioner.data.documents import Document, Span
from cardioner.errors import DataError, OutputError
from cardioner.multiclass import windows
from cardioner.multiclass.windows import Coverage
from cardioner.prediction import batch_job
from cardioner.prediction.batch_job import Bench, joined, tag
from cardioner.prediction.predictor import Predictions
from cardioner.prediction.resume_log import Journal

REQUEST = {"model": "one"}
NOTES = [Document(f"n{number}", "x" * size) for number, size in enumerate([5, 3, 0, 60, 2, 2, 2, 2, 9, 1, 70, 80, 4])]


class GroupWise:
    """Finds in each note a span that tells which notes it was tagged together with."""

    def __init__(self) -> None:
        self.tagged: list[str] = []

    def predict(self, documents: list[Document], *, batch_tokens: int, advance: Callable[..., None]) -> Predictions:
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


def run(
    path: Path, notes: list[Document], reports: list[Coverage]
) -> tuple[list[str], list[Document], tuple[int, ...]]:
    """What was tagged in this run, what came out of all, and what it came to."""
    predictor: Any = GroupWise()
    journal = (Journal.resume(path, REQUEST) if path.exists() else None) or Journal.begin(path, REQUEST)
    try:
        tag(predictor, notes, journal, batch_tokens=7, advance=reports.append)
        return predictor.tagged, list(joined(notes, journal)), journal.counts
    finally:
        journal.close()


def test_cut_off_anywhere_it_tags_what_is_left_in_the_same_groups(tmp_path: Path) -> None:
    reports: list[Coverage] = []
    tagged, quiet, counts = run(tmp_path / "quiet", NOTES, reports)
    assert sorted(tagged) == sorted(note.id for note in NOTES if note.id != "n8")
    assert [note.id for note in quiet] == [note.id for note in NOTES if note.id != "n8"]
    assert reports[-1] == counts == (12, counts[1], counts[2], sum(len(note.text) for note in NOTES) - 9)
    whole = (tmp_path / "quiet").read_bytes()
    header = whole.index(b"\n") + 1
    dice = random.Random(2)
    for size in [header, *dice.sample(range(header, len(whole)), 60), len(whole)]:
        path = tmp_path / f"cut-{size}"
        path.write_bytes(whole[:size])
        before = Journal.resume(path, REQUEST)
        assert before is not None
        done = {entry.id for entry in before.entries()}
        before.close()
        reports.clear()
        again, documents, total = run(path, NOTES, reports)
        assert documents == quiet
        assert total == counts
        assert sorted(again) == sorted(set(tagged) - done)
        assert all(report.documents >= len(done - {"n8"}) for report in reports), "earlier runs count"


def test_a_group_is_closed_by_notes_or_by_characters(tmp_path: Path) -> None:
    _, documents, _ = run(tmp_path / "j", NOTES, [])
    groups = list(dict.fromkeys(span.label for note in documents for span in note.spans))
    assert groups == ["n0+n1+n2", "n3", "n4+n5+n6", "n7", "n9", "n10", "n11", "n12"]  # n8 spoils its group


@pytest.mark.parametrize("change", [NOTES[:-1], [*NOTES, Document("new", "x")], [Document("n0", "y"), *NOTES[1:]]])
def test_other_notes_than_those_that_were_tagged_are_never_joined(change: list[Document], tmp_path: Path) -> None:
    run(tmp_path / "j", NOTES, [])
    journal = Journal.resume(tmp_path / "j", REQUEST)
    assert journal is not None
    with pytest.raises(DataError, match="changed"):
        list(joined(change, journal))
    journal.close()


def test_notes_are_read_ahead_by_a_group_at_most(tmp_path: Path) -> None:
    read = 0

    def notes() -> Iterator[Document]:
        nonlocal read
        for document in NOTES:
            read += 1
            yield document

    journal = Journal.begin(tmp_path / "j", REQUEST)
    behind: list[int] = []
    predictor: Any = GroupWise()
    tag(predictor, notes(), journal, batch_tokens=7, advance=lambda _: behind.append(read - journal.finished))
    journal.close()
    assert max(behind) == 3


def test_a_root_is_no_output() -> None:
    with pytest.raises(OutputError, match="cannot be an output"):
        Bench(Path("/"))


def test_moving_into_a_folder_keeps_other_documents_and_refuses_other_content(tmp_path: Path) -> None:
    place = tmp_path / "out"
    place.mkdir()
    (place / "other.txt").write_text("stays")
    (place / "a.txt").write_text("another text")
    bench = Bench(place)
    bench.open(REQUEST, resume=False).close()
    with pytest.raises(OutputError, match=r"a\.txt exists and is something else"):
        bench.write([Document("a", "text")], "brat", overwrite=False)
    (place / "a.txt").write_text("text")
    bench.write([Document("a", "text")], "brat", overwrite=False)
    assert {path.name for path in place.iterdir()} == {"a.txt", "a.ann", "other.txt"}
    bench.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(("form", "name"), [("jsonl", "o.jsonl"), ("tsv", "o.tsv"), ("conll", "o.conll")])
def test_a_file_is_replaced_by_the_same_or_on_request(form: str, name: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path / name)
    bench.open(REQUEST, resume=False).close()
    notes = [Document("a", "text", (Span(0, 4, "X"),))]
    bench.write(notes, form, overwrite=False)
    bench.write(notes, form, overwrite=False)
    (tmp_path / name).write_text("something else")
    with pytest.raises(OutputError, match="exists and is something else"):
        bench.write(notes, form, overwrite=False)
    assert (tmp_path / name).read_text() == "something else"
    with pytest.raises(OutputError, match="exists"):
        batch_job.check_place(tmp_path / name, form, overwrite=False)
    bench.write(notes, form, overwrite=True)
    assert "something else" not in (tmp_path / name).read_text()
    bench.clear()


def test_notes_are_forgotten_once_they_are_finished(tmp_path: Path) -> None:
    size = 200_000

    def notes(count: int) -> Iterator[Document]:
        return (Document(f"n{number}", f"{number} {'x' * size}") for number in range(count))

    def peak(count: int) -> int:
        predictor: Any = GroupWise()
        bench = Bench(tmp_path / f"{count}.jsonl")
        tracemalloc.start()
        journal = bench.open(REQUEST, resume=False)
        tag(predictor, notes(count), journal, batch_tokens=7, advance=lambda _: None)
        bench.write(joined(notes(count), journal), "jsonl", overwrite=False)
        journal.close()
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(1)
    assert peak(60) - peak(3) < 3 * size
