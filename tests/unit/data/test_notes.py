"""Notes to be tagged: the same from every place at every reading, without spans; what cannot be read is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cardioner.data.documents import Document, Span
from cardioner.data.formats import FORMATS, read_corpus, write_corpus
from cardioner.data.notes import STANDARD_INPUT, Ledger, Notes
from cardioner.errors import DataError, UsageError

DOCUMENTS = [
    Document("a", "\ufeffNo  chest pain.\r\n", (Span(5, 10, "SYMPTOM"),)),
    Document("b/c.d", ""),
    Document("b/e", "bisoprolol 🫀 e\u0301", (Span(0, 10, "DRUG", 0.25),)),
]


def read(*paths: Path) -> tuple[list[Document], Ledger]:
    ledger = Ledger()
    return list(Notes(paths).read(ledger)), ledger


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_texts_are_those_of_the_corpus_at_every_reading(form: str, tmp_path: Path) -> None:
    place = tmp_path / (f"notes.{form}" if form in {"jsonl", "conll"} else "notes")
    write_corpus(DOCUMENTS, place, form)
    expected = [document.with_spans(()) for document in read_corpus(place).documents]
    first, ledger = read(place)
    assert first == read(place)[0] == expected
    assert (ledger.notes, ledger.characters) == (3, sum(len(document.text) for document in expected))
    assert (ledger.problems, ledger.problem_count) == ([], 0)


def test_a_folder_of_texts_is_read_by_id_and_other_files_are_counted(tmp_path: Path) -> None:
    write_corpus(DOCUMENTS, tmp_path / "notes")
    for name in (".hidden.txt", "b/.x/y.txt", "b/image.png", "no-suffix"):
        (tmp_path / "notes" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "notes" / name).write_text("z")
    found, ledger = read(tmp_path / "notes", tmp_path / "notes" / "b" / "e.txt")
    assert [document.id for document in found] == ["a", "b/c.d", "b/e", "e"]
    (_, issues), (_, none) = ledger.remarks
    assert {issue.kind: issue.count for issue in issues} == {"annotations": 3, "hidden files": 1, "other files": 2}
    assert none == ()


def test_problems_are_counted_all_and_named_first_without_a_word_of_the_text(tmp_path: Path) -> None:
    rows = [{"id": f"n{number}", "text": "bisoprolol" if number % 2 else ["bisoprolol"]} for number in range(60)]
    (tmp_path / "n.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found, ledger = read(tmp_path / "n.jsonl")
    assert len(found) == 30
    assert ledger.problem_count == 30
    assert len(ledger.problems) == 20
    assert ledger.problems[1].startswith(f"{tmp_path / 'n.jsonl'}:3: expected a string")
    assert "bisoprolol" not in "".join(ledger.problems)


def test_an_id_in_two_places_ends_the_reading(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "n.jsonl").write_text('{"id": "a", "text": "y"}\n')
    with pytest.raises(DataError, match="'a' occurs in more than one input"):
        read(tmp_path / "a.txt", tmp_path / "n.jsonl")


def test_places_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_text("x")
    for name in ("image.png", "nowhere"):
        with pytest.raises(DataError, match=name):
            Notes((tmp_path / name,)).check()
    with pytest.raises(UsageError, match="more than once"):
        Notes((STANDARD_INPUT, STANDARD_INPUT)).check()
    with pytest.raises(UsageError, match="no encoding"):
        Notes((tmp_path / "image.png",), encoding="utf-9").check()
    with pytest.raises(DataError, match=r"holds no \.txt file"):
        read(tmp_path)
