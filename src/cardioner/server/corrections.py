"""The folder of corrected notes: one file a note, whole or not at all, and a line in a log for every change."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Literal

from cardioner._io import reporting_failed_writes
from cardioner.data.corpus import IssueCounter
from cardioner.data.documents import Document
from cardioner.data.formats import read_corpus, write_corpus
from cardioner.data.formats.brat import annotations_bytes
from cardioner.data.formats.files import FileNames, visible_below
from cardioner.data.formats.jsonl import line_bytes
from cardioner.errors import CardioNERError, OutputError
from cardioner.server.audit import Action, Author, audit_line

CorrectionFormat = Literal["brat", "jsonl"]

AUDIT = ".audit.jsonl"
"""The log of a folder of corrections. Readers of corpora pass over names that start with a dot."""

_SUFFIXES: dict[CorrectionFormat, tuple[str, ...]] = {"brat": (".txt", ".ann"), "jsonl": (".jsonl",)}
"""Of the files of a note. The first one is removed first: an `.ann` alone is no note, a `.txt` alone is one."""

_LONGEST_NAME = 200
"""Characters of the name of a note that comes with its correction; with its suffix it is the name of a file."""


class ConflictError(CardioNERError):
    """Someone else changed the correction of a note meanwhile."""


class UnusableError(CardioNERError):
    """Something in a correction that the folder cannot hold; the message says where, and holds nothing of it."""


def check_apart(folder: Path, notes: Path) -> None:
    """Refuse a folder for corrections in which the notes lie, or that lies in theirs.

    Raises:
        OutputError: Naming both.
    """
    one, other = folder.resolve(), notes.resolve()
    if one == other or one in other.parents or other in one.parents:
        raise OutputError(
            f"{folder} and the notes in {notes} lie in each other: corrections are never written over the input, so "
            "name another folder with --corrections"
        )


def revision_of(document: Document) -> str:
    """Which version of the spans of a note this is."""
    return blake2b(repr(sorted(document.spans)).encode(), digest_size=8).hexdigest()


class Corrections:
    """The corrected notes of a folder, which are kept in memory too.

    Args:
        folder: Where they are. It is made with the first one.
        format: How a note is written: `.txt` and `.ann`, or a file with one line of JSON.
        known: Ids of the notes that may be corrected; each must do for the name of a file.

    Raises:
        OutputError: If the folder holds something else, or an id cannot be the name of a file.
        DataError: If an earlier correction cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        format: CorrectionFormat = "brat",  # noqa: A002 - the name that readers expect
        *,
        known: Iterable[str] = (),
    ) -> None:
        self.folder = folder
        self.format = format
        self._lock = threading.Lock()
        self._names = FileNames(*_SUFFIXES[format])
        self._saved = _read(folder, format)
        for name in dict.fromkeys((*known, *self._saved)):
            self._names.add(name)

    @property
    def saved(self) -> Mapping[str, Document]:
        """The corrected notes by id."""
        return self._saved

    def save(self, document: Document, author: Author, *, before: Document, replaces: str | None) -> str:
        """Write a correction, and a line about it.

        Args:
            document: The note with its corrected spans.
            author: Who corrected it.
            before: The note with the spans that the person began with.
            replaces: The revision of the correction that was there; `None` for none.

        Returns:
            The revision of this one.

        Raises:
            ConflictError: If there is another revision by now.
            OutputError: If it cannot be written.
            UnusableError: If the id cannot be the name of a file here, or brat cannot hold a label.
        """
        with self._lock:
            self._check_revision(document.id, replaces)
            self._check_name(document.id)
            self._check_labels(document)
            place = self.folder if self.format == "brat" else self.folder / f"{document.id}.jsonl"
            self._log("accepted", author, before, document)
            write_corpus([document], place, self.format, overwrite=True)
            self._saved = {**self._saved, document.id: document}
            return revision_of(document)

    def withdraw(self, name: str, author: Author, *, replaces: str | None) -> None:
        """Remove a correction, and write a line about it.

        Raises:
            ConflictError: If there is another revision by now.
            OutputError: If it cannot be removed.
        """
        with self._lock:
            self._check_revision(name, replaces)
            document = self._saved[name]
            self._log("withdrawn", author, document, document.with_spans(()))
            for suffix in _SUFFIXES[self.format]:
                with reporting_failed_writes(self.folder):
                    (self.folder / f"{name}{suffix}").unlink(missing_ok=True)
            self._saved = {key: value for key, value in self._saved.items() if key != name}

    def _check_revision(self, name: str, expected: str | None) -> None:
        saved = self._saved.get(name)
        if (saved and revision_of(saved)) != expected:
            raise ConflictError("the correction of this note was changed meanwhile")

    def _check_name(self, name: str) -> None:
        if name not in set(self._names):
            if len(name) > _LONGEST_NAME or not name.isprintable():
                raise UnusableError(f"note: expected at most {_LONGEST_NAME} printable characters")
            try:
                self._names.add(name)
            except OutputError:  # it quotes what a request gave
                problem = "note: the id cannot be the name of a file in the folder of corrections"
                raise UnusableError(problem) from None

    def _check_labels(self, document: Document) -> None:
        if self.format == "brat" and any(character.isspace() for span in document.spans for character in span.label):
            raise UnusableError("spans: brat cannot hold an entity type with white space; start with --to jsonl")
        lost = IssueCounter()
        if self.format == "brat" and annotations_bytes(document, lost) and lost.issues:
            raise UnusableError("spans: brat cannot hold one of their attributes; start with --to jsonl")

    def _log(self, action: Action, author: Author, before: Document, after: Document) -> None:
        """Append a line, before anything is written: of what is in the folder, the log never lacks a line."""
        line = audit_line(action, after.id, author, before.spans, after.spans)
        with reporting_failed_writes(self.folder / AUDIT):
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / AUDIT).open("ab") as file:
                file.write(line)


def as_download(documents: Iterable[Document], format: CorrectionFormat) -> bytes:  # noqa: A002
    """Notes as one file: JSON lines, or a ZIP archive of `.txt` and `.ann` files."""
    ordered = sorted(documents, key=lambda document: document.id)
    if format == "jsonl":
        return b"".join(map(line_bytes, ordered))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for document in ordered:
            archive.writestr(f"{document.id}.txt", document.text.encode())
            archive.writestr(f"{document.id}.ann", annotations_bytes(document, IssueCounter()))
    return made.getvalue()


def _read(folder: Path, format: CorrectionFormat) -> dict[str, Document]:  # noqa: A002
    """What was corrected earlier; a folder that holds anything else is refused."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; expected a folder for corrections, or a place for a new one")
    if not folder.exists() or not any(folder.iterdir()):
        return {}
    if not (folder / AUDIT).is_file():
        raise OutputError(f"{folder} holds other files; name a new or an empty folder with --corrections")
    (other,) = _SUFFIXES.keys() - {format}
    if visible_below(folder, *_SUFFIXES[other]):
        raise OutputError(f"{folder} holds corrections in another format: continue with --to {other}")
    if not visible_below(folder, _SUFFIXES[format][0]):
        return {}
    return {document.id: document for document in read_corpus(folder, format)}
