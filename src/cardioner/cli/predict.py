"""`cardioner predict`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from cardioner.cli.cluster_options import ClusterOptions
from cardioner.cli.console import Stages, open_log, show, showing_progress, table, tell
from cardioner.cli.inputs import NoteOptions, PartOptions, show_issues
from cardioner.cli.option_groups import Earlier, grouped
from cardioner.cli.outputs import place_name, tell_interface
from cardioner.cli.table_options import TableOptions
from cardioner.cli.tagging import (
    PROBLEMS_SHOWN,
    Models,
    TaggingOptions,
    left_out,
    load_predictor,
    own_scores,
    request_of,
    tagging_bar,
    warn_of_unfound,
)
from cardioner.data.documents import Document
from cardioner.data.formats import NOTE_FILES, Issue, ReadReport, format_of_name, write_corpus
from cardioner.data.formats.files import FileNames
from cardioner.data.notes import STANDARD_INPUT, NoteSource
from cardioner.errors import DataError, OutputError, UsageError, many, needing
from cardioner.model_dir.layout import CONFIG
from cardioner.prediction.batch_job import BatchJob, tag_all
from cardioner.prediction.computing import computed_in
from cardioner.prediction.resume_log import ResumeLog
from cardioner.tables.kinds import is_table

TaggedFormat = Literal[
    "brat", "tsv", "jsonl", "conll", "pubtator", "xmi", "bioc", "docbin", "doccano", "label-studio", "prodigy"
]
RowFormat = Literal["omop", "fhir", "fhir-r5"]
"""What is written for notes in tables."""
Writable = Literal[TaggedFormat, RowFormat]


@dataclass(slots=True)
class _Outcome:
    """What is reported at the end."""

    reports: list[tuple[str, ReadReport]] = field(default_factory=list)
    coverage: tuple[int, ...] = ()
    untagged: list[tuple[str, str]] = field(default_factory=list)
    kept: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    lost: tuple[Issue, ...] = ()
    own_scores: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    attributes: Mapping[str, Iterable[str | bool | None]] = field(default_factory=dict)
    computed: str = ""
    cached: str = ""


@grouped()
def predict(  # noqa: PLR0913 - one parameter an option
    model: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="The model directory, or a folder of several that --folds or --seeds trained."
        ),
    ],
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="INPUT...", help="Notes: .txt files, folders of them, corpora of any format, tables; or -."
        ),
    ] = None,
    *,
    output: Annotated[
        Path | None, typer.Option(metavar="OUT", help="The folder or the file to write; - is standard output.")
    ] = None,
    to: Annotated[
        Writable | None,
        typer.Option(
            metavar="FORMAT",
            help=f"{', '.join(get_args(TaggedFormat))}; of tables {', '.join(get_args(RowFormat))}. Default: by the "
            "suffix of OUT, else brat.",
        ),
        Earlier("--format"),
    ] = None,
    part: PartOptions,
    options: TaggingOptions,
    tables: TableOptions,
    cluster: ClusterOptions,
    reading: NoteOptions,
) -> None:
    """Tag notes of any length, and write them in any format.

    The input - is standard input: one note, or JSON lines. Spans that notes already have are ignored.

    While notes are tagged, OUT.partial keeps what is finished, for --resume.

    A note that cannot be read is named, the others are tagged, and the exit code is 3.

    Example: cardioner predict model notes --output tagged

    Example: cardioner predict model notes.parquet --output tagged.parquet --text-column text --id-column id

    Example: cardioner predict model notes.parquet --output tagged.parquet --cluster ray --address auto
    """
    began = time.perf_counter()
    open_log(options.log_file)
    models = (model, *(options.ensemble or ()))
    given = tuple(inputs or ())
    cluster.check()
    if tables.given or cluster.cluster or to in get_args(RowFormat) or any(map(is_table, given)):
        _check_no_corpus_options(
            to=None if to in get_args(RowFormat) else to, format=reading.format, texts=reading.texts, splits=part.splits
        )
        with (
            needing("tagging a table", {"pyarrow": "pyarrow"}),
            needing("a database", {"sqlalchemy": "sqlalchemy"}),
            needing("FHIR", {"fhir": "fhir.resources"}),
            needing("--cluster ray", {"ray": "ray[data]"}),
        ):
            from cardioner.cli.predict_tables import predict_tables  # noqa: PLC0415 - an extra
            from cardioner.cli.table_request import Request  # noqa: PLC0415

            predict_tables(Request(models, given, output, to, reading.encoding, options, tables, cluster))
        return
    if not given or output is None:
        raise UsageError("expected notes, INPUT..., and where to write them, --output")
    form = to or format_of_name(output)
    source, job = reading.source(given, part.ids()), BatchJob(output, form)
    total = _check(source, job, options)
    with showing_progress() as stages:
        outcome = _run(source, job, models, options, stages, total=total)
    _show(outcome, form, options.min_score, seconds=time.perf_counter() - began)
    tell_interface(form, outcome.own_scores, outcome.attributes)
    tell(f"Notes: {place_name(output)}")
    job.clear()
    if lost := sum(report.malformed for _, report in outcome.reports) + len(outcome.untagged):
        raise DataError(
            f"{many(lost, 'note')} could not be read or tagged, see above; "
            f"{place_name(output)} holds the other {outcome.coverage[0]}"
        )


def _check_no_corpus_options(**values: object) -> None:
    """Refuse options that a table has no use for.

    Raises:
        UsageError: Naming one.
    """
    if given := [name for name, value in values.items() if value is not None]:
        flag = {"format": "from"}.get(given[0], given[0])
        raise UsageError(f"--{flag} is for notes in text files: leave it out for a table")


def _check(source: NoteSource, job: BatchJob, options: TaggingOptions) -> int | None:
    """Refuse what cannot work before a model is loaded.

    Returns:
        The number of notes, if the names of files tell it.

    Raises:
        DataError: If two notes have the same id, or there is none.
        UsageError: If a model stands where notes are expected.
        OutputError: If the output cannot be written, or lies in an input: annotations there would be replaced, and the
            output read as input next time.
    """
    for path in source.paths:
        if path != STANDARD_INPUT and not job.is_stream and job.output.resolve().is_relative_to(path.resolve()):
            raise OutputError(f"{job.output} lies in the input {path}: choose an output outside of it")
        if (path / CONFIG).is_file() and not any(path.glob("*.txt")):
            raise UsageError(f"{path} is a model directory: expected first the model, then the notes")
    job.check(resume=options.resume, overwrite=options.overwrite)
    ids, complete = source.known_ids()
    names = FileNames(*NOTE_FILES.get(job.form, ()))
    for name in ids if job.form in NOTE_FILES else ():
        names.add(name)
    return len(ids) if complete else None


def _run(
    source: NoteSource, job: BatchJob, models: Models, options: TaggingOptions, stages: Stages, *, total: int | None
) -> _Outcome:
    """Tag the notes that no earlier run finished, and write all."""
    outcome = _Outcome()
    predictor, batch_tokens = load_predictor(models, options, stages)
    outcome.computed = computed_in(predictor)
    request = request_of(predictor, models, options, batch_tokens)
    with job.open(ResumeLog, request, resume=options.resume) as log:
        if log.damage:
            tell(log.damage)
        if log.finished:
            tell(f"Finished before: {many(log.finished, 'note')}")
        notes = source.read(outcome.reports)
        if job.form in NOTE_FILES:
            notes = _with_file_names(notes, NOTE_FILES[job.form])
        advance = tagging_bar(stages, total, log.coverage)
        tagged = tag_all(predictor, notes, log, batch_tokens=batch_tokens, advance=advance)
        try:
            kept = _kept(tagged, log, options.min_score, outcome)
            write_to = partial(write_corpus, kept, format=job.form, predicted=True)
            outcome.lost = job.write(write_to, overwrite=options.overwrite)
        except KeyboardInterrupt:
            tell(f"Stopped after {many(log.finished, 'note')}: to resume, repeat the command with --resume")
            raise
        outcome.coverage = log.coverage
        outcome.cached = many(predictor.windows_from_cache, "window") if options.cache else ""
        outcome.own_scores = own_scores(predictor.labels, models)
        outcome.attributes = predictor.attributes
        outcome.untagged = [(entry.id, entry.problem) for entry in log.entries() if entry.problem]
    return outcome


def _with_file_names(notes: Iterable[Document], suffixes: Iterable[str]) -> Iterator[Document]:
    """The notes; refused before they are tagged if their ids cannot be the names of files in one folder."""
    names = FileNames(*suffixes)
    for document in notes:
        names.add(document.id)
        yield document


def _kept(tagged: Iterable[Document], log: ResumeLog, min_score: float, outcome: _Outcome) -> Iterator[Document]:
    """The notes with the spans whose score is high enough; all spans are counted by type.

    Raises:
        DataError: At the end, if no note could be tagged.
    """
    for document in tagged:
        kept = [span for span in document.spans if span.score is None or span.score >= min_score]
        labels = Counter(span.label for span in kept)
        outcome.kept.update(labels)
        outcome.dropped.update(Counter(span.label for span in document.spans) - labels)
        yield document.with_spans(kept)
    if not any(log.coverage[:1]):
        problems = left_out(outcome.reports, [(entry.id, entry.problem) for entry in log.entries()])
        raise DataError(f"no note can be read and tagged: {[*problems, 'there is none'][0]}")


def _show(outcome: _Outcome, form: str, min_score: float, *, seconds: float) -> None:
    """Report what was found, and everything that was left out."""
    for place, report in outcome.reports:
        show_issues(f"Noticed in {place}", report.issues)
    show_issues(f"Left out, as {form} cannot hold it", outcome.lost)
    labels = sorted({*outcome.kept, *outcome.dropped})
    rows = [(label, outcome.kept[label], outcome.dropped[label]) for label in labels]
    width = 3 if min_score else 2
    columns = ("type", "spans", f"below {min_score:g}, left out")
    show(table("Spans found", columns[:width], [row[:width] for row in rows]))
    warn_of_unfound(labels, outcome.own_scores, outcome.coverage[0])
    for problem in left_out(outcome.reports, outcome.untagged)[:PROBLEMS_SHOWN]:
        tell(problem)
    parts = zip(outcome.coverage, ("note", "window", "sub-token", "character"), strict=True)
    counts = ", ".join(many(*part) for part in [*parts, (outcome.kept.total(), "span")])
    dropped = f", {outcome.dropped.total()} below {min_score:g} left out" if min_score else ""
    cached = f", {outcome.cached} from the cache" if outcome.cached else ""
    tell(f"{counts}{dropped}{cached}, in {seconds:.1f} s, computed in {outcome.computed}")
