"""Ray for `cardioner predict`: the driver reads and writes as on one machine, and actors tag the batches."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple

from cardioner.distributed.job import TaggingJob, load
from cardioner.distributed.ray import connect, nodes, workers_that_fit
from cardioner.errors import CardioNERError, many
from cardioner.multiclass.windows import Coverage
from cardioner.prediction.computing import computed_in
from cardioner.tables.job import TaggedBatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa

    from cardioner.tables.job import Advance
    from cardioner.tables.source import NoteBatch

_AHEAD = 3
"""Batches that each actor has, so that it need not wait for the driver."""
_RETRIES = 3
"""How often Ray gives a batch to an actor again that died with it."""
_LOOK = 60
"""Seconds without a batch after which it is seen whether the cluster still has room for all actors."""


@dataclass(frozen=True)
class PoolOptions:
    """How many actors a cluster gets, and how large they are.

    Attributes:
        address: Of the cluster, as `connect` takes it.
        workers: Actors; `None` for as many as there is room for.
        cpus: CPUs of each, which torch then uses.
        gpus: GPUs of each; a fraction lets several share one.
    """

    address: str | None = None
    workers: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0

    def count(self) -> int:
        """How many actors there are to be.

        Raises:
            UsageError: If the cluster has no room for them, where Ray would wait for ever.
        """
        return workers_that_fit(nodes(), self.workers, self.cpus, self.gpus, others=0)


class Loaded(NamedTuple):
    """What an actor says once it has loaded the models: their entity types, and what it computes with."""

    labels: tuple[str, ...]
    computed: str


class Actor:
    """What loads the models of a job, and tags its batches, in a process of a cluster."""

    def load(self, job: TaggingJob) -> Loaded:
        """Load the models."""
        predictor = load(job)
        return Loaded(tuple(predictor.labels), computed_in(predictor))

    def tag(self, job: TaggingJob, rows: pa.RecordBatch, refused: Mapping[int, str]) -> tuple[pa.RecordBatch, Coverage]:
        """A tagged batch, and what it came to."""
        covered = [Coverage()]
        return job.tag(rows, refused=refused, advance=covered.append), covered[-1]


@dataclass
class RayPool:
    """Actors of a cluster that have loaded the models of a job.

    Attributes:
        job: What they do.
        options: How many they are.
        loaded: What each of them says.
    """

    job: TaggingJob
    options: PoolOptions
    loaded: list[Loaded] = field(default_factory=list)
    _actors: list[Any] = field(default_factory=list)

    @property
    def computed(self) -> str:
        """What they compute in, on what, and with what."""
        return " and ".join(sorted({one.computed for one in self.loaded}))

    def start(self) -> None:
        """Start the actors, and have them load the models.

        Raises:
            UsageError: If the cluster has no room for them, or one has another version of cardioner.
            ModelError: If one has other models, or none.
        """
        import ray  # noqa: PLC0415 - an extra

        make = ray.remote(Actor).options(
            num_cpus=self.options.cpus,
            num_gpus=self.options.gpus,
            max_restarts=-1,
            max_task_retries=_RETRIES,
            scheduling_strategy="SPREAD",
        )
        self._actors = [make.remote() for _ in range(self.options.count())]
        self.loaded = [self._result(answer) for answer in [actor.load.remote(self.job) for actor in self._actors]]

    def tag(self, batches: Iterator[NoteBatch], advance: Advance) -> Iterator[TaggedBatch]:  # noqa: ARG002 - a `Tag`
        """Tag batches in turn on all actors; they come out in their order.

        Raises:
            CardioNERError: If actors die again and again, or there is no more room for them.
        """
        waiting: deque[tuple[NoteBatch, Any]] = deque()
        for batch, actor in zip(batches, cycle(self._actors), strict=False):
            waiting.append((batch, actor.tag.remote(self.job, batch.rows, dict(batch.refused))))
            if len(waiting) > _AHEAD * len(self._actors):
                yield self._finished(*waiting.popleft())
        while waiting:
            yield self._finished(*waiting.popleft())

    def _finished(self, batch: NoteBatch, answer: Any) -> TaggedBatch:
        return TaggedBatch(batch, *self._result(answer))

    def _result(self, answer: Any) -> Any:
        """What an actor answers, as soon as it does."""
        import ray  # noqa: PLC0415 - an extra

        with _reporting():
            while not ray.wait([answer], timeout=_LOOK)[0]:
                replace(self.options, workers=len(self._actors)).count()  # a node may be gone
            return ray.get(answer)


@contextmanager
def ray_pool(job: TaggingJob, options: PoolOptions) -> Iterator[RayPool]:
    """The actors of a job, not yet started; they end with the block, as does what connects to the cluster.

    Raises:
        UsageError: If there is no such cluster.
    """
    import ray  # noqa: PLC0415 - an extra

    connect(options.address)
    try:
        yield RayPool(job, options)
    finally:
        ray.shutdown()


@contextmanager
def _reporting() -> Iterator[None]:
    """Turn what went wrong on a worker into one line; messages of libraries may quote notes."""
    from ray.exceptions import RayError, RayTaskError  # noqa: PLC0415 - an extra

    try:
        yield
    except RayTaskError as error:
        if isinstance(error.cause, CardioNERError):
            raise error.cause from None
        raise CardioNERError(f"a worker failed ({type(error.cause).__name__})") from None
    except RayError as error:
        raise CardioNERError(
            f"a worker was lost {many(_RETRIES + 1, 'time')} with the same batch, or could not start "
            f"({type(error).__name__}): see that each node has memory for its workers, and the same versions of "
            "Python, Ray and cardioner"
        ) from None
