"""Reading and writing tables of Hugging Face datasets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Sequence, Value

from cardioner.data.documents import Document, Span
from cardioner.data.formats import Issue, Reading, detect_format, read_corpus, write_corpus
from cardioner.data.formats.saved_dataset import documents_of
from cardioner.errors import DataError, OutputError, UsageError

CANARY = "Zebraquist"
NAMES = ["O", "B-X", "I-X", "B-Y", "I-Y"]


@pytest.fixture(autouse=True)
def _no_progress_bars() -> Iterator[None]:
    """The tables that tests save themselves."""
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def table(rows: list[dict[str, Any]], *, names: list[str] | None = None, column: str = "ner_tags") -> Dataset:
    """A table of class labels; `names` are all tags of the column."""
    features = {column: Sequence(ClassLabel(names=names or NAMES)), "tokens": Sequence(Value("string"))}
    features |= {key: Value("string") for key in rows[0] if key not in features}
    return Dataset.from_list(rows, features=Features(features))


def saved(dataset: Dataset | DatasetDict, folder: Path) -> Path:
    dataset.save_to_disk(folder / "table")
    return folder / "table"


def row(**changes: Any) -> dict[str, Any]:
    return {"tokens": ["Severe", "pain", ".", "x"], "ner_tags": [1, 2, 0, 4], **changes}


# Reading


def test_class_labels_become_spans_of_the_rebuilt_text(tmp_path: Path) -> None:
    path = saved(table([row(id="a"), row(id="b", tokens=[], ner_tags=[])]), tmp_path)
    assert detect_format(path) == "datasets"
    corpus = read_corpus(path)
    assert corpus.documents == (
        Document("a", "Severe pain . x", (Span(0, 11, "X"), Span(14, 15, "Y"))),
        Document("b", ""),
    )
    assert [(issue.kind, issue.count) for issue in corpus.report.issues] == [
        ("inside tags that continued nothing, read as opening", 1)
    ]


def test_all_splits_are_read_in_order_and_name_rows_without_an_id(tmp_path: Path) -> None:
    splits = DatasetDict(train=table([row(), row()]), test=table([row()]))
    assert [document.id for document in read_corpus(saved(splits, tmp_path)).documents] == [
        "train/0",
        "train/1",
        "test/0",
    ]


def test_ids_of_rows_are_used_where_each_occurs_once(tmp_path: Path) -> None:
    splits = DatasetDict(train=table([row(id="0"), row(id="1")]), test=table([row(id="2")]))
    assert [document.id for document in read_corpus(saved(splits, tmp_path)).documents] == ["0", "1", "2"]


def test_ids_that_each_split_counts_anew_give_way_to_numbers_and_are_counted(tmp_path: Path) -> None:
    splits = DatasetDict(train=table([row(id="0"), row(id="1")]), test=table([row(id="1")]))
    path = saved(splits, tmp_path)
    corpus = read_corpus(path)
    assert [document.id for document in corpus.documents] == ["train/0", "train/1", "test/0"]
    issue = Issue("ids that occur before, all rows numbered instead", 1, f"{path} (test), row 0")
    assert issue in corpus.report.issues


@pytest.mark.parametrize("column", ["ner_tags", "tags", "labels"])
@pytest.mark.parametrize("words", ["tokens", "words"])
def test_columns_are_found_under_each_accepted_name(column: str, words: str) -> None:
    dataset = Dataset.from_dict({words: [["a", "b", "c"]], column: [["B-X", "E-X", "U_Y"]]})
    (document,) = documents_of(dataset, Reading())
    assert document.spans == (Span(0, 3, "X"), Span(4, 5, "Y"))


def test_bare_types_count_as_inside() -> None:
    dataset = Dataset.from_dict({"tokens": [["a", "b", "c", "d"]], "tags": [["X", "X", "O", "Y"]]})
    (document,) = documents_of(dataset, Reading())
    assert document.spans == (Span(0, 3, "X"), Span(6, 7, "Y"))


def test_other_columns_are_counted_and_not_decoded() -> None:
    reading = Reading()
    dataset = Dataset.from_dict({"tokens": [["a"]], "tags": [["O"]], "chunk_tags": [[1]], "labels": [[0]]})
    assert [document.id for document in documents_of(dataset, reading)] == ["row/0"]
    assert [issue.kind for issue in reading.report.issues] == ["column chunk_tags", "column labels"]


def test_a_table_that_was_saved_with_another_format_is_read_as_it_is(tmp_path: Path) -> None:
    path = saved(table([row(id="a")]).with_format("numpy"), tmp_path)
    assert read_corpus(path).documents[0].text == "Severe pain . x"


def test_words_without_a_character_leave_exact_offsets() -> None:
    reading = Reading()
    dataset = table([row(tokens=["", "", "a", ""], ner_tags=[1, 0, 3, 4])])
    assert [document.spans for document in documents_of(dataset, reading)] == [(Span(2, 3, "Y"),)]
    assert [issue.kind for issue in reading.report.issues] == ["entities whose words have no character, left out"]


@pytest.mark.parametrize(
    ("dataset", "problem"),
    [
        (Dataset.from_dict({"tokens": [[CANARY]], "ner_tags": [[1]]}), "give its numbers their names"),
        (Dataset.from_dict({"tokens": [[CANARY]], "ner_tags": ["O"]}), "lists of class labels or of strings"),
        (Dataset.from_dict({"tokens": [[CANARY]], "pos": [[1]]}), "expected a column ner_tags or tags or labels"),
        (Dataset.from_dict({"text": [CANARY], "tags": [["O"]]}), "expected a column tokens or words, found tags, text"),
        (Dataset.from_dict({"tokens": [[CANARY]], "tags": [["O", "O"]]}), "row 0: expected a tag for each word"),
        (table([row(tokens=[CANARY], ner_tags=None)]), "row 0: expected a tag for each word"),
        (Dataset.from_dict({"tokens": [[CANARY, None]], "tags": [["O", "O"]]}), "row 0: expected a list of strings"),
        (Dataset.from_dict({"tokens": [CANARY], "tags": [["O"]]}), "row 0: expected a list of strings"),
        (Dataset.from_dict({"tokens": [[CANARY]], "tags": [[None]]}), "row 0: the tag at position 0 is neither"),
        (Dataset.from_dict({"tokens": [[CANARY]], "tags": [["B-"]]}), "row 0: the tag at position 0 is neither"),
        (table([row(tokens=[CANARY], ner_tags=[-1])]), "row 0: the tag at position 0 is not one of the 5"),
        (table([row(tokens=[CANARY], ner_tags=[None])]), "row 0: the tag at position 0 is not one of the 5"),
    ],
)
def test_what_is_no_words_and_tags_is_named_without_the_words(tmp_path: Path, dataset: Dataset, problem: str) -> None:
    path = saved(dataset, tmp_path)
    with pytest.raises(DataError) as caught:
        read_corpus(path)
    assert problem in str(caught.value)
    assert str(path) in str(caught.value)
    assert CANARY not in str(caught.value)


def test_a_malformed_row_is_left_out_and_counted(tmp_path: Path) -> None:
    path = saved(table([row(), row(ner_tags=[0]), row()]), tmp_path)
    corpus = read_corpus(path, on_error="skip")
    assert [document.id for document in corpus.documents] == ["row/0", "row/2"]
    assert Issue("malformed, skipped", 1, str(path)) in corpus.report.issues


@pytest.mark.parametrize("name", ["dataset_info.json", "state.json", "data-00000-of-00001.arrow"])
@pytest.mark.parametrize("content", [b"", b"{}", b"[]", CANARY.encode(), None])
def test_a_folder_with_a_broken_file_is_refused(tmp_path: Path, name: str, content: bytes | None) -> None:
    path = saved(table([row(tokens=[CANARY] * 4)]), tmp_path)
    if content is None:
        (path / name).unlink()
    else:
        (path / name).write_bytes(content)
    if (name, content) == ("dataset_info.json", b"{}"):  # the columns are named in the other file too
        assert len(read_corpus(path).documents) == 1
        return
    with pytest.raises(DataError) as caught:
        read_corpus(path, "datasets")
    assert str(path) in str(caught.value)
    assert CANARY not in str(caught.value)


def test_a_broken_split_is_refused(tmp_path: Path) -> None:
    path = saved(DatasetDict(train=table([row()])), tmp_path)
    (path / "dataset_dict.json").write_text('{"splits": ["train", "nowhere"]}')
    with pytest.raises(DataError, match="cannot be loaded"):
        read_corpus(path)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder that save_to_disk made"):
        read_corpus(tmp_path, "datasets")


def test_reading_and_writing_leave_no_file_elsewhere_need_no_network_and_no_torch(tmp_path: Path) -> None:
    code = """
import socket, sys
def refuse(*_, **__): raise AssertionError("network")
socket.socket.connect = socket.getaddrinfo = refuse
from pathlib import Path
from cardioner.data.documents import Document, Span
from cardioner.data.formats import read_corpus, write_corpus
where = Path(sys.argv[1])
write_corpus([Document("a", "Severe pain", (Span(0, 6, "X"),))], where, "datasets")
assert read_corpus(where).documents[0].spans == (Span(0, 6, "X"),)
assert "torch" not in sys.modules
"""
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "XDG_"))}
    places = {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "home")}
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "work" / "table")],
        env=kept | places,
        cwd=tmp_path / "work",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert not list((tmp_path / "home").rglob("*"))
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["table"]


def test_without_the_package_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    for act in (
        lambda: read_corpus(tmp_path, "datasets"),
        lambda: write_corpus([], tmp_path / "o", "datasets"),
    ):
        with pytest.raises(UsageError, match="pip install datasets"):
            act()


# Writing


def test_documents_become_rows_with_class_labels(tmp_path: Path) -> None:
    documents = [
        Document("a", "Severe pain.", (Span(7, 11, "Y"), Span(0, 11, "X", 0.5))),
        Document("b", ""),
        Document("c", "one\ntwo", (Span(4, 7, "Ä b"),)),
    ]
    issues = write_corpus(documents, tmp_path / "o", "datasets")
    assert issues == (
        Issue("overlapping spans, left out", 1, "a"),
        Issue("scores, left out", 1, "a"),
        Issue("texts, rebuilt with single spaces", 2, "a"),
    )
    made = datasets.load_from_disk(str(tmp_path / "o"))
    assert made.features["ner_tags"].feature.names == ["O", "B-X", "I-X", "B-Ä b", "I-Ä b"]
    assert made.to_list() == [
        {"id": "a", "tokens": ["Severe", "pain", "."], "ner_tags": [1, 2, 0]},
        {"id": "b", "tokens": [], "ner_tags": []},
        {"id": "c", "tokens": ["one", "two"], "ner_tags": [0, 3]},
    ]
    assert [document.id for document in read_corpus(tmp_path / "o").documents] == ["a", "b", "c"]


def test_a_table_without_rows_is_refused_as_the_package_cannot_load_one(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no documents to write"):
        write_corpus([], tmp_path / "o", "datasets")
    assert not list(tmp_path.iterdir())


def test_progress_bars_are_quiet_and_come_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    datasets.enable_progress_bars()
    write_corpus([Document("a", "x")], tmp_path / "o", "datasets")
    read_corpus(tmp_path / "o")
    assert not datasets.are_progress_bars_disabled()
    assert capfd.readouterr() == ("", "")


def test_only_a_table_is_replaced_and_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "o"
    path.mkdir()
    write_corpus([Document("a", "x")], path, "datasets")
    with pytest.raises(OutputError, match="ask to overwrite"):
        write_corpus([Document("b", "x")], path, "datasets")
    with pytest.raises(OutputError, match="half of a surrogate pair"):
        write_corpus([Document("b", "x"), Document("\ud800", "x")], path, "datasets", overwrite=True)
    assert [document.id for document in read_corpus(path).documents] == ["a"]
    write_corpus([*read_corpus(path).documents, Document("b", "x")], path, "datasets", overwrite=True)
    assert [document.id for document in read_corpus(path).documents] == ["a", "b"]
    assert list(tmp_path.iterdir()) == [path]
    other = tmp_path / "notes"
    other.mkdir()
    (other / "a.txt").touch()
    with pytest.raises(OutputError, match="is not a table"):
        write_corpus([], other, "datasets", overwrite=True)
    assert (other / "a.txt").exists()
