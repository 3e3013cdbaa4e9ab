"""`cardioner select`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cardioner._io import check_file, reporting_failed_writes
from cardioner.cli.console import open_log, show, showing_progress, table, tell
from cardioner.cli.inputs import NoteOptions, read_parts, show_issues
from cardioner.cli.option_groups import grouped
from cardioner.cli.outputs import check_outside
from cardioner.cli.tagging import PROBLEMS_SHOWN, PredictorOptions, left_out, load_predictor, tagging_bar
from cardioner.data.formats import ReadReport
from cardioner.errors import DataError, many
from cardioner.prediction.selection import Choice, write_order
from cardioner.prediction.selection import select as choose_notes

if TYPE_CHECKING:
    from cardioner.data.documents import Document

_SHOWN = 20


@grouped()
def select(  # noqa: PLR0913 - one parameter an option
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT...", help="Notes to choose from: .txt files, folders, corpora of any format."),
    ],
    *,
    model: Annotated[Path, typer.Option(metavar="DIR", help="The model that is to learn from them.")],
    count: Annotated[int, typer.Option(min=1, metavar="N", help="How many notes to choose.")] = 50,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the choice as JSON lines, for `cardioner serve --order FILE`."),
    ] = None,
    annotated: Annotated[
        Path | None,
        typer.Option(
            metavar="CORPUS", help="What is annotated already: its notes are left out, its mentions are not new."
        ),
    ] = None,
    options: PredictorOptions,
    reading: NoteOptions,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE.")] = False,
) -> None:
    """Choose the notes from which a model would learn most once they are annotated.

    A note is worth more the less certain the model is of its mentions, by its calibrated scores. Each note that was
    chosen before or is annotated already halves the worth of the mentions in it. Notes in which the model finds nothing
    come last.

    Example: cardioner select notes --model model --count 50 --output order.jsonl
    """
    open_log(options.log_file)
    if output is not None:
        for path in inputs:
            check_outside(output, path)
        with reporting_failed_writes(output):
            check_file(output, overwrite=overwrite)
    known: Sequence[Document] = ()
    if annotated is not None:
        (known,) = read_parts([annotated], {})
    source, reports = reading.source(inputs), list[tuple[str, ReadReport]]()
    ids, complete = source.known_ids()
    taken, left = {document.id for document in known}, list[str]()
    with showing_progress() as stages:
        predictor, batch_tokens = load_predictor((model, *(options.ensemble or ())), options, stages)
        advance = tagging_bar(stages, len(set(ids) - taken) if complete else None, ())
        notes = _not_annotated(source.read(reports), taken, left)
        predictions = predictor.predict(notes, batch_tokens=batch_tokens, advance=advance)
        chosen = choose_notes(predictions, count, annotated=known)
    for place, report in reports:
        show_issues(f"Noticed in {place}", report.issues)
    if left:
        tell(f"Left out, as --annotated has their ids: {many(len(left), 'note')}")
    _show(chosen, predictions.coverage.documents, left_out(reports, predictions.problems))
    if output is not None:
        write_order(chosen, output, overwrite=overwrite)
        tell(f"Order: {output}")
    if lost := sum(report.malformed for _, report in reports) + len(predictions.problems):
        raise DataError(f"{many(lost, 'note')} could not be read or tagged, see above: they were not chosen from")


def _not_annotated(notes: Iterable[Document], taken: Collection[str], left: list[str]) -> Iterator[Document]:
    """The notes whose ids are not taken; those of the others come to `left`."""
    for note in notes:
        if note.id in taken:
            left.append(note.id)
        else:
            yield note


def _show(chosen: Sequence[Choice], notes: int, problems: Sequence[str]) -> None:
    """The first notes that could not be used, the first of those that were chosen, and what all of them hold.

    Raises:
        DataError: If there was none to choose from.
    """
    for problem in problems[:PROBLEMS_SHOWN]:
        tell(problem)
    if not chosen:
        raise DataError("there is no note to choose: none could be tagged, or all are annotated already")
    columns = ("note", "gain (bits)", "spans", "mentions", "new mentions")
    rows = [(one.id, f"{one.gain:.1f}", one.spans, one.mentions, one.new) for one in chosen[:_SHOWN]]
    show(table("The notes to annotate next", columns, rows))
    if len(chosen) > _SHOWN:
        tell(f"and {many(len(chosen) - _SHOWN, 'more note')}; --output FILE writes all")
    spans, new = sum(one.spans for one in chosen), sum(one.new for one in chosen)
    tell(f"Chosen: {len(chosen)} of {many(notes, 'note')}, with {many(spans, 'span')} and {many(new, 'new mention')}")
