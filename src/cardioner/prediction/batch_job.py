"""Tag a whole corpus into a place so that an interrupted run can be resumed, and the output appears whole.

Beside the place `OUT` stands the folder `OUT.partial` while the work lasts: the resume log, and the output as far as it
is written. Each run reads the notes once: it takes the finished ones from the resume log, tags the others, and writes
all of them. The output takes its place at once in the end.
"""

from __future__ import annotations

import filecmp
import os
import secrets
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cardioner._io import check_file, is_stream, publish, reporting_failed_writes
from cardioner.data.formats.files import check_folder
from cardioner.errors import CardioNERError, DataError, OutputError, UsageError
from cardioner.multiclass.windows import Coverage
from cardioner.prediction.resume_log import Entry, ResumeLog
from cardioner.prediction.run_log import RunLog, discard, journal_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from cardioner.data.documents import Document
    from cardioner.prediction.predictor import Predictor

_STAGED = "staged"
_MOVING = "moving"
"""A file that says that a part of the output may be in its place."""
_OLD_LOG = "journal.jsonl"
"""Where version 0.2.0 kept what is in the resume log today."""
_SPANS = {"brat": (".ann",), "tsv": (".tsv", ".ann"), "xmi": (".xmi",), "parquet": (".parquet",)}
"""Of formats that fill a folder, the suffixes of the files that hold spans."""
_IN_ONE_FILE = {"tsv": (".tsv", ".tab"), "parquet": (".parquet",)}
"""Of formats that fill a folder, the suffixes of a place that is one file nevertheless."""

Log = TypeVar("Log", bound=RunLog)
Written = TypeVar("Written")


class BatchJob:
    """An output, and the folder beside it while the work on it lasts, which only its owner may read.

    Args:
        output: The place that is to be filled.
        form: A name of `cardioner.data.formats.FORMATS` or of `cardioner.tables.writers.FORMS`.
    """

    def __init__(self, output: Path, form: str) -> None:
        self.form = form
        self.is_stream = is_stream(output)
        if self.is_stream:
            self.output = output
            self.folder = Path(tempfile.gettempdir(), f"cardioner-{secrets.token_hex(8)}.partial")
        else:
            self.output = Path(os.path.realpath(output) if output.is_symlink() else os.path.abspath(output))  # noqa: PTH100
            if not self.output.name:
                raise OutputError(f"{output} cannot be an output: choose a folder or a file in it")
            self.folder = self.output.with_name(f"{self.output.name}.partial")
        self.log = self.folder / "resume.sqlite"

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Refuse, before the work, a place that holds something, and what an unfinished run left, unless asked to.

        Raises:
            OutputError: Saying what to do.
        """
        if self.is_stream and resume:
            raise UsageError(f"{self.output} keeps nothing that a run could be resumed from: leave out --resume")
        if self.folder.exists():
            self._check_folder(resume=resume, overwrite=overwrite)
        if not (resume and (self.folder / _MOVING).exists()):
            self._check_place(overwrite=overwrite)

    @contextmanager
    def open(self, kind: type[Log], request: Mapping[str, Any], *, resume: bool) -> Iterator[Log]:
        """The log of this request: the one that is there, or a new one of a kind.

        After an error the folder stays if it holds a finished note.

        Raises:
            OutputError: If the one that is there is of another request, or nothing can be written.
        """
        log = kind.resume(self.log, request) if resume and self.log.exists() else None
        if log is None:
            moving = resume and (self.folder / _MOVING).exists()
            self.clear()
            with reporting_failed_writes(self.folder):
                self.folder.mkdir(mode=0o700, parents=True)
                if moving:
                    (self.folder / _MOVING).touch()
            log = kind.begin(self.log, request)
        try:
            yield log
        except CardioNERError:
            log.close()
            if not log.finished:
                self.clear()
            raise
        finally:
            log.close()
            if self.is_stream:
                self.clear()

    def write(self, write_to: Callable[[Path], Written], *, overwrite: bool) -> Written:
        """Write the output beside its place, then move it there. What is there already may be a part of the same.

        Args:
            write_to: Writes the tagged notes to a place.
            overwrite: Replace what is there; in a folder, files of other documents stay as they are.

        Returns:
            What `write_to` returns.

        Raises:
            OutputError: If something else is there, or nothing can be written.
        """
        if self.is_stream:
            return write_to(self.output)
        stage = self.folder / _STAGED
        try:
            with reporting_failed_writes(self.output):
                shutil.rmtree(stage, ignore_errors=True)
                stage.mkdir(mode=0o700)
                written = write_to(stage / self.output.name)
                (self.folder / _MOVING).touch()
                _move(stage / self.output.name, self.output, self.form, overwrite=overwrite)
        finally:
            shutil.rmtree(stage, ignore_errors=True)  # it holds the texts
        return written

    def clear(self) -> None:
        """Remove the folder; nothing happens if there is none.

        Raises:
            OutputError: If another run works in it, or it cannot be removed.
        """
        discard(self.log)  # first: this shows whether another run works here
        shutil.rmtree(self.folder / _STAGED, ignore_errors=True)
        if self.folder.exists():
            with reporting_failed_writes(self.folder):
                for name in (_OLD_LOG, _MOVING):
                    (self.folder / name).unlink(missing_ok=True)
                self.folder.rmdir()

    def _check_folder(self, *, resume: bool, overwrite: bool) -> None:
        """Refuse a folder that is not ours, or whose content is neither to be used nor to be thrown away."""
        own = {self.log.name, journal_of(self.log).name, _STAGED, _MOVING, _OLD_LOG}
        if not self.folder.is_dir() or not {path.name for path in self.folder.iterdir()} <= own:
            raise OutputError(f"{self.folder} is in the way: expected nothing there, or what an earlier run left")
        if overwrite:
            return
        if (self.folder / _OLD_LOG).exists():
            raise OutputError(
                f"{self.folder} was left by a run of an earlier version of cardioner, which cannot be resumed: "
                "start again with --overwrite"
            )
        if not resume:
            raise OutputError(
                f"{self.folder} holds what an unfinished run left: resume that run with --resume, or start again "
                "with --overwrite"
            )

    def _check_place(self, *, overwrite: bool) -> None:
        """Refuse a place that holds something."""
        suffixes = _IN_ONE_FILE.get(self.form)
        is_file = suffixes is not None and (self.is_stream or self.output.suffix.lower() in suffixes)
        if self.form in _SPANS and not is_file:
            check_folder(self.output, {}, suffixes=_SPANS[self.form], overwrite=overwrite)
        else:
            check_file(self.output, overwrite=overwrite)


def tag_all(
    predictor: Predictor,
    notes: Iterable[Document],
    log: ResumeLog,
    *,
    batch_tokens: int,
    advance: Callable[[Coverage], None],
) -> Iterator[Document]:
    """Every note with its spans, those that cannot be tagged left out; a note is put into the log before it comes.

    Groups begin where the log ends, which is where one would have begun anyway: a run that is resumed computes the same
    batches as one that was not interrupted.

    Args:
        predictor: What tags the notes that are not finished.
        notes: All notes, the finished ones first and unchanged.
        log: Where the finished ones are.
        batch_tokens: Most sub-tokens that the encoder reads at a time.
        advance: Called with what is covered, finished notes of earlier runs included.

    Raises:
        DataError: If a finished note has changed.
        OutputError: If the log cannot be written.
    """
    remaining = iter(notes)
    for number, entry in enumerate(log.entries(), start=1):
        document = _same(next(remaining, None), number, entry, log)
        if not entry.problem:
            yield document.with_spans(entry.spans)
    before = Coverage(*log.coverage)
    predictions = predictor.predict(
        remaining, batch_tokens=batch_tokens, advance=lambda coverage: advance(before.plus(coverage))
    )
    for group in predictions.groups():
        entries = [
            Entry(document.id, log.digest(document.text), () if problem else document.spans, problem)
            for document, problem in group
        ]
        log.append(entries, before.plus(predictions.coverage))
        yield from (document for document, problem in group if not problem)


def _same(document: Document | None, number: int, entry: Entry, log: ResumeLog) -> Document:
    """The note that comes at a place; refused if it is not the one that the entry is about."""
    if document is None or document.id != entry.id:
        found = "none" if document is None else repr(document.id)
        problem = f"expected {entry.id!r} as note {number}, found {found}"
    elif log.digest(document.text) != entry.digest:
        problem = f"the text of {entry.id!r} is not what it was"
    else:
        return document
    raise DataError(f"the notes changed since {log.path} was begun: {problem}; start again with --overwrite")


def _move(made: Path, output: Path, form: str, *, overwrite: bool) -> None:
    """Move what was written to its place; what is there already must be a part of it, or may be replaced."""
    if made.is_dir() != output.is_dir() and output.exists():
        raise OutputError(f"{output} is a {'folder' if output.is_dir() else 'file'}; choose another place")
    if not made.is_dir():
        if output.exists() and not overwrite and not filecmp.cmp(made, output, shallow=False):
            raise _other_content(output)
        made.replace(output)
        return
    if not overwrite and output.exists():
        _check_part(made, output, form)
    files = [path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()]
    if form == "parquet":  # one table: a part that is not replaced would be read as one of it
        for standing in output.glob("part-*.parquet"):
            if standing.name not in files:
                standing.unlink()
    publish(made, output, sorted(files, key=lambda name: (name.endswith(".txt"), name)))  # spans first, as formats do


def _check_part(made: Path, output: Path, form: str) -> None:
    """Refuse a folder where a file of ours stands with other content, or that holds other annotations.

    Part of ours may be there: the run may have been stopped while it moved files.
    """
    for standing in output.rglob("*"):
        own = made / standing.relative_to(output)
        annotates = standing.suffix in _SPANS[form]
        if standing.is_dir() or not (annotates or own.exists()):
            continue
        if not own.is_file() or not filecmp.cmp(own, standing, shallow=False):
            raise _other_content(standing)


def _other_content(place: Path) -> OutputError:
    return OutputError(f"{place} exists and is something else; choose another place, or use --resume --overwrite")
