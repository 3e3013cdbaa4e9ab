"""Timing of two pieces of work in turn, and the peak memory of one: shared by the benchmarks."""

from __future__ import annotations

import multiprocessing
import re
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple


class Pair(NamedTuple):
    """Median milliseconds of two pieces of work, and the median of `second / first` over neighbouring runs."""

    first: float
    second: float
    ratio: float


def in_turn(first: Callable[[], object], second: Callable[[], object], rounds: int) -> Pair:
    """Time two pieces of work in turn, after one run of each that does not count; which one leads alternates."""
    first(), second()
    pairs = []
    for number in range(rounds):
        if number % 2:
            late, early = seconds(second), seconds(first)
            pairs.append((early, late))
        else:
            pairs.append((seconds(first), seconds(second)))
    medians = [statistics.median(column) * 1e3 for column in zip(*pairs, strict=True)]
    return Pair(*medians, statistics.median(b / a for a, b in pairs))


def seconds(work: Callable[[], object]) -> float:
    """The time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def peak_mib(prepare: Callable[..., Callable[[], object]], *arguments: Any) -> float:
    """How many MiB a process of its own grows by, at its peak, during the work that `prepare(*arguments)` returns.

    Linux only: the kernel's high-water mark of resident memory is reset before the work.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_growth, prepare, arguments).result()


def _growth(prepare: Callable[..., Callable[[], object]], arguments: tuple[Any, ...]) -> float:
    """The growth in this process."""
    work = prepare(*arguments)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmHWM")
    work()
    return (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    """A number of KiB from `/proc/self/status`."""
    found = re.search(rf"^{name}:\s+(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"the kernel does not tell {name}")
    return int(found[1])
