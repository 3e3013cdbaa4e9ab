"""Ray clusters on this machine: every note once, with the spans of one machine, whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import ray
from ray.cluster_utils import Cluster
from ray_nodes import actors, logs, started

from cardioner.distributed import TaggingJob, tag_dataset
from cardioner.distributed.ray_pool import PoolOptions, ray_pool
from cardioner.errors import UsageError
from cardioner.tables.columns import Columns
from cardioner.tables.files import TableFiles
from conftest import CANARY, by_id

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.enable_socket,
    pytest.mark.filterwarnings("ignore"),  # Ray's own, of which there are many
]
DRIVER = """
import sys
import ray
from ray.data.checkpoint import CheckpointConfig
from cardioner.distributed import tag_dataset
notes, model, out, marks = sys.argv[1:]
ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
context = ray.data.DataContext.get_current()
context.checkpoint_config = CheckpointConfig(id_column="note_id", checkpoint_path=marks)
tag_dataset(ray.data.read_parquet(notes), model, device="cpu", rows=50).write_parquet(out)
print(ray._private.worker._global_node.get_logs_dir_path())
"""


@pytest.fixture
def cluster() -> Iterator[Callable[..., Cluster]]:
    """Starts nodes, and connects to them."""
    with started() as start:

        def connected(*cpus: int) -> Cluster:
            found = start(*cpus)
            ray.init(address=found.address, log_to_driver=False)
            return found

        yield connected
        ray.shutdown()


def test_two_nodes_work_and_give_what_one_machine_gives(
    cluster: Callable[..., Cluster], model: Path, notes: Path, expected: list[dict[str, Any]]
) -> None:
    cluster(2, 1)
    rows: list[dict[str, Any]] = []
    nodes: set[int] = set()
    for batch in tag_dataset(ray.data.read_parquet(str(notes)), model, device="cpu", rows=100).iter_batches(
        batch_format="pyarrow", batch_size=100
    ):
        rows += batch.to_pylist()
        nodes |= set(actors().values())
    assert by_id(rows) == expected
    assert len(nodes) == 2
    assert CANARY not in logs(Path(ray._private.worker._global_node.get_logs_dir_path()))


def test_an_actor_that_is_killed_loses_and_repeats_nothing(
    cluster: Callable[..., Cluster], model: Path, notes: Path, expected: list[dict[str, Any]]
) -> None:
    cluster(3)
    rows: list[dict[str, Any]] = []
    killed = 0
    for batch in tag_dataset(ray.data.read_parquet(str(notes)), model, device="cpu", rows=20).iter_batches(
        batch_format="pyarrow", batch_size=20, prefetch_batches=0
    ):
        rows += batch.to_pylist()
        if not killed:
            killed = min(actors())
            os.kill(killed, signal.SIGKILL)
    assert killed
    assert by_id(rows) == expected
    assert CANARY not in logs(Path(ray._private.worker._global_node.get_logs_dir_path()))


def test_a_driver_that_is_killed_goes_on_where_it_was(
    model: Path, notes: Path, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", DRIVER, str(notes), str(model), str(out), str(tmp_path / "marks")]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(out.glob("*.parquet")):
        assert first.poll() is None, "it ended before it wrote"
        time.sleep(0.05)
    first.kill()
    first.wait()
    before = {path.name for path in out.glob("*.parquet")}
    subprocess.run([sys.executable, "-m", "ray.scripts.scripts", "stop", "--force"], check=True, capture_output=True)
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert before <= {path.name for path in out.glob("*.parquet")}
    assert by_id(pq.read_table(out).to_pylist()) == expected
    assert CANARY not in done.stdout + done.stderr + logs(Path(done.stdout.splitlines()[-1]))


def test_a_node_that_is_gone_ends_the_run_in_place_of_waiting_for_ever(
    model: Path, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cardioner.distributed.ray_pool._LOOK", 2)
    job, batches = TaggingJob.of(model, device="cpu"), TableFiles([notes], Columns()).batches()
    with started() as start:
        cluster = start(1, 1)
        with ray_pool(job, PoolOptions(cluster.address)) as pool:
            pool.start()
            cluster.remove_node(next(iter(cluster.worker_nodes)))
            with pytest.raises(
                UsageError, match="no room for 2 workers of 1 CPUs: 1 node with 1 CPUs in all can take 1"
            ):
                list(pool.tag(batches, lambda _: None))


def test_a_cluster_without_room_is_refused_at_once(cluster: Callable[..., Cluster], model: Path, notes: Path) -> None:
    cluster(1)
    with pytest.raises(UsageError, match="1 node with 1 CPUs in all can take 0, as reading and writing take 1"):
        tag_dataset(ray.data.read_parquet(str(notes)), model)
