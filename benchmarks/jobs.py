"""Jobs of a benchmark, done by worker processes: a row of results each, and none is done twice.

A benchmark starts itself again as its workers. `run_all` sends them jobs, and `serve`, in a worker, does them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

Job = dict[str, Any]
"""What tells a job from others, ready for JSON; its row in the results has all of it, and what came of it."""

MARK = "result: "
"""What a worker begins the line of a result with: libraries print too."""


class Results:
    """The rows of what was done, kept in a file of JSON lines where there is one."""

    def __init__(self, file: Path | None) -> None:
        self.file, self.lock, self.began = file, threading.Lock(), time.perf_counter()
        lines = file.read_text().splitlines() if file is not None and file.is_file() else []
        self.rows: list[Job] = [json.loads(line) for line in lines if line.strip()]

    @property
    def finished(self) -> list[Job]:
        """The rows of jobs that did not fail."""
        return [row for row in self.rows if "error" not in row]

    def find(self, job: Job) -> Job | None:
        """The row of a job, if it is finished."""
        return next((row for row in self.finished if job.items() <= row.items()), None)

    def failed(self, jobs: Sequence[Job]) -> list[Job]:
        """What came of the jobs that are not finished, the last of each."""
        missing = [job for job in jobs if self.find(job) is None]
        last = (next((row for row in self.rows[::-1] if job.items() <= row.items()), job) for job in missing)
        return list(last)

    def add(self, row: Job) -> None:
        """Keep a row, and say so."""
        with self.lock:
            self.rows.append(row)
            if self.file is not None:
                with self.file.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            shown = {name: value for name, value in row.items() if not isinstance(value, list)}
            print(f"[{time.perf_counter() - self.began:.0f} s] {json.dumps(shown)}", flush=True)


def run_all(
    jobs: Sequence[Job],
    results: Results,
    command: Sequence[str],
    *,
    workers: int = 1,
    device: str = "auto",
    needs: Callable[[Job, Job], bool] = lambda job, other: False,  # noqa: ARG005 - the contract
) -> None:
    """Do all jobs in their order, so many at a time; one that fails is recorded, and the others go on.

    Args:
        jobs: What is to be done, finished jobs left out.
        results: Gets a row for each, with `error` and the reason where a job failed.
        command: Starts a worker: the script and its arguments.
        workers: Processes that work side by side, each with its share of the processors.
        device: `cpu` hides the GPUs.
        needs: Whether a job begins only when another one, before it in the list, is over.
    """
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // workers))
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    own, started, futures = threading.local(), list[_Worker](), list[Future[None]]()

    def work(job: Job, before: Sequence[Future[None]]) -> None:
        for other in before:
            other.result()
        if not hasattr(own, "worker"):
            own.worker = _Worker([sys.executable, "-W", "ignore", *command], environment)
            started.append(own.worker)
        results.add({**job, **own.worker.do(job)})

    with ThreadPoolExecutor(workers) as pool:
        for job in jobs:
            before = [future for other, future in zip(jobs, futures, strict=False) if needs(job, other)]
            futures.append(pool.submit(work, job, before))
    for worker in started:
        worker.close()
    for future in futures:
        future.result()


def serve(work: Callable[[Job], Job]) -> None:
    """In a worker: do the jobs that standard input names, a line each, and print what came of them."""
    for line in sys.stdin:
        try:
            found = work(json.loads(line))
        except Exception as error:  # noqa: BLE001 - whatever ends one job, the others go on
            place = traceback.extract_tb(error.__traceback__)[-1]
            found = {"error": f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {error}"}
        print(MARK + json.dumps(found), flush=True)


class _Worker:
    """A process that does one job after the other; a new one where it dies."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self.command, self.environment = command, environment
        self.process: subprocess.Popen[str] | None = None

    def do(self, job: Job) -> Job:
        """What came of a job, and the seconds that it took."""
        began = time.perf_counter()
        process = self.process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        line = next((line for line in process.stdout if line.startswith(MARK)), None)
        wall = {"wall": round(time.perf_counter() - began, 1)}
        if line is not None:
            return {**json.loads(line.removeprefix(MARK)), **wall}
        self.process = None
        return {"error": f"the process ended with code {process.wait()}", **wall}

    def _start(self) -> subprocess.Popen[str]:
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        self.process = subprocess.Popen(
            self.command, stdin=pipe, stdout=pipe, stderr=nothing, text=True, env=self.environment
        )
        return self.process

    def close(self) -> None:
        """Let the process end."""
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
            self.process.wait()
