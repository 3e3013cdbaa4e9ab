"""What tags the notes of tables for `cardioner predict`: this process, or a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cardioner.cli.tagging import load_predictor, request_of, tell_of_manifests
from cardioner.errors import many
from cardioner.prediction.computing import computed_in
from cardioner.tables.job import Tag, tagging_here
from cardioner.tables.tagging import tag_batch

if TYPE_CHECKING:
    import pyarrow as pa

    from cardioner.cli.console import Stages
    from cardioner.cli.table_request import Request
    from cardioner.distributed.job import TaggingJob
    from cardioner.multiclass.windows import Coverage
    from cardioner.tables.source import NoteBatch


@dataclass(frozen=True)
class Tagging:
    """Loaded models.

    Attributes:
        tag: Tags batches with them.
        asked: All that decides what is found.
        labels: The entity types that they find.
        computed: What they compute in, on what, and with what.
    """

    tag: Tag
    asked: Mapping[str, Any]
    labels: Sequence[str]
    computed: str


@contextmanager
def tagging(request: Request, stages: Stages) -> Iterator[Tagging]:
    """The models of a request, loaded here or on its cluster.

    Raises:
        UsageError: If there is no such cluster, or no room on it.
        ModelError: If a model is missing, damaged, or another on a worker.
    """
    if request.cluster.cluster is None:
        yield _here(request, stages)
        return
    from cardioner.distributed.ray_pool import PoolOptions, ray_pool  # noqa: PLC0415 - an extra

    named, job = request.cluster, _job(request)
    tell_of_manifests(request.models)
    options = PoolOptions(named.address, named.workers, named.cpus_per_worker or 1.0, named.gpus_per_worker or 0.0)
    with ray_pool(job, options) as pool:
        with stages.busy("loading the model on the cluster"):
            pool.start()
        labels = pool.loaded[0].labels
        yield Tagging(
            pool.tag,
            _asked(job, request.options.min_score),
            labels,
            f"{pool.computed}, by {many(len(pool.loaded), 'worker')} of Ray",
        )


def _here(request: Request, stages: Stages) -> Tagging:
    predictor, batch_tokens = load_predictor(request.models, request.options, stages)

    def tag(batch: NoteBatch, advance: Callable[[Coverage], None]) -> pa.RecordBatch:
        return tag_batch(
            batch.rows,
            predictor,
            request.columns,
            batch_tokens=batch_tokens,
            advance=advance,
            refused=batch.refused,
        )

    asked = request_of(predictor, request.models, request.options, batch_tokens)
    return Tagging(tagging_here(tag), asked, predictor.labels, computed_in(predictor))


def _job(request: Request) -> TaggingJob:
    """What workers are to do; scores are filtered and rows are made here, as the log of the run has all spans."""
    from cardioner.distributed.job import TaggingJob  # noqa: PLC0415 - an extra

    options = request.options
    return TaggingJob.of(
        request.models,
        columns=request.columns,
        engine=options.engine,
        device=options.device,
        dtype=options.dtype,
        key=options.key,
        batch_tokens=options.batch_tokens,
        decoder=options.decode,
        vote=options.vote,
        cache_mib=options.cache,
    )


def _asked(job: TaggingJob, min_score: float) -> dict[str, Any]:
    """All that decides what is found: in place of what a worker chooses, what it chooses from."""
    return {
        "version": job.version,
        "model": job.digest,
        "decoder": job.decoder,
        "engine": job.engine,
        "device": job.device,
        "dtype": job.dtype,
        "cache": job.cache_mib > 0,
        "batch size": job.batch_tokens,
        "minimum score": min_score,
        "combination of models": job.vote,
        "cluster": "ray",
    }
