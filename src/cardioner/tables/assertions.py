"""What the attributes of a mention assert of a patient: whether a finding is there, and when.

As OMOP defines `term_exists` and `term_temporal` of `note_nlp` (https://ohdsi.github.io/CommonDataModel/cdm54.html):
a finding that is negated, of someone else, conditional or hypothetical does not exist.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cardioner.errors import DataError, FormatError

THERE, NOT_THERE = "Y", "N"
PAST, PRESENT = "past", "present"
ABSENT = "none"
"""The value of an attribute that a model knows and does not find."""
MODIFIERS_LENGTH, _TEMPORAL_LENGTH = 2000, 50
"""Most characters of `term_modifiers` and of `term_temporal`."""

_COLUMNS = ("attribute", "value", "term_exists", "term_temporal")


class Assertion(NamedTuple):
    """What is asserted; `None` where nothing is.

    Attributes:
        exists: `Y` or `N`.
        temporal: When, as a word.
    """

    exists: str | None = None
    temporal: str | None = None


Rules = Mapping[tuple[str, str], Assertion]
"""What an attribute with a value asserts, both in lower case; the value is empty for all others, or `ABSENT`."""


@dataclass(frozen=True)
class Assertions:
    """Rules by which attributes assert something.

    Attributes:
        rules: As `read_assertions` gives them.
    """

    rules: Rules

    def of(self, attributes: Mapping[str, str], known: Iterable[str]) -> Assertion:
        """What a mention asserts.

        `N` goes before `Y`. A time that an attribute says goes before one that an absent attribute says.

        Args:
            attributes: Of the mention.
            known: The attributes that the model knows, whether the mention has them or not.
        """
        said = [self._rule(name, value) for name, value in sorted(attributes.items())]
        unsaid = [self.rules.get((_folded(name), ABSENT)) for name in sorted({*known} - attributes.keys())]
        found = [rule for rule in (*said, *unsaid) if rule is not None]
        exists = {rule.exists for rule in found}
        return Assertion(
            next((value for value in (NOT_THERE, THERE) if value in exists), None),
            next((rule.temporal for rule in found if rule.temporal), None),
        )

    def _rule(self, name: str, value: str) -> Assertion | None:
        return self.rules.get((_folded(name), _folded(value)), self.rules.get((_folded(name), "")))


def read_assertions(path: Path) -> Assertions:
    """Rules from a CSV file with the columns `attribute`, `value`, `term_exists` and `term_temporal`.

    A row without a value is for all values that have no row, one with `none` for mentions without the attribute.

    Raises:
        DataError: If the file cannot be read, or a row is malformed or contradicts another.
    """
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path} cannot be read ({type(error).__name__}): expected a CSV file of assertions") from None
    rows = csv.DictReader(content.splitlines())
    if not {*_COLUMNS} <= {*(rows.fieldnames or ())}:
        raise DataError(f"{path}: expected the columns {', '.join(_COLUMNS)}")
    rules: dict[tuple[str, str], Assertion] = {}
    for row in rows:
        name, value, exists, temporal = ((row[column] or "").strip() for column in _COLUMNS)
        if not name or exists not in ("", THERE, NOT_THERE) or len(temporal) > _TEMPORAL_LENGTH:
            problem = f"expected an attribute; {THERE}, {NOT_THERE} or nothing as term_exists; a word as term_temporal"
            raise FormatError(path, rows.line_num, problem)
        made = Assertion(exists or None, temporal or None)
        if rules.setdefault((_folded(name), _folded(value)), made) != made:
            raise FormatError(path, rows.line_num, f"another row for the same value of {name!r} stands above")
    return Assertions(rules)


def modifiers(attributes: Mapping[str, str]) -> str | None:
    """All attributes of a mention in one text; `None` without any."""
    return ", ".join(f"{name}={value}" for name, value in sorted(attributes.items())) or None


def _folded(name: str) -> str:
    """A name as it is compared: `is_negated`, `isNegated` and `Negated` are one."""
    return "".join(filter(str.isalnum, name.casefold())).removeprefix("is")


def _rules(names: str, values: str, exists: str | None = None, temporal: str | None = None) -> Rules:
    made = Assertion(exists, temporal)
    return {(name, value): made for name in names.split() for value in values.split() or [""]}


_NEGATION, _PERSON = "negation negated", "experiencer subject family"
_POLARITY, _TIME = "polarity presence assertion", "temporality time"
_CONDITION, _HISTORY = "hypothetical conditional", "history historical"
_NOT = "negative negated absent false conditional hypothetical associatedwithsomeoneelse"
DEFAULT = Assertions(
    {
        **_rules(_NEGATION, "", NOT_THERE),
        **_rules(_NEGATION, f"{ABSENT} affirmed positive no", THERE),
        **_rules(_POLARITY, _NOT, NOT_THERE),
        **_rules(_POLARITY, "positive affirmed present true", THERE),
        **_rules(_PERSON, "", NOT_THERE),
        **_rules(_PERSON, "patient self no"),
        **_rules(_CONDITION, "", NOT_THERE),
        **_rules(_TIME, "hypothetical conditional", NOT_THERE),
        **_rules(_TIME, "history historical past previous", temporal=PAST),
        **_rules(_TIME, f"{ABSENT} present current recent", temporal=PRESENT),
        **_rules(_HISTORY, "", temporal=PAST),
        **_rules(_HISTORY, ABSENT, temporal=PRESENT),
    }
)
"""Rules for names that corpora and taggers use, such as those of brat, of medspaCy, edsnlp and MedCAT, and of i2b2."""
