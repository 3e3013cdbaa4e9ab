"""A model on its way to a hub and back: its own files alone, whole or not at all, and never a secret in a message."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import _http

sys.path.append(str(Path(__file__).parent))
from hub_stand_in import TOKEN, Hub, Repository, running

from cardioner.data.documents import Document
from cardioner.errors import CardioNERError, ModelError, OutputError, UsageError
from cardioner.interop.transfer import check_outgoing, outgoing, pull, push
from cardioner.model_dir.document_traces import document_traces, forget_documents
from cardioner.model_dir.manifest import read_manifest
from cardioner.model_dir.save import write_model_dir
from cardioner.model_dir.signing import make_signing_key, write_signature
from cardioner.model_dir.verify import verify
from cardioner.training.document_digests import describe_notes

pytestmark = pytest.mark.enable_socket
NAME = "hospital/entities"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with running() as started:
        monkeypatch.setenv("HF_ENDPOINT", started.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(_http.time, "sleep", lambda _: None)
        yield started


@pytest.fixture
def model(make_model: Callable[..., Any], tokenizers: dict[str, Any], tmp_path: Path) -> Path:
    write_model_dir(make_model("bert", use_crf=True), tokenizers["wordpiece"], tmp_path / "model", training_args={})
    return tmp_path / "model"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_model_goes_to_a_private_repository_and_comes_back_byte_for_byte(
    hub: Hub, model: Path, tmp_path: Path
) -> None:
    (model / "notes.txt").write_text("a note")
    (model / "checkpoints").mkdir()
    (model / "checkpoints" / "state.pt").write_bytes(b"x")
    sizes = outgoing(model)
    done = push(model, NAME)
    repository = hub.repositories[NAME]
    sent = {name: content for name, content in repository.files.items() if name != ".gitattributes"}
    assert {name: len(content) for name, content in sent.items()} == sizes
    assert sent == {name: content for name, content in contents(model).items() if name != "notes.txt"}
    assert (repository.private, done.public, done.revision) == (True, False, repository.sha)
    pulled = pull(NAME, tmp_path / "pulled")
    assert contents(tmp_path / "pulled") == sent
    assert (pulled.revision, pulled.signed_by) == (done.revision, None)
    assert verify(tmp_path / "pulled").sound
    assert hub.tokens == {f"Bearer {TOKEN}"}


def test_a_push_is_repeated_without_sending_anything_again(hub: Hub, model: Path) -> None:
    push(model, NAME)
    hub.requests.clear()
    push(model, NAME)
    assert [request for request in hub.requests if "/upload/" in request] == []


def test_an_interrupted_push_changes_nothing_and_can_be_repeated(hub: Hub, model: Path) -> None:
    hub.failing["/commit/"] = 0
    with pytest.raises(OutputError, match="the connection failed"):
        push(model, NAME)
    assert hub.repositories[NAME].files.keys() == {".gitattributes"}
    hub.failing.clear()
    hub.requests.clear()
    push(model, NAME)
    assert [request for request in hub.requests if "/upload/" in request] == []
    assert hub.repositories[NAME].files.keys() > outgoing(model).keys()


def test_another_model_replaces_the_first_and_its_stale_weights_go(hub: Hub, model: Path) -> None:
    push(model, NAME)
    hub.repositories[NAME].files |= {"pytorch_model.bin": b"old", "figure.png": b"kept"}
    assert push(model, NAME).removed == ("pytorch_model.bin",)
    assert hub.repositories[NAME].files.keys() - outgoing(model).keys() == {".gitattributes", "figure.png"}


@pytest.mark.parametrize(
    ("status", "part", "problem"),
    [
        (401, "/create", "the token is missing or not accepted"),
        (403, "/create", "the token may not do this"),
        (409, "/commit", "the repository was changed at the same time"),
        (503, "/preupload", "the server failed"),
        (500, "/batch", "the server failed"),
        (418, "/commit", "it was refused"),
        (0, "/create", "the connection failed"),
    ],
)
def test_what_a_hub_refuses_is_one_line_without_the_token(
    status: int, part: str, problem: str, hub: Hub, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    hub.failing[part] = status
    with pytest.raises(OutputError) as raised:
        push(model, NAME)
    message = str(raised.value)
    assert message.startswith(f"{NAME} cannot be pushed to {hub.url}: {problem}")
    assert "\n" not in message
    assert TOKEN not in message + caplog.text


def test_a_public_repository_is_asked_for_or_nothing_goes_there(hub: Hub, model: Path) -> None:
    hub.repositories[NAME] = Repository(private=False)
    with pytest.raises(OutputError, match="everyone can see it: nothing was pushed"):
        push(model, NAME)
    assert hub.repositories[NAME].files == {}
    assert push(model, NAME, public=True).public
    assert push(model, "hospital/open", public=True).public
    assert not hub.repositories["hospital/open"].private


def test_a_repository_of_something_else_is_left_alone(hub: Hub, model: Path) -> None:
    hub.repositories[NAME] = Repository(private=True, files={"README.md": b"", "train.py": b"x"})
    with pytest.raises(OutputError, match=r"holds 1 file of something else, such as train\.py"):
        push(model, NAME)
    assert hub.repositories[NAME].files.keys() == {"README.md", "train.py"}


@pytest.mark.parametrize("name", ["entities", "a/b/c", "../x", "a b/c", ""])
def test_a_name_has_an_owner(name: str, hub: Hub, model: Path, tmp_path: Path) -> None:
    for attempt in (lambda: push(model, name), lambda: pull(name, tmp_path / "x")):
        with pytest.raises(UsageError, match="as OWNER/NAME"):
            attempt()
    assert hub.requests == []


def test_without_a_token_nothing_is_asked(hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UsageError, match="there is no token"):
        push(model, NAME)
    assert hub.requests == []


def test_offline_is_said(hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OutputError, match="HF_HUB_OFFLINE forbids it"):
        push(model, NAME)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE forbids it"):
        pull(NAME, tmp_path / "x")
    assert hub.requests == []


# What may leave -------------------------------------------------------------------------------------------------------


@pytest.fixture
def traced(make_model: Callable[..., Any], tokenizers: dict[str, Any], tmp_path: Path) -> Path:
    """A model that tells which notes it was made of."""
    notes = [Document("ward-7", "No oedema."), Document("ward-8", "Syncope.")]
    record = {
        "documents": {
            "training": describe_notes(notes, key=b"k" * 32, ids=True).model_dump(),
            "evaluation": describe_notes(notes).model_dump(),
        }
    }
    write_model_dir(make_model("bert"), tokenizers["wordpiece"], tmp_path / "traced", training_args=record)
    return tmp_path / "traced"


def test_ids_and_digests_of_notes_never_leave(hub: Hub, traced: Path) -> None:
    assert document_traces(traced) == [
        "documents.training.digest in cardioner.json",
        "documents.training.ids in cardioner.json",
        "documents.training.digest in training_args.json",
        "documents.training.ids in training_args.json",
    ]
    for attempt in (lambda: check_outgoing(traced), lambda: push(traced, NAME)):
        with pytest.raises(ModelError, match="has ids or digests of the notes") as raised:
            attempt()
        assert "ward-7" not in str(raised.value)
    assert hub.requests == []


def test_a_directory_that_forgot_its_notes_is_sound_and_keeps_the_counts(hub: Hub, traced: Path) -> None:
    before = read_manifest(traced)
    forget_documents(traced)
    assert document_traces(traced) == []
    assert verify(traced).sound
    after = read_manifest(traced)
    assert before is not None
    assert after is not None
    assert {part: (one.documents, one.spans) for part, one in after.documents.items()} == {
        part: (one.documents, one.spans) for part, one in before.documents.items()
    }
    assert all(b"ward-7" not in content for content in contents(traced).values())
    push(traced, NAME)
    assert "ward-7" not in json.dumps([str(one) for one in hub.repositories[NAME].files.values()])


def test_a_signed_directory_forgets_nothing(traced: Path, tmp_path: Path) -> None:
    make_signing_key(tmp_path / "key")
    write_signature(traced, tmp_path / "key")
    before = contents(traced)
    with pytest.raises(OutputError, match="is signed"):
        forget_documents(traced)
    assert contents(traced) == before


def test_an_altered_directory_is_not_pushed(hub: Hub, model: Path) -> None:
    (model / "training_args.json").write_text("{ }")
    with pytest.raises(ModelError, match=r"is not pushed: training_args\.json"):
        push(model, NAME)
    assert hub.requests == []


def test_a_directory_without_a_manifest_is_not_pushed(
    hub: Hub, model: Path, without_manifest: Callable[[Path], Path]
) -> None:
    with pytest.raises(ModelError, match=r"has no cardioner\.json"):
        push(without_manifest(model), NAME)
    assert hub.requests == []


# What may arrive ------------------------------------------------------------------------------------------------------


@pytest.fixture
def pushed(hub: Hub, model: Path, tmp_path: Path) -> Repository:
    """A signed model in a repository."""
    make_signing_key(tmp_path / "key")
    write_signature(model, tmp_path / "key")
    push(model, NAME)
    return hub.repositories[NAME]


def nothing_at(folder: Path, out: Path) -> bool:
    return not out.exists() and not list(folder.glob(".*.part"))


def test_a_signed_model_is_proven_with_its_key_and_refused_with_another(pushed: Repository, tmp_path: Path) -> None:
    make_signing_key(tmp_path / "other")
    out = tmp_path / "pulled"
    with pytest.raises(ModelError, match="the signature does not hold"):
        pull(NAME, out, key=tmp_path / "other.pub")
    assert nothing_at(tmp_path, out)
    assert pull(NAME, out, key=tmp_path / "key.pub", revision=pushed.sha).signed_by is not None


def flip(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("name", ["model.safetensors", "modeling.py", "config.json", "cardioner.json", "cardioner.sig"])
def test_an_altered_file_is_refused_and_nothing_appears(name: str, pushed: Repository, tmp_path: Path) -> None:
    pushed.files[name] = flip(pushed.files[name])
    with pytest.raises(CardioNERError):
        pull(NAME, tmp_path / "pulled")
    assert nothing_at(tmp_path, tmp_path / "pulled")


@pytest.mark.parametrize("name", ["model.safetensors", "modeling.py"])
def test_a_missing_file_is_named(name: str, pushed: Repository, tmp_path: Path) -> None:
    del pushed.files[name]
    with pytest.raises(ModelError, match=f"{name}: it is missing"):
        pull(NAME, tmp_path / "pulled")
    assert nothing_at(tmp_path, tmp_path / "pulled")


def test_files_that_the_manifest_does_not_list_are_not_downloaded(hub: Hub, pushed: Repository, tmp_path: Path) -> None:
    pushed.files |= {"pytorch_model.bin": b"evil", "tokenization_x.py": b"evil", "../x": b"evil"}
    pull(NAME, tmp_path / "pulled")
    assert {path.name for path in (tmp_path / "pulled").iterdir()} == pushed.files.keys() - {
        *(".gitattributes", "pytorch_model.bin", "tokenization_x.py", "../x"),
    }
    assert not [request for request in hub.requests if "pytorch_model.bin" in request]


@pytest.mark.parametrize(
    ("part", "status", "problem"),
    [
        ("/resolve/", 500, "the server failed"),
        ("model.safetensors", 0, "the connection failed"),
        ("/api/models", 401, "the token is missing or not accepted"),
    ],
)
def test_a_hub_that_fails_leaves_nothing(
    part: str, status: int, problem: str, hub: Hub, pushed: Repository, tmp_path: Path
) -> None:
    assert pushed.files
    hub.failing[part] = status
    with pytest.raises(ModelError, match=problem) as raised:
        pull(NAME, tmp_path / "pulled")
    assert TOKEN not in str(raised.value)
    assert "\n" not in str(raised.value)
    assert nothing_at(tmp_path, tmp_path / "pulled")


def test_what_is_not_there_is_said(hub: Hub, pushed: Repository, tmp_path: Path) -> None:
    for name, revision in (("hospital/none", None), (NAME, "v9")):
        with pytest.raises(ModelError, match="there is no such repository, revision or file"):
            pull(name, tmp_path / "pulled", revision=revision)
    hub.repositories["hospital/other"] = Repository(private=True, files={"config.json": b"{}"})
    with pytest.raises(ModelError, match=r"it has no cardioner\.json"):
        pull("hospital/other", tmp_path / "pulled")
    assert pushed.files


def test_a_place_that_holds_something_is_left_alone(pushed: Repository, model: Path, tmp_path: Path) -> None:
    before = contents(model)
    with pytest.raises(OutputError, match="is not empty"):
        pull(NAME, model)
    assert contents(model) == before
    (tmp_path / "empty").mkdir()
    pull(NAME, tmp_path / "empty")
    assert contents(tmp_path / "empty").keys() == pushed.files.keys() - {".gitattributes"}
    shutil.rmtree(tmp_path / "empty")


def test_nothing_is_asked_but_what_a_push_and_a_pull_need(hub: Hub, model: Path, tmp_path: Path) -> None:
    push(model, NAME)
    pull(NAME, tmp_path / "pulled")
    commit = f"/{NAME}/resolve/{hub.repositories[NAME].sha}/"
    needed = {"/api/repos/create", "/api/validate-yaml", f"/{NAME}.git/info/lfs/objects/batch", f"/api/models/{NAME}"}
    needed |= {f"/api/models/{NAME}/preupload/main", f"/api/models/{NAME}/commit/main"}
    asked = {request.partition(" ")[2] for request in hub.requests}
    assert {path for path in asked if not path.startswith((commit, "/upload/"))} == needed
    assert {path.removeprefix(commit) for path in asked if path.startswith(commit)} == outgoing(model).keys()
