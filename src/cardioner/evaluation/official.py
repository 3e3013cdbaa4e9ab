"""The scorers of shared tasks, to the digit: for figures to compare with published ones. All round to four digits.

MultiCardioNER 2024 (https://github.com/nlp4bia-bsc/multicardioner_evaluation_library): predicted spans with the file,
label, start and end of an earlier one are dropped, gold ones are not; a hit needs equal file, label, start, end and
text; predictions for files without gold spans count for nothing. Rows are compared as sets, so a row from 5 to 0
matches one from 0 to 5, although it cannot be a span.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cardioner.errors import UsageError, many
from cardioner.evaluation.scores import FIGURES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cardioner.data.documents import ImpossibleSpan, Span
    from cardioner.evaluation.pairing import Pair
    from cardioner.evaluation.scores import JsonValue

_BREAKS_AS_SPACES = str.maketrans("\r\n\t", "   ")


@dataclass(frozen=True, slots=True)
class OfficialScores:
    """What a shared task's own scorer prints.

    Attributes:
        name: Of the scorer.
        found: Figures and counts, ready for JSON.
        lines: The figures in the scorer's own words.
        left_out: What its rules do not count, in words.
    """

    name: str
    found: Mapping[str, JsonValue]
    lines: tuple[str, ...]
    left_out: str

    def to_dict(self) -> dict[str, JsonValue]:
        """Ready for JSON."""
        return {"name": self.name, **self.found}


def score_multicardioner(pairs: Iterable[Pair]) -> OfficialScores:
    """Score as the MultiCardioNER task does.

    Raises:
        UsageError: If the text of a span is not known.
    """
    hits = wrong = missed = repeated = ignored = 0
    for pair in pairs:
        gold_mentions, mentions = pair.mentions
        gold = Counter(map(frozenset, _rows(pair, pair.gold.spans, gold_mentions)))
        rows = _rows(pair, pair.predicted.spans, mentions)
        rows += _rows(pair, pair.impossible, [span.mention for span in pair.impossible])
        predicted = list({row[:3]: row for row in reversed(rows)}.values())  # the first of its place stays
        repeated += len(rows) - len(predicted)
        if not gold:
            ignored += len(predicted)
            continue
        found = (gold & Counter(map(frozenset, predicted))).total()  # sets, as in the scorer: 5 to 0 is 0 to 5
        hits, wrong, missed = hits + found, wrong + len(predicted) - found, missed + gold.total() - found
    figures = _figures(_share(hits, hits + wrong), _share(hits, hits + missed))
    names = ("precision", "recall", "F-score")
    return OfficialScores(
        "multicardioner",
        {**figures, "tp": hits, "fp": wrong, "fn": missed, "repeated": repeated, "ignored": ignored},
        tuple(f"Micro-average {name}: {value}" for name, value in zip(names, figures.values(), strict=True)),
        f"{many(repeated, 'repeated span')}, and {many(ignored, 'span')} in notes without gold spans",
    )


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


def _share(part: int, whole: int) -> float:
    """A whole 0 where there is nothing to divide by, as the scorers have it."""
    return part / whole if whole else 0


def _figures(precision: float, recall: float) -> dict[str, float]:
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0
    return {name: round(value, 4) for name, value in zip(FIGURES, (precision, recall, f1), strict=True)}
