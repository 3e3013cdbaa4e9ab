"""Ray Data: a pool of actors, each of which loads the model once."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cardioner.distributed.job import TaggingJob, load
from cardioner.errors import UsageError, first_line, many
from cardioner.tables.source import ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pyarrow as pa

_READING, _FILTERING = 1, 1
"""CPUs that are left to what reads and writes, and to the actor that leaves out what a checkpoint has: with all of them
in actors that tag, Ray would wait for ever."""

_PATIENCE = 10
"""Seconds in which the head of a cluster must answer."""


class Tagger:
    """What an actor does: loads the models when it starts, then tags batches.

    Args:
        job: What the driver tells.
    """

    def __init__(self, job: TaggingJob) -> None:
        self.job = job
        load(job)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The rows with their spans."""
        import pyarrow as pa  # noqa: PLC0415 - the module of the actor

        batches = [self.job.tag(part) for part in batch.combine_chunks().to_batches()]
        return pa.Table.from_batches(batches, self.job.schema(batch.schema))


def tag_dataset(
    dataset: Any,
    model: str | Path | Sequence[str | Path] | TaggingJob,
    *,
    workers: int | None = None,
    cpus_per_worker: float = 1.0,
    gpus_per_worker: float = 0.0,
    rows: int = ROWS,
    **settings: Any,
) -> Any:
    """A Ray dataset of notes with their spans; nothing is computed before it is consumed.

    To resume after the driver died, set `ray.data.DataContext.get_current().checkpoint_config` to a `CheckpointConfig`
    with the column of ids before the dataset is read, and write the result: Ray leaves out the rows it wrote before.

    Args:
        dataset: A `ray.data.Dataset` whose rows have ids and notes.
        model: Model directories, by paths that exist on every node; or a job.
        workers: Actors; by default as many as the cluster has room for beside what reads and writes.
        cpus_per_worker: CPUs of an actor, which torch then uses.
        gpus_per_worker: GPUs of an actor; a fraction lets several share one.
        rows: Notes that an actor tags at a time, and that a block has at most, so that all actors have work.
        settings: As `TaggingJob.of` takes them.

    Returns:
        A `ray.data.Dataset` of what `cardioner.tables.tagging.tag_batch` gives.

    Raises:
        UsageError: If the cluster has no room for the workers, where Ray would wait for ever; or a number is not
            positive.
        DataError: If a column is not there, or ids or notes have another type.
        ModelError: If there is no model.
    """
    from ray.data import ActorPoolStrategy, DataContext  # noqa: PLC0415 - an extra

    if rows < 1 or (workers is not None and workers < 1) or cpus_per_worker <= 0 or gpus_per_worker < 0:
        raise UsageError("rows, workers and cpus_per_worker must be positive, and gpus_per_worker not negative")
    job = replace(model, **settings) if isinstance(model, TaggingJob) else TaggingJob.of(model, **settings)
    resumable = getattr(DataContext.get_current(), "checkpoint_config", None) is not None
    others = _READING + (_FILTERING if resumable else 0)
    count = workers_that_fit(nodes(), workers, cpus_per_worker, gpus_per_worker, others=others)
    return dataset.repartition(target_num_rows_per_block=rows).map_batches(
        Tagger,
        fn_constructor_args=(job,),
        batch_format="pyarrow",
        batch_size=rows,
        compute=ActorPoolStrategy(size=count),
        num_cpus=cpus_per_worker,
        num_gpus=gpus_per_worker or None,
    )


def connect(address: str | None = None) -> None:
    """Connect this process to a cluster, unless it is connected.

    Args:
        address: `host:port` of the head, `auto` for one of which a node runs here, `local` for a new one; `None` for
            that in `RAY_ADDRESS`, or one that runs here, or a new one on this machine.

    Raises:
        UsageError: If there is no such cluster, or it has another version of Ray or of Python.
    """
    import ray  # noqa: PLC0415 - an extra

    if ray.is_initialized():
        return
    place = address or os.environ.get("RAY_ADDRESS", "")
    _check_reachable(place)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anyone
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    except Exception as error:  # noqa: BLE001 - what Ray raises, also where this machine is too slow to start it
        raise UsageError(
            f"cannot connect to a Ray cluster{f' at {place}' if place else ''}: {first_line(error)}"
        ) from None


def _check_reachable(place: str) -> None:
    """Refuse the address of a machine that does not answer: Ray would try for minutes."""
    host, _, port = place.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"no Ray cluster answers at {place} ({getattr(error, 'strerror', None) or type(error).__name__}): expected "
            "the address that `ray start --head` shows, such as 10.0.0.1:6379"
        ) from None


def nodes() -> list[tuple[float, float]]:
    """The CPUs and GPUs of each node that is alive; a cluster on this machine is started if there is none."""
    import ray  # noqa: PLC0415 - an extra

    connect()
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [(found.get("CPU", 0.0), found.get("GPU", 0.0)) for found in alive]


def workers_that_fit(
    nodes: Sequence[tuple[float, float]], wanted: int | None, cpus: float, gpus: float, *, others: float
) -> int:
    """How many workers a cluster has room for, or as many as are wanted.

    Args:
        nodes: The CPUs and GPUs of each node.
        wanted: Workers that are asked for; `None` for all that fit.
        cpus: Of each worker.
        gpus: Of each worker.
        others: CPUs for everything else, on the node that has most.

    Raises:
        UsageError: If there is no room, with what there is.
    """
    largest = max(range(len(nodes)), key=lambda place: nodes[place][0])
    room = 0
    for place, (node_cpus, node_gpus) in enumerate(nodes):
        by_cpu = (node_cpus - others * (place == largest)) // cpus
        room += int(max(0.0, min(by_cpu, node_gpus // gpus) if gpus else by_cpu))
    if room >= (wanted or 1):
        return wanted or room
    each = f"{cpus:g} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
    there = f"{sum(node[0] for node in nodes):g} CPUs"
    there += f" and {sum(node[1] for node in nodes):g} GPUs" if gpus else ""
    raise UsageError(
        f"the cluster has no room for {many(wanted or 1, 'worker')} of {each}: {many(len(nodes), 'node')} with {there} "
        f"in all can take {room}" + (f", as reading and writing take {others:g}" if others else "") + "; ask for fewer "
        "or smaller workers, or start Ray with more CPUs"
    )
