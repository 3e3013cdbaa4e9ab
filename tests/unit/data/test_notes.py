"""Notes to be tagged: the same from every place at every reading, without spans; what cannot be read is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cardioner.data.documents import Document, Span
from cardioner.data.formats import FORMATS, ReadReport, read_corpus, write_corpus
from cardioner.data.notes import STANDARD_INPUT, NoteSource
from cardioner.errors import DataError, UsageError

DOCUMENTS = [
    Document("a", "\ufeffNo  chest pain.\r\n", (Span(5, 10, "SYMPTOM"),)),
    Document("b/c.d", ""),
    Document("b/e", "bisoprolol 🫀 e\u0301", (Span(0, 10, "DRUG", 0.25),)),
]


def read(*paths: Path) -> tuple[list[Document], list[ReadReport]]:
    reports: list[tuple[str, ReadReport]] = []
    found = list(NoteSource(paths).read(reports))
    assert [place for place, _ in reports] == [str(path) for path in paths]
    return found, [report for _, report in reports]


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_texts_are_those_of_the_corpus_at_every_reading(form: str, tmp_path: Path) -> None:
    place = tmp_path / {"jsonl": "notes.jsonl", "conll": "notes.conll", "docbin": "notes.spacy"}.get(form, "notes")
    write_corpus(DOCUMENTS, place, form)
    expected = [document.with_spans(()) for document in read_corpus(place).documents]
    first, (report,) = read(place)
    assert first == read(place)[0] == expected
    assert (report.problems, report.malformed) == ((), 0)


def test_a_folder_of_texts_is_read_by_id_and_other_files_are_counted(tmp_path: Path) -> None:
    write_corpus(DOCUMENTS, tmp_path / "notes")
    for name in (".hidden.txt", "b/.x/y.txt", "b/image.png", "no-suffix"):
        (tmp_path / "notes" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "notes" / name).write_text("z")
    found, (report, other) = read(tmp_path / "notes", tmp_path / "notes" / "b" / "e.txt")
    assert [document.id for document in found] == ["a", "b/c.d", "b/e", "e"]
    issues = {issue.kind: issue.count for issue in report.issues}
    assert issues == {"annotations": 3, "hidden files": 2, "other files": 2}
    assert other.issues == ()


def test_problems_are_counted_all_and_named_first_without_a_word_of_the_text(tmp_path: Path) -> None:
    rows = [{"id": f"n{number}", "text": "bisoprolol" if number % 2 else ["bisoprolol"]} for number in range(60)]
    (tmp_path / "n.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found, (report,) = read(tmp_path / "n.jsonl")
    assert len(found) == 30
    assert report.malformed == 30
    assert len(report.problems) == 20
    assert report.problems[1].startswith(f"{tmp_path / 'n.jsonl'}:3: expected a string")
    assert "bisoprolol" not in "".join(report.problems)


def test_an_id_in_two_places_ends_the_reading(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "n.jsonl").write_text('{"id": "a", "text": "y"}\n')
    with pytest.raises(DataError, match="'a' occurs in more than one input"):
        read(tmp_path / "a.txt", tmp_path / "n.jsonl")


def test_ids_that_file_names_give_are_known_and_refused_twice_before_anything_is_read(tmp_path: Path) -> None:
    write_corpus(DOCUMENTS, tmp_path / "notes")
    (tmp_path / "more.txt").write_bytes(b"\xff")
    (tmp_path / "n.jsonl").write_text("no JSON")
    paths = (tmp_path / "notes", tmp_path / "more.txt")
    assert NoteSource(paths).known_ids() == (["a", "b/c.d", "b/e", "more"], True)
    assert NoteSource((*paths, tmp_path / "n.jsonl")).known_ids() == (["a", "b/c.d", "b/e", "more"], False)
    with pytest.raises(DataError, match="'more' occurs in more than one input"):
        NoteSource((*paths, paths[1])).known_ids()


def test_places_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_text("x")
    for name in ("image.png", "nowhere"):
        with pytest.raises(DataError, match=name):
            NoteSource((tmp_path / name,))
    with pytest.raises(UsageError, match="more than once"):
        NoteSource((STANDARD_INPUT, STANDARD_INPUT))
    with pytest.raises(UsageError, match="no encoding"):
        NoteSource((tmp_path / "image.png",), encoding="utf-9")
    with pytest.raises(DataError, match=r"holds no \.txt file"):
        read(tmp_path)
