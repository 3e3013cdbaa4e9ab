"""Type names that look alike: exactly those of a textbook's edit distance, plurals, and other spellings."""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from cardioner.data.quality.type_names import find_similar_names


def levenshtein(first: str, second: str) -> int:
    """The textbook table."""
    row = list(range(len(second) + 1))
    for index, one in enumerate(first, start=1):
        before, row[0] = row[0], index
        for column, other in enumerate(second, start=1):
            before, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, before + (one != other))
    return row[-1]


@pytest.mark.parametrize("seed", range(10))
def test_names_within_one_edit_are_exactly_those_of_the_textbook(seed: int) -> None:
    chance = random.Random(seed)
    names = {"".join(chance.choice("ab") for _ in range(chance.randrange(4, 9))) for _ in range(40)}
    expected = {
        (one, other)
        for one, other in combinations(sorted(names), 2)
        if levenshtein(one, other) == 1 and min(len(one), len(other)) >= 5
    }
    assert {pair.names for pair in find_similar_names(names)} == expected
    assert {pair.why for pair in find_similar_names(names)} == {"one edit apart"}


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ("DISEASE", "Disease", "same letters and digits"),
        ("DRUG-NAME", "drug_name", "same letters and digits"),
        ("DRUG", "DRUGS", "singular and plural"),
        ("ENFERMEDAD", "ENFERMEDADES", "singular and plural"),
        ("Therapy", "THERAPIES", "singular and plural"),
        ("MEDICATION", "MEDICACION", "one edit apart"),
        ("SYMPTOM", "SYMPTON", "one edit apart"),
    ],
)
def test_names_that_look_alike_are_told_and_why(one: str, other: str, why: str) -> None:
    (pair,) = find_similar_names([one, other, "UNRELATED"])
    assert (set(pair.names), pair.why) == ({one, other}, why)


@pytest.mark.parametrize("names", [("DRUG", "DRAG"), ("GRADE1", "GRADE2"), ("A", "As"), ("--", "++"), ("DISEASE", "X")])
def test_names_that_are_meant_to_differ_are_let_be(names: tuple[str, str]) -> None:
    assert find_similar_names(names) == ()
