"""`cardioner predict` with notes in PostgreSQL, SQLite and DuckDB: each note once, whatever happens."""

from __future__ import annotations

import gc
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from databases import ENCODED, NOTE_NLP, PASSWORD, add_notes, execute, postgresql, url  # noqa: F401 - fixtures

from cardioner.tables import sql_source

WORDS = ("syncope", "heart failure", "metoprolol", "bisoprolol zyxwvcanary", "chest pain", "dyspnoea")
NOTES = {3 * number: f"No {WORDS[number % 6]}, {WORDS[number % 5]} 🫀: 50%." for number in range(150)}
SQL = "SELECT note_id, note_text, person_id FROM note WHERE note_text LIKE '%:%';"
RUN = ("--sql", SQL, "--device", "cpu")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_source, "ROWS", 64)
    monkeypatch.setattr(sql_source, "PAGE", 100)
    monkeypatch.setattr(sql_source, "HELD", 100)


@pytest.fixture
def notes(url: str) -> str:  # noqa: F811
    """A database with notes; its URL."""
    add_notes(url, NOTES)
    return url


@pytest.fixture
def model(tagger: Path) -> Path:
    return tagger


@pytest.fixture
def ask(run: Callable[..., Any]) -> Callable[..., Any]:
    """Run the command; whatever it prints must be free of the password."""

    def execute_it(*arguments: Any) -> Any:
        done = run("predict", *arguments)
        for secret in (PASSWORD, ENCODED, "pl4nted", "secret"):
            assert secret not in done.out + done.err
        return done

    return execute_it


def as_json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def test_from_a_query_into_a_table_and_a_file_the_same(
    notes: str, model: Path, ask: Callable[..., Any], tmp_path: Path
) -> None:
    done = ask(model, *RUN, "--to-table", "tagged", "--keep", "person_id")
    assert done.code == 0, done.err
    assert "150 rows: 150 notes" in done.err
    assert ask(model, *RUN, "--output", tmp_path / "tagged.jsonl", "--keep", "person_id").code == 0
    written = [json.loads(line) for line in (tmp_path / "tagged.jsonl").read_text().splitlines()]
    rows = execute(notes, "SELECT note_id, person_id, spans, problem FROM tagged ORDER BY note_id")
    assert [{**row._mapping, "spans": as_json(row.spans)} for row in rows] == written
    assert [row["note_id"] for row in written] == list(NOTES)
    assert sum(len(row["spans"]) for row in written) > 150


def test_columns_of_many_types_are_kept(notes: str, model: Path, ask: Callable[..., Any]) -> None:
    kept = {
        "amount": "CAST(1.5 AS NUMERIC(5, 2))",
        "day": "note_date",
        "moment": "CAST(note_date AS TIMESTAMP)",
        "positive": "note_id > 3",
        "missing": "CAST(NULL AS INTEGER)",
        "ratio": "CAST(0.25 AS DOUBLE PRECISION)",
        "words": "CAST(note_id AS VARCHAR(9))",
    }
    query = ", ".join(f"{expression} AS {name}" for name, expression in kept.items())
    options = [option for name in kept for option in ("--keep", name)]
    sql = f"SELECT note_id, note_text, {query} FROM note"
    done = ask(model, "--sql", sql, "--to-table", "tagged", "--device", "cpu", *options)
    assert done.code == 0, done.err
    names = ", ".join(kept)
    expected = execute(notes, f"SELECT note_id, {query} FROM note ORDER BY note_id")
    assert execute(notes, f"SELECT note_id, {names} FROM tagged ORDER BY note_id") == expected


def test_a_file_fills_a_table_and_goes_on_with_what_came_behind(
    notes: str, model: Path, ask: Callable[..., Any], tmp_path: Path
) -> None:
    lines = [json.dumps({"note_id": number, "note_text": text}) for number, text in NOTES.items()]
    place = tmp_path / "notes.jsonl"
    arguments = (model, place, "--text-column", "note_text", "--device", "cpu", "--to-table", "tagged")
    for lines_there in (100, 150):
        place.write_text("\n".join(lines[:lines_there]))
        done = ask(*arguments, *(["--resume"] if lines_there > 100 else []))
        assert done.code == (0 if lines_there == 100 else 3)
    assert "changed" in done.error, "the last batch was not full"
    place.write_text("\n".join(lines[:100]))
    assert ask(*arguments, "--resume").code == 0
    found = execute(notes, "SELECT note_id FROM tagged ORDER BY note_id")
    assert [row.note_id for row in found] == list(NOTES)[:100]


def test_a_finished_table_goes_on_with_new_notes_alone_and_is_replaced_only_on_demand(
    notes: str, model: Path, ask: Callable[..., Any]
) -> None:
    arguments = (model, *RUN, "--to-table", "spans", "--explode")
    assert ask(*arguments).code == 0
    before = execute(notes, 'SELECT note_id, start, "end", label, score FROM spans ORDER BY 1, 2, 3, 4')
    said = execute(notes, "SELECT start, attributes, attribute_scores FROM spans")
    assert {(as_json(row.attributes), as_json(row.attribute_scores)) == ({}, {}) for row in said if row.start} == {True}
    assert {(row.attributes, row.attribute_scores) for row in said if row.start is None} <= {(None, None)}
    refused = ask(*arguments)
    assert refused.code == 5
    assert "--resume" in refused.error
    other = ask(*arguments[:-1], "--resume")
    assert "other settings (rows)" in other.error
    insert = "INSERT INTO note SELECT 7000 + note_id, {} FROM note WHERE note_id < 9"
    columns = (
        "person_id, note_date, note_datetime, note_type_concept_id, note_class_concept_id, note_title, note_text, "
    )
    columns += "encoding_concept_id, language_concept_id, provider_id, visit_occurrence_id, visit_detail_id, "
    columns += "note_source_value, note_event_id, note_event_field_concept_id"
    execute(notes, insert.format(columns))
    done = ask(*arguments, "--resume")
    assert done.code == 0
    assert "Finished before: 150 notes" in done.err
    assert "3 rows: 3 notes" in done.err
    after = execute(notes, 'SELECT note_id, start, "end", label, score FROM spans ORDER BY 1, 2, 3, 4')
    assert after[: len(before)] == before
    assert {row.note_id for row in after[len(before) :]} == {7000, 7003, 7006}
    done = ask(*arguments, "--resume")
    assert "0 rows: 0 notes" in done.err
    assert "warning" not in done.err, "no note was tagged, so nothing can have been missed"
    assert ask(*arguments, "--overwrite").code == 0
    again = execute(notes, 'SELECT note_id, start, "end", label FROM spans ORDER BY 1, 2, 3, 4')
    assert again == [row[:4] for row in after]


def test_ids_that_are_null_or_repeated_are_counted(url: str, model: Path, ask: Callable[..., Any]) -> None:  # noqa: F811
    ids = ["a", "b", "b", None, "c", "b", "", None, *["d"] * 130, "e"]
    rows = [{"id": one, "text": f"syncope {number}"} for number, one in enumerate(ids)]
    execute(url, "CREATE TABLE n (k VARCHAR(9), t TEXT)", "INSERT INTO n VALUES (:id, :text)", rows=rows)
    query = ("--sql", "SELECT * FROM n", "--id-column", "k", "--text-column", "t", "--device", "cpu")
    done = ask(model, *query, "--to-table", "out")
    assert done.code == 3
    assert "134 rows could not be tagged" in done.error
    counts = execute(url, "SELECT problem, count(*) AS n FROM out GROUP BY problem ORDER BY n")
    assert [tuple(row) for row in counts] == [("no id", 1), (None, 5), ("an earlier row has the same id", 131)]
    assert any("no id" in line and " 3 " in line for line in done.err.splitlines()), "two were not even read"
    found = execute(url, "SELECT k FROM out WHERE problem IS NULL ORDER BY k")
    assert [row.k for row in found] == ["a", "b", "c", "d", "e"]


# OMOP ----------------------------------------------------------------------------------------------------------------


def test_notes_become_note_nlp_twice_without_duplicates(
    notes: str, model: Path, ask: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "concepts.csv").write_text("label,lexical_variant,concept_id\nDISEASE,,4329847\nSYMPTOM,Heart,42\n")
    theirs = (
        'INSERT INTO note_nlp (note_nlp_id, note_id, "offset", lexical_variant, nlp_system, nlp_date) '
        "VALUES (7, 3, '1', 'x', 'another', '2020-01-01')"
    )
    execute(notes, NOTE_NLP, theirs)
    arguments = (model, *RUN, "--to", "omop", "--to-table", "note_nlp", "--concepts", tmp_path / "concepts.csv")
    done = ask(*arguments)
    assert done.code == 0, done.err
    columns = 'note_nlp_id, note_id, "offset", lexical_variant, note_nlp_concept_id, nlp_system, snippet, term_exists'
    query = f"SELECT {columns}, term_modifiers FROM note_nlp ORDER BY note_nlp_id"
    first = execute(notes, query)
    assert len(first) > 150
    ours = [row for row in first if row.nlp_system != "another"]
    assert len(first) - len(ours) == 1
    for row in ours:
        start = int(row.offset)
        assert NOTES[row.note_id][start : start + len(row.lexical_variant)] == row.lexical_variant
        assert row.nlp_system.startswith("cardioner ")
        assert len(row.nlp_system.rpartition("model ")[2]) == 64
        assert (row.snippet, row.term_exists, row.term_modifiers) == (None, None, None)
        assert 0 <= row.note_nlp_id < 2**63
    assert {row.note_nlp_concept_id for row in ours} <= {0, 42, 4329847}
    assert "of spans without a concept" in done.err
    assert ask(*arguments).code == 0
    assert execute(notes, query) == first
    execute(notes, "DELETE FROM note_nlp WHERE note_id = 9")
    assert ask(*arguments).code == 0
    assert execute(notes, query) == first
    (tmp_path / "concepts.csv").write_text("label,lexical_variant,concept_id\nDISEASE,,7\n")
    other = ask(*arguments, "--resume")
    assert (other.code, other.error.count("\n")) == (5, 0)
    assert "was filled with other settings (concepts, assertions and snippets)" in other.error
    assert execute(notes, query) == first


def test_a_row_whose_id_is_taken_gets_another(notes: str, model: Path, ask: Callable[..., Any]) -> None:
    arguments = (model, *RUN, "--to", "omop", "--to-table", "note_nlp")
    execute(notes, NOTE_NLP)
    assert ask(*arguments).code == 0
    taken = [row.note_nlp_id for row in execute(notes, "SELECT note_nlp_id FROM note_nlp ORDER BY 1")]
    execute(notes, "UPDATE note_nlp SET nlp_system = 'theirs'")
    assert ask(*arguments).code == 0
    both = [row.note_nlp_id for row in execute(notes, "SELECT note_nlp_id FROM note_nlp")]
    assert len(both) == len(set(both)) == 2 * len(taken)
    assert ask(*arguments).code == 0
    assert sorted(both) == [row.note_nlp_id for row in execute(notes, "SELECT note_nlp_id FROM note_nlp ORDER BY 1")]


HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "tag-a-table-or-a-database.md"


def test_the_two_commands_of_the_how_to_lead_from_notes_to_omop(
    notes: str, model: Path, ask: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = HOW_TO.read_text(encoding="utf-8")
    commands = [shlex.split(line) for line in page.splitlines() if line.startswith("cardioner predict model --sql")]
    assert len(commands) == 2
    (concepts,) = re.findall(r'^``` title="concepts.csv"\n(.*?)^```$', page, re.DOTALL | re.MULTILINE)
    (tmp_path / "concepts.csv").write_text(concepts)
    execute(notes, NOTE_NLP)
    for command in commands:
        assert ask(model, *command[3:], "--device", "cpu").code == 0
    tagged = execute(notes, "SELECT note_id, spans FROM tagged_note ORDER BY note_id")
    spans = {(row.note_id, str(span["start"])) for row in tagged for span in as_json(row.spans)}
    rows = execute(notes, 'SELECT note_id, "offset", note_nlp_concept_id FROM note_nlp')
    assert {(row.note_id, row.offset) for row in rows} == spans
    assert {row.note_nlp_concept_id for row in rows} == {0, 4329847}


# What goes wrong -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("notes")
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--sql", "SELECT note_id FROM note"), 3, "no column 'note_text'; its columns are note_id"),
        (("--sql", "SELECT * FROM nix"), 3, "nix"),
        (("--sql", "SELEC 1"), 3, "cannot run the query"),
        (("--sql", "SELECT person_id + 0.5 AS note_id, note_text FROM note"), 3, "whole numbers"),
        (("--sql", "SELECT note_id, person_id AS note_text FROM note"), 3, "expected text in the column 'note_text'"),
        (("--sql", "SELECT * FROM note WHERE note_id < 0"), 3, "has no row"),
        (("--sql", "SELECT * FROM note", "--to", "omop"), 3, "has no table out"),
        (("--sql", "SELECT * FROM note", "--to", "fhir"), 2, "give --output"),
        ((), 2, "expected notes either"),
    ],
)
def test_a_query_that_does_not_fit_is_one_line(
    arguments: tuple[str, ...], code: int, said: str, model: Path, ask: Callable[..., Any]
) -> None:
    done = ask(model, *arguments, "--to-table", "out", "--device", "cpu")
    assert done.code == code
    assert said in done.error


def test_a_message_that_quotes_a_note_is_not_shown(notes: str, model: Path, ask: Callable[..., Any]) -> None:
    query = "SELECT note_id, CAST(note_text AS INTEGER) AS note_text FROM note"
    done = ask(model, "--sql", query, "--to-table", "out")
    assert done.code == 3
    assert "syncope" not in done.err
    if not notes.startswith("sqlite"):  # which makes 0 of it
        assert "cannot read the notes" in done.error


@pytest.mark.postgresql
def test_a_password_is_never_shown(
    postgresql: str,  # noqa: F811
    ask: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CARDIONER_DATABASE_URL", raising=False)
    good = postgresql.format(name="postgres")
    wrong = [
        (good, 2, "other users of this machine can see"),
        (good.replace("tester", "nobody"), 2, "can see"),
        (tmp_path / "missing", 2, "neither a URL"),
    ]
    for number, (text, code, said) in enumerate(
        [
            (good.replace("tester", "nobody"), 3, "nobody"),
            (good.replace("/postgres?", "/nowhere?"), 3, "nowhere"),
            (good.replace("host=/", "host=/nix/"), 3, "cannot run the query"),
            (good.replace(ENCODED, PASSWORD), 2, "%40"),
            (good.replace("postgresql:", "nixsql:"), 2, "no driver"),
            (good.replace("@/", "@h:secret/"), 2, "expected the URL"),
            ("", 2, "expected the URL"),
        ]
    ):
        (tmp_path / f"url{number}").write_text(f"{text}\n")
        wrong.append((tmp_path / f"url{number}", code, said))
    for given, code, said in wrong:
        done = ask(tmp_path, "--sql", "SELECT 1 AS note_id, '' AS note_text", "--database", given, "--to-table", "t")
        assert done.code == code, done.err
        assert said in done.error
    assert "CARDIONER_DATABASE_URL" in ask(tmp_path, "--sql", "SELECT 1", "--to-table", "t").error
    monkeypatch.setenv("CARDIONER_DATABASE_URL", good.replace(ENCODED, "wrong-secret"))
    assert "authentication failed" in ask(tmp_path, "--sql", "SELECT 1", "--to-table", "t").error


@pytest.mark.postgresql
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a lost connection's cursor stays open
@pytest.mark.parametrize("url", [pytest.param("postgresql", id="postgresql")], indirect=True)
def test_a_database_that_goes_away_is_one_line_and_the_run_goes_on(
    notes: str, model: Path, ask: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
    arguments, append = (model, *RUN, "--to-table", "tagged"), sql_source.QueryNotes._page
    calls = []

    def cut(self: Any, position: Any, size: int) -> Any:
        calls.append(1)
        if len(calls) == 3:  # the first was the check before the model was loaded
            execute(notes, end + "AND pid <> pg_backend_pid()")
        return append(self, position, size)

    with monkeypatch.context() as patch:
        patch.setattr(sql_source.QueryNotes, "_page", cut)
        done = ask(*arguments)
    gc.collect()
    assert done.code == 3
    assert "what was finished is safe, repeat the command with --resume" in done.error
    done = ask(*arguments, "--resume")
    assert done.code == 0
    assert "Finished before: 100 notes" in done.err
    found = execute(notes, "SELECT note_id FROM tagged ORDER BY note_id")
    assert [row.note_id for row in found] == list(NOTES)


@pytest.mark.slow
def test_killed_at_any_moment_it_neither_loses_nor_repeats_a_note(url: str) -> None:  # noqa: F811
    texts = {number: f"{'abcdefghij'[: number % 10 + 1]} x" for number in range(1, 2001)}
    add_notes(url, texts)
    dice, kills, middle = random.Random(5), 0, 0
    program = [sys.executable, str(Path(__file__).with_name("filling.py"))]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as filler:
        for target in map("tagged{}".format, count()):
            while not fill(filler, target, dice.randrange(16), dice.uniform(0, 0.02)):
                kills += 1
                middle += 0 < done_of(url, target) < len(texts)
            rows = execute(url, f"SELECT note_id, spans FROM {target} ORDER BY note_id")
            assert [row.note_id for row in rows] == list(texts)
            assert [as_json(row.spans)[0]["end"] for row in rows] == [text.index(" ") for text in texts.values()]
            if kills >= 20 and (middle >= 10 or kills >= 100):
                break
        assert filler.stdin is not None
        filler.stdin.close()
    assert middle >= 10, "many kills were in the middle"


def fill(filler: subprocess.Popen[str], target: str, batches: int, seconds: float) -> bool:
    """Fill a table; whether that ended before it was killed, a moment after it began to tag a batch."""
    assert filler.stdin is not None
    assert filler.stdout is not None
    filler.stdin.write(f"{target}\n")
    filler.stdin.flush()
    pid = int(filler.stdout.readline())
    for _ in range(batches):
        if filler.stdout.read(1) == "!":
            assert filler.stdout.readline() == "0\n"
            return True
    time.sleep(seconds)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    status = filler.stdout.readline().partition("!")[2].strip()
    assert status in {"0", "-9"}
    return status == "0"


def done_of(url: str, target: str) -> int:  # noqa: F811
    """How many rows there are; the same as the progress says."""
    for _ in range(50):
        try:
            tables = execute(url, "SELECT coverage FROM cardioner_progress WHERE target = :t", rows=[{"t": target}])
        except Exception as error:  # noqa: BLE001 - not yet there, or the server is still ending the killed connection
            if "lock" in str(error).lower():
                time.sleep(0.05)
                continue
            return 0
        break
    covered = json.loads(tables[0].coverage) if tables else []
    count = covered[0] if covered else 0
    if count:
        assert execute(url, f"SELECT count(*) AS n FROM {target}")[0].n == count
    return int(count)
