"""The models in memory, their queues, and the thread that tags."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from starlette.requests import Request

from cardioner.errors import CardioNERError, listed, without_message
from cardioner.prediction.predictions import TaggedNote
from cardioner.server.batching import Batcher, QueueFullError, Tagged
from cardioner.server.limits import Limits
from cardioner.server.messages import Line, LineProblem, LineResult, Offsets, Result, SpanMessage
from cardioner.server.metrics import Metrics
from cardioner.server.models import ServedModel
from cardioner.server.offsets import utf16_offsets
from cardioner.server.problems import CLIENT_GONE, RefusedError

T = TypeVar("T")

log = logging.getLogger("cardioner.server")


class Service:
    """What the application answers requests with.

    Args:
        models: The models, the default one first.
        limits: What is accepted.
        load: Loads the same models again, for `reload`.
        batch_tokens: As `Predictor.predict` takes it.

    Attributes:
        limits: What is accepted.
        metrics: What is counted.
        ready: Whether requests are answered.
    """

    def __init__(
        self,
        models: Sequence[ServedModel],
        limits: Limits,
        *,
        load: Callable[[], Sequence[ServedModel]] | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        self.limits = limits
        self.metrics = Metrics()
        self.ready = False
        self._load = load or (lambda: models)
        self._reloading = asyncio.Lock()
        self._executor = ThreadPoolExecutor(1, "tagging")  # a model uses all cores by itself
        self._batchers = {
            model.name: Batcher(model, self._executor, limits, self.metrics, batch_tokens=batch_tokens)
            for model in models
        }

    @property
    def models(self) -> list[ServedModel]:
        """The models that are served now."""
        return [batcher.model for batcher in self._batchers.values()]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answer requests inside of the context; on leaving it, there should be none left."""
        tasks = [asyncio.create_task(batcher.run()) for batcher in self._batchers.values()]
        self.ready = True
        try:
            yield
        finally:
            self.ready = False
            for task in tasks:
                task.cancel()
            self._executor.shutdown()

    async def reload(self) -> None:
        """Load all models again, and serve the new ones if all of them verify; else go on with those in memory."""
        async with self._reloading:
            try:
                models = await asyncio.to_thread(self._load)
            except CardioNERError as error:
                log.error("the models are not reloaded, the earlier ones are still served: %s", error)
                outcome = "refused"
            except Exception as error:  # noqa: BLE001 - a server must survive whatever is in a directory
                log.error("the models are not reloaded, the earlier ones are still served: %s", without_message(error))
                outcome = "failed"
            else:
                for model in models:
                    self._batchers[model.name].model = model
                log.info("reloaded %s", ", ".join(f"{model.name} ({model.message.digest[:12]})" for model in models))
                outcome = "reloaded"
            self.metrics.reloads.labels(outcome).inc()

    def batcher(self, name: str | None) -> Batcher:
        """The queue of a model, by default of the first.

        Raises:
            RefusedError: If there is no such model.
        """
        chosen = next(iter(self._batchers)) if name is None else name
        if chosen not in self._batchers:
            raise RefusedError(404, f"there is no model of that name; the models are {listed(self._batchers)}")
        return self._batchers[chosen]

    async def tag(self, request: Request, texts: Sequence[str], name: str | None) -> Tagged:
        """Tag the texts of a request, as long as its client is there.

        Raises:
            RefusedError: If there are too many texts or characters, there is no room in the queue, a text cannot be
                tagged, or the client is gone.
        """
        self._check_size(texts)
        try:
            tagged = await self._unless_gone(request, self.batcher(name).tag(texts))
        except QueueFullError as full:
            self.metrics.refused.inc()
            wait = {"Retry-After": str(full.retry_after)}
            raise RefusedError(503, f"the queue is full: ask again in {full.retry_after} s", wait) from None
        for number, note in enumerate(tagged[1]):
            if note.problem:
                raise RefusedError(500, f"text {number} of {len(texts)}: {note.problem}")
        return tagged

    async def tag_in_turn(self, request: Request, texts: Sequence[str]) -> list[tuple[ServedModel, TaggedNote]]:
        """Tag any number of texts with the first model, a part after the other, as long as the client is there.

        Each part waits until there is room in the queue.

        Returns:
            For each text the model that tagged it, and what became of it.

        Raises:
            RefusedError: If a text has too many characters, or the client is gone.
        """
        batcher, found = self.batcher(None), []
        for part in self._parts(texts):
            model, notes = await self._unless_gone(request, batcher.tag_in_turn(part))
            found += [(model, note) for note in notes]
        return found

    def _parts(self, texts: Sequence[str]) -> Iterator[list[str]]:
        """The texts in parts that a request may have each."""
        part: list[str] = []
        for text in texts:
            self._check_size((text,))
            if part and (len(part) == self.limits.texts or sum(map(len, (*part, text))) > self.limits.characters):
                yield part
                part = []
            part.append(text)
        if part:
            yield part

    async def tag_line(self, line: Line, batcher: Batcher) -> TaggedNote:
        """Tag the text of a line of a stream, which waits for its turn."""
        self._check_size((line.text,))
        _, (note,) = await batcher.tag_in_turn((line.text,))
        return note

    def _check_size(self, texts: Sequence[str]) -> None:
        if len(texts) > self.limits.texts:
            raise RefusedError(413, f"expected at most {self.limits.texts} texts; found {len(texts)}")
        if (found := sum(map(len, texts))) > self.limits.characters:
            raise RefusedError(413, f"expected at most {self.limits.characters} characters; found {found}")

    async def _unless_gone(self, request: Request, work: Awaitable[T]) -> T:
        """Do some work for a request, and drop it if the client closes its connection meanwhile."""
        working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_leaves(request))
        try:
            await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
        finally:
            working.cancel()
            leaving.cancel()
        self.metrics.cancelled.inc()
        raise RefusedError(CLIENT_GONE, "the client closed its connection")


def service_of(request: Request) -> Service:
    """The service of the application that answers a request."""
    found = request.app.state.service
    assert isinstance(found, Service)
    return found


def result_of(note: TaggedNote, min_score: float, offsets: Offsets) -> Result:
    """The spans of a note as they are sent."""
    kept = [span for span in note.document.spans if span.score is None or span.score >= min_score]
    place = utf16_offsets(note.document.text) if offsets == "utf-16" else int
    spans = [
        SpanMessage(
            start=place(span.start),
            end=place(span.end),
            label=span.label,
            score=span.score,
            attributes=dict(span.attributes),
            attribute_scores=dict(span.attribute_scores),
        )
        for span in kept
    ]
    return Result(spans=spans, left_out=len(note.document.spans) - len(kept))


def line_result(number: int, line: Line, note: TaggedNote, found: Result) -> LineResult | LineProblem:
    """What is sent for a line of a stream."""
    if note.problem:
        return LineProblem(line=number, id=line.id, problem=note.problem)
    return LineResult(line=number, id=line.id, spans=found.spans, left_out=found.left_out)


async def _leaves(request: Request) -> None:
    """Wait until the client closes its connection; the body was read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
