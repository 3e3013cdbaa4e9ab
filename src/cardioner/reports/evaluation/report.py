"""An evaluation as one HTML page that needs nothing but itself: no network, no file beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cardioner.evaluation.error_analysis import ERRORS, KINDS
from cardioner.evaluation.matching import CRITERIA
from cardioner.reports import check_installed, render_page, type_styles, write_page
from cardioner.reports.evaluation.plots import plot_evaluation
from cardioner.reports.evaluation.side_by_side import lay_out

if TYPE_CHECKING:
    from pathlib import Path

    from cardioner.evaluation.evaluate import Evaluation

SHOWN = 50
"""Most rows of a list on the page."""

_MEANINGS = {
    "strict": "same first and last character, same type",
    "exact": "same first and last character, any type",
    "partial": "a shared character, for half credit unless first and last are the same; any type",
    "type": "a shared character, same type",
    "relaxed": "a shared or neighbouring character, same type; repeated spans left out",
}
assert _MEANINGS.keys() == CRITERIA.keys()

_SIGNS = {"correct": "✓", "boundary": "↔", "type": "≠", "both": "≠↔", "missed": "−", "spurious": "+"}
assert tuple(_SIGNS) == KINDS


def render(evaluation: Evaluation, *, ids_only: bool = False, names: tuple[str, str] = ("gold", "predicted")) -> str:
    """The page.

    Args:
        evaluation: What was found.
        ids_only: Leave the text of the notes out; else the page is as private as they are.
        names: What gold and predicted notes are called.

    Returns:
        HTML, the same for the same evaluation.

    Raises:
        UsageError: If jinja2 or matplotlib is missing.
    """
    check_installed()
    pairs, analysis = evaluation.pairing.pairs, evaluation.analysis
    styles = type_styles(evaluation.scores.strict.per_type)
    sheets = [lay_out(pair, analysis.outcomes[pair.id], styles, with_text=not ids_only) for pair in pairs]
    return render_page(
        "cardioner.reports.evaluation",
        evaluation=evaluation,
        scores=evaluation.scores,
        intervals=evaluation.intervals,
        calibration=evaluation.calibration,
        official=evaluation.official,
        analysis=analysis,
        pairing=evaluation.pairing,
        impossible=evaluation.pairing.impossible,
        names=names,
        plots=plot_evaluation(evaluation),
        styles=styles,
        sheets=sheets,
        number_of={sheet.id: number for number, sheet in enumerate(sheets)},
        texts=sum(sheet.rows is not None for sheet in sheets),
        meanings=_MEANINGS,
        kinds=KINDS,
        errors=ERRORS,
        signs=_SIGNS,
        shown=SHOWN,
    )


def write_report(
    evaluation: Evaluation,
    path: Path,
    *,
    ids_only: bool = False,
    names: tuple[str, str] = ("gold", "predicted"),
    overwrite: bool = False,
) -> None:
    """Write the page as a file.

    Args:
        evaluation: What was found.
        path: The file.
        ids_only: Leave the text of the notes out; else the page is as private as they are.
        names: What gold and predicted notes are called.
        overwrite: Replace a file that is there.

    Raises:
        UsageError: If jinja2 or matplotlib is missing.
        OutputError: If the file exists and may not be replaced, or cannot be written.
    """
    write_page(render(evaluation, ids_only=ids_only, names=names), path, overwrite=overwrite)
