"""`cardioner predict --cluster ray` writes the file of one machine, byte for byte, whoever is killed."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from ray.cluster_utils import Cluster
from ray_nodes import actors, logs, started

from cardioner import __version__
from conftest import CANARY

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.enable_socket,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]
PREDICT = (sys.executable, "-m", "cardioner", "predict")


@pytest.fixture
def nodes() -> Iterator[Callable[..., Cluster]]:
    with started() as start:
        yield start


@pytest.fixture
def here(model: Path, notes: Path, tmp_path: Path) -> bytes:
    """What one machine writes."""
    done = predict(model, notes, "--output", tmp_path / "here.parquet")
    assert done.returncode == 0, done.stderr
    return (tmp_path / "here.parquet").read_bytes()


def predict(*arguments: Any, **others: Any) -> subprocess.CompletedProcess[str]:
    command = [*PREDICT, *map(str, arguments), "--device", "cpu"]
    return subprocess.run(command, check=False, capture_output=True, text=True, **others)


def begin(*arguments: Any) -> subprocess.Popen[str]:
    command = [*PREDICT, *map(str, arguments), "--device", "cpu"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def session(cluster: Cluster) -> Path:
    return Path(cluster.head_node.get_logs_dir_path())


def until(found: Callable[[], Any], running: subprocess.Popen[str]) -> Any:
    """What is found as soon as it is there, while a command runs."""
    while not (value := found()):
        assert running.poll() is None, running.communicate()
        time.sleep(0.02)
    return value


def test_two_nodes_write_the_file_of_one_machine(
    nodes: Callable[..., Cluster], model: Path, notes: Path, here: bytes, tmp_path: Path
) -> None:
    cluster = nodes(1, 1)
    out = tmp_path / "out.parquet"
    running = begin(model, notes, "--output", out, "--cluster", "ray", "--address", cluster.address)
    tagging = until(lambda: actors(b"Actor.tag"), running)
    parents = set(tagging.values())
    while running.poll() is None:
        parents |= set(actors(b"Actor").values())
        time.sleep(0.02)
    said = running.communicate()[1]
    assert running.returncode == 0, said
    assert "2000 rows: 1999 notes" in said
    assert "by 2 workers of Ray" in said
    assert len(parents) == 2
    assert out.read_bytes() == here
    assert CANARY not in said + logs(session(cluster))


def test_a_worker_that_is_killed_loses_and_repeats_nothing(
    nodes: Callable[..., Cluster], model: Path, notes: Path, here: bytes, tmp_path: Path
) -> None:
    cluster = nodes(2)
    out = tmp_path / "out.parquet"
    running = begin(model, notes, "--output", out, "--cluster", "ray", "--address", cluster.address)
    os.kill(min(until(lambda: actors(b"Actor.tag"), running)), signal.SIGKILL)
    said = running.communicate()[1]
    assert running.returncode == 0, said
    assert out.read_bytes() == here
    assert CANARY not in said + logs(session(cluster))


def test_a_driver_that_is_killed_goes_on_where_it_was(
    nodes: Callable[..., Cluster], model: Path, notes: Path, here: bytes, tmp_path: Path
) -> None:
    cluster = nodes(2)
    out = tmp_path / "out.parquet"
    arguments = (model, notes, "--output", out, "--cluster", "ray", "--address", cluster.address, "--workers", 1)
    log = tmp_path / "out.parquet.partial" / "resume.sqlite"
    running = begin(*arguments)
    until(lambda: log.exists() and log.stat().st_size > 100_000, running)
    running.kill()
    running.communicate()
    assert not out.exists()
    done = predict(*arguments, "--resume")
    assert done.returncode == 0, done.stderr
    assert "Finished before: " in done.stderr
    assert out.read_bytes() == here
    assert CANARY not in done.stderr + logs(session(cluster))


@pytest.mark.usefixtures("here")
def test_a_database_is_read_and_filled_by_way_of_a_cluster(
    nodes: Callable[..., Cluster], model: Path, notes: Path, tmp_path: Path
) -> None:
    place, query = tmp_path / "archive.sqlite", "SELECT note_id, note_text FROM note"
    with closing(sqlite3.connect(place)) as database, database:
        database.execute("CREATE TABLE note (note_id TEXT PRIMARY KEY, note_text TEXT)")
        rows = [(row["note_id"], row["note_text"]) for row in pq.read_table(notes).to_pylist()]
        database.executemany("INSERT INTO note VALUES (?, ?)", rows)
    done = predict(
        *(model, "--sql", query, "--database", f"sqlite:///{place}", "--to-table", "tagged"),
        *("--cluster", "ray", "--address", nodes(1).address),
    )
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(place)) as database:
        filled = dict(database.execute("SELECT note_id, spans FROM tagged"))
    expected = pq.read_table(tmp_path / "here.parquet").to_pylist()
    assert len(filled) == len(expected) == 2000
    for row in expected:
        found = json.loads(filled[row["note_id"]] or "null")
        assert (found and places(found)) == (row["spans"] and places(row["spans"]))


def places(spans: list[dict[str, Any]]) -> list[tuple[int, int, str]]:
    return [(span["start"], span["end"], span["label"]) for span in spans]


def refused(code: int, said: str, *arguments: Any, cwd: Path) -> None:
    """The command ends with this code and one line."""
    done = predict(*arguments, cwd=cwd)
    assert done.returncode == code, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert said in line
    assert "Traceback" not in done.stderr
    assert not list(cwd.glob("out*"))


def test_no_room_no_model_and_no_cluster_are_one_line(
    nodes: Callable[..., Cluster], model: Path, notes: Path, tmp_path: Path
) -> None:
    ray = (notes, "--output", tmp_path / "out.parquet", "--cluster", "ray", "--address")
    reached = (*ray, nodes(1).address)
    nowhere = "/proc/self/cwd/model"  # each process finds it in its own folder
    for code, said, place, *arguments in (
        (2, "no room for 2 workers of 1 CPUs: 1 node with 1 CPUs in all can take 1;", model, *reached, "--workers", 2),
        (2, "no room for 1 worker of 1 CPUs and 1 GPUs", model, *reached, "--gpus-per-worker", 1),
        (4, f"has no {nowhere}: put the model on storage that all workers see", nowhere, *reached),
        (2, "no Ray cluster answers at 127.0.0.1:1 (Connection refused)", model, *ray, "127.0.0.1:1"),
        (2, "cannot connect to a Ray cluster at nowhere", model, *ray, "nowhere"),
    ):
        refused(code, said, place, *arguments, cwd=tmp_path)


def test_a_node_with_another_version_of_cardioner_is_one_line(
    nodes: Callable[..., Cluster], model: Path, notes: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "sitecustomize.py").write_text("import cardioner\ncardioner.__version__ = '0.0.1'\n")
    address = nodes(1, 1, environment={"PYTHONPATH": str(other)}).address
    said = f"has cardioner 0.0.1, the driver {__version__}: install the same version everywhere"
    arguments = (model, notes, "--output", tmp_path / "out.parquet", "--cluster", "ray", "--address", address)
    refused(2, said, *arguments, cwd=tmp_path)
