"""The journal of a long tagging: wherever it was cut off, it goes on from its last whole group."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from cardioner.data.documents import Document, Span
from cardioner.errors import DataError, OutputError
from cardioner.prediction.resume_log import Entry, Journal, discard, fingerprint

REQUEST = {"model": "ab", "windows": [[128, 16]], "least score": 0.1}
GROUPS = [
    [Entry(1, "a", "11", (Span(0, 4, "DRUG", 0.1 + 0.2), Span(2, 9, "É 🫀", 5e-324))), Entry(2, "n\n\u2028", "22")],
    [Entry(3, "c", "33", problem="its 5 characters could not be tagged (RuntimeError)")],
    [Entry(4, "\udc80", "44", (Span(0, 1, "X", 1.0),)), Entry(5, "", "55"), Entry(6, "f", "66")],
]
COUNTS = [(2, 3, 40, 500), (0, 0, 0, 0), (3, 1, 2, 10)]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A journal of three groups."""
    journal = Journal.begin(tmp_path / "j", REQUEST)
    for entries, counts in zip(GROUPS, COUNTS, strict=True):
        journal.append(entries, counts)
    journal.close()
    return tmp_path / "j"


def test_what_was_put_down_comes_back(written: Path) -> None:
    journal = Journal.resume(written, REQUEST)
    assert journal is not None
    assert list(journal.entries()) == [entry for group in GROUPS for entry in group]
    assert (journal.finished, journal.counts) == (6, (5, 4, 42, 510))
    journal.close()


def test_cut_off_at_any_byte_it_goes_on_from_its_last_whole_group(written: Path) -> None:
    whole = written.read_bytes()
    lines = whole.splitlines(keepends=True)
    ends = [sum(map(len, lines[:count])) for count in (1, 4, 6, 10)]  # behind the header, and behind each group
    assert ends[-1] == len(whole)
    for size in range(len(whole) + 1):
        written.write_bytes(whole[:size])
        journal = Journal.resume(written, REQUEST)
        groups = sum(size >= end for end in ends) - 1
        if groups < 0:
            assert journal is None
            continue
        assert journal is not None
        assert list(journal.entries()) == [entry for group in GROUPS[:groups] for entry in group]
        for entries, counts in zip(GROUPS[groups:], COUNTS[groups:], strict=True):
            journal.append(entries, counts)
        assert journal.counts == (5, 4, 42, 510)
        journal.close()
        assert written.read_bytes() == whole


@pytest.mark.parametrize(
    "tail", [b"\x00" * 40, b"\x00\n", b"null\n", b'{"number": 9}\n', b'{"finished": 9}\n', b"\xff\n"]
)
def test_what_a_failing_disk_leaves_behind_is_cut_off(tail: bytes, written: Path) -> None:
    whole = written.read_bytes()
    written.write_bytes(whole + tail)
    journal = Journal.resume(written, REQUEST)
    assert journal is not None
    journal.close()
    assert (written.read_bytes(), journal.finished) == (whole, 6)


@pytest.mark.parametrize(
    ("request_", "said"),
    [({**REQUEST, "model": "cd"}, "another model:"), ({"model": "ab"}, "another least score, windows:")],
)
def test_another_request_is_refused_by_what_differs(request_: dict[str, object], said: str, written: Path) -> None:
    before = written.read_bytes()
    with pytest.raises(OutputError, match=said):
        Journal.resume(written, request_)
    assert written.read_bytes() == before


@pytest.mark.parametrize(
    "header", [b'{"id": "a", "text": "bisoprolol"}\n', b'{"journal": 99, "key": "", "request": {}}\n']
)
def test_a_file_that_is_no_journal_is_refused(header: bytes, tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(header)
    with pytest.raises(OutputError, match="no journal of this version") as caught:
        Journal.resume(tmp_path / "j", REQUEST)
    assert "bisoprolol" not in str(caught.value)
    assert (tmp_path / "j").read_bytes() == header


def test_a_note_is_known_by_its_id_and_text_and_named_without_a_word_of_it(written: Path) -> None:
    journal = Journal.resume(written, REQUEST)
    assert journal is not None
    document = Document("a", "bisoprolol")
    entry = Entry(1, "a", journal.digest("bisoprolol"))
    assert journal.same(entry, document) is document
    for other, said in [
        (Document("a", "bisoprolol "), "the text of 'a' is not what it was"),
        (Document("b", "bisoprolol"), "expected 'a' as note 1, found 'b'"),
        (None, "expected 'a' as note 1, found none"),
    ]:
        with pytest.raises(DataError, match=said) as caught:
            journal.same(entry, other)
        assert "bisoprolol" not in str(caught.value)
    journal.close()


def test_digests_differ_from_journal_to_journal(tmp_path: Path) -> None:
    digests = set()
    for name in "ab":
        journal = Journal.begin(tmp_path / name, REQUEST)
        digests.add(journal.digest("heart failure"))
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        journal.close()
    assert len(digests) == 2


@pytest.mark.parametrize("door", [lambda path: Journal.resume(path, REQUEST), discard])
def test_one_run_at_a_time_has_it_open(door: Callable[[Path], object], written: Path) -> None:
    journal = Journal.resume(written, REQUEST)
    assert journal is not None
    with pytest.raises(OutputError, match="another run"):
        door(written)
    journal.close()
    opened = door(written)
    if isinstance(opened, Journal):
        opened.close()
    assert written.exists() == isinstance(opened, Journal)


def test_a_journal_that_is_there_is_not_begun_again(written: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        Journal.begin(written, REQUEST)
    discard(written)
    discard(written)
    Journal.begin(written, REQUEST).close()
    assert json.loads(written.read_text())["request"] == REQUEST


def test_a_fingerprint_changes_with_every_file_that_decides(tmp_path: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        for name in ("config.json", "tokenizer.json", "model.safetensors", "README.md"):
            (tmp_path / place / name).write_text(name)
    first, second = tmp_path / "a", tmp_path / "b"
    alone = fingerprint([first])
    assert alone == fingerprint([second])
    (second / "README.md").write_text("another")
    assert alone == fingerprint([second])
    seen = {alone, fingerprint([first, second])}
    for name in ("config.json", "tokenizer.json", "model.safetensors", "model-00002-of-00002.safetensors"):
        (second / name).write_text("another")
        seen.add(fingerprint([second]))
    assert len(seen) == 6
