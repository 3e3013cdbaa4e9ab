"""Writing files and folders whole or not at all; one line on why a place cannot be written; silencing libraries."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import shutil
import sys
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from cardioner.errors import OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FAILED_WRITE = ("PytorchStreamWriter", "inline_container", "unexpected pos", "file write failed", "iostream error")
"""What torch says in a `RuntimeError` when a file cannot be written."""
_FULL = "No space left"
_OPEN_FILES = ("/dev/std", "/dev/fd/", "/proc/")
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)

STANDARD_OUTPUT = Path("-")
"""As commands call it."""


def as_path(value: object, name: str = "path") -> Path:
    """A path that a caller gave as a string or as a path.

    Args:
        value: What was given.
        name: What the caller knows it by, for the message.

    Raises:
        UsageError: If it is something else.
    """
    if not isinstance(value, (str, Path)):
        raise UsageError(f"{name}: expected a path, as a str or a pathlib.Path; found {type(value).__name__}")
    return Path(value)


@contextmanager
def silenced(library: str) -> Iterator[None]:
    """Without warnings, and without what a library logs: whatever matters is checked in what it made.

    Args:
        library: The name of its logger.
    """
    logger = logging.getLogger(library)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def reporting_failed_writes(place: Path) -> Iterator[None]:
    """Turn a failed write into one line about the place, whichever library reports it.

    Raises:
        OutputError: For an `OSError`, and for what torch and safetensors raise in its stead.
    """
    try:
        yield
    except Exception as error:
        if not _is_failed_write(error):
            raise
        full = getattr(error, "errno", None) == errno.ENOSPC or _FULL in str(error)
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise OutputError(
            f"{place} cannot be written: {'the disk is full: free some space and try again' if full else reason}"
        ) from error


def _is_failed_write(error: Exception) -> bool:
    if isinstance(error, RuntimeError):  # torch has no class of its own for these
        return any(sign in str(error) for sign in (*_FAILED_WRITE, _FULL))
    return isinstance(error, OSError) or type(error).__name__ == "SafetensorError"  # imports no safetensors


def is_stream(path: Path) -> bool:
    """Whether what is written to a path flows on: to standard output (`-`), a pipe, a device or an open file."""
    if path == STANDARD_OUTPUT or os.path.abspath(path).startswith(_OPEN_FILES):  # noqa: PTH100 - a link stays itself
        return True
    try:
        return path.exists() and not (path.is_file() or path.is_dir())
    except OSError:  # no name of a file: writing says so
        return False


def check_file(path: Path, *, overwrite: bool) -> None:
    """Refuse a place for a file that is a folder, or holds a file that may not be replaced; streams are always fine.

    Raises:
        OutputError: Saying what is there.
    """
    if is_stream(path):
        return
    if path.is_dir():
        raise OutputError(f"{path} is a folder; expected a file, or a place for a new one")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists; choose another name, or ask to overwrite it (--overwrite)")


def check_no_file(folder: Path) -> None:
    """Refuse a place for a folder that is a file or a stream.

    Raises:
        OutputError: Saying which.
    """
    if is_stream(folder) or (folder.exists() and not folder.is_dir()):
        kind = "a stream" if is_stream(folder) else "a file"
        raise OutputError(f"{folder} is {kind}; expected a folder, or a place for a new one")


@contextmanager
def writing(path: Path, *, overwrite: bool, private: bool = False) -> Iterator[BinaryIO]:
    """A file to write bytes to, which takes its name only when the block ends well.

    A symbolic link stays one: the file that it names is written. A stream, such as `-` or a pipe, gets all bytes when
    the block ends well, and is never replaced.

    Args:
        path: The place.
        overwrite: Whether a file that is there may be replaced.
        private: Whether only its owner may read the file.

    Raises:
        OutputError: If it exists and may not be replaced, or cannot be written.
    """
    check_file(path, overwrite=overwrite)
    with reporting_failed_writes(path):
        if is_stream(path):
            with tempfile.TemporaryFile() as made:
                yield cast("BinaryIO", made)
                made.seek(0)
                _pour(cast("BinaryIO", made), path)
            return
        place = Path(os.path.realpath(path))
        part = place.with_name(f".{secrets.token_hex(8)}.part")
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(os.open(part, _NEW, 0o600 if private else 0o666), "wb") as file:  # noqa: PTH123
                yield file
            part.replace(place)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def _pour(made: BinaryIO, path: Path) -> None:
    """Copy a file to a stream; what the stream had before stays."""
    if path == STANDARD_OUTPUT:
        shutil.copyfileobj(made, sys.stdout.buffer)
        sys.stdout.flush()
        return
    with path.open("ab") as stream:
        shutil.copyfileobj(made, stream)


@contextmanager
def staging(path: Path) -> Iterator[Path]:
    """A folder beside a place for another one, to make files in before they are published; removed in the end.

    Raises:
        OutputError: If it cannot be written.
    """
    stage = path.absolute().with_name(f".{secrets.token_hex(8)}.part")
    with reporting_failed_writes(path):
        stage.parent.mkdir(parents=True, exist_ok=True)
        stage.mkdir()
        try:
            yield stage
        finally:
            shutil.rmtree(stage, ignore_errors=True)


def publish(stage: Path, folder: Path, files: Iterable[str], *, key: str | None = None) -> None:
    """Move finished files to their folder; where there is no such folder yet, the stage takes its name at once.

    Args:
        stage: The folder that holds the files, on the same file system.
        folder: Where they go.
        files: Names below `stage`, in the order to move them.
        key: A file among them without which the folder counts as incomplete: the old one is removed first and the new
            one moved last, so that an interrupted move never looks finished.
    """
    names = list(files)
    if not folder.exists():
        stage.rename(folder)
        return
    if key is not None:
        (folder / key).unlink(missing_ok=True)
        names = [*(name for name in names if name != key), key]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (stage / name).replace(folder / name)


def grant_default_permissions(folder: Path) -> None:
    """Give the files of a folder the permissions of new files: some libraries write for the owner's eyes alone."""
    umask = os.umask(0)
    os.umask(umask)
    for path in folder.iterdir():
        if path.is_file():
            path.chmod(0o666 & ~umask)
