"""Texts of requests that arrive together are tagged together, by one thread, in the order in which they came."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TypeAlias

from cardioner.multiclass.windows import READ_AHEAD, READ_AHEAD_CHARACTERS
from cardioner.prediction.predictions import TaggedNote
from cardioner.prediction.predictor import Predictor
from cardioner.server.limits import Limits
from cardioner.server.metrics import Metrics
from cardioner.server.models import ServedModel

Tagged: TypeAlias = tuple[ServedModel, list[TaggedNote]]
"""The model that tagged some texts, and what became of each."""

LARGEST_REQUESTS = 8
"""How many requests of the most characters may wait: what bounds the memory of a queue."""

_LONGEST_RETRY = 60
"""Seconds after which a client that was refused may ask again, at most."""


class QueueFullError(Exception):
    """There is no room for the texts of a request.

    Attributes:
        retry_after: Seconds after which there should be.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__("the queue is full")
        self.retry_after = retry_after


@dataclass(eq=False, slots=True)
class _Job:
    """The texts of one request, which are tagged together."""

    texts: Sequence[str]
    done: asyncio.Future[Tagged]
    arrived: float = field(default_factory=time.monotonic)

    @property
    def characters(self) -> int:
        return sum(map(len, self.texts))


class Batcher:
    """The queue of one model, and the task that empties it batch by batch.

    A batch is what waits when the thread is free, or what arrives within `Limits.wait_ms` of the first request. A
    request that is cancelled leaves the queue at once; one that is being tagged is tagged to the end.

    Args:
        model: The model. Another may take its place between two batches.
        executor: Runs one batch at a time; several models may share it.
        limits: How many texts may wait, and how long.
        metrics: Where to count.
        batch_tokens: As `Predictor.predict` takes it.
    """

    def __init__(
        self,
        model: ServedModel,
        executor: Executor,
        limits: Limits,
        metrics: Metrics,
        *,
        batch_tokens: int | None = None,
    ) -> None:
        self.model = model
        self._executor = executor
        self._limits = limits
        self._metrics = metrics
        self._batch_tokens = batch_tokens
        self._waiting: deque[_Job] = deque()
        self._arrived, self._room = asyncio.Event(), asyncio.Event()
        self._pace = 0.0  # characters a second

    @property
    def waiting(self) -> int:
        """How many texts wait."""
        return sum(len(job.texts) for job in self._waiting)

    async def tag(self, texts: Sequence[str]) -> Tagged:
        """Tag texts together with those of other requests.

        Returns:
            The model that tagged them, and what became of each.

        Raises:
            QueueFullError: If too many others wait.
        """
        if not self._has_room(texts):
            raise QueueFullError(self._retry_after())
        return await self._tagged(texts)

    async def tag_in_turn(self, texts: Sequence[str]) -> Tagged:
        """Likewise, but wait until there is room."""
        while not self._has_room(texts):
            self._room.clear()
            await self._room.wait()
        return await self._tagged(texts)

    async def run(self) -> None:
        """Tag whatever arrives, until cancelled."""
        while True:
            await self._arrived.wait()
            await self._wait_for_others()
            if batch := self._take():
                await self._tag(batch)

    def _has_room(self, texts: Sequence[str]) -> bool:
        characters = sum(job.characters for job in self._waiting) + sum(map(len, texts))
        fits = characters <= LARGEST_REQUESTS * self._limits.characters
        return fits and self.waiting + len(texts) <= self._limits.queue

    def _retry_after(self) -> int:
        """Seconds until what waits now should be tagged."""
        ahead = sum(job.characters for job in self._waiting)
        return min(_LONGEST_RETRY, max(1, math.ceil(ahead / self._pace))) if self._pace else 1

    async def _tagged(self, texts: Sequence[str]) -> Tagged:
        job = _Job(texts, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        self._changed()
        try:
            return await job.done
        finally:
            if job in self._waiting:  # cancelled before it was its turn
                self._waiting.remove(job)
                self._changed()

    def _changed(self) -> None:
        """Tell everyone who waits for texts or for room."""
        self._metrics.waiting.labels(self.model.name).set(self.waiting)
        self._room.set()
        if self._waiting:
            self._arrived.set()
        else:
            self._arrived.clear()

    async def _wait_for_others(self) -> None:
        """Let others join the request that came first, unless it waited long enough or a batch is full."""
        if 0 < self.waiting < READ_AHEAD:
            left = self._waiting[0].arrived + self._limits.wait_ms / 1000 - time.monotonic()
            await asyncio.sleep(max(0.0, left))

    def _take(self) -> list[_Job]:
        """The next jobs of the queue, as much as the predictor reads ahead; at least one, if there is any."""
        batch: list[_Job] = []
        texts = characters = 0
        while self._waiting and texts < READ_AHEAD and characters < READ_AHEAD_CHARACTERS:
            batch.append(self._waiting.popleft())
            texts += len(batch[-1].texts)
            characters += batch[-1].characters
        self._changed()
        return batch

    async def _tag(self, batch: list[_Job]) -> None:
        """Tag a batch in the thread, and hand each request its part."""
        model, began = self.model, time.monotonic()
        texts = [text for job in batch for text in job.texts]
        work = asyncio.get_running_loop().run_in_executor(
            self._executor, _tag_together, model.predictor, texts, self._batch_tokens
        )
        try:
            notes = await work
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            for job in batch:
                if not job.done.done():
                    job.done.set_exception(error)
            return
        self._pace = sum(map(len, texts)) / max(time.monotonic() - began, 1e-3)
        self._metrics.count(model.name, notes)
        rest = iter(notes)
        for job in batch:
            own = [next(rest) for _ in job.texts]
            if not job.done.done():
                job.done.set_result((model, own))


def _tag_together(predictor: Predictor, texts: Sequence[str], batch_tokens: int | None) -> list[TaggedNote]:
    predictions = predictor.predict(texts, batch_tokens=batch_tokens)
    return [note for group in predictions.groups() for note in group]
