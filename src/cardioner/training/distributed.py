"""Training in several processes, as `torchrun` and `accelerate launch` start them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from accelerate.utils import broadcast_object_list
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


def broadcast_from_first(work: Callable[[], T]) -> T:
    """Do some work in the first process, and give its result to all."""
    found: T = broadcast_object_list([work() if rank() == 0 else None])[0]
    return found
