"""An evaluation as one HTML page that needs no network and no other file."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, NamedTuple

from cardioner.evaluation.error_analysis import ERRORS, KINDS, Place
from cardioner.evaluation.matching import MATCHERS
from cardioner.evaluation.scores import FIGURES
from cardioner.reports import html
from cardioner.reports.evaluation.plots import plots_of
from cardioner.reports.evaluation.side_by_side import anchor, lay_out
from cardioner.reports.html import (
    COUNT_COLUMNS,
    SCORE_COLUMNS,
    Cell,
    Table,
    count_cells,
    interval_text,
    score_cells,
    score_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cardioner.data.documents import Span
    from cardioner.evaluation.calibration import Calibration
    from cardioner.evaluation.evaluate import Evaluation
    from cardioner.evaluation.intervals import Interval, Intervals
    from cardioner.evaluation.scores import Counts

_MEANINGS = {
    "strict": "same first and last character, same type",
    "exact": "same first and last character, any type",
    "partial": "a shared character, any type; half credit unless first and last are the same",
    "type": "a shared character, same type",
    "relaxed": "a shared or adjacent character, same type; repeated spans are left out",
    "attributes": "same first and last character, same type, same attributes",
}
assert _MEANINGS.keys() == MATCHERS.keys()

_SIGNS = {"correct": "✓", "boundary": "↔", "type": "≠", "both": "≠↔", "missed": "−", "spurious": "+"}
assert tuple(_SIGNS) == KINDS

_LONGEST = 60
"""Most characters of a span's text in the table of errors."""


class Example(NamedTuple):
    """An error in the table of the most frequent ones: its note, the link to it, and both spans with their texts."""

    note: str
    link: str
    spans: tuple[tuple[Span | None, str], ...]


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
    sheets = [
        lay_out(pair, analysis.outcomes[pair.id], styles, number=number, with_text=not ids_only)
        for number, pair in enumerate(pairs)
    ]
    example = _shown_as(evaluation, with_text=not ids_only)
    confusions = [(error, [*map(example, error.first)]) for error in analysis.confusions[: html.SHOWN]]
    wrong_values = [
        (error, [one._replace(spans=one.spans[:1]) for one in map(example, error.first)])
        for error in analysis.wrong_values[: html.SHOWN]
    ]
    shown = {sheet.pair.id for sheet in sheets if sheet.rows is not None}
    listed = [examples for _, examples in (*confusions, *wrong_values)]
    quoted = {one.note for examples in listed for one in examples if any(text for _, text in one.spans)}
    return html.render_page(
        "cardioner.reports.evaluation",
        plots_of(evaluation),
        **{field.name: getattr(evaluation, field.name) for field in fields(evaluation)},
        names=names,
        nothing=html.finds_nothing(evaluation.scores.strict.micro),
        never_found=[
            label for label, counts in evaluation.scores.strict.per_type.items() if html.finds_nothing(counts)
        ],
        tables=_tables(evaluation),
        grouped=_grouped(evaluation),
        styles=styles,
        sheets=sheets,
        confusions=confusions,
        wrong_values=wrong_values,
        texts=len(shown | quoted),
        kinds=KINDS,
        errors=ERRORS,
        signs=_SIGNS,
    )


def _shown_as(evaluation: Evaluation, *, with_text: bool) -> Callable[[Place], Example]:
    """What makes an example of the place of an error."""
    outcomes = evaluation.analysis.outcomes
    places: dict[Place, str] = {}
    for number, (name, found) in enumerate(outcomes.items()):
        places |= {Place(name, outcome): anchor(number, place) for place, outcome in enumerate(found)}
    texts = {pair.id: pair.text for pair in evaluation.pairing.pairs if with_text and pair.text is not None}

    def example(place: Place) -> Example:
        spans = (place.outcome.gold, place.outcome.predicted)
        return Example(
            place.document, places[place], tuple((span, _text(texts.get(place.document), span)) for span in spans)
        )

    return example


def _text(text: str | None, span: Span | None) -> str:
    """What a span covers, shortened; nothing without a text."""
    if text is None or span is None:
        return ""
    covered = " … ".join(text[start:end] for start, end in span.fragments or ((span.start, span.end),))
    return covered if len(covered) <= _LONGEST else f"{covered[:_LONGEST]}…"


def _tables(evaluation: Evaluation) -> dict[str, Table]:
    """The tables of the page, by name."""
    scores, intervals, kinds = evaluation.scores, evaluation.intervals, evaluation.analysis.kinds
    criteria = []
    for criterion, counts in evaluation.by_criterion.items():
        micro, macro, meaning = counts.micro, counts.macro, _MEANINGS[criterion]
        cells = score_cells(micro, _intervals(intervals, criterion, "micro"))
        below = interval_text(_intervals(intervals, criterion, "macro")[2])
        mean = cells[2]._replace(value=score_text(macro.f1), below=below)
        matched, *others = count_cells(micro)
        half = micro.partial if criterion == "partial" else ""
        criteria.append((Cell(criterion, meaning), *cells, mean, matched, half, *others))
    types = [
        (label, *score_cells(one, _intervals(intervals, "strict", f"per_type/{label}")), *count_cells(one))
        for label, one in scores.strict.per_type.items()
    ]
    heads = ("a match needs", *SCORE_COLUMNS, "macro F1", "matched", "half credit", "wrong", "missed")
    rows = [(label, *(counts[kind] for kind in KINDS)) for label, counts in kinds.items()]
    total = ("all", *(sum(counts[kind] for counts in kinds.values()) for kind in KINDS))
    return {
        "criteria": Table(heads, criteria, highlighted=0),
        "types": Table(("type", *SCORE_COLUMNS, *COUNT_COLUMNS), types),
        **_attribute_tables(evaluation),
        "thresholds": _thresholds(evaluation.calibration),
        "kinds": Table(("type", *(f"{_SIGNS[kind]} {kind}" for kind in KINDS)), [*rows, total], total=True),
    }


def _attribute_tables(evaluation: Evaluation) -> dict[str, Table]:
    """The scored attributes, and their values."""
    attributes, values = [], []
    for name, counts in (evaluation.attributes.per_attribute if evaluation.attributes else {}).items():
        found = evaluation.intervals.per_attribute[name] if evaluation.intervals else {}
        cells = [
            Cell(score_text(value), interval_text(found.get(place)))
            for value, place in (
                (counts.accuracy, ("matched", "micro", "precision")),
                (counts.matched.macro.f1, ("matched", "macro", "f1")),
                (counts.end_to_end.micro.f1, ("end_to_end", "micro", "f1")),
            )
        ]
        attributes.append((name, *cells))
        for value, one in counts.matched.per_type.items():
            intervals = [found.get(("matched", f"per_value/{value}", figure)) for figure in FIGURES]
            whole = counts.end_to_end.per_type.get(value)
            place = "end_to_end", f"per_value/{value}", "f1"
            last = Cell("") if whole is None else Cell(score_text(whole.f1), interval_text(found.get(place)))
            values.append((name, value, *score_cells(one, intervals), one.gold, one.predicted, last))
    heads = ("attribute", "value", *SCORE_COLUMNS, "gold", "predicted", "end-to-end F1")
    return {
        "attributes": Table(("attribute", "accuracy", "macro F1", "end-to-end F1"), attributes),
        "values": Table(heads, values, left=2),
    }


def _intervals(intervals: Intervals | None, criterion: str, row: str) -> list[Interval | None]:
    """Those of precision, recall and F1, if there are any."""
    return [None if intervals is None else intervals.of(criterion, row, name) for name in FIGURES]


def _thresholds(calibration: Calibration | None) -> Table:
    """What accepting spans above a score would mean."""
    heads = ("minimum score", "accepted", "precision", "recall", "spans to review")
    rows = []
    for row in calibration.thresholds if calibration else ():
        precision, review = score_text(row.precision if row.accepted else None), f"{100 * row.review:.1f} %"
        rows.append((f"{row.score:.2f}", row.accepted, precision, score_text(row.recall), review))
    return Table(heads, rows, left=0)


def _grouped(evaluation: Evaluation) -> dict[str, tuple[str, Table]]:
    """Strict scores by what may explain errors, by the id of their section, each with its title."""
    analysis, tables = evaluation.analysis, {}
    given: list[tuple[str, str, str, Mapping[str, Counts] | None]] = [
        ("mentions", "Mentions seen in training, and others", "mention", analysis.by_mention),
        ("lengths", "Length of spans", "characters", analysis.by_length),
        ("positions", "Position in the note", "span begins at", analysis.by_position),
    ]
    for name, title, head, groups in given:
        rows = [
            (group, one.gold, one.predicted, *(score_cells(one) if one.gold or one.predicted else [None] * 3))
            for group, one in (groups or {}).items()
        ]
        if groups is not None:
            tables[name] = title, Table((head, "gold", "predicted", *SCORE_COLUMNS), rows)
    return tables
