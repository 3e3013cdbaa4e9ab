"""`cardioner predict` for notes in tables."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cardioner.cli.console import Stages, show, showing_progress, table, tell
from cardioner.cli.inputs import show_issues
from cardioner.cli.outputs import place_name
from cardioner.cli.table_options import TableOptions
from cardioner.cli.tagging import (
    Models,
    TaggingOptions,
    computed_in,
    load_predictor,
    own_scores,
    request_of,
    tagging_bar,
    warn_of_unfound,
)
from cardioner.data.formats import Issue
from cardioner.errors import DataError, OutputError, many
from cardioner.multiclass.windows import Coverage
from cardioner.prediction.batch_job import BatchJob
from cardioner.tables.columns import PROBLEM, SPANS, Columns
from cardioner.tables.files import TableFiles
from cardioner.tables.job import BatchLog, Tagged, tag_table
from cardioner.tables.kinds import form_of
from cardioner.tables.tagging import NO_TEXT, above, exploded, tag_batch
from cardioner.tables.writers import write_table

if TYPE_CHECKING:
    import pyarrow as pa

    from cardioner.prediction.predictor import Predictor
    from cardioner.tables.source import NoteBatch, Source

_PROBLEMS_SHOWN = 20
_HARMLESS = (NO_TEXT,)
"""Problems that are no mistake in a table: there is nothing to tag."""


@dataclass(slots=True)
class Findings:
    """What is reported at the end."""

    rows: int = 0
    empty: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, notes: pa.RecordBatch, columns: Columns, tagged: pa.RecordBatch, kept: pa.RecordBatch) -> None:
        """Count a batch.

        Args:
            notes: As they came.
            columns: Which of its columns are which.
            tagged: The same with all spans.
            kept: The same with the spans whose score is high enough.
        """
        ids = tagged.column(columns.id).to_pylist()
        labels = _labels(kept)
        self.rows += tagged.num_rows
        self.kept.update(labels)
        self.dropped.update(_labels(tagged) - labels)
        texts = notes.column(columns.text)
        for row, problem in enumerate(tagged.column(PROBLEM).to_pylist()):
            kind = problem or ("empty text" if texts[row].as_py() == "" else "")
            if kind:
                self.problems[kind] += 1
                self.first.setdefault(kind, f"row {self.rows - tagged.num_rows + row + 1}, id {ids[row]!r}")

    @property
    def untagged(self) -> int:
        """How many rows a mistake kept from being tagged."""
        return self.problems.total() - sum(self.problems[kind] for kind in (*_HARMLESS, "empty text"))

    def issues(self) -> list[Issue]:
        """What was wrong with rows, counted by kind, and where first."""
        return [Issue(kind, count, self.first[kind]) for kind, count in sorted(self.problems.items())]


def _labels(batch: pa.RecordBatch) -> Counter[str]:
    return Counter(batch.column(SPANS).flatten().field("label").to_pylist())


def predict_tables(
    models: Models, inputs: Sequence[Path], output: Path, encoding: str, options: TaggingOptions, tables: TableOptions
) -> None:
    """Tag the notes of tables, and write a table."""
    began = time.perf_counter()
    columns = Columns(tables.id_column or "note_id", tables.text_column or "note_text", tuple(tables.keep or ()))
    job = BatchJob(output, form_of(output))
    _check_output(inputs, job)
    job.check(resume=options.resume, overwrite=options.overwrite)
    source = TableFiles(inputs, columns, encoding)
    check_source(source)
    with showing_progress() as stages:
        findings, predictor, coverage = _run(source, job, models, options, tables, stages)
    labels = show_findings(findings, options.min_score)
    warn_of_unfound(labels, own_scores(predictor, models), coverage.documents)
    counts = (*coverage, findings.kept.total())
    parts = zip(counts, ("note", "window", "sub-token", "character", "span"), strict=True)
    tell(
        f"{many(findings.rows, 'row')}: {', '.join(many(*part) for part in parts)}, "
        f"in {time.perf_counter() - began:.1f} s, computed in {computed_in(predictor)}"
    )
    tell(f"Table: {place_name(output)}")
    job.clear()
    if findings.untagged:
        raise DataError(
            f"{many(findings.untagged, 'row')} could not be tagged, see above; they are in {place_name(output)}, and "
            f"the column {PROBLEM!r} says why"
        )


def check_source(source: Source) -> None:
    """Refuse, before a model is loaded, a source whose first rows cannot be read.

    Raises:
        DataError: Also if there is no row.
    """
    if next(source.batches(), None) is None:
        raise DataError("the table has no row")


def show_findings(findings: Findings, min_score: float) -> list[str]:
    """Report what was found, and what is wrong with rows; gives the types of which there are spans."""
    show_issues("Rows without spans", findings.issues())
    labels = sorted({*findings.kept, *findings.dropped})
    rows = [(label, findings.kept[label], findings.dropped[label]) for label in labels]
    width = 3 if min_score else 2
    columns = ("type", "spans", f"below {min_score:g}, left out")
    show(table("Spans found", columns[:width], [row[:width] for row in rows]))
    return labels


def _check_output(inputs: Sequence[Path], job: BatchJob) -> None:
    """Refuse an output that is an input, or lies in one, where it would be read next time."""
    for path in inputs:
        if not job.is_stream and job.output.resolve().is_relative_to(path.resolve()):
            raise OutputError(f"{job.output} lies in the input {path}: choose an output outside of it")


def _run(
    source: Source, job: BatchJob, models: Models, options: TaggingOptions, tables: TableOptions, stages: Stages
) -> tuple[Findings, Predictor, Coverage]:
    findings, total = Findings(), source.total()
    predictor, batch_tokens = load_predictor(models, options, stages)
    request = request_of(predictor, models, options, batch_tokens) | {"columns": source.columns.needed}
    with job.open(BatchLog, request, resume=options.resume) as log:
        if log.damage:
            tell(log.damage)
        if log.finished:
            tell(f"Finished before: {many(log.coverage.documents, 'note')}")

        def tag(batch: NoteBatch, advance: Any) -> pa.RecordBatch:
            given = {"batch_tokens": batch_tokens, "advance": advance, "refused": batch.refused}
            return tag_batch(batch.rows, predictor, source.columns, **given)

        bar = tagging_bar(stages, total, log.coverage if log.finished else ())
        tagged = tag_table(source, log, tag, advance=bar)
        rows = _shaped(tagged, source.columns, findings, options.min_score, explode=tables.explode)
        try:
            job.write(partial(write_table, rows, form=job.form), overwrite=options.overwrite)
        except KeyboardInterrupt:
            tell(f"Stopped after {many(log.coverage.documents, 'note')}: to resume, repeat the command with --resume")
            raise
        return findings, predictor, log.coverage


def _shaped(
    every: Iterable[Tagged], columns: Columns, findings: Findings, min_score: float, *, explode: bool
) -> Iterator[pa.RecordBatch]:
    """The rows as they are written."""
    for notes, tagged in every:
        kept = above(tagged, min_score)
        findings.add(notes, columns, tagged, kept)
        yield exploded(kept) if explode else kept
