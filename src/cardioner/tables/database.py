"""Reach a database through SQLAlchemy: where its URL is from, and errors in one line without passwords or notes."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from cardioner.errors import DataError, UsageError, first_line, needing

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE = "CARDIONER_DATABASE_URL"

_DRIVERS = {"psycopg": "psycopg[binary]", "duckdb_engine": "duckdb-engine", "duckdb": "duckdb"}
_SAFE_STATES = ("08", "23", "25", "28", "3D", "3F", "42", "53", "57")
"""Classes of SQLSTATE (PostgreSQL, appendix A) whose messages name tables, columns and constraints, never a value."""
_SAFE_ERRORS = (
    *("OperationalError", "IntegrityError"),  # of SQLite
    *("BinderException", "CatalogException", "ConnectionException", "IOException", "ParserException"),  # of DuckDB
)


def database_url(given: str | None) -> sa.URL:
    """The URL of a database: of the environment, of a file, or as it is given.

    Args:
        given: A URL without a password, or the path of a file that holds one; `None` takes that in
            `CARDIONER_DATABASE_URL`.

    Raises:
        UsageError: If there is none, it cannot be read, or a password stands where other users of the machine see it.
    """
    if given is None:
        return _parsed(os.environ.get(VARIABLE, ""), VARIABLE)
    if "://" not in given:
        return _parsed(_content(Path(given)), given)
    url = _parsed(given, "--database")
    if _secrets(url):
        raise UsageError(
            f"--database holds a password, which other users of this machine can see: put the URL into {VARIABLE} or "
            "into a file that only you can read, and give its name"
        )
    return url


@contextmanager
def connecting(url: sa.URL) -> Iterator[sa.Engine]:
    """What connects to a database; a connection that was lost is replaced when the next one is needed.

    Raises:
        UsageError: If the driver is not installed or there is none of that name.
    """
    if url.drivername in {"postgresql", "postgres"}:
        url = url.set(drivername="postgresql+psycopg")
    try:
        with needing(f"a database of {url.get_backend_name()}", _DRIVERS):
            engine = sa.create_engine(url, pool_pre_ping=True, hide_parameters=True)
    except (SQLAlchemyError, ImportError) as error:
        raise UsageError(
            f"there is no driver for databases of the kind {url.drivername!r} ({type(error).__name__})"
        ) from None
    try:
        yield engine
    finally:
        engine.dispose()


def database_name(engine: sa.Engine) -> str:
    """What to call a database: no user and no password."""
    url = engine.url
    return f"{url.get_backend_name()} database {url.database or ''}{f' at {url.host}' if url.host else ''}"


@contextmanager
def reporting_database(engine: sa.Engine, doing: str, *, resumable: bool = False) -> Iterator[None]:
    """Turn an error of the database into one line.

    Args:
        engine: The database.
        doing: What is tried, such as `read the notes`.
        resumable: Whether what was finished is safe.

    Raises:
        DataError: Without the statement, its values and the password; messages that may quote a value are left out.
    """
    try:
        yield
    except SQLAlchemyError as error:
        again = ": what was finished is safe, repeat the command with --resume" if resumable else ""
        raise DataError(f"{database_name(engine)}: cannot {doing} ({_reason(error, engine.url)}){again}") from None


def qualified(name: str) -> tuple[str | None, str]:
    """The schema, if one is named, and the table of `schema.table`."""
    schema, _, table = name.rpartition(".")
    return schema or None, table


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError):
        raise UsageError(f"{path} is neither a URL (kind://user@host/name) nor a file that holds one") from None


def _parsed(text: str, where: str) -> sa.URL:
    """The URL in a text that is never shown."""
    text = text.strip()
    if not text:
        raise UsageError(f"expected the URL of a database: set {VARIABLE}, or give --database a URL or a file with one")
    rest = re.sub(r"^[^@]*@", "", text, count=1).partition("?")[0]
    if "@" in rest:
        raise UsageError(f"{where}: write the @ of a user or a password as %40")
    try:
        return sa.make_url(text)
    except (ArgumentError, ValueError):
        raise UsageError(f"{where}: expected the URL of a database, as kind://user:password@host/name") from None


def _secrets(url: sa.URL) -> list[str]:
    """Passwords in a URL."""
    held = [value for name, value in url.query.items() if "password" in name.lower() or "token" in name.lower()]
    flat = [one for value in held for one in ([value] if isinstance(value, str) else value)]
    return [*flat, *([str(url.password)] if url.password else [])]


def _reason(error: SQLAlchemyError, url: sa.URL) -> str:
    if not isinstance(error, DBAPIError) or error.orig is None:
        return type(error).__name__
    cause = error.orig
    state = getattr(cause, "sqlstate", None)
    name = type(cause).__name__
    is_connecting = isinstance(error, (OperationalError, InterfaceError)) and state is None
    safe = str(state).startswith(_SAFE_STATES) if state else name in _SAFE_ERRORS
    if not (safe or is_connecting):
        return f"{name} {state}" if state else name
    message = first_line(cause)
    for secret in _secrets(url):
        message = message.replace(secret, "***")
    return message
