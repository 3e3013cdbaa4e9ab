"""Which windows make up which batch: a pure function of seed and epoch, so that a training can be taken up again."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from cardioner.errors import UsageError

_SORTED_TOGETHER = 50
"""Batches whose windows are sorted by length before they are cut: little padding, and most of the chance."""


def plan_batches(lengths: Sequence[int], size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """Every window once, in shuffled batches of windows of similar length.

    Batches differ by one window at most, so that no step is learned from a small remainder.

    Args:
        lengths: Sub-tokens of each window.
        size: Most windows in a batch.
        seed: Of the order.
        epoch: Counted from 0; each has an order of its own.
    """
    chance = random.Random(f"{seed}:{epoch}")  # noqa: S311 - an order, not a secret
    order = list(range(len(lengths)))
    chance.shuffle(order)
    stretch = size * _SORTED_TOGETHER
    for start in range(0, len(order), stretch):
        order[start : start + stretch] = sorted(order[start : start + stretch], key=lambda index: -lengths[index])
    count = math.ceil(len(order) / size)
    edges = [len(order) * number // count for number in range(count + 1)] if count else [0]
    batches = [order[start:stop] for start, stop in pairwise(edges)]
    chance.shuffle(batches)
    return batches


@dataclass(frozen=True, slots=True)
class Batches:
    """The batches of the epoch that is running, as a data loader's `batch_sampler`; one process's share of each.

    Attributes:
        lengths: Sub-tokens of each window.
        size: Most windows in a batch, over all processes.
        seed: Of the order.
        epoch: Tells the epoch, counted from 0.
        process: Which process this is.
        processes: How many there are; window i of a batch goes to process i modulo this.
    """

    lengths: Sequence[int]
    size: int
    seed: int
    epoch: Callable[[], int]
    process: int = 0
    processes: int = 1

    def __len__(self) -> int:
        return math.ceil(len(self.lengths) / self.size)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in plan_batches(self.lengths, self.size, seed=self.seed, epoch=self.epoch()):
            yield batch[self.process :: self.processes]


def check_shares(windows: int, size: int, processes: int) -> None:
    """Refuse batches of which a process would get nothing.

    Raises:
        UsageError: If there are.
    """
    least = windows // math.ceil(windows / size)
    if least < processes:
        larger = f"raise the batch size to {2 * processes} or more, or " if windows >= processes else ""
        raise UsageError(
            f"{windows} windows in batches of {size} leave {least} in some, fewer than the {processes} processes: "
            f"{larger}start fewer processes"
        )
