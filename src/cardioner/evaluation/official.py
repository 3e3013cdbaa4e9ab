"""The scorers of shared tasks, to the digit: for figures to compare with published ones.

MultiCardioNER 2024 (https://github.com/nlp4bia-bsc/multicardioner_evaluation_library): predicted spans with the file,
label, start and end of an earlier one are dropped, gold ones are not; a hit needs equal file, label, start, end and
text; predictions for files without gold spans count for nothing; figures are rounded to four digits. Rows are compared
as sets, so a row from 5 to 0 matches one from 0 to 5, although it cannot be a span.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cardioner.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cardioner.data.documents import ImpossibleSpan, Span
    from cardioner.evaluation.pairing import Pair
    from cardioner.evaluation.scores import JsonValue

_DIGITS = 4
_BREAKS_AS_SPACES = str.maketrans("\r\n\t", "   ")


@dataclass(frozen=True, slots=True)
class OfficialScores:
    """What a shared task's own scorer prints.

    Attributes:
        name: Of the scorer.
        true_positives: Hits.
        false_positives: Predicted spans without hit, repeated ones and those of unknown files left out.
        false_negatives: Gold spans without hit.
        repeated: Predicted spans that were dropped as repeated.
        ignored: Predicted spans that were ignored, as their files have no gold span.
    """

    name: str
    true_positives: int
    false_positives: int
    false_negatives: int
    repeated: int
    ignored: int

    @property
    def precision(self) -> float:
        """Rounded, and a whole 0 where there is nothing to divide by, as the scorer has it."""
        return round(self._precision, _DIGITS)

    @property
    def recall(self) -> float:
        """As `precision`."""
        return round(self._recall, _DIGITS)

    @property
    def f1(self) -> float:
        """As `precision`."""
        precision, recall = self._precision, self._recall
        return round(2 * precision * recall / (precision + recall), _DIGITS) if precision and recall else 0

    @property
    def _precision(self) -> float:
        predicted = self.true_positives + self.false_positives
        return self.true_positives / predicted if predicted else 0

    @property
    def _recall(self) -> float:
        gold = self.true_positives + self.false_negatives
        return self.true_positives / gold if gold else 0

    def lines(self) -> tuple[str, ...]:
        """The figures in the scorer's own words."""
        return (
            f"Micro-average precision: {self.precision}",
            f"Micro-average recall: {self.recall}",
            f"Micro-average F-score: {self.f1}",
        )

    def to_dict(self) -> dict[str, JsonValue]:
        """Ready for JSON."""
        counts = {"tp": self.true_positives, "fp": self.false_positives, "fn": self.false_negatives}
        figures = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {"name": self.name, **figures, **counts, "repeated": self.repeated, "ignored": self.ignored}


def score_multicardioner(pairs: Iterable[Pair]) -> OfficialScores:
    """Score as the MultiCardioNER task does.

    Raises:
        UsageError: If the text of a span is not known.
    """
    hits = wrong = missed = repeated = ignored = 0
    for pair in pairs:
        gold = Counter(map(frozenset, _rows(pair, pair.gold.spans, pair.gold_mentions)))
        rows = _rows(pair, pair.predicted.spans, pair.predicted_mentions)
        rows += _rows(pair, pair.impossible, [span.mention for span in pair.impossible])
        predicted = list({row[:3]: row for row in reversed(rows)}.values())  # the first of its place stays
        repeated += len(rows) - len(predicted)
        if not gold:
            ignored += len(predicted)
            continue
        found = (gold & Counter(map(frozenset, predicted))).total()  # sets, as in the scorer: 5 to 0 is 0 to 5
        hits, wrong, missed = hits + found, wrong + len(predicted) - found, missed + gold.total() - found
    return OfficialScores("multicardioner", hits, wrong, missed, repeated, ignored)


OFFICIAL = {"multicardioner": score_multicardioner}
"""Scorers by name."""

_Row = tuple[str, int, int, str]


def _rows(pair: Pair, spans: Sequence[Span | ImpossibleSpan], mentions: Sequence[str | None]) -> list[_Row]:
    """Label, start, end and text of spans; a newline or a tab reads as a space, as tables have it."""
    if None in mentions:
        raise UsageError(
            f"document {pair.id}: the official scorer compares the text of spans, which is not known: "
            "give a table with a text column, or the notes"
        )
    return [
        (span.label, span.start, span.end, (mention or "").translate(_BREAKS_AS_SPACES))
        for span, mention in zip(spans, mentions, strict=True)
    ]
