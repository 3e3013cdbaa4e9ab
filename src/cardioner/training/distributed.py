"""Training in several processes, as `torchrun` and `accelerate launch` start them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from torch import distributed

T = TypeVar("T")


def rank() -> int:
    """The number of this process, from 0; the first one writes and reports."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def barrier() -> None:
    """Wait until every process has come so far."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()


def gather(value: T) -> list[T]:
    """The values of all processes, in their order, in every process."""
    if world_size() == 1:
        return [value]
    found: list[Any] = [None] * world_size()
    distributed.all_gather_object(found, value)
    return found


def broadcast_from_first(work: Callable[[], T]) -> T:
    """Do some work in the first process, and give its result to all."""
    if world_size() == 1:
        return work()
    results: list[Any] = [work() if rank() == 0 else None]
    distributed.broadcast_object_list(results, src=0)
    found: T = results[0]
    return found
