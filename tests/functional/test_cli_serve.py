"""`cardioner serve`: what it refuses to start with, and, in processes of its own, what signals and clients do to it."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

import cardioner

CANARY = "zyxwvcanary"
TEXT = f"Atrial fibrillation since 2019, {CANARY}, treated with bisoprolol 2.5 mg o.d. No oedema. "
SECONDS = 60
"""Longest that a server may take to start, or to end."""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "can be reached by other machines: give --token-file"),
        (["--host", "tagger.example"], "can be reached by other machines: give --token-file"),
        (["--tls-key", "token"], "TLS needs both"),
        (["--tls-key", "nowhere.key", "--tls-certificate", "token"], "nowhere.key: expected a PEM file"),
        (["--tls-key", "token", "--tls-certificate", "token"], "no certificate with its key"),
        (["--token-file", "token"], "expected a token of 16 or more"),
        (["--token-file", "nowhere"], "nowhere: the token cannot be read"),
        (["--queue", "3"], "has no room for a request of 64 texts"),
    ],
)
def test_a_server_that_would_not_be_safe_does_not_start(
    options: list[str], said: str, run: Any, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("short")
    monkeypatch.chdir(tmp_path)
    done = run("serve", saved, *options)
    assert done.code == 2
    assert said in done.error


@pytest.mark.parametrize(
    ("place", "said"), [("notes/fixed", "never written over the input"), ("gold", "holds other files")]
)
def test_corrections_are_never_written_over_anything(
    place: str, said: str, run: Any, saved: Path, write_notes: Any, make_note: Any, tmp_path: Path
) -> None:
    for name in ("notes", "gold"):
        write_notes(tmp_path / name, [make_note("a", ("stenosis", "DISEASE"))])
    done = run("serve", saved, "--notes", tmp_path / "notes", "--corrections", tmp_path / place)
    assert done.code == 5
    assert said in done.error


def test_an_address_that_is_taken_is_named(run: Any, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EADDRINUSE, "Address already in use")

    monkeypatch.setattr(socket, "create_server", refuse)
    done = run("serve", saved)
    assert done.code == 2
    assert done.error.endswith("port 8000: cannot listen there: Address already in use: give another --host or --port")


def test_two_models_of_one_name_are_refused_before_they_are_loaded(run: Any, tmp_path: Path) -> None:
    done = run("serve", tmp_path / "a" / "model", tmp_path / "b" / "model")
    assert done.code == 2
    assert "two models are called model" in done.error


def test_an_order_needs_notes_and_must_be_one(run: Any, saved: Path, corpus: Path, tmp_path: Path) -> None:
    order = tmp_path / "order.jsonl"
    order.write_text("{}")
    assert "give --notes PATH, too" in run("serve", saved, "--order", order).error
    done = run("serve", saved, "--notes", corpus / "dev", "--order", order)
    assert (done.code, "line 1: expected what `cardioner select" in done.error) == (3, True)


def test_a_directory_that_holds_no_model_is_refused(run: Any, tmp_path: Path) -> None:
    assert run("serve", tmp_path).code == 4


def test_without_its_packages_the_command_says_what_to_install(
    run: Any, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "cardioner.server.app", raising=False)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    done = run("serve", saved)
    assert done.code == 2
    assert "pip install fastapi prometheus-client uvicorn" in done.error


class Server:
    """A server in a process of its own; what it prints is in a file."""

    def __init__(self, log: Path, *arguments: Any) -> None:
        self._log = log
        command = [sys.executable, "-m", "cardioner", "serve", *map(str, arguments), "--port", "0"]
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, "COLUMNS": "300"})
        self.port = int(self.wait_for(r"serving on http://127.0.0.1:(\d+)"))

    def wait_for(self, pattern: str) -> str:
        """What is printed, once it is."""
        for _ in range(SECONDS * 20):
            if found := re.search(pattern, self.printed):
                return found[1] if found.groups() else found[0]
            assert self.process.poll() is None, self.printed
            time.sleep(0.05)
        raise AssertionError(self.printed)

    @property
    def printed(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def get(self, path: str) -> str:
        with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=SECONDS) as answer:
            return str(answer.read().decode())

    def predict(self, text: str) -> Any:
        asked = Request(
            f"http://127.0.0.1:{self.port}/predict",
            json.dumps({"text": text}).encode(),
            {"Content-Type": "application/json"},
        )
        with urlopen(asked, timeout=SECONDS) as answer:
            return json.loads(answer.read())

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        found = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", self.get("/metrics"), re.MULTILINE)
        return sum(map(float, found))

    def wait_for_metric(self, name: str, value: float) -> None:
        for _ in range(SECONDS * 20):
            if self.metric(name) == value:
                return
            time.sleep(0.05)
        raise AssertionError(f"{name}: {self.metric(name)} and not {value}")

    def stop(self) -> int:
        """The exit code after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def begin(*arguments: Any) -> Server:
        servers.append(Server(tmp_path / "log", *arguments))
        return servers[-1]

    yield begin
    for server in servers:
        server.process.kill()
        server.process.wait()


@pytest.fixture
def model(opinionated: Callable[..., Path]) -> Path:
    return opinionated(use_crf=True)


def spans(tagger: Any, text: str) -> list[tuple[int, int, str]]:
    return [(span.start, span.end, span.label) for span in tagger(text)]


def answered(answer: Any) -> list[tuple[int, int, str]]:
    return [(span["start"], span["end"], span["label"]) for span in answer["results"][0]["spans"]]


@pytest.mark.slow
@pytest.mark.enable_socket
def test_a_server_that_is_stopped_under_load_answers_all_that_it_accepted(
    start_server: Callable[..., Server], model: Path
) -> None:
    server, tagger = start_server(model, "--wait-ms", "3000"), cardioner.load(model)
    texts = [TEXT * (1 + number % 5) for number in range(24)]
    with ThreadPoolExecutor(len(texts)) as pool:
        answers = [pool.submit(server.predict, text) for text in texts]
        server.wait_for_metric("cardioner_queue_texts", len(texts))
        assert server.stop() == 0
    assert [answered(one.result()) for one in answers] == [spans(tagger, text) for text in texts]
    assert CANARY not in server.printed


@pytest.mark.slow
@pytest.mark.enable_socket
def test_a_client_that_vanishes_leaves_the_queue_and_a_slow_one_holds_up_nobody(
    start_server: Callable[..., Server], model: Path
) -> None:
    server = start_server(model, "--wait-ms", "1000")
    body = json.dumps({"text": TEXT}).encode()
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(head % len(body) + body[:10])
        with socket.create_connection(("127.0.0.1", server.port)) as gone:
            gone.sendall(head % len(body) + body)
            server.wait_for_metric("cardioner_queue_texts", 1)
        server.wait_for_metric("cardioner_cancelled_total", 1)
        assert server.metric("cardioner_queue_texts") == 0
        assert answered(server.predict(TEXT))
        slow.sendall(body[10:])
        assert slow.recv(1 << 16).startswith(b"HTTP/1.1 200")
    assert server.metric("cardioner_texts_total") == 2
    assert server.stop() == 0
    assert CANARY not in server.printed


@pytest.mark.slow
@pytest.mark.enable_socket
def test_models_are_reloaded_on_a_signal_but_only_if_they_verify(
    start_server: Callable[..., Server], model: Path, opinionated: Callable[..., Path], tmp_path: Path
) -> None:
    place, new = tmp_path / "model", opinionated(use_crf=True, scale=-1.0)
    shutil.copytree(model, place)
    server = start_server(place)
    before, expected = server.predict(TEXT), [spans(cardioner.load(one), TEXT) for one in (model, new)]
    place.rename(tmp_path / "old")
    shutil.copytree(new, place)
    with (place / "model.safetensors").open("r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write(b"damaged!")
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("not reloaded.*its content has changed")
    assert server.predict(TEXT) == before
    shutil.rmtree(place)
    shutil.copytree(new, place)
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("reloaded model")
    after = server.predict(TEXT)
    assert [answered(one) for one in (before, after)] == expected
    assert after["digest"] != before["digest"]
    assert server.metric("cardioner_reloads_total") == 2
    assert server.stop() == 0
