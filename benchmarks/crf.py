"""Our CRF against pytorch-crf, in turn, in one process.

    python benchmarks/crf.py [--rounds 7] [--threads 1]

Prints, for each shape, the median milliseconds of log-likelihood forward and backward, and of decoding, and the median
of the ratios of neighbouring runs.
"""

from __future__ import annotations

import platform
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Annotated

import torch
import torchcrf
import typer

from cardioner.multiclass.modeling import CRF

SHAPES = ((16, 128, 9), (32, 512, 9), (32, 512, 25), (8, 512, 49), (1, 8192, 9))


def seconds(work: Callable[[], object]) -> float:
    """The time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def likelihood(crf: torch.nn.Module, emissions: torch.Tensor, tags: torch.Tensor) -> None:
    """Forward and backward."""
    given = emissions.clone().requires_grad_()
    (-crf(given, tags)).backward()


def decode(crf: torch.nn.Module, emissions: torch.Tensor) -> list[list[int]]:
    """The best tags."""
    with torch.no_grad():
        best: list[list[int]] = crf.decode(emissions)
    return best


def compare(name: str, ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> None:
    """Time two pieces of work in turn."""
    ours(), theirs()
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
    mine, other = (statistics.median(column) * 1e3 for column in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    print(f"  {name:<22} {mine:9.1f} ms   pytorch-crf {other:9.1f} ms   {ratio:5.1f} times as fast", flush=True)


def main(
    rounds: Annotated[int, typer.Option(help="Pairs of runs.")] = 7,
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = 1,
) -> None:
    """Compare the two on every shape."""
    warnings.simplefilter("ignore")  # pytorch-crf uses what torch means to remove
    torch.set_num_threads(threads)
    print(f"{platform.machine()}, {threads} threads, torch {torch.__version__}, pytorch-crf 0.7.2, {rounds} rounds")
    for batch, length, count in SHAPES:
        torch.manual_seed(0)
        emissions, tags = torch.randn(batch, length, count), torch.randint(count, (batch, length))
        theirs = torchcrf.CRF(count, batch_first=True)
        ours = CRF(count, batch_first=True)
        ours.load_state_dict(theirs.state_dict())
        same = decode(ours, emissions) == decode(theirs, emissions)
        print(f"batch {batch}, length {length}, {count} tags; decoded alike: {same}")
        compare(
            "forward and backward",
            lambda: likelihood(ours, emissions, tags),  # noqa: B023 - called before the loop goes on
            lambda: likelihood(theirs, emissions, tags),  # noqa: B023
            rounds,
        )
        compare("decode", lambda: decode(ours, emissions), lambda: decode(theirs, emissions), rounds)  # noqa: B023


if __name__ == "__main__":
    typer.run(main)
