"""What all formats share: paths as strings, the format that a name stands for, and ids that occur once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cardioner.data.documents import Document, Span
from cardioner.data.formats import FORMATS, ReadReport, detect_format, read_corpus, stream_corpus, write_corpus
from cardioner.errors import DataError, UsageError

NOTES = [Document("a", "chest pain", (Span(0, 10, "SYMPTOM"),)), Document("b", "none")]
PLACES = {"brat": "notes", "tsv": "table", "jsonl": "n.jsonl", "conll": "n.conll", "datasets": "saved"}
PLACES |= {
    "xmi": "xmi",
    "bioc": "n.xml",
    "docbin": "n.spacy",
    "pubtator": "n.pubtator",
    "doccano": "d.jsonl",
    "prodigy": "p.jsonl",
    "label-studio": "tasks.json",
}
FOUND_AS = {"doccano": "jsonl", "prodigy": "jsonl", "label-studio": "jsonl"}
"""The formats of JSON that one reader reads: it looks at each note by itself."""


@pytest.mark.parametrize("name", FORMATS)
def test_a_path_may_be_a_string(tmp_path: Path, name: str) -> None:
    place = f"{tmp_path}/{PLACES[name]}"
    write_corpus(NOTES, place, name)
    assert detect_format(place) == FOUND_AS.get(name, name)
    assert list(read_corpus(place)) == list(stream_corpus(place)) == NOTES
    assert read_corpus(place).report == ReadReport()


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("n.jsonl", "jsonl"),
        ("n.CONLL", "conll"),
        ("n.pubtator", "pubtator"),
        ("n.bioc", "bioc"),
        ("n.spacy", "docbin"),
        ("notes", "brat"),
    ],
)
def test_the_name_of_a_new_place_chooses_its_format(tmp_path: Path, name: str, form: str) -> None:
    write_corpus(NOTES, tmp_path / name)
    assert detect_format(tmp_path / name) == form


def test_a_name_that_stands_for_no_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"notes\.xml: no format has the suffix \.xml; expected \.tsv, \.jsonl"):
        write_corpus(NOTES, tmp_path / "notes.xml")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FORMATS)
def test_documents_with_the_same_id_are_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="documents 1 and 3 have the same id, 'a'"):
        write_corpus([*NOTES, NOTES[0]], tmp_path / PLACES[name], name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", [None, 3, b"notes", NOTES])
def test_a_path_of_a_wrong_type_is_one_clear_sentence(path: Any) -> None:
    expected = rf"^path: expected a path, as a str or a pathlib.Path; found {type(path).__name__}$"
    for attempt in (read_corpus, detect_format, lambda place: write_corpus(NOTES, place)):
        with pytest.raises(UsageError, match=expected):
            attempt(path)


@pytest.mark.parametrize("name", FORMATS)
def test_something_else_than_documents_is_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="item 2 of the documents must be a Document; found str"):
        write_corpus([NOTES[0], "SECRET"], tmp_path / PLACES[name], name)  # type: ignore[list-item]
    assert list(tmp_path.iterdir()) == []
