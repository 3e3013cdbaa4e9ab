"""What attributes assert: by OMOP's definition, for names that corpora use, and by a file of the user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from cardioner.errors import DataError
from cardioner.tables.assertions import DEFAULT, Assertion, modifiers, read_assertions

THERE, NOT_THERE, PAST = Assertion("Y", None), Assertion("N", None), Assertion(None, "past")


@pytest.mark.parametrize(
    ("attributes", "known", "expected"),
    [
        ({}, [], Assertion()),
        ({}, ["Negation"], THERE),
        ({}, ["Uncertainty", "Experiencer"], Assertion()),  # nothing that says whether it is there
        ({}, ["Negation", "Temporality"], Assertion("Y", "present")),
        ({"Negation": "true"}, ["Negation", "Temporality"], Assertion("N", "present")),
        ({"Negation": "true"}, [], NOT_THERE),
        ({"Negation": "affirmed"}, ["Negation"], THERE),
        ({"Experiencer": "family"}, ["Experiencer", "Negation"], NOT_THERE),
        ({"Experiencer": "Patient"}, ["Experiencer", "Negation"], THERE),
        ({"Temporality": "history"}, ["Temporality", "Negation"], Assertion("Y", "past")),
        ({"Temporality": "hypothetical"}, ["Temporality", "Negation"], NOT_THERE),
        ({"Uncertainty": "true"}, ["Uncertainty"], Assertion()),
        ({"is_negated": "true"}, [], NOT_THERE),  # medspaCy
        ({"is_historical": "true"}, [], PAST),
        ({"history": "true"}, [], PAST),  # edsnlp
        ({"Presence": "False", "Subject": "Other", "Time": "Past"}, [], Assertion("N", "past")),  # MedCAT
        ({"assertion": "associated_with_someone_else"}, [], NOT_THERE),  # i2b2
        ({"assertion": "present"}, [], THERE),
    ],
)
def test_names_that_corpora_use_assert_what_they_mean(
    attributes: dict[str, str], known: list[str], expected: Assertion
) -> None:
    assert DEFAULT.of(attributes, known) == expected


def test_rules_of_a_file_take_the_place_of_ours(tmp_path: Path) -> None:
    place = tmp_path / "rules.csv"
    place.write_text(
        "\ufeffterm_exists,attribute,value,term_temporal\nN,Verneinung,,\nY,Verneinung,none,\n"
        ",Zeit,früher,Vorgeschichte\nN,Zeit,geplant,\n"
    )
    rules = read_assertions(place)
    assert rules.of({"verneinung": "true"}, []) == NOT_THERE
    assert rules.of({"Zeit": "Früher"}, ["Verneinung"]) == Assertion("Y", "Vorgeschichte")
    assert rules.of({"Zeit": "geplant"}, ["Verneinung"]) == NOT_THERE
    assert rules.of({"Negation": "true"}, ["Negation"]) == Assertion()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("attribute,value\nA,b\n", "expected the columns attribute, value, term_exists, term_temporal"),
        ("attribute,value,term_exists,term_temporal\n,b,Y,\n", "rules.csv:2: expected an attribute"),
        ("attribute,value,term_exists,term_temporal\nA,b,maybe,\n", "rules.csv:2: expected an attribute"),
        ("attribute,value,term_exists,term_temporal\nA\nA,b,Y,\na,B,N,\n", "rules.csv:4: another row"),
        (f"attribute,value,term_exists,term_temporal\nA,b,,{'x' * 51}\n", "rules.csv:2: expected an attribute"),
    ],
)
def test_rules_that_are_malformed_are_refused(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "rules.csv").write_text(content)
    with pytest.raises(DataError, match=said):
        read_assertions(tmp_path / "rules.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_assertions(tmp_path)


def test_modifiers_are_all_attributes_in_order() -> None:
    assert modifiers({"b": "x y", "a": "true"}) == "a=true, b=x y"
    assert modifiers({}) is None
