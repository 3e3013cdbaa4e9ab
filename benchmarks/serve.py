"""`cardioner serve` on loopback: throughput beside the Predictor's own, latency by the number of clients, and a soak.

    python benchmarks/serve.py MODEL [--corpus examples/corpus/train] [--notes 256] [--rounds 5] [--soak 180]

The server runs in a process of its own, with the Predictor's defaults; its clients are threads of this one, each with
one connection, and send one note a request. The Predictor reads the same notes in this process, in turn with the
server. Every answer is compared with the Predictor's spans. Linux only, for the memory.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from cardioner import Predictor, read_corpus
from pairs import in_turn

CORPUS = Path(__file__).parents[1] / "examples" / "corpus"
CLIENTS = (1, 4, 16)
SAMPLES = 18
"""Readings of the memory during the soak."""

Spans = list[tuple[int, int, str]]


class Server(NamedTuple):
    """A server that runs: its process and its port."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def resident_mib(self) -> float:
        """The memory that it has now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


class Answered(NamedTuple):
    """An answer: which note it is about, its spans, and the seconds it took."""

    note: int
    spans: Spans
    seconds: float


def main(
    model: Annotated[Path, typer.Argument(help="A model directory.")],
    corpus: Annotated[Path, typer.Option(help="Notes, of any format.")] = CORPUS / "train",
    notes: Annotated[int, typer.Option(help="How many are sent; those of the corpus again, if it has fewer.")] = 256,
    rounds: Annotated[int, typer.Option(help="Times that both read all notes.")] = 5,
    soak: Annotated[float, typer.Option(help="Seconds of the soak; 0 for none.")] = 180,
) -> None:
    """Print the ratio, the latencies, the spans that differ, and the memory."""
    texts = list(itertools.islice(itertools.cycle(document.text for document in read_corpus(corpus)), notes))
    predictor = Predictor.from_pretrained(model)
    expected = [spans_of(found) for found in predictor(texts)]
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors; {predictor!r}")
    print(f"{len(texts)} notes of {statistics.median(map(len, texts)):,.0f} characters (median)")
    with serving(model) as server:
        pair = in_turn(lambda: predictor(texts), lambda: send(server, texts, CLIENTS[-1]), rounds)
        print(
            f"{CLIENTS[-1]} clients: {len(texts) / pair.second * 1e3:.1f} notes/s, the Predictor "
            f"{len(texts) / pair.first * 1e3:.1f}: {1 / pair.ratio:.0%} of its throughput"
        )
        for clients in CLIENTS:
            show_latency(clients, send(server, texts, clients), expected)
        if soak:
            show_soak(server, texts, expected, soak)


def spans_of(spans: Sequence[Any]) -> Spans:
    """What is compared of spans."""
    return [(span.start, span.end, span.label) for span in spans]


@contextmanager
def serving(model: Path) -> Iterator[Server]:
    """A server in a process of its own."""
    with tempfile.TemporaryDirectory() as place:
        log = Path(place) / "log"
        with log.open("wb") as file:
            command = [sys.executable, "-m", "cardioner", "serve", str(model), "--port", "0"]
            process = subprocess.Popen(command, stdout=file, stderr=file)
        try:
            while not (found := re.search(r"serving on http://127.0.0.1:(\d+)", log.read_text())):
                if process.poll() is not None:
                    raise SystemExit(log.read_text())
                time.sleep(0.1)
            yield Server(process, int(found[1]))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def send(server: Server, texts: Sequence[str], clients: int, *, until: float = 0.0) -> list[Answered]:
    """Send every note once, or again and again until a time: each client the next one that no other has sent."""
    answers: list[Answered] = []
    count = itertools.count()

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        for number in count:  # one bytecode takes the next number: no two threads have the same
            if number >= len(texts) and time.monotonic() >= until:
                break
            note = number % len(texts)
            answers.append(ask(connection, note, texts[note]))
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def ask(connection: http.client.HTTPConnection, note: int, text: str) -> Answered:
    """Send one note; anything but an answer ends the benchmark."""
    began = time.perf_counter()
    connection.request("POST", "/predict", json.dumps({"text": text}), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    body = answer.read()
    seconds = time.perf_counter() - began
    if answer.status != 200:
        print(f"status {answer.status}: {body.decode()}", file=sys.stderr)
        os._exit(1)
    found = json.loads(body)["results"][0]["spans"]
    return Answered(note, [(span["start"], span["end"], span["label"]) for span in found], seconds)


def show_latency(clients: int, answers: Sequence[Answered], expected: Sequence[Spans]) -> None:
    """Print the quantiles, and how many answers have other spans than the Predictor."""
    if len(answers) < 2:
        return
    cuts = statistics.quantiles([answer.seconds * 1e3 for answer in answers], n=100, method="inclusive")
    print(
        f"{clients} clients, {len(answers):,} requests: p50 {cuts[49]:,.0f} ms, p99 {cuts[98]:,.0f} ms; "
        f"{differing(answers, expected)} with other spans than the Predictor"
    )


def differing(answers: Sequence[Answered], expected: Sequence[Spans]) -> int:
    """How many answers have other spans than the Predictor."""
    return sum(answer.spans != expected[answer.note] for answer in answers)


def show_soak(server: Server, texts: Sequence[str], expected: Sequence[Spans], seconds: float) -> None:
    """Send notes for some time, and print the memory along the way."""
    memory: list[float] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(seconds / SAMPLES):
            memory.append(server.resident_mib)

    watcher = threading.Thread(target=watch)
    watcher.start()
    answers = send(server, texts, CLIENTS[-1], until=time.monotonic() + seconds)
    ended.set()
    watcher.join()
    third = max(1, len(memory) // 3)
    early, late = statistics.median(memory[:third]), statistics.median(memory[-third:])
    print(
        f"soak of {seconds:g} s: {len(answers):,} requests, {differing(answers, expected)} with other spans; memory "
        f"{early:,.0f} MiB in the first third, {late:,.0f} MiB in the last, {max(memory):,.0f} MiB at most"
    )


if __name__ == "__main__":
    typer.run(main)
