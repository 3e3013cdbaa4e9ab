"""One recipe in a process of its own: trained there, so that its peak memory is its own, and timed there."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cardioner.data.documents import Document, Span
from cardioner.errors import CardioNERError, TrainingError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from cardioner.prediction.predictor import Predictor
    from cardioner.training.sweep.recipes import Plan, Recipe

PASSES = 2
"""How often the held-out notes are tagged by the clock; the faster pass counts."""
_WARM_UP = 8
"""Notes that are tagged before."""
_EVERY = 0.1
"""Seconds between two reports of progress."""
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Training:
    """What training a recipe came to.

    Attributes:
        seconds: Of the training loop, the scoring between epochs included.
        memory: Peak of its process, in bytes; `None` where the platform does not tell.
        device_memory: Peak of what torch took on a GPU, in bytes; `None` without one.
        best_epoch: The epoch that was kept, counted from 1; 0 if there were no notes to pick one with.
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
    """How far a stage is."""

    stage: str
    done: int
    total: int


class Problem(NamedTuple):
    """Why a recipe failed, without a word of a note, and the exit code of the kind of error."""

    reason: str
    exit_code: int


Message = Training | Tagged | Step | Problem


@dataclass(frozen=True, slots=True)
class Job:
    """What a process does.

    Attributes:
        recipe: What to build.
        plan: What it shares with the others.
        trained: Whether its model is there already, and has only to be measured.
        resume: Whether to go on from a checkpoint.
        overwrite: Whether a model in its place is replaced.
        prepare: Called first: the process shares nothing with this one but the console.
    """

    recipe: Recipe
    plan: Plan
    trained: bool
    resume: bool
    overwrite: bool
    prepare: Callable[[], None] | None

    @property
    def directory(self) -> Path:
        """The model directory."""
        return self.plan.output / self.recipe.name


def run_apart(job: Job, receive: Callable[[Message], None]) -> None:
    """Do a job in a new process, and hand on what it tells; a process that dies is a `Problem` too."""
    context = get_context("spawn")  # a fork would inherit what this process holds
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(job, there), name=f"cardioner-{job.recipe.name}")
    ended = False
    try:
        with _deaf():
            process.start()
        there.close()
        for message in _messages(here):
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


def _messages(pipe: Connection) -> Iterator[Message]:
    """What the process tells until it ends."""
    while True:
        try:
            message: Message = pipe.recv()
        except EOFError:
            return
        yield message


def _death(code: int) -> str:
    """What became of a process that could not tell it."""
    if -code not in set(signal.Signals):
        return f"its process ended with code {code}"
    name = signal.Signals(-code).name
    return f"its process was ended by {name}" + (": is there enough memory?" if name == "SIGKILL" else "")


@contextmanager
def _deaf() -> Iterator[None]:
    """Have a process that is started here ignore Ctrl-C: this one answers for both."""
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
    threading.Thread(target=_follow_the_parent, daemon=True).start()
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


def _follow_the_parent() -> None:
    """End with the process that asked: nobody would use what is made here, and a second one may be begun."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _place_of(error: Exception) -> str:
    """The kind of an error and where it was raised; its message may quote a note."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at {Path(frames[-1].filename).name}:{frames[-1].lineno}"


class _Reporter:
    """Tells how far a stage is, not too often."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._told = (-1.0, "")

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done >= total or stage != self._told[1] or now - self._told[0] >= _EVERY:
            self._told = now, stage
            self._pipe.send(Step(stage, done, total))


def _train(job: Job, progress: Callable[[str, int, int], None]) -> Training:
    """Train the recipe, and save its model."""
    import torch  # noqa: PLC0415 - only this process needs it

    from cardioner.training.options import TrainingOptions  # noqa: PLC0415
    from cardioner.training.trainer import ModelTrainer  # noqa: PLC0415

    plan, recipe = job.plan, job.recipe
    trainer = ModelTrainer(
        label2id=plan.labels.label2id,
        use_crf=recipe.use_crf,
        classifier_hidden_layers=plan.hidden_layers if recipe.mlp else None,
        output_dir=job.directory,
        options=TrainingOptions(**plan.options, resume=job.resume, overwrite=job.overwrite, progress=progress),
        **plan.settings,
    )
    result = trainer.train(plan.train, None, plan.evaluation)
    on_gpu = trainer.model.device.type == "cuda"
    return Training(
        seconds=result.seconds,
        memory=peak_memory(),
        device_memory=torch.cuda.max_memory_allocated() if on_gpu else None,
        best_epoch=result.best_epoch,
    )


def peak_memory() -> int | None:
    """The most memory that this process has had so far, in bytes; `None` where the platform does not tell.

    The kernel's own mark is asked first: what `getrusage` tells counts, on Linux, the memory of the process that
    started this one.
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


def _tag(job: Job, progress: Callable[[str, int, int], None]) -> Tagged:
    """Tag the held-out notes with the saved model in every way that makes sense, by the clock."""
    from cardioner.prediction.predictor import Predictor  # noqa: PLC0415 - imports torch

    notes = list(job.plan.held_out)
    saved = Predictor.from_pretrained(job.directory, device=job.plan.options.get("device", "auto"))
    total = PASSES * len(job.recipe.decoders) * sum(len(document.text) for document in notes)
    found = Tagged({}, {}, 0)
    done = 0
    for decoder in job.recipe.decoders:
        predictor = Predictor(saved.model, saved.tokenizer, decoder=decoder)
        list(predictor.predict(notes[:_WARM_UP]))
        for _ in range(PASSES):
            tagged, speed = _timed(predictor, notes)
            done += sum(len(document.text) for document in notes)
            progress("measuring", done, total)
            found.speeds[decoder] = max(speed, found.speeds.get(decoder, 0.0))
        found.spans[decoder] = {document.id: document.spans for document in tagged}
    return found._replace(untagged=len(notes) - len(found.spans[job.recipe.decoders[0]]))


def _timed(predictor: Predictor, notes: Sequence[Document]) -> tuple[list[Document], float]:
    """The tagged notes, and how many sub-tokens a second it took."""
    began = time.perf_counter()
    predictions = predictor.predict(notes)
    tagged = list(predictions)
    return tagged, predictions.coverage.tokens / max(time.perf_counter() - began, 1e-9)
