"""Databases that tests make and throw away: PostgreSQL from its server's programs, SQLite and DuckDB in files."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

PASSWORD = "pl4nted/secret@x"
"""The password of the server: nothing that is printed may hold it, nor its percent-encoded form."""
ENCODED = "pl4nted%2Fsecret%40x"

NOTE = """
CREATE TABLE note (
    note_id INTEGER NOT NULL PRIMARY KEY, person_id INTEGER NOT NULL, note_date DATE NOT NULL, note_datetime TIMESTAMP,
    note_type_concept_id INTEGER NOT NULL, note_class_concept_id INTEGER NOT NULL, note_title VARCHAR(250),
    note_text TEXT NOT NULL, encoding_concept_id INTEGER NOT NULL, language_concept_id INTEGER NOT NULL,
    provider_id INTEGER, visit_occurrence_id INTEGER, visit_detail_id INTEGER, note_source_value VARCHAR(50),
    note_event_id BIGINT, note_event_field_concept_id INTEGER
)
"""
NOTE_NLP = """
CREATE TABLE note_nlp (
    note_nlp_id INTEGER NOT NULL PRIMARY KEY, note_id INTEGER NOT NULL, section_concept_id INTEGER,
    snippet VARCHAR(250), "offset" VARCHAR(50), lexical_variant VARCHAR(250) NOT NULL, note_nlp_concept_id INTEGER,
    note_nlp_source_concept_id INTEGER, nlp_system VARCHAR(250), nlp_date DATE NOT NULL, nlp_datetime TIMESTAMP,
    term_exists VARCHAR(1), term_temporal VARCHAR(50), term_modifiers VARCHAR(2000)
)
"""
"""The columns, types and keys of the OMOP Common Data Model 5.4, which are the same for PostgreSQL and DuckDB."""


def programs() -> Path | None:
    """The folder of PostgreSQL's server programs, the newest."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a new server without the name of a database; it listens on no port."""
    bin_folder = programs()
    assert bin_folder is not None, "install PostgreSQL, as .ci/run does"
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short: names of sockets are
    (folder / "password").write_text(PASSWORD)
    as_user: dict[str, Any] = {"stdout": subprocess.DEVNULL, "cwd": "/"}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = pwd.getpwnam("postgres")
        for path in (folder, folder / "password"):
            os.chown(path, user.pw_uid, user.pw_gid)
        as_user |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    data, control = folder / "data", bin_folder / "pg_ctl"
    initdb = [bin_folder / "initdb", "-D", data, "-U", "tester", "-A", "scram-sha-256", "-E", "UTF8"]
    subprocess.run([*initdb, f"--pwfile={folder / 'password'}", "--no-sync"], check=True, **as_user)
    options = f"-k {folder} -c listen_addresses='' -c fsync=off -c max_connections=20"
    subprocess.run([control, "-D", data, "-l", folder / "log", "-w", "-o", options, "start"], check=True, **as_user)
    try:
        yield f"postgresql://tester:{ENCODED}@/{{name}}?host={folder}"
    finally:
        subprocess.run([control, "-D", data, "-m", "immediate", "stop"], check=True, **as_user)
        shutil.rmtree(folder)


@pytest.fixture(params=[pytest.param("postgresql", marks=pytest.mark.postgresql), "sqlite", "duckdb"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new database of each kind, which is also in the environment."""
    made = f"{request.param}:///{tmp_path}/notes.{request.param}"
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        name = f"d{abs(hash(tmp_path)):x}"
        opened = connect(server.format(name="postgres")).execution_options(isolation_level="AUTOCOMMIT")
        with opened as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        made = server.format(name=name)
    monkeypatch.setenv("CARDIONER_DATABASE_URL", made)
    return made


def connect(url: str) -> sa.Connection:
    """A connection whose pool keeps nothing open."""
    url = url.replace("postgresql://", "postgresql+psycopg://")
    return sa.create_engine(url, poolclass=sa.NullPool).connect()


def execute(url: str, *statements: str, rows: list[dict[str, Any]] | None = None) -> list[Any]:
    """Run statements in one transaction, the last with rows if there are any; gives what the last one finds."""
    with connect(url) as connection, connection.begin():
        for statement in statements[:-1]:
            connection.exec_driver_sql(statement)
        found = connection.execute(sa.text(statements[-1]), *([rows] if rows else []))
        return list(found) if found.returns_rows else []


def add_notes(url: str, texts: dict[int, str]) -> None:
    """A table `note` of OMOP with these notes."""
    rows = [{"id": number, "text": text} for number, text in texts.items()]
    insert = (
        "INSERT INTO note (note_id, person_id, note_date, note_type_concept_id, note_class_concept_id, note_text, "
        "encoding_concept_id, language_concept_id) VALUES (:id, 1, DATE '2024-05-06', 0, 0, :text, 0, 0)"
    )
    insert = insert.replace("DATE '", "'") if url.startswith("sqlite") else insert
    execute(url, NOTE, insert, rows=rows)
