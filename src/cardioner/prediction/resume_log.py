"""The journal of a long tagging: which notes are finished and what was found in them, so that nothing is done twice.

Lines of JSON: a header that says what was asked and holds a random key; a line for each finished note; and, behind each
group of notes that were tagged together, a line that says how far it got. A note is finished when the line behind its
group is there. No text is in it: a note is known again by its id and a digest under the key.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from cardioner.data.documents import Document, Span
from cardioner.errors import DataError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_VERSION = 1
_DECISIVE = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_WEIGHTS = ("model*.safetensors*", "pytorch_model*.bin*")


class Entry(NamedTuple):
    """A finished note.

    Attributes:
        number: Its place among the notes, counted from 1.
        id: Its id.
        digest: What `Journal.digest` says of its text.
        spans: What was found in it.
        problem: Why it could not be tagged; empty if it could.
    """

    number: int
    id: str
    digest: str
    spans: tuple[Span, ...] = ()
    problem: str = ""


class Journal:
    """A journal that is open for more, and that no other run can open meanwhile.

    Attributes:
        path: The file.
        finished: How many notes are finished.
        counts: What they came to, as whoever wrote the journal counts it.
    """

    def __init__(self, path: Path, file: BinaryIO, key: str) -> None:
        self.path = path
        self.finished = 0
        self.counts: tuple[int, ...] = ()
        self._file = file
        self._key = bytes.fromhex(key)
        self._size = file.tell()

    @classmethod
    def begin(cls, path: Path, request: Mapping[str, Any]) -> Journal:
        """Start a journal, which only its owner may read.

        Args:
            path: Where there is none yet.
            request: What was asked, as JSON has it: all that decides what is found.

        Raises:
            OutputError: If it is there, or cannot be written.
        """
        key = secrets.token_hex(16)
        with _named(path), ExitStack() as closing:
            opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            file = closing.enter_context(os.fdopen(opened, "r+b"))
            _lock(file, path)
            _write(file, [{"journal": _VERSION, "key": key, "request": dict(request)}])
            closing.pop_all()
            return cls(path, file, key)

    @classmethod
    def resume(cls, path: Path, request: Mapping[str, Any]) -> Journal | None:
        """Open a journal to go on with it; `None` if it was cut off before its header was whole.

        What stands behind the last whole group is cut off.

        Raises:
            OutputError: If it is of another request, another run has it open, or it cannot be written.
        """
        with _named(path), ExitStack() as closing:
            file = closing.enter_context(path.open("r+b"))
            _lock(file, path)
            header = _parse(file.readline())
            if header is None:
                return None
            _check_request(header, request, path)
            journal = cls(path, file, header["key"])
            journal._skip_finished()
            closing.pop_all()
            return journal

    def digest(self, text: str) -> str:
        """A digest of a text that says nothing to whoever has not the key, and is another one in every journal."""
        return hashlib.blake2b(text.encode(), key=self._key, digest_size=16).hexdigest()

    def append(self, entries: Sequence[Entry], counts: Sequence[int]) -> None:
        """Put down a group of notes as finished; it is on the disk when this returns.

        Args:
            entries: The notes.
            counts: What they came to; added up in `counts`.

        Raises:
            OutputError: If it cannot be written.
        """
        lines: list[dict[str, Any]] = [_row(entry) for entry in entries]
        total = _sum(self.counts, counts)
        with _named(self.path):
            _write(self._file, [*lines, {"finished": self.finished + len(entries), "counts": total}])
        self.finished += len(entries)
        self.counts = total
        self._size = self._file.tell()

    def entries(self) -> Iterator[Entry]:
        """The finished notes in order, one at a time."""
        with self.path.open("rb") as file:
            file.readline()
            while file.tell() < self._size:
                row = _parse(file.readline())
                if row is not None and "number" in row:
                    yield _entry(row)

    def same(self, entry: Entry, document: Document | None) -> Document:
        """The note that an entry is about.

        Raises:
            DataError: If it is another one, or its text is not what it was.
        """
        found = "none" if document is None else repr(document.id)
        if document is None or entry.id != document.id:
            problem = f"expected {entry.id!r} as note {entry.number}, found {found}"
        elif entry.digest != self.digest(document.text):
            problem = f"the text of {entry.id!r} is not what it was"
        else:
            return document
        raise DataError(f"the notes changed since {self.path} was begun: {problem}; start afresh with --overwrite")

    def close(self) -> None:
        """Let others open it."""
        self._file.close()

    def _skip_finished(self) -> None:
        """Find the end of the last whole group, and cut off what follows it."""
        expected, self._size = 1, self._file.tell()
        for line in iter(self._file.readline, b""):
            row = _parse(line)
            if row is not None and row.get("number") == expected:
                expected += 1
            elif row is not None and row.get("finished") == expected - 1:
                self.finished, self.counts = expected - 1, tuple(row["counts"])
                self._size = self._file.tell()
            else:
                break
        self._file.truncate(self._size)
        self._file.seek(self._size)


def discard(path: Path) -> None:
    """Remove a journal that no run has open; nothing happens if there is none.

    Raises:
        OutputError: If another run has it open, or it cannot be removed.
    """
    if not path.exists():
        return
    with _named(path):
        with path.open("r+b") as file:
            _lock(file, path)
        path.unlink()


def fingerprint(directories: Iterable[Path]) -> str:
    """A SHA-256 digest over all files of model directories that decide what the models find."""
    total = hashlib.sha256()
    for directory in directories:
        weights = [path for pattern in _WEIGHTS for path in directory.glob(pattern)]
        others = [directory / name for name in _DECISIVE if (directory / name).is_file()]
        for path in sorted(others + weights):
            with path.open("rb") as file:
                total.update(f"{path.name} {path.stat().st_size}\n".encode())
                while chunk := file.read(1 << 20):
                    total.update(chunk)
    return total.hexdigest()


def _check_request(header: Mapping[str, Any], request: Mapping[str, Any], path: Path) -> None:
    """Refuse the journal of another request, naming what differs."""
    if header.get("journal") != _VERSION or not isinstance(header.get("request"), dict) or "key" not in header:
        raise OutputError(f"{path} is no journal of this version of cardioner: start afresh with --overwrite")
    before = header["request"]
    if differing := sorted(key for key in {*before, *request} if before.get(key) != request.get(key)):
        raise OutputError(
            f"{path} is the journal of another request, with another {', '.join(differing)}: "
            "ask for the same again, or start afresh with --overwrite"
        )


def _row(entry: Entry) -> dict[str, Any]:
    spans = [[span.start, span.end, span.label, span.score] for span in entry.spans]
    row: dict[str, Any] = {"number": entry.number, "id": entry.id, "digest": entry.digest, "spans": spans}
    return {**row, "problem": entry.problem} if entry.problem else row


def _entry(row: Mapping[str, Any]) -> Entry:
    spans = tuple(Span(*values) for values in row["spans"])
    return Entry(row["number"], row["id"], row["digest"], spans, row.get("problem", ""))


def _write(file: BinaryIO, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append rows; they are on the disk when this returns."""
    file.write(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    file.flush()
    os.fsync(file.fileno())


def _parse(line: bytes) -> dict[str, Any] | None:
    """The object on a line; `None` if the line is not whole."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _sum(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    return tuple(left + right for left, right in zip(one, other, strict=True)) if one else tuple(other)


def _lock(file: BinaryIO, path: Path) -> None:
    """Refuse a journal that another run has open, where the system can tell."""
    if sys.platform == "win32":
        return
    import fcntl  # noqa: PLC0415 - not everywhere

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        taken = True
    except OSError:  # a file system without locks
        taken = False
    else:
        taken = False
    if taken:
        raise OutputError(f"{path} is in use: another run tags the same; wait for it, or stop it")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What the system says against a file, as an error that names it."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
