"""A log of finished work: rows that are added in whole groups, so that a run that was killed goes on from the last one.

It is an SQLite database that one run at a time has open. The table `run` says what was asked, and holds a random key;
`notes` has numbered rows, each with a checksum under that key. A group of rows is added in one transaction, so whenever
a process is killed, whole groups are there.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sqlite3
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cardioner.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from typing_extensions import Self

_VERSION = 1
_KEY_BYTES = 16
_SCHEMA = [
    "CREATE TABLE run (version INTEGER NOT NULL, key BLOB NOT NULL, request TEXT NOT NULL)",
    "CREATE TABLE notes (number INTEGER PRIMARY KEY, content BLOB NOT NULL, checksum BLOB NOT NULL)",
]
_ROWS = "SELECT number, CAST(content AS BLOB), CAST(checksum AS BLOB) FROM notes ORDER BY number"
"""What was damaged may be text now, and messages on text that is no UTF-8 quote it."""
_AGAIN = "start again with --overwrite"
_NAMING_ANOTHER = bytes.fromhex("d9d505f920a163d7")
"""How a journal of SQLite ends that names one of several databases, a file that SQLite deletes (`pager.c`)."""


class RunLog:
    """A log that is open for more rows; no other run can open it meanwhile. What rows hold, subclasses say.

    Attributes:
        path: The file.
        finished: How many rows are in it, those of whole groups.
        damage: Which row is not what was written, and what that costs; empty if all rows are sound.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, key: bytes) -> None:
        self.path = path
        self.finished = 0
        self.damage = ""
        self._connection = connection
        self._key = key

    @classmethod
    def begin(cls, path: Path, request: Mapping[str, Any]) -> Self:
        """Start a log, which only its owner may read.

        Args:
            path: Where there is none yet.
            request: What was asked, as JSON has it: all that decides what is found.

        Raises:
            OutputError: If it is there, or cannot be written.
        """
        key = secrets.token_bytes(_KEY_BYTES)
        with _reporting(path):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with _locked(path) as connection:
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute("INSERT INTO run VALUES (?, ?, ?)", (_VERSION, key, json.dumps(dict(request))))
            connection.commit()
        return cls(path, connection, key)

    @classmethod
    def resume(cls, path: Path, request: Mapping[str, Any]) -> Self | None:
        """Open a log to continue it; `None` if the run was killed before it had begun.

        Every row is checked. From the group of the first damaged one on, all rows are removed: their notes have to be
        tagged again, in the same groups as before.

        Raises:
            OutputError: If it is of another request, another run has it open, it is damaged as a whole, or it cannot be
                written.
        """
        with _locked(path) as connection:
            if not path.stat().st_size:  # as an unfinished first transaction leaves it, once that is undone
                connection.close()
                return None
            key, before = _read_run(connection, path)
            if differing := sorted(name for name in {*before, *request} if before.get(name) != request.get(name)):
                raise OutputError(
                    f"{path} is of a run with other settings ({', '.join(differing)}): "
                    f"give the same options again, or {_AGAIN}"
                )
            log = cls(path, connection, key)
            log._check_rows()
            connection.commit()
        return log

    def close(self) -> None:
        """Let others open it."""
        self._connection.close()

    def digest(self, content: str | bytes) -> str:
        """A digest of a text that tells nothing without the key, and differs between logs."""
        held = content.encode() if isinstance(content, str) else content
        return hashlib.blake2b(held, key=self._key, digest_size=16).hexdigest()

    def _add(self, contents: Sequence[bytes]) -> None:
        """Add the rows of a group; they are on the disk when this returns.

        Raises:
            OutputError: If they cannot be written.
        """
        numbered = list(enumerate(contents, start=self.finished + 1))
        rows = [(number, content, self._checksum(number, content)) for number, content in numbered]
        with _reporting(self.path), self._connection:  # which commits, or takes everything back
            self._connection.execute("BEGIN")
            self._connection.executemany("INSERT INTO notes VALUES (?, ?, ?)", rows)
        self.finished += len(rows)

    def _contents(self) -> Iterator[bytes]:
        """What the rows hold, in order, one at a time."""
        with _reporting(self.path):
            for _, content, _ in self._connection.execute(_ROWS):
                yield content

    def _take(self, content: bytes) -> bool:
        """Take in a row that is found in the log; whether a group ends with it.

        Raises:
            ValueError: If no such row was ever added.
        """
        raise NotImplementedError

    def _described(self, number: int, content: object) -> str:
        """A damaged row, and what the damage costs, once `finished` says how many rows are left."""
        raise NotImplementedError

    def _checksum(self, number: int, content: bytes) -> bytes:
        return hashlib.blake2b(b"%d %s" % (number, content), key=self._key, digest_size=16).digest()

    def _check_rows(self) -> None:
        """Find the last whole group before any damage, and remove what follows it."""
        rows = self._connection.execute(_ROWS)
        place, content = 0, b""
        for place, (number, content, checksum) in enumerate(rows, start=1):
            if number != place or not isinstance(content, bytes) or checksum != self._checksum(number, content):
                break
            try:
                is_end = self._take(content)
            except ValueError:  # somebody wrote it with the key
                break
            if is_end:
                self.finished = number
        if place > self.finished:
            self.damage = f"{self.path}: {self._described(place, content)}"
            self._connection.execute("DELETE FROM notes WHERE number NOT BETWEEN 1 AND ?", (self.finished,))


def discard(path: Path) -> None:
    """Remove a resume log that no run has open, whatever it holds; nothing happens if there is none.

    Raises:
        OutputError: If another run has it open, or it cannot be removed.
    """
    with _reporting(path):
        try:
            if path.exists():
                with _locked(path) as connection:
                    connection.close()
        except _InUseError:
            raise
        except OutputError:  # it is no database, or a damaged one
            pass
        path.unlink(missing_ok=True)
        journal_of(path).unlink(missing_ok=True)


def journal_of(path: Path) -> Path:
    """The file in which SQLite keeps what it needs to undo an unfinished transaction."""
    return path.with_name(f"{path.name}-journal")


class _InUseError(OutputError):
    """Another run has the resume log open."""


@contextmanager
def _locked(path: Path) -> Iterator[sqlite3.Connection]:
    """A database in a transaction, open for this run alone until it is closed, also by an error in the block."""
    with _reporting(path), ExitStack() as stack:
        _check_journal(path)
        database = f"{path.absolute().as_uri()}?mode=rw"  # never makes a new file, which others could read
        connection = stack.enter_context(closing(sqlite3.connect(database, uri=True, timeout=0, isolation_level=None)))
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        yield connection
        stack.pop_all()


def _check_journal(path: Path) -> None:
    """Refuse a journal that names a further file: it is not ours, and SQLite would delete that file, wherever it is."""
    journal = journal_of(Path(os.path.realpath(path)))
    if journal.is_file() and journal.read_bytes().endswith(_NAMING_ANOTHER):
        raise OutputError(f"{journal} is damaged, or no journal of cardioner: {_AGAIN}")


@contextmanager
def _reporting(path: Path) -> Iterator[None]:
    """Report what the system or SQLite says about a file in one line that names it."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
    except (sqlite3.Error, UnicodeError) as error:  # the latter where the message of SQLite quotes damage
        if "locked" in str(error):
            raise _InUseError(
                f"{path} is in use: if another run tags to the same output, wait for it or stop it; if none does, its "
                "file system has no locks: choose another output"
            ) from error
        raise OutputError(
            f"{path} cannot be read or written ({error}): if it is no resume log, or damaged, {_AGAIN}"
        ) from error


def _read_run(connection: sqlite3.Connection, path: Path) -> tuple[bytes, dict[str, Any]]:
    """The key of a resume log, and what was asked."""
    schema = [sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master")]
    if schema == _SCHEMA and connection.execute("PRAGMA quick_check").fetchone() == ("ok",):
        version, key, request = connection.execute("SELECT * FROM run").fetchone() or (0, b"", "{}")
        with suppress(TypeError, ValueError, RecursionError):
            if version == _VERSION and isinstance(key, bytes) and len(key) == _KEY_BYTES:
                return key, dict(json.loads(request))
    raise OutputError(f"{path} is damaged, or no resume log of this version of cardioner: {_AGAIN}")
