"""Running parts of a benchmark on a GPU or the CPU: time, memory and kernel launches, and what went wrong."""

from __future__ import annotations

import gc
import os
import platform
import statistics
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from torch.profiler import ProfilerActivity, profile
from transformers import TrainerCallback

from pairs import seconds

WARM = 20
"""Training steps that are not timed."""


@dataclass
class Session:
    """Where the parts run, what they have to keep to, and what went wrong.

    Attributes:
        device: The GPU, or the CPU.
        tiny: Whether all of it only has to run.
        limit: Seconds after which no further part begins.
        failures: A line for each part that failed or found something wrong.
    """

    device: torch.device
    tiny: bool
    limit: float
    began: float = field(default_factory=time.perf_counter)
    failures: list[str] = field(default_factory=list)

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"

    def part(self, name: str, work: Callable[[], Any]) -> Any:
        """Do one part, or leave it out when time is up; an error ends this part alone."""
        before = time.perf_counter() - self.began
        if before > self.limit:
            print(f"  {name}: left out, as {before:.0f} s have passed", flush=True)
            self.failures.append(f"{name} was left out")
            return None
        try:
            return work()
        except Exception:  # noqa: BLE001 - time on a GPU is short: the other parts still count
            traceback.print_exc()
            self.failures.append(f"{name} failed")
            return None
        finally:
            print(f"  [{name}: {time.perf_counter() - self.began - before:.1f} s]", flush=True)
            gc.collect()
            if self.on_gpu:
                torch.cuda.empty_cache()

    def wait(self) -> None:
        """Wait until the device has done what it was given."""
        if self.on_gpu:
            torch.cuda.synchronize()

    def timed(self, work: Callable[[], object], runs: int) -> float:
        """Median seconds of a call, after two that do not count."""
        work(), work(), self.wait()
        return statistics.median(seconds(lambda: (work(), self.wait())) for _ in range(runs))

    def peak(self, work: Callable[[], Any]) -> tuple[Any, str]:
        """What a call gives, and the most GPU memory that was allocated during it."""
        if not self.on_gpu:
            return work(), "not measured on the CPU"
        torch.cuda.reset_peak_memory_stats()
        found = work()
        return found, f"{torch.cuda.max_memory_allocated() / 2**20:,.0f} MiB"

    def launches(self, work: Callable[[], object]) -> tuple[int, float]:
        """Kernels that a call launches, and milliseconds that the GPU computes; on the CPU operators, and 0."""
        kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.on_gpu else [])]
        with profile(activities=kinds) as profiler:
            work()
            self.wait()
        events = profiler.events()
        if not self.on_gpu:
            return sum(event.name.startswith("aten::") for event in events), 0.0
        on_gpu = [event for event in events if event.device_type == torch.autograd.DeviceType.CUDA]
        busy = sum(event.self_device_time_total for event in on_gpu)
        return sum("LaunchKernel" in event.name for event in events), busy / 1e3


class Clock(TrainerCallback):
    """When each training step ended: for the `progress` of our trainer, or as a callback of the Hugging Face one."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def __call__(self, stage: str, *_: int) -> None:
        """As our trainer tells it."""
        if stage == "training":
            self.ends.append(time.perf_counter())

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """As the Hugging Face Trainer tells it."""
        self("training")

    def step(self) -> float:
        """Seconds a step, those of the beginning left out."""
        first = min(WARM, len(self.ends) // 2)
        return (self.ends[-1] - self.ends[first]) / (len(self.ends) - 1 - first)


def describe(session: Session) -> None:
    """Print what all this runs on."""
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, Python "
        f"{platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}"
    )
    if session.on_gpu:
        card = torch.cuda.get_device_properties(0)
        print(
            f"{torch.cuda.device_count()} x {card.name}, {card.total_memory / 2**30:.0f} GiB, CUDA "
            f"{torch.version.cuda}, float32 products: {torch.get_float32_matmul_precision()}",
            flush=True,
        )
