"""Splits on disk and applied to a corpus."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cardioner.documents import Document
from cardioner.errors import DataError, OutputError
from cardioner.splits import Splits, apply_splits, read_splits, write_splits

SPLITS = Splits(train=("a", "ward/é"), validation=("b",), test=("c",))


def corpus(*ids: str) -> list[Document]:
    return [Document(name, "A note.") for name in ids]


def test_splits_are_read_as_they_were_written(tmp_path: Path) -> None:
    write_splits(SPLITS, tmp_path / "splits.json")
    assert read_splits(tmp_path / "splits.json") == SPLITS


def test_validation_and_test_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / "splits.json").write_text('{"train": ["a"]}')
    assert read_splits(tmp_path / "splits.json") == Splits(train=("a",))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"train": ["a"],\n "test": }', ":2: not JSON; expected JSON such as"),
        (b"\xff\xfe\xfd", ": not JSON in UTF-8; expected"),
        (b"[" * 100_000, ": not JSON in UTF-8; expected"),
        (b'["a"]', ": expected JSON such as"),
        (b'{"validation": ["a"]}', ": expected JSON such as"),
        (b'{"train": "a"}', ": a part is not a list of document ids"),
        (b'{"train": [1]}', ": a part is not a list of document ids"),
        (b'{"train": [], "dev": [], "The patient died": []}', ": 2 unknown keys ['dev']; expected"),
        (b'{"train": ["a"], "train": ["b"]}', ": a key appears twice; expected"),
        (b'{"train": ["a", "b", "a"]}', ": each document may be in one part, once; found more often: a"),
        (b'{"train": ["a", "b"], "test": ["b"]}', ": each document may be in one part, once; found more often: b"),
    ],
)
def test_a_file_that_is_no_splits_is_named_with_what_was_expected(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "splits.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match="^" + re.escape(f"{path}{problem}")):
        read_splits(path)


def test_a_missing_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.json: cannot be read"):
        read_splits(tmp_path / "nowhere.json")


def test_splits_are_only_replaced_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    write_splits(SPLITS, path)
    with pytest.raises(OutputError, match="exists"):
        write_splits(Splits(train=("z",)), path)
    assert read_splits(path) == SPLITS
    write_splits(Splits(train=("z",)), path, overwrite=True)
    assert read_splits(path) == Splits(train=("z",))


def test_splits_cannot_be_written_into_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write_splits(SPLITS, tmp_path / "nowhere" / "splits.json")


def test_documents_go_to_their_parts_and_the_rest_is_counted() -> None:
    documents = corpus("c", "x", "ward/é", "b", "a", "y")
    parts = apply_splits(documents, SPLITS)
    assert [[document.id for document in part] for part in parts] == [["ward/é", "a"], ["b"], ["c"]]
    assert SPLITS.count_left_out(documents) == 2


def test_ids_that_the_corpus_lacks_are_listed_up_to_ten() -> None:
    splits = Splits(train=("a",), test=tuple(f"lost{number:02}" for number in range(12)))
    with pytest.raises(DataError, match=r"12 ids of the splits are not in the corpus: lost00, .*lost09 and 2 more"):
        apply_splits(corpus("a"), splits)


def test_a_corpus_with_an_id_twice_cannot_be_split() -> None:
    with pytest.raises(DataError, match="found more often: a"):
        apply_splits(corpus("a", "a"), Splits(train=("a",)))
