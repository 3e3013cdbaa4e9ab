"""`cardioner push` and `cardioner pull`, against a hub on this machine."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

sys.path.append(str(Path(__file__).parents[1] / "unit" / "interop"))
from hub_stand_in import TOKEN, Hub, running

from cardioner.model_dir.save import write_model_dir

pytestmark = pytest.mark.enable_socket
Run = Callable[..., Any]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running() as started:
        monkeypatch.setenv("HF_ENDPOINT", started.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield started


@pytest.fixture
def model(make_model: Callable[..., Any], tokenizers: dict[str, Any], tmp_path: Path) -> Path:
    record = {"documents": {"training": {"documents": 1, "spans": {}, "digest": f"hmac-sha256:{'0' * 64}"}}}
    write_model_dir(make_model(), tokenizers["wordpiece"], tmp_path / "model", training_args=record)
    return tmp_path / "model"


def test_a_dry_run_lists_every_byte_refuses_digests_and_asks_no_hub(run: Run, hub: Hub, model: Path) -> None:
    refused = run("push", model, "hospital/entities", "--dry-run")
    assert refused.code == 4
    assert "documents.training.digest in cardioner.json" in refused.error
    assert "--forget-documents" in refused.error
    assert "changes nothing" in run("push", model, "a/b", "--dry-run", "--forget-documents").error
    assert run("push", model, "hospital/entities", "--forget-documents").code == 0
    hub.requests.clear()
    done = run("push", model, "hospital/entities", "--dry-run")
    assert done.code == 0
    for path in model.iterdir():
        assert path.name in done.out
        assert f"{path.stat().st_size:,}" in done.out
    assert "Nothing was sent" in done.err
    found = run("push", model, "hospital/entities", "--dry-run", "--json").json
    assert found["files"] == {path.name: path.stat().st_size for path in model.iterdir()}
    assert (found["bytes"], found["public"]) == (sum(found["files"].values()), False)
    assert hub.requests == []


def test_a_model_goes_and_comes_and_both_commands_say_what_became_of_it(
    run: Run, hub: Hub, model: Path, tmp_path: Path
) -> None:
    done = run("push", model, "hospital/entities", "--forget-documents", "--json")
    revision = hub.repositories["hospital/entities"].sha
    assert done.json["revision"] == revision
    assert f"Private: {hub.url}/hospital/entities/commit/{revision}" in " ".join(done.err.split())
    pulled = run("pull", "hospital/entities", tmp_path / "pulled", "--revision", revision)
    assert (pulled.code, pulled.out) == (0, "")
    assert "not signed" in pulled.err
    assert run("verify", tmp_path / "pulled").code == 0
    assert TOKEN not in done.out + done.err + pulled.err


def test_what_fails_is_one_line(run: Run, hub: Hub, model: Path, tmp_path: Path) -> None:
    hub.failing["/create"] = 401
    assert run("push", model, "hospital/entities", "--forget-documents").code == 5
    hub.failing.clear()
    missing = run("pull", "hospital/none", tmp_path / "pulled")
    assert missing.code == 4
    assert "there is no such repository" in missing.error
    shutil.rmtree(model)
    assert "does not exist" in run("push", model, "hospital/entities").error
