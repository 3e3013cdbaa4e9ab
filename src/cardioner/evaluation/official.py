"""The scorers of shared tasks, to the digit: for figures to compare with published ones. All round to four digits.

MultiCardioNER 2024 (https://github.com/nlp4bia-bsc/multicardioner_evaluation_library): predicted spans with the file,
label, start and end of an earlier one are dropped, gold ones are not; a hit needs equal file, label, start, end and
text; predictions for files without gold spans count for nothing. Rows are compared as sets, so a row from 5 to 0
matches one from 0 to 5, although it cannot be a span.

MultiClinAI 2026 (https://github.com/nlp4bia-bsc/MultiClinAIEval, its README and `src/evaluate.py`): predicted spans
with the file, label, start and end of an earlier one are dropped, gold ones are not; a strict hit needs equal file,
label, start and end, one-to-one; texts play no part. Beside it stands `char_f1`: each gold span has the best F1 over
characters that a predicted span of its file and label reaches with it, each predicted span likewise, many-to-many; the
means are recall and precision. It prints figures for one entity type or for all together. Its tables hold no fragments:
here a discontinuous span reaches from its first to its last character.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import fsum
from typing import TYPE_CHECKING, Any

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


def score_multiclinai(pairs: Iterable[Pair]) -> OfficialScores:
    """Score as the MultiClinAI task does, all entity types together and each one.

    Raises:
        UsageError: If a row cannot be a span, which the scorer refuses too.
    """
    by_label: dict[str, _Overlaps] = {}
    repeated = 0
    for pair in pairs:
        if pair.impossible:
            raise UsageError(
                f"document {pair.id}: the official scorer refuses rows that do not end after their start: remove them"
            )
        gold, found = (
            [(span.label, span.start, span.end) for span in side.spans] for side in (pair.gold, pair.predicted)
        )
        predicted = list(dict.fromkeys(found))
        repeated += len(found) - len(predicted)
        for label in {row[0] for row in gold + predicted}:
            places = ([(start, end) for name, start, end in side if name == label] for side in (gold, predicted))
            by_label[label] = by_label.get(label, _Overlaps()) + _Overlaps.of(*places)
    whole = sum(by_label.values(), _Overlaps()).figures()
    scored = {label: by_label[label].figures() for label in sorted(by_label)}
    lines = (
        f"{label} {metric}: " + ", ".join(f"{name} {figures[name]}" for name in FIGURES)
        for label, metrics in {"all": whole, **scored}.items()
        for metric, figures in metrics.items()
    )
    content: dict[str, Any] = {**whole, "per_type": scored, "repeated": repeated}
    return OfficialScores("multiclinai", content, tuple(lines), many(repeated, "repeated predicted span"))


OFFICIAL = {"multicardioner": score_multicardioner, "multiclinai": score_multiclinai}
"""Scorers by name."""

_Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Overlaps:
    """Strict hits, and of every gold and every predicted span its best F1 over characters."""

    hits: int = 0
    gold: tuple[float, ...] = ()
    predicted: tuple[float, ...] = ()

    def __add__(self, other: _Overlaps) -> _Overlaps:
        return _Overlaps(self.hits + other.hits, self.gold + other.gold, self.predicted + other.predicted)

    @classmethod
    def of(cls, gold: Sequence[_Place], predicted: Sequence[_Place]) -> _Overlaps:
        """Those of the spans of one label in one document."""
        return cls(
            (Counter(gold) & Counter(predicted)).total(),
            tuple(max((_overlap_f1(one, other) for other in predicted), default=0.0) for one in gold),
            tuple(max((_overlap_f1(other, one) for other in gold), default=0.0) for one in predicted),
        )

    def figures(self) -> dict[str, dict[str, float]]:
        """By metric, as the scorer names figures and counts."""
        gold, predicted = len(self.gold), len(self.predicted)
        strict = _figures(_share(self.hits, predicted), _share(self.hits, gold))
        means = (fsum(shares) / len(shares) if shares else 0.0 for shares in (self.predicted, self.gold))
        return {
            "strict": {**strict, "tp": self.hits, "fp": predicted - self.hits, "fn": gold - self.hits},
            "char_f1": {**_figures(*means, nothing=0.0), "n_gold": gold, "n_pred": predicted},
        }


def _overlap_f1(gold: _Place, predicted: _Place) -> float:
    shared = min(gold[1], predicted[1]) - max(gold[0], predicted[0])
    if shared <= 0:
        return 0.0
    precision, recall = shared / (predicted[1] - predicted[0]), shared / (gold[1] - gold[0])
    return 2 * precision * recall / (precision + recall)


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


def _figures(precision: float, recall: float, *, nothing: float = 0) -> dict[str, float]:
    """Rounded; F1 is `nothing` where there is none: some scorers print a whole 0 there."""
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else nothing
    return {name: round(value, 4) for name, value in zip(FIGURES, (precision, recall, f1), strict=True)}
