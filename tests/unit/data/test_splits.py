"""Splits on disk and applied to a corpus."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cardioner.data.documents import Document, Span
from cardioner.data.near_duplicates import Group
from cardioner.data.splits import (
    Splits,
    apply_splits,
    make_folds,
    make_splits,
    read_splits,
    write_older_splits,
    write_splits,
)
from cardioner.errors import DataError, OutputError, UsageError

SPLITS = Splits(train=("a", "ward/é"), validation=("b",), test=("c",))


def corpus(*ids: str) -> list[Document]:
    return [Document(name, "A note.") for name in ids]


def notes(count: int, label: str = "", prefix: str = "n") -> list[Document]:
    """Notes that have nothing in common, each with one entity, or with none."""
    spans = (Span(0, 1, label),) if label else ()
    return [
        Document(name, " ".join(f"{name}w{word}" for word in range(10)), spans)
        for name in (f"{prefix}{number:03}" for number in range(count))
    ]


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


def test_splits_are_written_into_a_new_folder_but_not_into_a_file(tmp_path: Path) -> None:
    write_splits(SPLITS, f"{tmp_path}/new/splits.json")
    assert read_splits(f"{tmp_path}/new/splits.json") == SPLITS
    with pytest.raises(OutputError, match="cannot be written"):
        write_splits(SPLITS, tmp_path / "new" / "splits.json" / "splits.json")


def test_documents_go_to_their_parts_and_the_rest_is_counted() -> None:
    documents = corpus("c", "x", "ward/é", "b", "a", "y")
    parts = apply_splits(documents, SPLITS)
    assert [[document.id for document in part] for part in parts] == [["ward/é", "a"], ["b"], ["c"]]
    assert SPLITS.count_left_out(documents) == 2


def test_ids_that_the_corpus_lacks_are_listed_up_to_ten() -> None:
    splits = Splits(train=("a",), test=tuple(f"lost{number:02}" for number in range(12)))
    with pytest.raises(DataError, match=r"12 ids of the splits not in the corpus: lost00, .*lost09 and 2 more"):
        apply_splits(corpus("a"), splits)


def test_a_corpus_with_an_id_twice_cannot_be_split() -> None:
    with pytest.raises(DataError, match="found more often: a"):
        apply_splits(corpus("a", "a"), Splits(train=("a",)))


def test_each_part_gets_its_share_of_documents_of_types_and_of_documents_without_entities() -> None:
    documents = notes(100, "DISEASE", "d") + notes(20, "DRUG", "r") + notes(30, prefix="e")
    parts = apply_splits(documents, make_splits(documents, (80, 10, 10), seed=3))
    assert [len(part) for part in parts] == [120, 15, 15]
    for label, shares in {"DISEASE": [80, 10, 10], "DRUG": [16, 2, 2], "": [24, 3, 3]}.items():
        found = [
            sum(label == (document.spans[0].label if document.spans else "") for document in part) for part in parts
        ]
        assert found == shares, label


def test_near_identical_documents_stay_together() -> None:
    documents = notes(30)
    copies = [Document(f"copy{number}", documents[0].text + f" {number}") for number in range(4)]
    for seed in range(10):
        splits = make_splits([*documents, *copies], (1, 1, 1), seed=seed)
        held = [{"n000", "copy0", "copy1", "copy2", "copy3"} & set(part) for part in (splits.train, splits.validation)]
        assert all(len(part) in {0, 5} for part in held)


def test_groups_of_the_caller_take_the_place_of_those_found() -> None:
    documents = [Document(name, "The same text in every one of them.") for name in "abcdef"]
    groups = [Group(("a", "f"), identical=True)]
    splits = make_splits(documents, (1, 1, 0), seed=0, groups=groups)
    assert len(splits.train) == len(splits.validation) == 3
    assert ("a" in splits.train) == ("f" in splits.train)


@pytest.mark.parametrize(
    ("groups", "problem"),
    [
        ([Group(("a", "z"), identical=False)], "1 id of the groups not in the corpus: z"),
        ([Group(("a", "b"), identical=False), Group(("b", "c"), identical=False)], "found more often: b"),
    ],
)
def test_groups_that_do_not_fit_the_corpus_are_refused(groups: list[Group], problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        make_splits(corpus("a", "b", "c"), (1, 1, 1), seed=0, groups=groups)


def test_a_part_with_ratio_0_is_empty_and_the_others_are_not() -> None:
    splits = make_splits(notes(3), (98, 0, 2), seed=0)
    assert (len(splits.train), splits.validation, len(splits.test)) == (2, (), 1)
    assert [len(part) for part in parts_of(make_splits(notes(3), (98, 1, 1), seed=0))] == [1, 1, 1]


def parts_of(splits: Splits) -> tuple[tuple[str, ...], ...]:
    return splits.train, splits.validation, splits.test


@pytest.mark.parametrize("scale", [0.01, 1, 7])
def test_only_the_proportions_of_the_ratios_count(scale: float) -> None:
    documents = notes(50, "A", "a") + notes(17, "B", "b")
    ratios = (round(70 * scale, 2), round(20 * scale, 2), round(10 * scale, 2))
    assert make_splits(documents, ratios, seed=5) == make_splits(documents, (70, 20, 10), seed=5)


def test_another_seed_gives_other_parts() -> None:
    assert len({make_splits(notes(40), (1, 1, 1), seed=seed) for seed in range(5)}) == 5


def test_the_parts_of_a_seed_are_the_same_in_every_release() -> None:
    assert make_splits(notes(8, "A"), (2, 1, 1), seed=1) == Splits(
        ("n001", "n002", "n003", "n006"), ("n004", "n007"), ("n000", "n005")
    )


@pytest.mark.parametrize("ratios", [(0, 0, 0), (80, -1, 10), (float("nan"), 1, 1), (float("inf"), 1, 1)])
def test_ratios_that_are_no_shares_are_refused(ratios: tuple[float, float, float]) -> None:
    with pytest.raises(UsageError, match="ratios are numbers of 0 or more, and not all 0; found"):
        make_splits(notes(5), ratios, seed=0)


def test_fewer_groups_than_parts_are_refused() -> None:
    same = [Document(name, "One text.") for name in "abcd"]
    with pytest.raises(DataError, match="at least 3 groups of documents, one for each part; found 1 in 4 documents"):
        make_splits(same, (80, 10, 10), seed=0)
    with pytest.raises(DataError, match="at least 5 groups of documents, one for each part; found 4 in 4 documents"):
        make_folds(notes(4), 5, seed=0)


def test_a_corpus_with_an_id_twice_is_not_divided() -> None:
    with pytest.raises(DataError, match="found more often: a"):
        make_splits(corpus("a", "b", "a"), (1, 1, 1), seed=0)
    with pytest.raises(DataError, match="found more often: a"):
        make_splits(corpus("a", "b", "a"), (1, 1, 1), seed=0, groups=())


def test_every_document_is_held_out_in_one_fold_and_learned_from_in_the_others() -> None:
    documents = notes(10, "A", "a") + notes(13, prefix="e")
    folds = make_folds(documents, 4, seed=0)
    assert sorted(name for fold in folds for name in fold.validation) == sorted(document.id for document in documents)
    assert sorted(len(fold.validation) for fold in folds) == [5, 6, 6, 6]
    for fold in folds:
        assert sorted(fold.train + fold.validation) == sorted(document.id for document in documents)
        assert fold.test == ()
        assert 2 <= sum(name.startswith("a") for name in fold.validation) <= 3


def test_a_single_fold_is_refused() -> None:
    with pytest.raises(UsageError, match="2 folds or more; found 1"):
        make_folds(notes(5), 1, seed=0)


@pytest.mark.parametrize("name", ["validation", "dev", "devel", "val"])
def test_the_older_form_is_read_as_the_union_of_its_lists(tmp_path: Path, name: str) -> None:
    content = {
        "en": {"train": {"DRUG": ["b", "a"], "DISEASE": ["a", "c"]}, name: {"DRUG": ["d"]}, "test": {}},
        "es": {"train": {"DRUG": ["a", "z"]}},
    }
    (tmp_path / "splits.json").write_text(json.dumps(content))
    assert read_splits(tmp_path / "splits.json") == Splits(("a", "b", "c", "z"), ("d",))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"en": {"train": {"DRUG": ["a"]}, "test": {"DISEASE": ["a"]}}}, "in one part, once; found more often: a"),
        ({"en": {"train": {"DRUG": "a"}}}, "a part is not a list of document ids"),
        ({"en": {"train": ["a"]}}, "a part below a language has no lists by entity type"),
        ({"en": {"test": {"DRUG": ["a"]}}}, "expected JSON such as"),
        ({"en": {"train": {}, "held": {}, "The patient died": {}}}, "2 unknown keys ['held']; expected"),
    ],
)
def test_a_file_that_is_not_quite_the_older_form_is_refused(tmp_path: Path, content: object, problem: str) -> None:
    path = tmp_path / "splits.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=re.escape(problem)):
        read_splits(path)


def test_the_older_form_lists_documents_by_the_types_they_hold(tmp_path: Path) -> None:
    both = Document("c", "A note.", (Span(0, 1, "DRUG"), Span(2, 6, "DISEASE"), Span(2, 3, "DRUG")))
    documents = [Document("x", "In no part."), both, *notes(1, "DRUG", "b"), *notes(1, prefix="a")]
    splits = Splits(("a000", "b000", "c"))
    write_older_splits(splits, documents, tmp_path / "splits.json", language="en")
    assert json.loads((tmp_path / "splits.json").read_text()) == {
        "en": {
            "train": {"DISEASE": ["c"], "DRUG": ["b000", "c"], "none": ["a000"]},
            "validation": {},
            "test": {},
        }
    }
    assert read_splits(tmp_path / "splits.json") == splits


def test_the_older_form_is_only_replaced_when_asked_and_needs_every_document(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    write_older_splits(Splits(("a",)), corpus("a"), path, language="en")
    with pytest.raises(OutputError, match="exists"):
        write_older_splits(Splits(("b",)), corpus("b"), path, language="en")
    with pytest.raises(DataError, match="1 id of the splits not in the corpus: z"):
        write_older_splits(Splits(("z",)), corpus("b"), path, language="en", overwrite=True)
    assert read_splits(path) == Splits(("a",))
    write_older_splits(Splits(("b",)), corpus("b"), path, language="en", overwrite=True)
    assert read_splits(path) == Splits(("b",))
