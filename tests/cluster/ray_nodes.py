"""Ray clusters on this machine, and what their processes do and write."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

MEMORY = 200_000_000
"""Bytes of the object store of a node."""


@contextlib.contextmanager
def started() -> Iterator[Callable[..., Cluster]]:
    """What starts nodes with so many CPUs each; the last may get environment variables of its own."""
    made: list[Cluster] = []

    def start(*cpus: int, environment: dict[str, str] | None = None) -> Cluster:
        first: dict[str, Any] = {"num_cpus": cpus[0], "object_store_memory": MEMORY, "include_dashboard": False}
        found = Cluster(initialize_head=True, head_node_args=first)
        made.append(found)
        for place, count in enumerate(cpus[1:], start=2):
            own = environment if place == len(cpus) else None
            found.add_node(num_cpus=count, object_store_memory=MEMORY, env_vars=own)
        return found

    yield start
    for one in made:
        one.shutdown()


def actors(name: bytes = b"MapWorker") -> dict[int, int]:
    """The processes of the actors of a class, and for each the process of its node that started it (Linux)."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if (place / "cmdline").read_bytes().startswith(b"ray::" + name):
                found[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
    return found


def logs(folder: Path) -> str:
    """All that the processes of a session wrote."""
    return "".join(path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())
