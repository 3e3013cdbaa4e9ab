"""`cardioner predict`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from cardioner import __version__
from cardioner.cli.console import Stages, notices, progress_bars, quieten, table, tell
from cardioner.cli.inputs import DeviceOption, EncodingOption, TextsOption, show_issues
from cardioner.data.documents import Document
from cardioner.data.formats import Issue, write_corpus
from cardioner.data.formats.files import FileNames
from cardioner.data.notes import STANDARD_INPUT, Ledger, Notes
from cardioner.errors import DataError, OutputError, UsageError
from cardioner.prediction.batch_job import Bench, check_place, joined, tag
from cardioner.prediction.resume_log import Journal, fingerprint

if TYPE_CHECKING:
    from cardioner.multiclass.windows import Coverage
    from cardioner.prediction.predictor import Predictor

_EVERY = 256
"""Notes between two updates of a bar."""
_PROBLEMS_SHOWN = 20


class Decoder(str, Enum):
    """How tags are chosen."""

    viterbi = "viterbi"
    argmax = "argmax"


class Dtype(str, Enum):
    """What the encoder computes in."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


class TaggedFormat(str, Enum):
    """The formats that tagged notes are written in."""

    brat = "brat"
    tsv = "tsv"
    jsonl = "jsonl"
    conll = "conll"


_BY_SUFFIX = {".tsv": TaggedFormat.tsv, ".jsonl": TaggedFormat.jsonl, ".conll": TaggedFormat.conll}


class _Wishes(NamedTuple):
    """What was asked, the notes apart."""

    output: Path
    form: str
    models: tuple[Path, ...]
    decoder: str
    device: str
    dtype: str
    batch_tokens: int | None
    min_score: float
    resume: bool
    overwrite: bool
    key: Path | None = None


@dataclass(slots=True)
class _Outcome:
    """What is told in the end."""

    ledger: Ledger = field(default_factory=Ledger)
    counts: tuple[int, ...] = ()
    untagged: list[tuple[str, str]] = field(default_factory=list)
    kept: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    lost: tuple[Issue, ...] = ()


def predict(  # noqa: PLR0913 - one parameter an option
    model: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="The model directory, or a folder of several that --folds or --seeds trained."
        ),
    ],
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT...", help="Notes: .txt files, folders of them, corpora of any format; or -."),
    ],
    output: Annotated[Path, typer.Option(metavar="OUT", help="The folder or the file to write.")],
    format: Annotated[  # noqa: A002 - the name of the option
        TaggedFormat | None,
        typer.Option(metavar="NAME", help="brat, tsv, jsonl or conll. Default: by the suffix of OUT, else brat."),
    ] = None,
    ensemble: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="One more model: averaged with the same tags, united with other types."),
    ] = None,
    min_score: Annotated[
        float, typer.Option(metavar="P", min=0, max=1, help="Leave out, and count, spans with a lower score.")
    ] = 0.0,
    batch_tokens: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Most sub-tokens read at a time: memory against speed.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run that was cut off stopped.")] = False,
    decode: Annotated[Decoder, typer.Option(metavar="WAY", help="viterbi, or argmax, which ignores a CRF.")] = (
        Decoder.viterbi
    ),
    device: DeviceOption = "auto",
    dtype: Annotated[
        Dtype, typer.Option(metavar="NAME", help="float32 or bfloat16; auto takes what the model says.")
    ] = Dtype.auto,
    encoding: EncodingOption = "utf-8",
    texts: TextsOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what OUT holds.")] = False,
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A public key (.pub): every model must be signed with its other half."),
    ] = None,
) -> None:
    """Tag notes of any length, and write them in any format.

    The input - is standard input: one note, or JSON lines. Spans that notes have already are put aside.

    While notes are tagged, OUT.partial keeps what is finished, for --resume.

    A note that cannot be read is named, the others are tagged, and the exit code is 3.

    Example: cardioner predict model notes --output tagged
    """
    began = time.perf_counter()
    form = (format or _BY_SUFFIX.get(output.suffix.lower(), TaggedFormat.brat)).value
    wishes = _Wishes(
        *(output, form, (model, *(ensemble or ())), decode.value, device, dtype.value),
        *(batch_tokens, min_score, resume, overwrite, key),
    )
    notes, bench = Notes(tuple(inputs), encoding, texts), Bench(output)
    _check(notes, bench, wishes)
    with progress_bars() as stages:
        outcome = (_tag_once if notes.only_once else _tag_with_journal)(notes, bench, wishes, stages)
    _show(outcome, wishes, time.perf_counter() - began)
    bench.clear()
    if left_out := outcome.ledger.problem_count + len(outcome.untagged):
        raise DataError(
            f"{left_out} notes could not be read or tagged, as said above; "
            f"the other {outcome.counts[0]} are in {output}"
        )


def _check(notes: Notes, bench: Bench, wishes: _Wishes) -> None:
    """Refuse what cannot work before anything is read or loaded."""
    if wishes.resume and notes.only_once:
        raise UsageError("standard input (-) cannot be read again: --resume needs files or folders")
    notes.check()
    _check_apart(notes.paths, wishes.output)
    bench.check(resume=wishes.resume, overwrite=wishes.overwrite)
    if not wishes.resume:  # which may find a part of what it is about to write
        check_place(wishes.output, wishes.form, overwrite=wishes.overwrite)


def _check_apart(inputs: Sequence[Path], output: Path) -> None:
    """Refuse to write among the inputs: annotations there would be replaced, and the output read as input next time.

    Raises:
        OutputError: Naming the folder.
    """
    for path in inputs:
        if path != STANDARD_INPUT and output.resolve().is_relative_to(path.resolve()):
            raise OutputError(f"{output} lies in the input {path}: choose an output outside of it")


def _load(wishes: _Wishes, stages: Stages) -> tuple[Predictor, int]:
    """The models as one predictor, and how many sub-tokens they read at a time."""
    with stages.busy("loading the model"):
        quieten()
        from cardioner.model_dir.layout import MANIFEST  # noqa: PLC0415
        from cardioner.prediction.ensemble import model_directories  # noqa: PLC0415 - imports torch
        from cardioner.prediction.predictor import Predictor  # noqa: PLC0415

        predictor = Predictor.from_pretrained(
            wishes.models, device=wishes.device, dtype=wishes.dtype, decoder=wishes.decoder, key=wishes.key
        )
        for place in model_directories(wishes.models):
            if not (place / MANIFEST).exists():
                tell(f"{place} has no manifest: nothing tells whether it is what was saved")
        return predictor, wishes.batch_tokens or predictor.default_batch_tokens


# Notes that can be read again ----------------------------------------------------------------------------------------


def _tag_with_journal(notes: Notes, bench: Bench, wishes: _Wishes, stages: Stages) -> _Outcome:
    """Survey the notes, tag those that no earlier run finished, and write all."""
    outcome = _Outcome()
    _survey(notes, wishes.form, outcome.ledger, stages)
    predictor, batch_tokens = _load(wishes, stages)
    journal = bench.open(_request(predictor, wishes, batch_tokens), resume=wishes.resume)
    try:
        if journal.finished:
            tell(f"{journal.finished} of {outcome.ledger.notes} notes were finished before")
        advance = _bar(stages, outcome.ledger.characters, journal.counts)
        tag(predictor, notes.read(Ledger()), journal, batch_tokens=batch_tokens, advance=advance)
        _check_finished(journal, outcome.ledger)
        outcome.counts = journal.counts
        outcome.untagged = [(entry.id, entry.problem) for entry in journal.entries() if entry.problem]
        documents = _kept(joined(notes.read(Ledger()), journal), wishes, outcome, stages)
        outcome.lost = bench.write(documents, wishes.form, overwrite=wishes.overwrite)
    except KeyboardInterrupt:
        tell(f"Stopped after {journal.finished} notes: the same command with --resume goes on from there")
        raise
    finally:
        journal.close()
    return outcome


def _survey(notes: Notes, form: str, ledger: Ledger, stages: Stages) -> None:
    """Read all notes once, to find what would stop the work later, and how much there is.

    Raises:
        DataError: If two notes have the same id, or no note can be read.
        OutputError: If an id cannot be a file name in the output.
    """
    names = FileNames(".txt", ".ann")
    for document in notes.read(ledger):
        if form == TaggedFormat.brat.value:
            names.add(document.id)
        if ledger.notes % _EVERY == 0:
            stages("reading (notes)", ledger.notes, None)
    if not ledger.notes:
        raise DataError(f"no note can be read: {ledger.problems[0] if ledger.problems else 'there is none'}")


def _request(predictor: Predictor, wishes: _Wishes, batch_tokens: int) -> dict[str, Any]:
    """All that decides what is found in a note."""
    from cardioner.prediction.ensemble import model_directories  # noqa: PLC0415 - imports torch

    configs = [tagger.model.config for tagger in predictor.taggers]
    return {
        "version": __version__,
        "model": fingerprint(model_directories(wishes.models)),
        "decoder": wishes.decoder,
        "device": predictor.model.device.type,
        "dtype": [config.inference_dtype for config in configs],
        "windows": [[config.window_length, config.window_context] for config in configs],
        "batch size": batch_tokens,
        "least score": wishes.min_score,
    }


def _check_finished(journal: Journal, ledger: Ledger) -> None:
    """Refuse to write what is not all of the notes, or nothing.

    Raises:
        DataError: If the notes changed meanwhile, or none could be tagged.
    """
    if journal.finished != ledger.notes:
        raise DataError(
            f"there were {ledger.notes} notes, then {journal.finished}: keep them as they are until the end"
        )
    if not journal.counts[0]:
        raise DataError(f"no note could be tagged: {next(journal.entries()).problem}")


# Notes that come once ------------------------------------------------------------------------------------------------


def _tag_once(notes: Notes, bench: Bench, wishes: _Wishes, stages: Stages) -> _Outcome:
    """Tag and write notes as they come."""
    outcome = _Outcome()
    predictor, batch_tokens = _load(wishes, stages)
    bench.clear()
    advance = _bar(stages, None, ())
    predictions = predictor.predict(notes.read(outcome.ledger), batch_tokens=batch_tokens, advance=advance)

    def tagged() -> Iterator[Document]:
        yield from predictions
        if not predictions.coverage.documents:
            problems = [*outcome.ledger.problems, *(problem for _, problem in predictions.problems), "there is none"]
            raise DataError(f"no note can be read and tagged: {problems[0]}")

    outcome.lost = write_corpus(
        _kept(tagged(), wishes, outcome, stages), wishes.output, wishes.form, overwrite=wishes.overwrite
    )
    outcome.counts, outcome.untagged = predictions.coverage, list(predictions.problems)
    return outcome


# Both ----------------------------------------------------------------------------------------------------------------


def _bar(stages: Stages, total: int | None, done: tuple[int, ...]) -> Callable[[Coverage], None]:
    """Shows how many characters are tagged, and how many sub-tokens a second; those of earlier runs do not count."""
    began, before = time.perf_counter(), done[2] if done else 0
    stage = "tagging (characters)"
    if done:
        stages(stage, done[3], total)

    def advance(coverage: Coverage) -> None:
        pace = (coverage.tokens - before) / max(time.perf_counter() - began, 1e-3)
        stages(stage, coverage.characters, total, speed=f"{pace:,.0f} sub-tokens/s")

    return advance


def _kept(documents: Iterable[Document], wishes: _Wishes, outcome: _Outcome, stages: Stages) -> Iterator[Document]:
    """The notes with the spans whose score is high enough; all are counted by type."""
    for number, document in enumerate(documents, start=1):
        kept = [span for span in document.spans if span.score is None or span.score >= wishes.min_score]
        labels = Counter(span.label for span in kept)
        outcome.kept.update(labels)
        outcome.dropped.update(Counter(span.label for span in document.spans) - labels)
        if number % _EVERY == 0:
            stages("writing (notes)", number, outcome.ledger.notes)
        yield document.with_spans(kept)


def _show(outcome: _Outcome, wishes: _Wishes, seconds: float) -> None:
    """Tell what was found, and everything that was not."""
    for place, remarks in outcome.ledger.remarks:
        show_issues(f"Put aside in {place}", remarks)
    show_issues(f"What {wishes.form} does not hold", outcome.lost)
    labels = sorted({*outcome.kept, *outcome.dropped})
    rows = [(label, outcome.kept[label], outcome.dropped[label]) for label in labels]
    columns = ("type", "spans", f"below {wishes.min_score:g}, left out")
    width = 3 if wishes.min_score else 2
    notices.print(table("Spans found", columns[:width], [row[:width] for row in rows]))
    problems = [f"not read: {problem}" for problem in outcome.ledger.problems]
    problems += [f"not tagged: {name}: {problem}" for name, problem in outcome.untagged]
    for problem in problems[:_PROBLEMS_SHOWN]:
        tell(problem)
    notes, windows, tokens, characters = outcome.counts
    dropped = f", {outcome.dropped.total()} below {wishes.min_score:g} left out" if wishes.min_score else ""
    tell(
        f"{notes} notes, {windows} windows, {tokens} sub-tokens, {characters} characters, {outcome.kept.total()} spans"
        f"{dropped}, in {seconds:.1f} s"
    )
    tell(f"Notes: {wishes.output}")
