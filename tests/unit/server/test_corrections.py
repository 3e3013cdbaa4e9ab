"""Notes and corrections over HTTP: exact offsets, a file for each note, no text in the log, nothing over the input."""

from __future__ import annotations

import io
import json
import shlex
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from cardioner.data.documents import Document, Span
from cardioner.data.formats import read_corpus, write_corpus
from cardioner.errors import OutputError
from cardioner.server.audit import changes
from cardioner.server.corrections import AUDIT, Corrections, check_apart
from cardioner.server.notes import Notes, Workspace
from cardioner.server.offsets import code_point_offsets, utf16_offsets
from cardioner.server.training_command import training_command

WORD = "zyxwvcanary"
TEXT = (
    f"\ufeffPaciente \U0001f9e1 con disnea;\r\ne\u0301 {WORD}, insuficiencia cardi\u0301aca.\r"
    "Fin \U0001f468\u200d\u2695\ufe0f."
)
NOTE = Document("ward/b", TEXT, (Span(16, 22, "SYMPTOM"),), {"patient": 7})
OTHER = Document("a", "No oedema.", (Span(3, 9, "SYMPTOM"), Span(0, 9, "FINDING", fragments=((0, 2), (3, 9)))))
TOKEN = "a-token-of-many-characters"


def workspace(folder: Path | None, format: Any = "brat", **options: Any) -> Workspace:  # noqa: A002
    known = [NOTE.id, OTHER.id]
    corrections = Corrections(folder, format, known=known) if folder else None
    return Workspace(Notes([NOTE, OTHER], **options), corrections, {"model": Path("models/model")})


@pytest.fixture
def client(serve: Any, tmp_path: Path) -> TestClient:
    return serve(workspace=workspace(tmp_path / "fixed"))


def correction(document: Document = NOTE, *spans: tuple[int, int, str], **more: Any) -> dict[str, Any]:
    return {
        "note": document.id,
        "text": document.text,
        "spans": [{"start": start, "end": end, "label": label} for start, end, label in spans],
        **more,
    }


def put(client: TestClient, message: Any, status: int = 200, **options: Any) -> Any:
    answer = client.put("/corrections", json=message, **options)
    assert answer.status_code == status, answer.text
    assert WORD not in answer.text
    return answer.json()


def audit(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / AUDIT).read_text(encoding="utf-8").splitlines()]


# Reading -------------------------------------------------------------------------------------------------------------


def test_notes_are_listed_and_read_with_the_spans_that_they_came_with(client: TestClient) -> None:
    assert [
        (one["id"], one["characters"], one["annotations"], one["accepted"]) for one in client.get("/notes").json()
    ] == [
        (NOTE.id, len(TEXT), 1, False),
        (OTHER.id, 10, 2, False),
    ]
    found = client.get("/note", params={"note": NOTE.id, "offsets": "utf-16"}).json()
    assert found["text"] == TEXT
    assert found["saved"] is None
    (span,) = found["annotations"]
    units = TEXT.encode("utf-16-le")
    assert units[2 * span["start"] : 2 * span["end"]].decode("utf-16-le") == "disnea"
    fragments = client.get("/note", params={"note": "a"}).json()["annotations"][1]["fragments"]
    assert fragments == [[0, 2], [3, 9]]
    missing = client.get("/note", params={"note": WORD})
    assert missing.status_code == 404
    assert WORD not in missing.text


def test_what_teaches_most_comes_first_and_notes_without_a_score_last() -> None:
    assert list(Notes([NOTE, OTHER], order={"a": 0.1})) == ["a", NOTE.id]
    assert list(Notes([OTHER, NOTE], order={"a": 0.1, NOTE.id: 0.7})) == [NOTE.id, "a"]
    assert list(Notes([OTHER, NOTE])) == ["a", NOTE.id]


def test_nothing_of_a_note_may_stay_in_a_cache(client: TestClient) -> None:
    for path in ("/notes", "/note?note=a", "/export", "/workspace"):
        assert client.get(path).headers["cache-control"] == "no-store"


# Saving --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["brat", "jsonl"])
@pytest.mark.parametrize("offsets", ["code-points", "utf-16"])
def test_a_correction_is_on_disk_with_exact_offsets_and_comes_back(
    serve: Any, tmp_path: Path, written: str, offsets: str
) -> None:
    client = serve(workspace=workspace(tmp_path / "fixed", written))
    marked = [
        Span(TEXT.index(word), TEXT.index(word) + len(word), "X")
        for word in ("e\u0301", "cardi\u0301aca", "\U0001f9e1")
    ]
    place = utf16_offsets(TEXT) if offsets == "utf-16" else int
    sent = [(place(span.start), place(span.end), span.label) for span in marked]
    answer = put(client, correction(NOTE, *sent, offsets=offsets))
    expected = sorted(sent)
    assert [(one["start"], one["end"], one["label"]) for one in answer["spans"]] == expected
    (document,) = read_corpus(tmp_path / "fixed", written).documents
    assert document.id == NOTE.id
    assert document.text == TEXT
    assert list(document.spans) == sorted(marked)
    again = serve(workspace=workspace(tmp_path / "fixed", written))
    found = again.get("/note", params={"note": NOTE.id, "offsets": offsets}).json()["saved"]
    assert found == answer
    assert [one["accepted"] for one in again.get("/notes").json()] == [True, False]


def test_json_lines_keep_what_else_is_known_of_a_note(serve: Any, tmp_path: Path) -> None:
    put(serve(workspace=workspace(tmp_path / "fixed", "jsonl")), correction())
    assert read_corpus(tmp_path / "fixed").documents[0].metadata == {"patient": 7}


def test_fragments_are_kept(client: TestClient, tmp_path: Path) -> None:
    message = correction(OTHER)
    message["spans"] = [{"start": 0, "end": 9, "label": "FINDING", "fragments": [[0, 2], [3, 9]]}]
    put(client, message)
    assert read_corpus(tmp_path / "fixed").documents[0].spans == (OTHER.spans[1],)


def test_the_audit_says_who_changed_what_of_which_model_without_a_word(client: TestClient, tmp_path: Path) -> None:
    before = [{"start": 0, "end": 2, "label": "A"}, {"start": 3, "end": 9, "label": "A"}]
    more = {"before": before, "model": "model", "digest": "0" * 64, "user": "A. Reader"}
    first = put(client, correction(OTHER, (3, 9, "B"), (9, 10, "C"), **more))
    line = audit(tmp_path / "fixed")[0]
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "action": "accepted",
        "note": "a",
        "user": "A. Reader",
        "model": "model",
        "digest": "0" * 64,
        "spans": 2,
        "kept": 0,
        "added": [{"offsets": [[9, 10]], "label": "C"}],
        "removed": [{"offsets": [[0, 2]], "label": "A"}],
        "retyped": [{"offsets": [[3, 9]], "from": "A", "to": "B"}],
        "attributes": [],
    }
    answer = client.request("DELETE", "/corrections", json={"note": "a", "replaces": first["revision"]})
    assert answer.status_code == 204
    assert [line["action"] for line in audit(tmp_path / "fixed")] == ["accepted", "withdrawn"]
    assert [file.name for file in (tmp_path / "fixed").iterdir()] == [AUDIT]
    assert "oedema" not in (tmp_path / "fixed" / AUDIT).read_text()


def test_changes_are_counted_once_and_spans_of_one_place_stay_apart() -> None:
    old = [Span(0, 2, "A"), Span(0, 2, "B"), Span(5, 6, "A")]
    found = changes(old, [Span(0, 2, "A"), Span(0, 2, "C"), Span(5, 7, "A")])
    assert (found["kept"], found["spans"]) == (1, 3)
    assert found["retyped"] == [{"offsets": ((0, 2),), "from": "B", "to": "C"}]
    assert found["removed"] == [{"offsets": ((5, 6),), "label": "A"}]
    assert found["added"] == [{"offsets": ((5, 7),), "label": "A"}]


def test_a_correction_that_somebody_else_saved_meanwhile_is_not_overwritten(client: TestClient, tmp_path: Path) -> None:
    first = put(client, correction(OTHER, (3, 9, "A")))
    put(client, correction(OTHER, (0, 2, "B")), 409)
    put(client, correction(OTHER, (0, 2, "B"), replaces="0" * 16), 409)
    assert read_corpus(tmp_path / "fixed").documents[0].spans == (Span(3, 9, "A"),)
    put(client, correction(OTHER, (0, 2, "B"), replaces=first["revision"]))
    late = client.request("DELETE", "/corrections", json={"note": "a", "replaces": first["revision"]})
    assert late.status_code == 409
    assert read_corpus(tmp_path / "fixed").documents[0].spans == (Span(0, 2, "B"),)


def test_a_pasted_note_is_saved_under_its_name_and_listed(client: TestClient, tmp_path: Path) -> None:
    pasted = Document("pasted-1", "Syncope \U0001f600 twice.")
    put(client, correction(pasted, (0, 7, "SYMPTOM")))
    assert [one["id"] for one in client.get("/notes").json()] == [NOTE.id, "a", "pasted-1"]
    assert client.get("/note", params={"note": "pasted-1"}).json()["annotations"] == []
    assert read_corpus(tmp_path / "fixed").documents[0].text == pasted.text


@pytest.mark.parametrize("name", ["scan\u202f2", "scan\u00a02", "scan\u200e2", "s" * 240])
def test_a_note_is_corrected_and_withdrawn_whatever_its_file_is_called(serve: Any, tmp_path: Path, name: str) -> None:
    note = Document(name, "Syncope.")
    corrections = Corrections(tmp_path / "fixed", known=[name])
    client = serve(workspace=Workspace(Notes([note]), corrections, {"model": Path("models/model")}))
    revision = put(client, correction(note, (0, 7, "SYMPTOM")))["revision"]
    assert [one.id for one in read_corpus(tmp_path / "fixed").documents] == [name]
    answer = client.request("DELETE", "/corrections", json={"note": name, "replaces": revision})
    assert answer.status_code == 204, answer.text


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (correction(OTHER, (3, 11, "A")), 422),
        (correction(OTHER, (5, 5, "A")), 422),
        (correction(NOTE, (11, 13, "A"), offsets="utf-16"), 422),  # half of the emoji
        (correction(OTHER, (3, 9, "A B")), 422),
        (correction(OTHER, (3, 9, "")), 422),
        (correction(Document(OTHER.id, f"No {WORD}.")), 409),
        (correction(Document(f"../{WORD}", "x")), 422),
        (correction(Document(f"{WORD}\u202e", "x")), 422),
        (correction(Document(f"{WORD}\n", "x")), 422),
        (correction(Document(WORD * 20, "x")), 422),
        (correction(Document("A", "x")), 422),  # some file systems take it for the note a
        (correction(Document(f"ward/b/{WORD}", "x")), 200),
        (correction(OTHER, model="another"), 404),
        (correction(OTHER, **{WORD: 1}), 422),
        (correction(OTHER, user="A\nB"), 422),
    ],
)
def test_what_cannot_be_saved_is_refused_without_a_word_and_leaves_no_file(
    client: TestClient, tmp_path: Path, message: Any, status: int
) -> None:
    put(client, message, status)
    assert (tmp_path / "fixed").exists() == (status == 200)


def test_json_lines_hold_types_with_white_space(serve: Any, tmp_path: Path) -> None:
    client = serve(workspace=workspace(tmp_path / "fixed", "jsonl"))
    put(client, correction(OTHER, (3, 9, "course of illness")))
    assert read_corpus(tmp_path / "fixed").labels == ("course of illness",)


def test_a_disk_that_fails_is_said_without_a_word_and_the_note_stays_to_do(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OutputError("fixed cannot be written: the disk is full")

    monkeypatch.setattr("cardioner.server.corrections.write_corpus", fail)
    put(client, correction(), 507)
    assert "the disk is full" in caplog.text
    assert WORD not in caplog.text
    assert not any(one["accepted"] for one in client.get("/notes").json())
    monkeypatch.undo()
    put(client, correction())


# Folders -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["notes", "notes/fixed", ".", "link", "link/fixed"])
def test_corrections_and_notes_may_not_lie_in_each_other(tmp_path: Path, folder: str) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "notes")
    with pytest.raises(OutputError, match="never written over the input"):
        check_apart(tmp_path / folder, tmp_path / "notes")
    check_apart(tmp_path / "fixed", tmp_path / "notes")


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    write_corpus([OTHER], tmp_path / "gold")
    with pytest.raises(OutputError, match="holds other files"):
        Corrections(tmp_path / "gold")
    with pytest.raises(OutputError, match="is a file"):
        Corrections(tmp_path / "gold" / "a.txt")


def test_corrections_go_on_in_the_format_that_they_began_with(client: TestClient, tmp_path: Path) -> None:
    put(client, correction())
    with pytest.raises(OutputError, match="continue with --to brat"):
        Corrections(tmp_path / "fixed", "jsonl")


def test_without_a_folder_nothing_is_saved(serve: Any) -> None:
    client = serve(workspace=workspace(None))
    assert client.get("/workspace").json()["corrections"] is None
    put(client, correction(), 404)
    assert client.get("/export").status_code == 404
    assert len(client.get("/notes").json()) == 2


# Taking along, and training ------------------------------------------------------------------------------------------


def test_an_export_is_a_corpus(client: TestClient, tmp_path: Path) -> None:
    put(client, correction(NOTE, (16, 22, "SYMPTOM")))
    put(client, correction(OTHER, (3, 9, "SYMPTOM")))
    with zipfile.ZipFile(io.BytesIO(client.get("/export").content)) as archive:
        archive.extractall(tmp_path / "brat")
    (tmp_path / "notes.jsonl").write_bytes(client.get("/export", params={"format": "jsonl"}).content)
    for place in ("brat", "notes.jsonl"):
        found = {document.id: document for document in read_corpus(tmp_path / place)}
        assert found[NOTE.id].text == TEXT
        assert found[NOTE.id].spans == NOTE.spans
        assert found["a"].spans == (Span(3, 9, "SYMPTOM"),)


def test_the_command_to_train_names_the_corrections_and_the_model(client: TestClient, tmp_path: Path) -> None:
    put(client, correction(OTHER, (3, 9, "SYMPTOM")))
    found = client.get("/training").json()
    assert shlex.join(found["command"]) == (
        f"cardioner train --train {tmp_path / 'fixed'} --backbone models/model --output models/model-corrected"
    )
    assert found["accepted"] == 1
    assert "SYMPTOM" not in found["missing"]
    assert found["missing"]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"options": {}, "versions": {}}, "--config m/training_args.json"),
        ({"options": {}, "versions": {}, "distillation": {}}, "--crf --hidden-layers 12,8 --scheme BIOES"),
        ({"options": {}}, "--crf --hidden-layers 12,8 --scheme BIOES"),
    ],
)
def test_what_the_record_cannot_repeat_is_taken_from_the_head(
    record: Any, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = {"use_crf": True, "classifier_hidden_layers": [12, 8], "id2label": {"0": "O", "1": "E-X"}}
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    (tmp_path / "m" / "training_args.json").write_text(json.dumps(record))
    found = shlex.join(training_command(Path("m"), Path("fixed")))
    assert found == f"cardioner train --train fixed {expected} --backbone m --output m-corrected"


# Who may ask ---------------------------------------------------------------------------------------------------------


def test_a_page_of_another_site_may_not_change_anything(client: TestClient, tmp_path: Path) -> None:
    put(client, correction(), 403, headers={"origin": "http://evil.example"})
    put(client, correction(), 403, headers={"origin": "null"})
    assert client.post("/predict", json={"text": "x"}, headers={"origin": "http://evil.example"}).status_code == 403
    assert not (tmp_path / "fixed").exists()
    put(client, correction(), headers={"origin": "http://testserver"})
    plain = client.put("/corrections", content=json.dumps(correction()), headers={"content-type": "text/plain"})
    assert plain.status_code == 415


def test_with_a_token_the_page_opens_and_nothing_else_does(serve: Any, tmp_path: Path) -> None:
    client = serve(workspace=workspace(tmp_path / "fixed"), token=sha256(TOKEN.encode()).digest())
    assert client.get("/").status_code == 200
    assert client.get("/page/app.js").status_code == 200
    for path in ("/notes", "/note?note=a", "/workspace", "/export", "/training", "/models"):
        assert client.get(path).status_code == 401
    put(client, correction(), 401)
    put(client, correction(), headers={"authorization": f"Bearer {TOKEN}"})


def test_the_page_may_load_its_own_files_alone(client: TestClient) -> None:
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert "http" not in answer.text
    assert " style=" not in answer.text
    assert " on" + "click" not in answer.text
    for name, kind in (("app.js", "javascript"), ("style.css", "css"), ("palette.css", "css"), ("icon.svg", "svg")):
        found = client.get(f"/page/{name}")
        assert kind in found.headers["content-type"]
        assert found.headers["x-content-type-options"] == "nosniff"
    assert client.get("/page/nothing.js").status_code == 404


def test_code_point_offsets_undo_utf16_offsets() -> None:
    there, back = utf16_offsets(TEXT), code_point_offsets(TEXT)
    assert [back(there(offset)) for offset in range(len(TEXT) + 1)] == list(range(len(TEXT) + 1))
    halves = {there(place) + 1 for place, character in enumerate(TEXT) if ord(character) > 0xFFFF}
    assert len(halves) == 2
    for half in halves:
        with pytest.raises(ValueError, match="divides a character"):
            back(half)
