"""An evaluation as one HTML page that needs no network and no other file."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from cardioner.evaluation.error_analysis import ERRORS, KINDS
from cardioner.evaluation.matching import CRITERIA
from cardioner.evaluation.scores import FIGURES
from cardioner.reports import html
from cardioner.reports.evaluation.plots import plots_of
from cardioner.reports.evaluation.side_by_side import lay_out
from cardioner.reports.html import COUNT_COLUMNS, SCORE_COLUMNS, Table, count_cells, score_cells, score_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cardioner.evaluation.calibration import Calibration
    from cardioner.evaluation.evaluate import Evaluation
    from cardioner.evaluation.intervals import Intervals
    from cardioner.evaluation.scores import Counts

_MEANINGS = {
    "strict": "same first and last character, same type",
    "exact": "same first and last character, any type",
    "partial": "a shared character, any type; half credit unless first and last are the same",
    "type": "a shared character, same type",
    "relaxed": "a shared or adjacent character, same type; repeated spans are left out",
}
assert _MEANINGS.keys() == CRITERIA.keys()

_SIGNS = {"correct": "✓", "boundary": "↔", "type": "≠", "both": "≠↔", "missed": "−", "spurious": "+"}
assert tuple(_SIGNS) == KINDS


def render(evaluation: Evaluation, *, ids_only: bool = False, names: tuple[str, str] = ("gold", "predicted")) -> str:
    """The page.

    Args:
        evaluation: What was found.
        ids_only: Leave the text of the notes out; otherwise the page is as private as the notes.
        names: What gold and predicted notes are called.

    Returns:
        HTML, the same for the same evaluation.

    Raises:
        UsageError: If jinja2 or matplotlib is missing.
    """
    pairs, analysis = evaluation.pairing.pairs, evaluation.analysis
    styles = html.type_styles(evaluation.scores.strict.per_type)
    sheets = [lay_out(pair, analysis.outcomes[pair.id], styles, with_text=not ids_only) for pair in pairs]
    return html.render_page(
        "cardioner.reports.evaluation",
        plots_of(evaluation),
        **{field.name: getattr(evaluation, field.name) for field in fields(evaluation)},
        names=names,
        tables=_tables(evaluation),
        grouped=_grouped(evaluation),
        styles=styles,
        sheets=sheets,
        number_of={sheet.pair.id: number for number, sheet in enumerate(sheets)},
        texts=sum(sheet.rows is not None for sheet in sheets),
        kinds=KINDS,
        errors=ERRORS,
        signs=_SIGNS,
    )


def _tables(evaluation: Evaluation) -> dict[str, Table]:
    """The tables of the page, by name."""
    scores, intervals, kinds = evaluation.scores, evaluation.intervals, evaluation.analysis.kinds
    criteria = []
    for criterion, meaning in _MEANINGS.items():
        found = scores.by(criterion)
        figures = _with_intervals(score_cells(found.micro), intervals, criterion, "micro")
        macro = _with_intervals(("", "", score_text(found.macro.f1)), intervals, criterion, "macro")[2]
        matched, *others = count_cells(found.micro)
        half = found.micro.partial if criterion == "partial" else ""
        criteria.append((criterion, meaning, *figures, macro, matched, half, *others))
    types = [
        (label, *_with_intervals(score_cells(one), intervals, "strict", f"per_type/{label}"), *count_cells(one))
        for label, one in scores.strict.per_type.items()
    ]
    heads = ("criterion", "a match needs", *SCORE_COLUMNS, "macro F1", "matched", "half credit", "wrong", "missed")
    rows = [(label, *(counts[kind] for kind in KINDS)) for label, counts in kinds.items()]
    total = ("all", *(sum(counts[kind] for counts in kinds.values()) for kind in KINDS))
    return {
        "criteria": Table(heads, criteria, left=2, highlighted=0),
        "types": Table(("type", *SCORE_COLUMNS, *COUNT_COLUMNS), types),
        "thresholds": _thresholds(evaluation.calibration),
        "kinds": Table(("type", *(f"{_SIGNS[kind]} {kind}" for kind in KINDS)), [*rows, total], total=True),
    }


def _with_intervals(cells: tuple[str, str, str], intervals: Intervals | None, criterion: str, row: str) -> list[Any]:
    """Precision, recall and F1, each with its interval below it if it has one."""
    if intervals is None:
        return [*cells]
    found = [intervals.of(criterion, row, name) for name in FIGURES]
    return [(cell, f"{score_text(low)} to {score_text(high)}") for cell, (low, high) in zip(cells, found, strict=True)]


def _thresholds(calibration: Calibration | None) -> Table:
    """What accepting spans above a score would mean."""
    heads = ("minimum score", "accepted", "precision", "recall", "spans to review")
    rows = []
    for row in calibration.thresholds if calibration else ():
        precision, review = score_text(row.precision if row.accepted else None), f"{100 * row.review:.1f} %"
        rows.append((f"{row.score:.2f}", row.accepted, precision, score_text(row.recall), review))
    return Table(heads, rows, left=0)


def _grouped(evaluation: Evaluation) -> dict[str, Table]:
    """Strict scores by what may explain errors, by the title of their section; a group without spans has none."""
    analysis, tables = evaluation.analysis, {}
    given: list[tuple[str, str, Mapping[str, Counts] | None]] = [
        ("Mentions seen in training, and others", "mention", analysis.by_mention),
        ("Length of spans", "characters", analysis.by_length),
        ("Position in the note", "span begins at", analysis.by_position),
    ]
    for title, head, groups in given:
        rows = [
            (name, one.gold, one.predicted, *(score_cells(one) if one.gold or one.predicted else [None] * 3))
            for name, one in (groups or {}).items()
        ]
        if groups is not None:
            tables[title] = Table((head, "gold", "predicted", *SCORE_COLUMNS), rows)
    return tables
