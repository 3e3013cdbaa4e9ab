"""`cardioner evaluate` and `cardioner compare`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cardioner.cli.console import interval_text, notices, output, plain, print_json, score_table, table, tell
from cardioner.cli.inputs import JsonOption, PartOptions, ReadingOptions, UnannotatedOption, read_parts, read_spans
from cardioner.cli.option_groups import grouped
from cardioner.cli.outputs import IdsOnlyOption, OverwritePageOption, check_page, publish_page
from cardioner.data.formats import ReadOptions
from cardioner.errors import UsageError, listed, many
from cardioner.evaluation import AttributeScores, Evaluation, Pairing, score_attributes
from cardioner.evaluation import evaluate as evaluate_documents
from cardioner.evaluation.error_analysis import KINDS
from cardioner.evaluation.matching import ATTRIBUTES

if TYPE_CHECKING:
    from rich.table import Table

    from cardioner.evaluation.calibration import Calibration
    from cardioner.evaluation.comparison import Comparison
    from cardioner.evaluation.error_analysis import Outcome

_SHOWN = 10

Criterion = Literal["strict", "exact", "partial", "type", "relaxed", "attributes"]
SeedOption = Annotated[
    int, typer.Option(min=0, metavar="N", help="Seed of the samples: the same seed gives the same figures.")
]


@grouped()
def evaluate(  # noqa: PLR0913 - one parameter an option
    gold: Annotated[Path, typer.Argument(metavar="GOLD", help="The annotated notes, in any format.")],
    predicted: Annotated[Path, typer.Argument(metavar="PREDICTED", help="The same notes, with predicted spans.")],
    *,
    bootstrap: Annotated[
        int, typer.Option(min=0, metavar="N", help="Samples of documents for 95 % intervals; 0 for none.")
    ] = 0,
    seed: SeedOption = 0,
    official: Annotated[
        Literal["multicardioner", "multiclinai"] | None,
        typer.Option(metavar="TASK", help="Add what a shared task's scorer prints: multicardioner or multiclinai."),
    ] = None,
    train: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Training notes: score mentions that occur in them and new ones separately."),
    ] = None,
    part: PartOptions,
    reading: ReadingOptions,
    allow_unannotated: UnannotatedOption = False,
    json: JsonOption = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a page with plots and all notes.")
    ] = None,
    ids_only: IdsOnlyOption = False,
    overwrite: OverwritePageOption = False,
) -> None:
    """Score predicted spans: one is correct if its first and last character and its type are those of a gold span.

    Either side may be a TSV file of spans or a folder of .ann files, without notes. Below the strict scores come the
    exact, partial, type and relaxed ones, those of attributes, the errors by kind, and how well the scores of spans are
    calibrated. The tables have the intervals of F1; the page and JSON have all intervals.

    Example: cardioner evaluate notes/test tagged --bootstrap 1000 --html scores.html
    """
    check_page(html, [gold, predicted, train, reading.texts], overwrite=overwrite)
    options = reading.options(allow_unannotated=allow_unannotated)
    sides = part.select(*read_spans([gold, predicted], reading.names, options))
    learned = ReadOptions(encoding=reading.encoding)  # of notes whose types play no part
    with notices.status("scoring"):
        found = evaluate_documents(
            *sides,
            samples=bootstrap,
            seed=seed,
            official=official,
            training=read_parts([train], {}, learned)[0] if train else None,
        )
    _report_pairing(found.pairing, "the prediction")
    _report_attributes(found.attributes, "the prediction")
    if json:
        print_json(found.to_dict())
    else:
        for shown in _tables(found):
            output.print(shown, markup=False)
    if html is not None:
        with notices.status("drawing the page"):
            from cardioner.reports.evaluation.report import render  # noqa: PLC0415 - draws plots

            page = render(found, ids_only=ids_only, names=(gold.resolve().name, predicted.resolve().name))
        private = not ids_only and any(pair.text for pair in found.pairing.pairs)
        publish_page(page, html, overwrite=overwrite, private=private)


@grouped()
def compare(  # noqa: PLR0913 - one parameter an option
    first: Annotated[Path, typer.Argument(metavar="A", help="The notes with the spans that system A predicted.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="The same notes with the spans that system B predicted.")],
    *,
    gold: Annotated[Path, typer.Option(metavar="PATH", help="The annotated notes.")],
    criterion: Annotated[
        Criterion,
        typer.Option(metavar="NAME", help="strict, exact, partial, type, relaxed or attributes; JSON has all."),
    ] = "strict",
    bootstrap: Annotated[int, typer.Option(min=1, metavar="N", help="Number of resamples, and of swaps.")] = 10_000,
    seed: SeedOption = 0,
    part: PartOptions,
    reading: ReadingOptions,
    allow_unannotated: UnannotatedOption = False,
    json: JsonOption = False,
) -> None:
    """Compare two predictions, A and B: the difference in F1, its 95 % interval, and its p-value.

    The interval comes from resampled documents; the p-value from swapping predictions between A and B, document by
    document. With many types, some p-value will be small by chance: look at micro first.

    Example: cardioner compare tagged-crf tagged-linear --gold notes/test
    """
    options = reading.options(allow_unannotated=allow_unannotated)
    annotated, *sides = part.select(*read_spans([gold, first, second], reading.names, options))
    with notices.status("comparing"):
        from cardioner.evaluation.comparison import compare as compare_documents  # noqa: PLC0415 - loads numpy

        found = compare_documents(*sides, gold=annotated, samples=bootstrap, seed=seed)
    for name, pairing in zip("AB", found.pairings, strict=True):
        _report_pairing(pairing, name)
        _report_attributes(score_attributes(pairing.pairs), name)
    if criterion == ATTRIBUTES and criterion not in found.criteria:
        raise UsageError(f"--criterion {criterion}: the gold spans have no attributes to compare")
    if json:
        print_json(found.to_dict())
    else:
        output.print(_comparison_table(found, criterion))


def _report_pairing(pairing: Pairing, name: str) -> None:
    """Which documents one of the sides lacks, and how many rows of the prediction cannot be a span."""
    if pairing.by_text:
        tell(f"No id of {name} is among the gold ids, but all texts are, in the same order: paired by text")
    for ids, problem in (
        (pairing.without_prediction, f"not in {name}: counted as documents without predicted spans"),
        (pairing.without_gold, f"in {name}, but not in the gold table: counted as documents without gold spans"),
        (pairing.left_out, f"in {name}, but not among the gold documents: left out"),
    ):
        if ids:
            tell(f"{many(len(ids), 'document')} {problem} (the first: {plain(ids[0])})")
    if pairing.misquoted:
        spans = many(pairing.misquoted, "span")
        tell(f"{spans} of {name} with a text other than the gold document has there: check the offsets")
    if pairing.impossible:
        rows = many(pairing.impossible, "row")
        tell(f"{rows} of {name} cannot be a span: counted as wrong, but not listed among the errors")


def _report_attributes(attributes: AttributeScores | None, name: str) -> None:
    """Which attributes one of the sides lacks."""
    if attributes is None:
        return
    if attributes.not_predicted:
        lacking = listed(map(plain, attributes.not_predicted))
        tell(f"No span of {name} has these attributes, so they are scored as absent everywhere: {lacking}")
    if attributes.left_out:
        found = listed(f"{plain(one)} ({many(count, 'span')})" for one, count in attributes.left_out.items())
        tell(f"Attributes of {name} that no gold span has, left out: {found}")


# Tables --------------------------------------------------------------------------------------------------------------


def _tables(found: Evaluation) -> Iterator[Table | str]:
    """Everything as tables on standard output."""
    yield score_table(f"Strict spans, {many(found.scores.documents, 'note')}", found.scores, found.intervals)
    yield _criterion_table(found)
    if found.official is not None:
        yield f"By the rules of the scorer of {found.official.name}, which leaves out {found.official.left_out}:"
        yield "\n".join(found.official.lines)
    if found.attributes is not None and found.attributes.per_attribute:
        yield from _attribute_tables(found, found.attributes)
    yield from _error_tables(found)
    if found.calibration is not None:
        yield from _calibration_tables(found.calibration)


def _criterion_table(found: Evaluation) -> Table:
    rows = []
    for name, counts in found.by_criterion.items():
        micro, macro = counts.micro, counts.macro
        row = [name, micro.precision, micro.recall, micro.f1, macro.f1]
        if found.intervals is not None:
            row.insert(4, interval_text(found.intervals.of(name, "micro", "f1")))
        rows.append(row)
    columns = ["criterion", "precision", "recall", "F1", "macro F1"]
    if found.intervals is not None:
        columns.insert(4, "F1, 95 %")
    return table("By every criterion, micro", columns, rows)


def _attribute_tables(found: Evaluation, attributes: AttributeScores) -> Iterator[Table]:
    """The attributes, then their values."""
    rows, values = [], []
    for name, counts in attributes.per_attribute.items():
        intervals = None if found.intervals is None else found.intervals.per_attribute[name]
        row = [name, counts.accuracy, counts.matched.macro.f1, counts.end_to_end.micro.f1]
        if intervals is not None:
            row.insert(3, interval_text(intervals["matched", "macro", "f1"]))
            row.append(interval_text(intervals["end_to_end", "micro", "f1"]))
        rows.append(row)
        for value, one in counts.matched.per_type.items():
            whole = counts.end_to_end.per_type.get(value)
            figures = one.precision, one.recall, one.f1, one.gold
            values.append((plain(name), plain(value), *figures, "" if whole is None else whole.f1))
    columns = ["attribute", "accuracy", "macro F1", "end-to-end F1"]
    if found.intervals is not None:
        columns = [*columns[:3], "95 %", columns[3], "95 %"]
    matched = many(found.scores.strict.micro.true_positives, "strictly matched span")
    yield table(f"Attributes of {matched}, and end to end", columns, rows)
    heads = ("attribute", "value", "precision", "recall", "F1", "gold", "end to end")
    yield table(f"Values of attributes, of {matched}; F1 end to end", heads, values, left=2)


def _error_tables(found: Evaluation) -> Iterator[Table]:
    analysis = found.analysis
    rows = [(label, *kinds.values()) for label, kinds in analysis.kinds.items()]
    yield table("What became of the spans", ("type", *KINDS), rows)
    groups = {"length in characters": analysis.by_length, "place in the note": analysis.by_position}
    groups["mention"] = analysis.by_mention
    for name, counts in groups.items():
        if counts is not None:
            listed = [
                (group, count.precision, count.recall, count.f1, count.gold, count.predicted)
                for group, count in counts.items()
                if count.gold or count.predicted
            ]
            yield table(f"Strict, by {name}", (name, "precision", "recall", "F1", "gold", "predicted"), listed)
    if analysis.confusions:
        confusions = [
            (
                one.kind,
                plain(one.gold or ""),
                plain(one.predicted or ""),
                plain(f"{one.first[0].document} {_offsets(one.first[0].outcome)}"),
                one.count,
            )
            for one in analysis.confusions[:_SHOWN]
        ]
        yield table("Most frequent errors", ("error", "gold", "predicted", "first", "count"), confusions, left=4)
    if analysis.wrong_values:
        wrong = [
            (
                *map(plain, (one.attribute, one.gold, one.predicted)),
                plain(f"{one.first[0].document} {_offsets(one.first[0].outcome._replace(predicted=None))}"),
                one.count,
            )
            for one in analysis.wrong_values[:_SHOWN]
        ]
        heads = ("attribute", "gold", "predicted", "first", "count")
        yield table("Wrong attributes of right spans", heads, wrong, left=4)


def _offsets(outcome: Outcome) -> str:
    """The characters of the span that is there, of the gold one first."""
    spans = [span for span in (outcome.gold, outcome.predicted) if span is not None]
    return " / ".join(f"{span.start} to {span.end}" for span in spans)


def _calibration_tables(calibration: Calibration) -> Iterator[Table | str]:
    unscored = f"; {calibration.without_score} without a score left out" if calibration.without_score else ""
    yield (
        f"Scores of {many(calibration.spans, 'span')}: expected calibration error {calibration.error:.3f}, "
        f"Brier score {calibration.brier:.3f}{unscored}"
    )
    rows = [
        (f"{one.score:.2f}", one.precision, one.recall, f"{one.review:.1%}", one.accepted)
        for one in calibration.thresholds
    ]
    columns = ("accept from", "precision", "recall", "left to review", "accepted")
    yield table("Of spans with a score: accept those from this one up, review the others", columns, rows)


def _comparison_table(found: Comparison, criterion: str) -> Table:
    """A row for each of micro, macro and the types: F1 of both, and their difference."""
    rows = []
    places = {f"per_type/{name}": name for name in found.types} | {"micro": "micro", "macro": "macro"}
    for place, name in places.items():
        one = found.of(criterion, place, "f1")
        difference = f"{one.first - one.second:+.3f}"
        rows.append((name, one.first, one.second, difference, interval_text(one.interval), f"{one.p_value:.4f}"))
    columns = ("type", "F1 of A", "F1 of B", "A - B", "A - B, 95 %", "p")
    spans = "spans with their attributes" if criterion == ATTRIBUTES else f"{criterion} spans"
    return table(f"A against B, {spans}, {many(found.documents, 'note')}", columns, rows, totals=2)
