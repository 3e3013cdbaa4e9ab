"""Files as every format reads and writes them: strict UTF-8 with its newlines untouched, whole or not at all."""

from __future__ import annotations

import errno
import secrets
from pathlib import Path

from cardioner.errors import DataError, OutputError


def read_text(path: Path) -> str:
    """Read a file without changing a character: no newline is translated, and a BOM stays character 0.

    Raises:
        DataError: If the file cannot be read, or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        problem = f"{path}: expected UTF-8, found another byte at offset {error.start}; convert the file to UTF-8"
    except OSError as error:
        problem = f"{path}: cannot be read ({error.strerror})"
    raise DataError(problem)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file and the folders it needs: the whole file, or nothing.

    Raises:
        OutputError: If it cannot be written, for example because the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_and_rename(path, content)
    except OSError as error:
        hint = "; free some space and write again" if error.errno == errno.ENOSPC else ""
        raise OutputError(f"{path}: cannot be written ({error.strerror}){hint}") from error


def _write_and_rename(path: Path, content: bytes) -> None:
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
