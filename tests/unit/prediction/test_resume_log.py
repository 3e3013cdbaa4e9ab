"""The resume log of a long run: it continues from its last whole group, and notices every change to what it holds."""

from __future__ import annotations

import random
import shutil
import sqlite3
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cardioner.data.documents import Span
from cardioner.errors import OutputError
from cardioner.prediction.resume_log import Entry, ResumeLog
from cardioner.prediction.run_log import discard, journal_of

SAID, SCORES = {"Negation": True, "Certainty": "é 🫀"}, {"Negation": 0.1 + 0.2, "Family": 5e-324}
REQUEST = {"model": "ab", "windows": [[128, 16]], "least score": 0.1}
GROUPS = [
    [Entry("a", "11", (Span(0, 4, "DRUG", 0.1 + 0.2), Span(2, 9, "É 🫀", 5e-324))), Entry("n\n\u2028", "22")],
    [Entry("c", "33", problem="its 5 characters could not be tagged (RuntimeError)")],
    [
        Entry("\udc80", "44", (Span(0, 1, "X", 1.0, (), SAID, SCORES), Span(0, 1, "Y", 1.0, (), {}, SCORES))),
        Entry("", "55"),
        Entry("f", "66"),
    ],
]
COVERAGE = [(2, 3, 40, 500), (2, 3, 40, 500), (5, 4, 42, 510)]
EVERY = [entry for group in GROUPS for entry in group]
ENDS = {0: (), 2: COVERAGE[0], 3: COVERAGE[1], 6: COVERAGE[2]}
"""Where a group ends, and what the notes up to there came to."""


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A resume log of three groups."""
    log = ResumeLog.begin(tmp_path / "log", REQUEST)
    for entries, coverage in zip(GROUPS, COVERAGE, strict=True):
        log.append(entries, coverage)
    log.close()
    return tmp_path / "log"


@contextmanager
def resumed(path: Path) -> Iterator[ResumeLog]:
    log = ResumeLog.resume(path, REQUEST)
    assert log is not None
    try:
        yield log
    finally:
        log.close()


def change(path: Path, statement: str, *values: object) -> None:
    """Change a resume log behind its back."""
    database = sqlite3.connect(path)
    with database:
        database.execute(statement, values)
    database.close()


def test_what_was_appended_comes_back(written: Path) -> None:
    with resumed(written) as log:
        assert list(log.entries()) == EVERY
        assert (log.finished, log.coverage, log.damage) == (6, COVERAGE[-1], "")
    assert [path.name for path in written.parent.iterdir()] == ["log"]


def test_killed_between_two_writes_it_continues_from_its_last_whole_group(tmp_path: Path) -> None:
    """What lies on the disk is copied whenever SQLite is about to carry a statement out: a kill leaves just that."""
    log = ResumeLog.begin(tmp_path / "log", REQUEST)
    copies: list[tuple[Path, int]] = []

    def copy(_: str) -> None:
        place = tmp_path / f"copy-{len(copies)}"
        subprocess.run(["cp", "-r", tmp_path / "now", place], check=True)  # no lock of this process is let go
        copies.append((place / "log", log.finished))

    (tmp_path / "now").mkdir()
    log.close()
    (tmp_path / "log").rename(tmp_path / "now" / "log")
    with resumed(tmp_path / "now" / "log") as log:
        log._connection.set_trace_callback(copy)
        for entries, coverage in zip(GROUPS, COVERAGE, strict=True):
            log.append(entries, coverage)
        log._connection.set_trace_callback(None)
    assert len(copies) > 9
    for path, finished in copies:
        with resumed(path) as again:
            assert again.finished == finished
            assert list(again.entries()) == EVERY[:finished]
            for entries, coverage in zip(GROUPS, COVERAGE, strict=True):
                if again.finished < sum(map(len, GROUPS[: GROUPS.index(entries) + 1])):
                    again.append(entries, coverage)
            assert list(again.entries()) == EVERY


def test_a_file_that_was_cut_or_changed_anywhere_is_noticed_or_gives_what_was_written(written: Path) -> None:
    whole, dice = written.read_bytes(), random.Random(5)
    flipped = [(place, 1 << dice.randrange(8)) for place in dice.sample(range(len(whole)), 1500)]
    damaged = [whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :] for place, bit in flipped]
    damaged += [whole[:size] for size in [*range(1, 100), *range(100, len(whole), 500)]]
    refused, mended = [], 0
    for content in damaged:
        written.write_bytes(content)
        try:
            with resumed(written) as log:
                assert log.coverage == ENDS[log.finished]
                assert list(log.entries()) == EVERY[: log.finished]
                mended += bool(log.damage)
        except OutputError as error:
            refused.append(str(error))
        discard(written)
    assert all("start again with --overwrite" in message for message in refused)
    assert len(refused) > 10
    assert mended > 10


@pytest.mark.parametrize(("number", "finished"), [(1, 0), (2, 0), (3, 2), (4, 3), (6, 3)])
def test_one_changed_letter_is_named_and_its_group_and_all_after_it_are_tagged_again(
    number: int, finished: int, written: Path
) -> None:
    changed = "CAST(replace(CAST(content AS TEXT), 'spans', 'spams') AS BLOB)"
    change(written, f"UPDATE notes SET content = {changed} WHERE number = ?", number)
    with resumed(written) as log:
        assert log.damage.endswith(f"is damaged: note {finished + 1} and those after it are tagged again")
        assert f"the row of note {number} ({EVERY[number - 1].id!r})" in log.damage
        assert list(log.entries()) == EVERY[:finished]
        assert (log.finished, log.coverage) == (finished, ENDS[finished])


def test_rows_that_are_missing_or_in_another_order_are_noticed(written: Path, tmp_path: Path) -> None:
    for number, statement in enumerate(
        (
            "DELETE FROM notes WHERE number = 3",
            "UPDATE notes SET number = 7 WHERE number = 3",
            "UPDATE notes SET content = 1 WHERE number = 3",
            "UPDATE notes SET content = (SELECT content FROM notes WHERE number = 2) WHERE number = 3",
        )
    ):
        path = tmp_path / str(number)
        shutil.copy(written, path)
        change(path, statement)
        with resumed(path) as log:
            assert log.finished == 2
            assert "note 3" in log.damage
            assert list(log.entries()) == EVERY[:2]
            log.append(GROUPS[1], COVERAGE[1])
        with resumed(path) as log:
            assert (log.finished, log.damage) == (3, "")


def test_one_changed_letter_of_a_label_never_reaches_the_output(written: Path) -> None:
    change(written, "UPDATE notes SET content = CAST(replace(CAST(content AS TEXT), 'DRUG', 'DRUM') AS BLOB)")
    with resumed(written) as log:
        assert "the row of note 1 ('a') is damaged" in log.damage
        assert list(log.entries()) == []


@pytest.mark.parametrize(
    "content",
    [
        *("null", "[]", "{}", "[[[", "[" * 100_000, "\udc80"),
        '{"id": "a", "digest": "", "problem": "", "spans": 5}',
        '{"id": "a", "digest": "", "problem": "", "spans": [[1]]}',
        '{"id": "a", "digest": "", "problem": "", "spans": [[5, 2, "X", 1.0]]}',
        '{"id": "a", "digest": "", "problem": "", "spans": [[1, 2, "X", "high"]]}',
        '{"id": "a", "digest": "", "problem": "", "spans": [[1, 2, "X", 0.5, [[1, 2]]]]}',
        '{"id": "a", "digest": "", "problem": "", "spans": [[1, 2, "X", 0.5, {"A": 1}, {}]]}',
        '{"id": "a", "digest": "", "problem": "", "spans": [[1, 2, "X", 0.5, {}, {"A": 2.0}]]}',
        '{"id": "a", "digest": "", "problem": "", "spans": [[1, 2, "X", 0.5, {}, {"\\u001b[2J": 0.5}]]}',
        '{"id": "a", "digest": "", "problem": "", "spans": [], "coverage": ["1"]}',
        '{"id": 1, "digest": "", "problem": "", "spans": []}',
        '{"id": "a", "digest": "", "problem": "", "spans": [[1, 2, "X", NaN]]}',
        '{"id": "a", "digest": "", "problem": "", "spans": [[1, 2, "X", 1.5]]}',
        '{"id": "a", "digest": "", "problem": "", "spans": [[1, 2, "\\u001b[2J", 0.5]]}',
        '{"id": "a", "digest": "", "problem": "\\u001b[2J", "spans": []}',
        '{"id": "a", "digest": "", "problem": "", "spans": [], "coverage": [1, 1, 1, 1, 1]}',
        '{"id": "a", "digest": "", "problem": "", "spans": [], "coverage": [Infinity, 1, 1, 1]}',
        '{"id": "a", "digest": "", "problem": "", "spans": [], "coverage": [-1, 1, 1, 1]}',
    ],
    ids=lambda content: ascii(content[-20:]),
)
def test_a_row_that_was_never_written_is_damage_though_its_checksum_holds(content: str, written: Path) -> None:
    with resumed(written) as log:
        held = content.encode(errors="surrogatepass")
        checksum = log._checksum(3, held)
    change(written, "UPDATE notes SET content = ?, checksum = ? WHERE number = 3", held, checksum)
    with resumed(written) as log:
        assert "the row of note 3" in log.damage
        assert list(log.entries()) == EVERY[:2]


@pytest.mark.parametrize("linked", [False, True])
def test_a_journal_that_names_a_file_does_not_have_it_deleted(linked: bool, written: Path, tmp_path: Path) -> None:
    """SQLite deletes the file that is named, so that whoever hands over a resume log could delete any file."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    name, magic = bytes(victim), bytes.fromhex("d9d505f920a163d7")
    header = magic + struct.pack(">5I", 0, 1, written.stat().st_size // 4096, 512, 4096)
    tail = struct.pack(">I", (1 << 30) // 4096 + 1) + name + struct.pack(">2I", len(name), sum(name)) + magic
    journal_of(written).write_bytes(header.ljust(512, b"\0") + tail)
    place = written
    if linked:
        place = tmp_path / "link"
        place.symlink_to(written)
    with pytest.raises(OutputError, match=r"log-journal is damaged, .*: start again with --overwrite"):
        ResumeLog.resume(place, REQUEST)
    discard(place)
    assert victim.read_bytes() == b"precious"
    assert not place.exists()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("key", value) for value in (99_999_999_999, "x", b"", b"x" * 100)),
        *(("request", value) for value in ("null", "[1]", "[" * 100_000, b"\xff", 1.5)),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_a_damaged_head_is_refused_in_one_line(column: str, value: object, written: Path) -> None:
    change(written, f"UPDATE run SET {column} = ?", value)
    with pytest.raises(OutputError, match=r"is damaged, .*: start again with --overwrite"):
        ResumeLog.resume(written, REQUEST)


@pytest.mark.parametrize(
    ("request_", "said"),
    [({**REQUEST, "model": "cd"}, r"settings \(model\):"), ({"model": "ab"}, r"settings \(least score, windows\):")],
)
def test_another_request_is_refused_by_what_differs(request_: dict[str, object], said: str, written: Path) -> None:
    before = written.read_bytes()
    with pytest.raises(OutputError, match=said):
        ResumeLog.resume(written, request_)
    assert written.read_bytes() == before


@pytest.mark.parametrize("content", [b'{"id": "a", "text": "bisoprolol"}\n' * 99, b"SQLite format 3\x00bisoprolol"])
def test_a_file_that_is_no_resume_log_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(content)
    with pytest.raises(OutputError, match="start again with --overwrite") as caught:
        ResumeLog.resume(tmp_path / "log", REQUEST)
    assert "bisoprolol" not in str(caught.value)
    assert (tmp_path / "log").read_bytes() == content
    discard(tmp_path / "log")
    assert not (tmp_path / "log").exists()


def test_a_resume_log_of_another_version_is_refused(written: Path) -> None:
    change(written, "UPDATE run SET version = 2")
    with pytest.raises(OutputError, match="no resume log of this version"):
        ResumeLog.resume(written, REQUEST)


def test_a_run_that_was_killed_before_it_began_has_no_resume_log(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    assert ResumeLog.resume(tmp_path / "log", REQUEST) is None


def test_digests_differ_between_logs_and_only_the_owner_may_read_them(tmp_path: Path) -> None:
    digests = set()
    for name in "ab":
        log = ResumeLog.begin(tmp_path / name, REQUEST)
        digests.add(log.digest("heart failure"))
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        log.close()
    assert len(digests) == 2


@pytest.mark.parametrize("appended", [False, True])
@pytest.mark.parametrize("action", ["resume", "discard"])
def test_one_run_at_a_time_has_it_open_in_this_process_and_in_others(
    action: str, appended: bool, written: Path
) -> None:
    script = (
        "import sys; from pathlib import Path; from cardioner.errors import OutputError\n"
        "from cardioner.prediction.resume_log import ResumeLog\nfrom cardioner.prediction.run_log import discard\n"
        f"try: {'ResumeLog.resume(Path(sys.argv[1]), {})' if action == 'resume' else 'discard(Path(sys.argv[1]))'}\n"
        "except OutputError as error: print(error)"
    )
    here: Callable[[], object] = (
        (lambda: ResumeLog.resume(written, REQUEST)) if action == "resume" else (lambda: discard(written))
    )
    with resumed(written) as log:
        if appended:
            log.append([Entry("g", "77")], COVERAGE[-1])
        with pytest.raises(OutputError, match="another run"):
            here()
        there = subprocess.run([sys.executable, "-c", script, written], capture_output=True, text=True, check=True)
        assert "another run" in there.stdout
    opened = here()
    if isinstance(opened, ResumeLog):
        opened.close()
    assert written.exists() == (action == "resume")


def test_a_log_that_is_there_is_not_begun_again_until_it_is_discarded(written: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        ResumeLog.begin(written, REQUEST)
    journal_of(written).write_bytes(b"left by a kill")
    discard(written)
    assert list(written.parent.iterdir()) == []
    discard(written)
    ResumeLog.begin(written, REQUEST).close()
