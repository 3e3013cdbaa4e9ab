"""`cardioner predict` for notes in tables."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from cardioner import __version__
from cardioner.cli.console import Stages, show, showing_progress, table, tell
from cardioner.cli.inputs import show_issues
from cardioner.cli.table_options import TableOptions
from cardioner.cli.table_request import Request
from cardioner.cli.table_tagging import Tagging, tagging
from cardioner.cli.tagging import (
    own_scores,
    tagging_bar,
    warn_of_unfound,
)
from cardioner.data.formats import Issue
from cardioner.errors import DataError, OutputError, many
from cardioner.multiclass.windows import Coverage
from cardioner.prediction.batch_job import BatchJob
from cardioner.tables.assertions import DEFAULT, read_assertions
from cardioner.tables.columns import PROBLEM, SPAN_FIELDS, SPANS, Columns
from cardioner.tables.files import TableFiles
from cardioner.tables.job import BatchLog, fill_table, tag_table
from cardioner.tables.omop import NoteNlp, read_concepts
from cardioner.tables.shape import AsTagged, Shape
from cardioner.tables.source import NO_ID
from cardioner.tables.tagging import NO_TEXT, above
from cardioner.tables.writers import write_table

if TYPE_CHECKING:
    import sqlalchemy as sa

    from cardioner.tables.source import Source, Tagged
    from cardioner.tables.sql_sink import TableSink

_EMPTY = "empty text"
_HARMLESS = (NO_TEXT, _EMPTY)
"""Problems that are no mistake in a table: there is nothing to tag."""


@dataclass(slots=True)
class Findings:
    """What is reported at the end."""

    rows: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, batch: Tagged, kept: pa.RecordBatch, columns: Columns) -> None:
        """Count a batch.

        Args:
            batch: With all spans.
            kept: The same with the spans whose score is high enough.
            columns: Of the notes.
        """
        ids = kept.column(columns.id).to_pylist()
        labels = _labels(kept)
        self.kept.update(labels)
        self.dropped.update(_labels(batch.tagged) - labels)
        empty = pc.equal(pc.binary_length(batch.notes.column(columns.text)), 0).to_pylist()
        for row, problem in enumerate(kept.column(PROBLEM).to_pylist()):
            if problem or empty[row]:
                self.count(problem or _EMPTY, f"row {self.rows + row + 1}, id {ids[row]!r}")
        self.rows += kept.num_rows

    def count(self, problem: str, where: str, count: int = 1) -> None:
        """Count rows with a problem; what differs only in numbers is the same."""
        kind = re.sub(r"\d+", "N", problem)
        self.problems[kind] += count
        self.first.setdefault(kind, where)

    @property
    def untagged(self) -> int:
        """How many rows a mistake kept from being tagged."""
        return self.problems.total() - sum(self.problems[kind] for kind in _HARMLESS)

    def issues(self) -> list[Issue]:
        """What was wrong with rows, counted by kind, and where first."""
        return [Issue(kind, count, self.first[kind]) for kind, count in sorted(self.problems.items())]


def _labels(batch: pa.RecordBatch) -> Counter[str]:
    return Counter(batch.column(SPANS).flatten().field("label").to_pylist())


def predict_tables(request: Request) -> None:
    """Tag the notes of tables, and write a table."""
    request.check()
    with _database(request.tables) as engine:
        _predict(request, engine)


def _predict(request: Request, engine: sa.Engine | None) -> None:
    began = time.perf_counter()
    job = None if request.output is None else BatchJob(request.output, request.form())
    if job is not None:
        _check_output(request.inputs, job)
        job.check(resume=request.options.resume, overwrite=request.options.overwrite)
    source = _source(request, engine)
    check_source(source)
    shape = _shape(request)
    with showing_progress() as stages, tagging(request, stages) as made:
        run = _Run(request, source, shape, made)
        coverage = run.fill(engine, stages) if job is None else run.write(job, stages)
    run.show(coverage, seconds=time.perf_counter() - began)
    if job is not None:
        job.clear()
    if untagged := run.findings.untagged:
        raise DataError(
            f"{many(untagged, 'row')} could not be tagged, see above"
            + ("" if request.to else f"; the column {PROBLEM!r} of {request.place} says why")
        )


@contextmanager
def _database(tables: TableOptions) -> Iterator[sa.Engine | None]:
    """The database that is asked for, if there is one."""
    if not (tables.sql or tables.to_table):
        yield None
        return
    from cardioner.tables.database import connecting, database_url  # noqa: PLC0415 - an extra

    with connecting(database_url(tables.database)) as engine:
        yield engine


def _source(request: Request, engine: sa.Engine | None) -> Source:
    if request.tables.sql is None or engine is None:
        return TableFiles(request.inputs, request.columns, request.encoding)
    from cardioner.tables.sql_source import QueryNotes  # noqa: PLC0415 - an extra

    return QueryNotes(engine, request.tables.sql, request.columns)


def _shape(request: Request) -> Shape:
    """What makes rows of a tagged batch."""
    if request.to is None:
        return AsTagged(explode=request.tables.explode)
    from cardioner.prediction.directories import model_directories, models_digest  # noqa: PLC0415 - starts fast

    system = f"cardioner {__version__}, model {models_digest(model_directories(request.models))}"
    assertions = read_assertions(request.tables.assertions) if request.tables.assertions else DEFAULT
    if request.to == "omop":
        concepts = read_concepts(request.tables.concepts) if request.tables.concepts else {}
        return NoteNlp(request.columns, system, concepts, request.tables.snippet, assertions)
    from cardioner.tables.fhir import Bundles  # noqa: PLC0415 - an extra

    return Bundles(request.columns, system, "R5" if request.to == "fhir-r5" else "R4", assertions)


@dataclass
class _Run:
    """One run: what it needs, and what it finds."""

    request: Request
    source: Source
    shape: Shape
    tagging: Tagging
    findings: Findings = field(default_factory=Findings)

    @property
    def asked(self) -> dict[str, Any]:
        """All that decides what is written; a run whose spans had other fields does not go on."""
        request = self.request
        notes = request.tables.sql or [str(path.resolve()) for path in request.inputs]
        digest = blake2b(repr(notes).encode(), digest_size=16).hexdigest()
        own = {"notes": digest, "columns": self.source.columns.needed, "rows": self.shape.name}
        return {**self.tagging.asked, **own, "fields of spans": [*SPAN_FIELDS]}

    def write(self, job: BatchJob, stages: Stages) -> Coverage:
        """Write a file; gives what was covered."""
        options = self.request.options
        with job.open(BatchLog, self.asked, resume=options.resume) as log:
            if log.damage:
                tell(log.damage)
            bar = self._bar(stages, log.coverage)
            rows = map(self._rows, tag_table(self.source, log, self.tagging.tag, advance=bar))
            with _saying_how_to_go_on(log):
                job.write(partial(write_table, rows, form=job.form), overwrite=options.overwrite)
            return log.coverage

    def fill(self, engine: sa.Engine | None, stages: Stages) -> Coverage:
        """Fill a table of a database; gives what was covered, earlier runs aside, as their spans are not read again."""
        from cardioner.tables.sql_sink import TableSink  # noqa: PLC0415 - an extra

        assert engine is not None
        assert self.request.tables.to_table is not None
        options = self.request.options
        own = ("nlp_system", self.shape.system) if isinstance(self.shape, NoteNlp) else None
        sink = TableSink(engine, self.request.tables.to_table, own)
        asked = {**self.asked, "concepts, assertions and snippets": self._rules()}
        sink.begin(asked, resume=options.resume, overwrite=options.overwrite)
        before = sink.coverage
        with _saying_how_to_go_on(sink):
            fill_table(self.source, sink, self.tagging.tag, self._rows, advance=self._bar(stages, before))
        return Coverage(*(now - then for now, then in zip(sink.coverage, before, strict=True)))

    def _rules(self) -> str:
        """A digest of what makes rows of spans: those that are in a database already are not made again."""
        tables = self.request.tables
        files = [b"" if path is None else path.read_bytes() for path in (tables.concepts, tables.assertions)]
        return blake2b(repr((files, tables.snippet)).encode(), digest_size=16).hexdigest()

    def show(self, coverage: Coverage, *, seconds: float) -> None:
        """Report what was found, and what was left out."""
        if count := self.source.without_id():
            self.findings.count(NO_ID, "the query", count)
        labels = show_findings(self.findings, self.request.options.min_score)
        lost = [Issue(kind, count, "") for kind, count in sorted((+self.shape.left_out).items())]
        show_issues(f"Left out, as {self.shape.name} cannot hold it", lost)
        if coverage.documents:
            warn_of_unfound(labels, own_scores(self.tagging.labels, self.request.models), coverage.documents)
        counts = (*coverage, self.findings.kept.total())
        parts = zip(counts, ("note", "window", "sub-token", "character", "span"), strict=True)
        tell(
            f"{many(self.findings.rows, 'row')}: {', '.join(many(*part) for part in parts)}, "
            f"in {seconds:.1f} s, computed in {self.tagging.computed}"
        )
        tell(f"Table: {self.request.tables.to_table or self.request.place}")

    def _bar(self, stages: Stages, before: Coverage) -> Callable[[Coverage], None]:
        if before.documents:
            tell(f"Finished before: {many(before.documents, 'note')}")
        return tagging_bar(stages, self.source.total(), before if before.documents else ())

    def _rows(self, made: Tagged) -> pa.RecordBatch:
        """The rows that are written for a batch, which is counted."""
        kept = made._replace(tagged=above(made.tagged, self.request.options.min_score))
        self.findings.add(made, kept.tagged, self.source.columns)
        return self.shape(kept)


@contextmanager
def _saying_how_to_go_on(log: BatchLog | TableSink) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        tell(f"Stopped after {many(log.coverage.documents, 'note')}: to resume, repeat the command with --resume")
        raise


def check_source(source: Source) -> None:
    """Refuse, before a model is loaded, a source whose first rows cannot be read.

    Raises:
        DataError: Also if there is no row.
    """
    with closing(source.batches()) as batches:
        if next(batches, None) is None:
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
