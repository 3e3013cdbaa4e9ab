"""Label sets: the same in every process, and a caller's own order kept."""

from __future__ import annotations

import pytest

from cardioner.data.documents import Document, Span
from cardioner.data.labels import LabelSet
from cardioner.errors import DataError, UsageError


def test_tags_of_types_are_sorted_behind_outside_whatever_the_order() -> None:
    expected = ("O", "B-DISEASE", "I-DISEASE", "B-DRUG", "I-DRUG")
    assert LabelSet.from_types(["DRUG", "DISEASE", "DRUG"]).tags == expected
    assert LabelSet.from_types({"DISEASE", "DRUG"}).tags == expected
    assert LabelSet.from_types(["B", "A"], scheme="BIOES").tags == (
        "O",
        *(f"{prefix}-{name}" for name in "AB" for prefix in "BIES"),
    )


def test_a_callers_ids_are_kept() -> None:
    mapping = {"I-A": 0, "O": 2, "B-A": 1}
    labels = LabelSet.from_mapping(mapping)
    assert labels.label2id == mapping
    assert labels.id2label == {0: "I-A", 1: "B-A", 2: "O"}


@pytest.mark.parametrize("ids", [(0, 2), (1, 2), (0, 0)])
def test_ids_with_gaps_or_twice_are_refused(ids: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="the ids 0 to 1, each once"):
        LabelSet.from_mapping(dict(zip(("O", "B-A"), ids, strict=True)))


@pytest.mark.parametrize("tags", [(), ("O", "O")])
def test_no_tag_or_a_tag_twice_is_refused(tags: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="at least one tag, each of them once"):
        LabelSet(tags)


def test_types_are_sorted_and_may_hold_hyphens() -> None:
    assert LabelSet(("B-X-RAY", "O", "I-X-RAY", "B-A")).types == ("A", "X-RAY")


@pytest.mark.parametrize(
    ("tags", "named"),
    [
        (("O", "I-X"), "missing: B-X"),
        (("O", "B-X"), "missing: I-X"),
        (("B-X", "I-X"), "missing: O"),
        (("O", "B-X", "I-X", "S-X"), "missing: E-X"),
        (("O", "B-X", "I-X", "L-X", "U-X"), "not understood: L-X, U-X"),
        (("O", "X"), "not understood: X"),
    ],
)
def test_a_scheme_other_than_bio_and_bioes_is_refused_by_name(tags: tuple[str, ...], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        LabelSet(tags).check_scheme()


def test_tags_in_any_order_are_a_scheme_and_each_type_may_have_its_own() -> None:
    LabelSet(("I-A", "O", "B-A")).check_scheme()
    LabelSet(("E-A", "I-A", "O", "S-A", "B-A", "I-B", "B-B")).check_scheme()


def test_types_without_tags_are_counted_and_refused() -> None:
    documents = [Document("a", "abc", (Span(0, 1, "Y"), Span(1, 2, "Y"), Span(2, 3, "X")))]
    with pytest.raises(DataError, match=r"the data also has Y \(2\)"):
        LabelSet.from_types(["X"]).check(documents)
