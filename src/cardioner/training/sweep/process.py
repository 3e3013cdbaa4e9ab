"""A training in a process of its own, so that its peak memory is its own, and its model timed there."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cardioner._progress import Progress
from cardioner.data.documents import Document, Span
from cardioner.errors import CardioNERError, TrainingError
from cardioner.training.sweep.trial import Trial

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from cardioner.prediction.predictor import Predictor

PASSES = 2
"""How often the held-out notes are tagged by the clock; the faster pass counts."""
_WARM_UP = 8
"""Notes that are tagged before."""
_EVERY = 0.1
"""Seconds between two reports of progress."""
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a training cost.

    Attributes:
        seconds: Of the training loop, the scoring between epochs included.
        memory: Peak of its process, in bytes; `None` where the platform does not say.
        device_memory: Peak of what torch took on a GPU, in bytes; `None` without one.
        best_epoch: The epoch that was saved, counted from 1; 0 if there were no notes to pick one with.
    """

    seconds: float
    memory: int | None
    device_memory: int | None
    best_epoch: int


class Tagged(NamedTuple):
    """What was found in the held-out notes.

    Attributes:
        spans: By decoder, the spans of each note by its id.
        speeds: By decoder, sub-tokens per second.
        untagged: Notes that could not be tagged.
    """

    spans: dict[str, dict[str, tuple[Span, ...]]]
    speeds: dict[str, float]
    untagged: int


class Step(NamedTuple):
    """How far a stage is, and what else there is to say of it."""

    stage: str
    done: int
    total: int | None
    detail: str = ""


class Problem(NamedTuple):
    """Why a training failed, without a word of a note, and the exit code of the kind of error."""

    reason: str
    exit_code: int


Message = Cost | Tagged | Step | Problem


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a process does.

    Attributes:
        trial: The training.
        folder: The sweep's folder.
        held_out: Notes that the model tags by the clock.
        decoders: In which ways.
        trained: Whether the model is there already, and has only to be measured.
        prepare: Called first: the process shares nothing with this one but the console.
    """

    trial: Trial
    folder: Path
    held_out: Sequence[Document]
    decoders: tuple[str, ...]
    trained: bool = False
    prepare: Callable[[], None] | None = None


def run_apart(job: Job, receive: Callable[[Message], None]) -> None:
    """Do a job in a new process, and pass on its messages; a process that dies is a `Problem` too."""
    context = get_context("spawn")  # a fork would inherit what this process holds
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(job, there), name=f"cardioner-{job.trial.name}")
    ended = False
    try:
        with _ignoring_interrupts():
            process.start()
        there.close()
        while (message := _next(here)) is not None:
            receive(message)
            ended = isinstance(message, Tagged | Problem)
        process.join()
    finally:
        if process.is_alive():
            process.terminate()
            process.join()
        here.close()
    if not ended:
        receive(Problem(_death(process.exitcode or 0), TrainingError.exit_code))


def _next(pipe: Connection) -> Message | None:
    """The next message of the process; `None` when it has ended."""
    try:
        return pipe.recv()  # type: ignore[no-any-return]
    except EOFError:
        return None


def _death(code: int) -> str:
    """What became of a process that ended without a message."""
    if -code not in set(signal.Signals):
        return f"its process ended with code {code}"
    name = signal.Signals(-code).name
    return f"its process was ended by {name}" + (": is there enough memory?" if name == "SIGKILL" else "")


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Have a process that is started here ignore Ctrl-C, which this one handles for both."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


# In the process ------------------------------------------------------------------------------------------------------


def _work(job: Job, pipe: Connection) -> None:
    """Train, if need be, and measure."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        if job.prepare is not None:
            job.prepare()
        if not job.trained:
            pipe.send(_train(job, _Reporter(pipe)))
        pipe.send(_tag(job, _Reporter(pipe)))
    except CardioNERError as error:
        pipe.send(Problem(str(error), error.exit_code))
    except Exception as error:  # noqa: BLE001 - whatever ends one recipe, the others go on
        pipe.send(Problem(_place_of(error), TrainingError.exit_code))


def _end_with_parent() -> None:
    """End when the parent does: nobody would use the model, and the parent may be started again."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _place_of(error: Exception) -> str:
    """The kind of an error and where it was raised; its message may quote a note."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at {Path(frames[-1].filename).name}:{frames[-1].lineno}"


class _Reporter:
    """Sends how far a stage is, but not too often."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._last = (-1.0, "")

    def __call__(self, stage: str, done: int, total: int | None, /, *, detail: str = "") -> None:
        now = time.monotonic()
        if done == total or stage != self._last[1] or now - self._last[0] >= _EVERY:
            self._last = now, stage
            self._pipe.send(Step(stage, done, total, detail))


def _train(job: Job, progress: Progress) -> Cost:
    """Train, and save the model."""
    import torch  # noqa: PLC0415 - slow, and a process may end before it trains

    result = replace(job.trial, options=replace(job.trial.options, progress=progress)).train(job.folder)
    on_gpu = torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0
    return Cost(
        seconds=result.seconds,
        memory=peak_memory(),
        device_memory=torch.cuda.max_memory_allocated() if on_gpu else None,
        best_epoch=result.best_epoch,
    )


def peak_memory() -> int | None:
    """The most memory that this process has had so far, in bytes; `None` where the platform does not say.

    The kernel's own mark comes first: `getrusage` counts, on Linux, the memory of the process that started this one.
    """
    if _STATUS.is_file():
        for line in _STATUS.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _tag(job: Job, progress: Progress) -> Tagged:
    """Tag the held-out notes with the saved model, with each decoder, by the clock."""
    from cardioner.prediction.predictor import Predictor  # noqa: PLC0415 - imports torch

    notes = list(job.held_out)
    saved = Predictor.from_pretrained(job.folder / job.trial.name, device=job.trial.options.device)
    size = sum(len(document.text) for document in notes)
    found = Tagged({}, {}, 0)
    for number, decoder in enumerate(job.decoders):
        predictor = Predictor(saved.model, saved.tokenizer, decoder=decoder)
        list(predictor.predict(notes[:_WARM_UP]))
        for done in range(1, PASSES + 1):
            tagged, speed = _timed(predictor, notes)
            progress("measuring", (PASSES * number + done) * size, PASSES * len(job.decoders) * size)
            found.speeds[decoder] = max(speed, found.speeds.get(decoder, 0.0))
        found.spans[decoder] = {document.id: document.spans for document in tagged}
    return found._replace(untagged=len(notes) - len(found.spans[job.decoders[0]]))


def _timed(predictor: Predictor, notes: Sequence[Document]) -> tuple[list[Document], float]:
    """The tagged notes, and how many sub-tokens a second it took."""
    began = time.perf_counter()
    predictions = predictor.predict(notes)
    tagged = list(predictions)
    return tagged, predictions.coverage.tokens / max(time.perf_counter() - began, 1e-9)
