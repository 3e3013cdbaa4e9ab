"""Progress of long work: bars on a terminal and in a notebook, elsewhere a plain line every half minute."""

from __future__ import annotations

import inspect
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console
    from rich.progress import Progress as RichProgress

EVERY = 30.0
"""Seconds between two plain lines."""


class Progress(Protocol):
    """What is called with the stage of some work, how much of it is done, and how much there is, if that is known.

    By the keyword `detail` it gets what else there is to say: `loss 0.2130`. Never a word of a note.
    """

    def __call__(self, stage: str, done: int, total: int | None, /, *, detail: str = "") -> None: ...


ProgressOption: TypeAlias = "bool | Callable[..., None] | None"
"""What callers give: `True` to have it shown on standard error, or a function to call."""


def silent(stage: str, done: int, total: int | None, /, *, detail: str = "") -> None:
    """Show nothing."""


def accepting_detail(progress: Callable[..., None]) -> Progress:
    """The function itself or, if it takes three arguments alone, as in earlier versions, one that drops `detail`."""
    taken = inspect.signature(progress).parameters.values()
    if any(one.name == "detail" or one.kind is inspect.Parameter.VAR_KEYWORD for one in taken):
        return progress
    return partial(_without_detail, progress)


def _without_detail(
    progress: Callable[..., None],
    stage: str,
    done: int,
    total: int | None,
    *,
    detail: str = "",  # noqa: ARG001
) -> None:
    progress(stage, done, total)


@contextmanager
def showing(progress: ProgressOption) -> Iterator[Progress]:
    """What to report progress to while the block runs: the caller's own function, or for `True` standard error."""
    if progress is not True:
        yield accepting_detail(progress) if progress else silent
        return
    from rich.console import Console  # noqa: PLC0415 - slow, and for this alone

    with reporting(console := Console(stderr=True, soft_wrap=True, highlight=False), console.print) as report:
        yield report


@contextmanager
def reporting(
    console: Console, write: Callable[[str], Any], *, log: Callable[[str], Any] | None = None
) -> Iterator[Bars | Lines]:
    """Bars where the console can show them, with the same as lines for `log`; else lines for `write`."""
    if not (console.is_terminal or console.is_jupyter):
        yield Lines(write)
        return
    from rich import progress as rich  # noqa: PLC0415 - slow, and for this alone

    columns = (
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TextColumn("{task.fields[detail]}"),
        rich.TimeRemainingColumn(elapsed_when_finished=True),
    )
    with rich.Progress(*columns, console=console, transient=False) as bars:
        yield Bars(bars, Lines(log) if log else silent)


class Bars:
    """Bars of several named stages; a stage that starts again replaces its finished bar.

    Args:
        progress: Rich's bars, which are running.
        also: What is called with the same.
    """

    def __init__(self, progress: RichProgress, also: Progress) -> None:
        self._progress = progress
        self._also = also
        self._tasks: dict[str, Any] = {}

    def __call__(self, stage: str, done: int, total: int | None, /, *, detail: str = "") -> None:
        """Show how much of a stage is done."""
        if stage not in self._tasks:  # what is already done does not count for the speed
            self._tasks[stage] = self._progress.add_task(stage, total=total, completed=done, detail=detail)
        task = self._tasks[stage]
        if done < self._progress.tasks[self._progress.task_ids.index(task)].completed:
            self._progress.reset(task, total=total)
        self._progress.update(task, completed=done, total=total, detail=detail)
        self._also(stage, done, total, detail=detail)

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Show that something without steps is running."""
        task = self._progress.add_task(what, total=None, detail="")
        try:
            yield
        finally:
            self._progress.remove_task(task)


@dataclass(slots=True)
class _Stage:
    """Where a stage began, and when; how far it was last."""

    first: int
    began: float
    done: int


class Lines:
    """A plain line about the stage that runs, every half minute.

    Args:
        write: Takes the line.
    """

    def __init__(self, write: Callable[[str], Any]) -> None:
        self._write = write
        self._stages: dict[str, _Stage] = {}
        self._written = time.monotonic()

    def __call__(self, stage: str, done: int, total: int | None, /, *, detail: str = "") -> None:
        """Write how much of a stage is done, what more there is to say, how fast it goes and how long it will take."""
        now = time.monotonic()
        known = self._stages.get(stage)
        if known is None or done < known.done:  # what is already done does not count for the speed
            known = self._stages[stage] = _Stage(done, now, done)
        known.done = done
        if now - self._written >= EVERY:
            self._written = now
            self._write(_line(stage, known, total, detail, now - known.began))

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:  # noqa: ARG002 - as bars have it
        """Nothing is written of something without steps."""
        yield


def _line(stage: str, known: _Stage, total: int | None, detail: str, seconds: float) -> str:
    """`training: 120 of 600 steps, loss 0.2130, 1.4 steps/s, 0:05:43 left`."""
    name, _, unit = stage.rstrip(")").partition(" (")  # tagging (notes)
    unit = f" {unit or 'steps'}" if unit or name.endswith(("training", "adapting")) else ""
    parts = [f"{name}: {known.done:,}" + ("" if total is None else f" of {total:,}") + unit, detail]
    rate = (known.done - known.first) / seconds if seconds else 0.0
    if rate:
        parts.append(f"{rate:,.3g}{unit}/s" if rate < 100 else f"{rate:,.0f}{unit}/s")
        if total is not None:
            parts.append(f"{timedelta(seconds=round((total - known.done) / rate))} left")
    return ", ".join(filter(None, parts))
