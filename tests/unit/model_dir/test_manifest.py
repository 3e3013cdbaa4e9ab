"""The manifest: no byte of it can change unnoticed, and it says what was saved."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardioner.data.documents import Document, Span
from cardioner.errors import ModelError, OutputError, UsageError
from cardioner.model_dir.layout import MANIFEST
from cardioner.model_dir.manifest import (
    FileEntry,
    GoldenOutputs,
    Manifest,
    Notes,
    canonical,
    list_files,
    read_manifest,
)
from cardioner.training.document_digests import describe_notes, keyed_digest, make_key, read_key

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
NOTES = (
    Document("a", "Chest pain, Märchen.", (Span(0, 10, "SYMPTOM"),)),
    Document("b", "bisoprolol", (Span(0, 10, "MEDICATION", 0.5),)),
    Document("c", ""),
)


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        versions={"cardioner": "1.2.3"},
        labels=["O", "B-[ 1,\n 2 ]", "I-é"],
        training={"learning_rate": 2e-4, "options": {"seed": 0}, "widths": [512, 256]},
        documents={"training": Notes(documents=3, spans={"X": 2}, digest="hmac-sha256:00")},
        scores={"test": {"f1": 0.25}},
        calibration=None,
        golden_outputs=GoldenOutputs(
            input_ids=[[1, 2], [3, 0]],
            attention_mask=[[1, 1], [1, 0]],
            emissions=[[[0.5, -1e-05], [1.0, 2.0]], [[0.0, 3.25], [0.0, 0.0]]],
            tags=[[0, 1], [1]],
            texts=[],
        ),
        files={"config.json": FileEntry(sha256="0" * 64, size=12)},
    )


def written(manifest: Manifest, directory: Path) -> Path:
    (directory / MANIFEST).write_bytes(manifest.to_bytes())
    return directory


def test_what_is_written_is_what_is_read(manifest: Manifest, tmp_path: Path) -> None:
    assert read_manifest(written(manifest, tmp_path)) == manifest


def test_a_directory_may_have_none(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None


def test_its_digest_is_that_of_its_canonical_json(manifest: Manifest, tmp_path: Path) -> None:
    content = json.loads((written(manifest, tmp_path) / MANIFEST).read_text(encoding="utf-8"))
    digest = content.pop("digest")
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    assert digest == hashlib.sha256(text.encode()).hexdigest()


def test_every_changed_byte_is_noticed(manifest: Manifest, tmp_path: Path) -> None:
    data = manifest.to_bytes()
    draw = random.Random(0)
    for place in range(len(data)):  # white space and digits too
        other = draw.choice([byte for byte in b' \t\n\r09azAZ{}[]",\xff\x00' if byte != data[place]])
        (tmp_path / MANIFEST).write_bytes(data[:place] + bytes([other]) + data[place + 1 :])
        with pytest.raises(ModelError, match=r"cardioner\.json"):
            read_manifest(tmp_path)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"7", b"[" * 100_000, b'{"format": 1}', b"\xff", b'{"digest": []}']
)
def test_something_else_is_one_clear_line(data: bytes, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(data)
    with pytest.raises(ModelError) as caught:
        read_manifest(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_newer_format_asks_for_a_newer_version(manifest: Manifest, tmp_path: Path) -> None:
    content = {**json.loads(manifest.to_bytes()), "format": 2}
    (tmp_path / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"format 2.*newer"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "a\\b", "..", "a\x00b", ""])
def test_it_lists_no_file_outside_of_its_directory(name: str, manifest: Manifest, tmp_path: Path) -> None:
    files = {name: FileEntry(sha256="0" * 64, size=1)}
    with pytest.raises(ModelError, match="own digest"):
        read_manifest(written(manifest.model_copy(update={"files": files}), tmp_path))


def test_files_are_listed_with_size_and_content(tmp_path: Path) -> None:
    content = bytes(range(256)) * 9000  # more than is read at a time
    (tmp_path / "b").write_bytes(content)
    (tmp_path / "a").write_bytes(b"")
    found = list_files(tmp_path, ["b", "a"])
    assert list(found) == ["a", "b"]
    assert found["b"] == FileEntry(sha256=hashlib.sha256(content).hexdigest(), size=len(content))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
        lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(), part, max_size=4),
    )
)
def test_canonical_json_says_the_same(content: object) -> None:
    assert json.loads(canonical(content).decode("utf-8", "surrogatepass")) == content
    assert canonical(json.loads(json.dumps(content, indent=3))) == canonical(content)


def test_notes_are_counted_and_named_only_on_request() -> None:
    plain = describe_notes(NOTES)
    assert plain == Notes(documents=3, spans={"MEDICATION": 1, "SYMPTOM": 1})
    assert describe_notes(NOTES, ids=True).ids == ["a", "b", "c"]
    assert describe_notes(NOTES, key=KEY).digest == keyed_digest(NOTES, KEY)


def test_a_digest_knows_texts_and_spans_and_neither_order_nor_names() -> None:
    digest = keyed_digest(NOTES, KEY)
    assert keyed_digest([Document(f"new {note.id}", note.text, note.spans) for note in reversed(NOTES)], KEY) == digest
    others = [NOTES[:2], (*NOTES, NOTES[0]), (Document("a", "Chest pain, Marchen.", NOTES[0].spans), *NOTES[1:])]
    others.append((NOTES[0].with_spans([Span(0, 5, "SYMPTOM")]), *NOTES[1:]))
    found = {keyed_digest(other, KEY) for other in others} | {keyed_digest(NOTES, OTHER_KEY)}
    assert len(found) == 5
    assert digest not in found


def test_no_plain_digest_of_a_note_is_the_keyed_one() -> None:
    text = NOTES[1].text.encode()
    assert hashlib.sha256(text).hexdigest() not in keyed_digest([NOTES[1]], KEY)
    assert keyed_digest([NOTES[1]], KEY) != keyed_digest([NOTES[1]], b"")


def test_a_key_is_made_once_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    place = tmp_path / "keys" / "data.key"
    key = make_key(place)
    assert len(key) == 32
    assert make_key(place) == key == read_key(place)
    assert place.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in place.parent.iterdir()] == ["data.key"]


def test_a_key_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "k").write_text("abc")
    with pytest.raises(UsageError, match="32 bytes"):
        read_key(tmp_path / "k")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"data\.key"):
        make_key(tmp_path / "file" / "data.key")
