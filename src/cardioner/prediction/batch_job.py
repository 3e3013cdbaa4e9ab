"""Tag a whole corpus into a place: beside a journal, so that a run that was cut off goes on where it stopped.

Beside the place `OUT` stands the folder `OUT.partial` while the work lasts: the journal, and what is being written. The
output is written when all notes are finished, from the inputs and the journal, and takes its place at once.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cardioner._io import publish
from cardioner.data.documents import Document
from cardioner.data.formats import Issue, write_corpus
from cardioner.data.formats.files import check_folder
from cardioner.errors import DataError, OutputError
from cardioner.prediction.resume_log import Entry, Journal, discard

if TYPE_CHECKING:
    from cardioner.multiclass.windows import Coverage
    from cardioner.prediction.predictor import Predictor

_JOURNAL = "journal.jsonl"
_STAGED = "staged"
_SPANS = {"brat": (".ann",), "tsv": (".tsv", ".ann")}
"""Of formats that fill a folder, the suffixes of the files that hold spans."""


class Bench:
    """The folder beside an output while the work on it lasts; only its owner may read it.

    Args:
        output: The place that is to be filled.
    """

    def __init__(self, output: Path) -> None:
        self.output = Path(os.path.abspath(output))  # noqa: PTH100 - a link at the place stays what it is
        if not self.output.name:
            raise OutputError(f"{output} cannot be an output: choose a folder or a file in it")
        self.folder = self.output.with_name(f"{self.output.name}.partial")
        self.journal = self.folder / _JOURNAL

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Refuse a folder with the journal of another run in it, unless that is to be gone on with, or thrown away.

        Raises:
            OutputError: Saying what to do.
        """
        if not self.folder.exists():
            return
        own = self.folder.is_dir() and {path.name for path in self.folder.iterdir()} <= {_JOURNAL, _STAGED}
        if not own:
            raise OutputError(f"{self.folder} is in the way: expected nothing there, or what an earlier run left")
        if not resume and not overwrite:
            raise OutputError(
                f"{self.folder} holds the journal of a run that did not end: "
                "go on with it (--resume), or start afresh (--overwrite)"
            )

    def open(self, request: Mapping[str, Any], *, resume: bool) -> Journal:
        """The journal of this request: the one that is there, or a fresh one.

        Raises:
            OutputError: If the one that is there is of another request, or nothing can be written.
        """
        if resume and self.journal.exists() and (journal := Journal.resume(self.journal, request)):
            return journal
        self.clear()
        try:
            self.folder.mkdir(mode=0o700, parents=True)
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot be written ({error.strerror})") from error
        return Journal.begin(self.journal, request)

    def write(self, documents: Iterable[Document], form: str, *, overwrite: bool) -> tuple[Issue, ...]:
        """Write the output beside its place, then move it there. What is there already may be a part of the same.

        Args:
            documents: The tagged notes.
            form: A name of `cardioner.data.formats.FORMATS`.
            overwrite: Replace what is there; in a folder, files of other documents stay as they are.

        Returns:
            What the format cannot hold, counted.

        Raises:
            OutputError: If something else is there, or nothing can be written.
        """
        stage = self.folder / _STAGED
        made = stage / self.output.name
        try:
            shutil.rmtree(stage, ignore_errors=True)
            stage.mkdir(mode=0o700)
            remarks = write_corpus(documents, made, form)
            _move(made, self.output, form, overwrite=overwrite)
        except OSError as error:
            raise OutputError(f"{self.output}: cannot be written ({error.strerror})") from error
        finally:
            shutil.rmtree(stage, ignore_errors=True)  # it holds the texts, and is made anew by --resume
        return remarks

    def clear(self) -> None:
        """Remove the folder; nothing happens if there is none.

        Raises:
            OutputError: If another run works in it, or it cannot be removed.
        """
        discard(self.journal)  # first: it tells whether another run works here
        shutil.rmtree(self.folder / _STAGED, ignore_errors=True)
        if self.folder.exists():
            try:
                self.folder.rmdir()
            except OSError as error:
                raise OutputError(f"{self.folder}: cannot be removed ({error.strerror})") from error


def check_place(output: Path, form: str, *, overwrite: bool) -> None:
    """Refuse, before the work, a place that holds something.

    Raises:
        OutputError: Naming it.
    """
    if _fills_folder(output, form):
        check_folder(output, {}, suffixes=_SPANS[form], overwrite=overwrite)
    elif output.is_dir():
        raise OutputError(f"{output} is a folder; expected a file, or a place for a new one")
    elif output.exists() and not overwrite:
        raise OutputError(f"{output} exists; choose another name, or ask to overwrite it (--overwrite)")


def tag(
    predictor: Predictor,
    documents: Iterable[Document],
    journal: Journal,
    *,
    batch_tokens: int,
    advance: Callable[[Coverage], None],
) -> None:
    """Tag the notes that are not finished, group by group.

    Groups begin where the journal ends, which is where one would have begun anyway: a run that was cut off computes
    the same batches as one that was not.

    Args:
        predictor: What tags them.
        documents: All notes, the finished ones first, as they were.
        journal: Where the finished ones are put down.
        batch_tokens: Most sub-tokens that the encoder reads at a time.
        advance: Called with what is covered, finished notes of earlier runs among them.

    Raises:
        DataError: If a finished note is not what it was.
        OutputError: If the journal cannot be written.
    """
    from cardioner.multiclass.windows import Coverage, in_groups  # noqa: PLC0415 - its package imports torch

    before = Coverage(*journal.counts)
    for group in in_groups(_unfinished(documents, journal), lambda document: len(document.text)):
        start = before

        def count(coverage: Coverage, start: Coverage = start) -> None:
            advance(start.plus(coverage))

        predictions = predictor.predict(group, batch_tokens=batch_tokens, advance=count)
        tagged = {document.id: document.spans for document in predictions}
        problems = dict(predictions.problems)
        entries = [
            Entry(
                number,
                document.id,
                journal.digest(document.text),
                tagged.get(document.id, ()),
                problems.get(document.id, ""),
            )
            for number, document in enumerate(group, start=journal.finished + 1)
        ]
        journal.append(entries, predictions.coverage)
        before = before.plus(predictions.coverage)


def joined(documents: Iterable[Document], journal: Journal) -> Iterator[Document]:
    """The notes with what the journal says was found in them; those that could not be tagged are left out.

    Raises:
        DataError: If a note is not what it was, or is missing.
    """
    for document, entry in zip_longest(documents, journal.entries()):
        if entry is None:
            raise DataError(f"the notes changed since {journal.path} was begun: {document.id!r} is new; start afresh")
        same = journal.same(entry, document)
        if not entry.problem:
            yield same.with_spans(entry.spans)


def _unfinished(documents: Iterable[Document], journal: Journal) -> Iterator[Document]:
    """The notes that come after the finished ones, which must be what they were."""
    remaining = iter(documents)
    for entry in journal.entries():
        journal.same(entry, next(remaining, None))
    return remaining


def _fills_folder(output: Path, form: str) -> bool:
    """Whether a format makes a folder of this name, and not a file."""
    return form == "brat" or (form == "tsv" and output.suffix.lower() not in {".tsv", ".tab"})


def _move(made: Path, output: Path, form: str, *, overwrite: bool) -> None:
    """Move what was written to its place; what is there already must be a part of it, or may be replaced."""
    if made.is_dir() != output.is_dir() and output.exists():
        raise OutputError(f"{output} is a {'folder' if output.is_dir() else 'file'}; choose another place")
    if not made.is_dir():
        if output.exists() and not overwrite and not filecmp.cmp(made, output, shallow=False):
            raise OutputError(f"{output} exists and is something else; choose another name, or go on with --overwrite")
        made.replace(output)
        return
    if not overwrite and output.exists():
        _check_part(made, output, form)
    files = [path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()]
    publish(made, output, sorted(files, key=lambda name: (name.endswith(".txt"), name)))  # spans first, as formats do


def _check_part(made: Path, output: Path, form: str) -> None:
    """Refuse a folder where a file of ours stands with other content, or that holds other annotations.

    Part of ours may be there: the run may have been cut off while it moved files.
    """
    for standing in output.rglob("*"):
        own = made / standing.relative_to(output)
        annotates = standing.suffix in _SPANS[form]
        if standing.is_dir() or not (annotates or own.exists()):
            continue
        if not own.is_file() or not filecmp.cmp(own, standing, shallow=False):
            raise OutputError(
                f"{standing} exists and is something else; choose another folder, or go on with --resume --overwrite"
            )
