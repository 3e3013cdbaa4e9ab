"""Near-identical texts: what is one group, and what is not."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from cardioner.data import near_duplicates as similar
from cardioner.data.near_duplicates import Group, group_near_duplicates
from cardioner.errors import DataError, UsageError

SCRIPT = """
from cardioner.data.near_duplicates import group_near_duplicates
texts = [(f"n{i}", " ".join(f"w{i // 3}x{word}" for word in range(200)) + " end" * (i % 3)) for i in range(30)]
print(group_near_duplicates(texts))
"""


def words(generator: random.Random, count: int) -> list[str]:
    return [f"w{generator.randrange(10**6)}" for _ in range(count)]


def test_equal_texts_are_one_identical_group() -> None:
    texts = [("b", "One text of six words here."), ("a", "One text of six words here."), ("c", "Quite another text.")]
    assert group_near_duplicates(texts) == (Group(("a", "b"), identical=True),)


def test_texts_that_differ_in_case_and_punctuation_alone_are_near_identical() -> None:
    texts = [("a", "One text of six words here."), ("b", "ONE text, of six\r\nwords: here")]
    assert group_near_duplicates(texts) == (Group(("a", "b"), identical=False),)


def test_groups_are_linked_through_others() -> None:
    line = [f"w{number}" for number in range(120)]
    texts = [(name, " ".join(line[first : first + 100])) for name, first in (("a", 0), ("b", 10), ("c", 20))]
    assert group_near_duplicates([texts[0], texts[2]]) == ()
    assert group_near_duplicates(texts) == (Group(("a", "b", "c"), identical=False),)


def test_the_threshold_itself_is_similar_enough() -> None:
    first, second = "a b c d e f g h i j k l m", "a b c d e f g h i j k l x"  # 8 runs of 10 in common
    assert group_near_duplicates([("1", first), ("2", second)], threshold=8 / 10) == (
        Group(("1", "2"), identical=False),
    )
    assert group_near_duplicates([("1", first), ("2", second)], threshold=0.81) == ()


def test_texts_of_up_to_128_runs_are_compared_exactly() -> None:
    line = [f"w{number}" for number in range(144)]  # 120 runs each, 100 of them in common, 140 in all
    texts = [("a", " ".join(line[:124])), ("b", " ".join(line[20:]))]
    assert group_near_duplicates(texts, threshold=100 / 140) == (Group(("a", "b"), identical=False),)
    assert group_near_duplicates(texts, threshold=100 / 140 + 1e-6) == ()


@pytest.mark.parametrize("other", ["Chest pain", "chest pain today and", "pain chest today"])
def test_texts_of_fewer_than_five_words_are_similar_only_if_all_words_are_the_same(other: str) -> None:
    texts = [("a", "Chest pain today."), ("b", other), ("c", "(chest) PAIN, today")]
    assert group_near_duplicates(texts, threshold=0.1) == (Group(("a", "c"), identical=False),)


def test_texts_without_words_are_like_each_other_alone() -> None:
    texts = [("a", ""), ("b", ""), ("c", " -- "), ("d", "word")]
    assert group_near_duplicates(texts) == (Group(("a", "b", "c"), identical=False),)


@pytest.mark.parametrize("threshold", [0, -1, 1.01, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    with pytest.raises(UsageError, match="above 0 and up to 1"):
        group_near_duplicates([], threshold=threshold)


def test_an_id_that_occurs_twice_is_refused() -> None:
    with pytest.raises(DataError, match="found more often: a"):
        group_near_duplicates([("a", "One."), ("a", "Two.")])


def test_groups_are_the_same_in_every_process() -> None:
    printed = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(printed) == 1
    assert printed.pop().count("Group") == 10


def test_long_copies_with_small_changes_are_found_among_notes_with_the_same_letterhead() -> None:
    generator = random.Random(0)
    head = words(generator, 300)
    texts, expected = [], []
    for number in range(200):
        text = head + words(generator, 400)
        texts.append((f"n{number:03}", " ".join(text)))
        if number % 10 == 0:
            changed = [*text[:350], "changed", *text[350:]]
            texts.append((f"n{number:03}copy", " ".join(changed)))
            expected.append(Group((f"n{number:03}", f"n{number:03}copy"), identical=False))
    generator.shuffle(texts)
    assert list(group_near_duplicates(texts)) == expected


def test_many_copies_of_one_letter_take_no_comparison_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    generator, compared = random.Random(0), []
    exact = similar._similarity
    monkeypatch.setattr(similar, "_similarity", lambda one, other: compared.append(1) or exact(one, other))
    letter = words(generator, 190)
    texts = [(f"n{number:03}", " ".join([*letter, *words(generator, 10)])) for number in range(500)]
    (group,) = group_near_duplicates(texts)
    assert len(group.ids) == 500
    assert 499 <= len(compared) < 3 * 500, "all pairs would be 124,750"


def test_notes_that_share_a_letterhead_alone_are_hardly_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    generator, compared = random.Random(0), []
    monkeypatch.setattr(similar, "_similarity", lambda *_: compared.append(1) or 0.0)
    head = words(generator, 100)
    assert (
        group_near_duplicates((f"n{number}", " ".join([*head, *words(generator, 100)])) for number in range(300)) == ()
    )
    assert len(compared) < 300, "all pairs would be 44,850"
