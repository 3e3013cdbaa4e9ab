"""What the driver of a cluster tells its workers, and what each worker does with a record batch."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from cardioner import __version__
from cardioner.errors import ModelError, UsageError
from cardioner.prediction.directories import model_directories, models_digest
from cardioner.tables.columns import Columns
from cardioner.tables.tagging import above, exploded, tag_batch, tagged_schema

if TYPE_CHECKING:
    from cardioner.multiclass.windows import Coverage
    from cardioner.prediction.predictor import Predictor


@dataclass(frozen=True)
class TaggingJob:
    """How a cluster tags notes: plain values, which any engine can send to its workers.

    Attributes:
        models: Model directories, by paths that exist on every worker.
        digest: Of what decides what the models find; a worker with other files refuses.
        columns: Which columns are ids and notes, and which are kept.
        min_score: Spans with a lower score are left out.
        explode: Whether there is a row for each span in place of one for each note.
        engine: As `Predictor.from_pretrained` takes it, like those that follow.
        device: `auto` takes the GPU that the worker has.
        dtype: `auto` takes the fastest that the model allows on the worker.
        key: A public key: every model must be signed with its private key.
        batch_tokens: Most sub-tokens that are read at a time.
        decoder: `viterbi`, or `argmax` to ignore a CRF.
        vote: How several models decide, as `Predictor.from_pretrained` takes it.
        cache_mib: MiB of memory of each worker for windows that were read before.
        version: Of cardioner on the driver; a worker with another one refuses.
    """

    models: tuple[str, ...]
    digest: str
    columns: Columns
    min_score: float = 0.0
    explode: bool = False
    engine: str = "auto"
    device: str = "auto"
    dtype: str = "auto"
    key: str | None = None
    batch_tokens: int | None = None
    decoder: str = "viterbi"
    vote: str | None = None
    cache_mib: int = 0
    version: str = __version__

    @classmethod
    def of(  # noqa: PLR0913 - the settings of a job
        cls,
        model: str | Path | Sequence[str | Path],
        *,
        columns: Columns | None = None,
        min_score: float = 0.0,
        explode: bool = False,
        engine: str = "auto",
        device: str = "auto",
        dtype: str = "auto",
        key: str | Path | None = None,
        batch_tokens: int | None = None,
        decoder: str = "viterbi",
        vote: str | None = None,
        cache_mib: int = 0,
    ) -> TaggingJob:
        """The job of these models, whose files are read here, on the driver.

        Raises:
            UsageError: If the least score is no probability.
            ModelError: If there is no model.
        """
        if not 0 <= min_score <= 1:
            raise UsageError(f"min_score must be between 0 and 1; found {min_score}")
        directories = model_directories(model)
        for directory in directories:
            if not directory.is_dir():
                raise ModelError(f"{directory} does not exist: expected a model directory")
        return cls(
            tuple(str(directory.absolute()) for directory in directories),  # workers run in folders of their own
            models_digest(directories),
            columns or Columns(),
            min_score,
            explode,
            engine,
            device,
            dtype,
            None if key is None else str(Path(key).absolute()),
            batch_tokens,
            decoder,
            vote,
            cache_mib,
        )

    def schema(self, given: pa.Schema) -> pa.Schema:
        """The columns that rows of these columns become.

        Raises:
            DataError: If a column is not there, or ids or notes have another type.
        """
        schema = tagged_schema(given, self.columns)
        if not self.explode:
            return schema
        empty = pa.RecordBatch.from_arrays([pa.array([], kind) for kind in schema.types], schema=schema)
        return exploded(empty).schema

    def tag(
        self,
        batch: pa.RecordBatch,
        *,
        refused: Mapping[int, str] | None = None,
        advance: Callable[[Coverage], None] | None = None,
    ) -> pa.RecordBatch:
        """A batch as `tag_batch` tags it, with the models of this process, loaded by the first batch.

        Args:
            batch: Rows that have the columns.
            refused: Rows that are not to be tagged, and why.
            advance: Called with what is covered of this batch.

        Raises:
            UsageError: If this worker has another version of cardioner.
            ModelError: If its models are missing, or others.
            DataError: If a column is not there, or ids or notes have another type.
        """
        made = tag_batch(
            batch, load(self), self.columns, batch_tokens=self.batch_tokens, advance=advance, refused=refused
        )
        tagged = above(made, self.min_score)
        return exploded(tagged) if self.explode else tagged


@lru_cache(maxsize=1)
def load(job: TaggingJob) -> Predictor:
    """The models of a job in this process, loaded once, after every check that a model directory gets.

    Raises:
        UsageError: If this process has another version of cardioner.
        ModelError: If a directory is not here, is damaged, or is not that of the driver.
    """
    from cardioner.prediction.predictor import Predictor  # noqa: PLC0415 - the driver needs no torch

    here = f"the worker on {socket.gethostname()}"
    if job.version != __version__:
        raise UsageError(
            f"{here} has cardioner {__version__}, the driver {job.version}: install the same version everywhere"
        )
    places = [located(model, here) for model in job.models]
    if models_digest(places) != job.digest:
        raise ModelError(
            f"{here} finds other files in {', '.join(job.models)} than the driver: copy the same model there"
        )
    return Predictor.from_pretrained(
        places,
        engine=job.engine,
        device=job.device,
        dtype=job.dtype,
        key=None if job.key is None else Path(job.key),
        decoder=job.decoder,
        vote=job.vote,
        cache_mib=job.cache_mib,
    )


def located(model: str, here: str) -> Path:
    """Where a model is on this worker: at its path, or among the files that Spark sent along.

    Raises:
        ModelError: If it is at neither.
    """
    if (place := Path(model)).is_dir():
        return place
    with suppress(ModuleNotFoundError, AssertionError):  # the latter where pyspark is installed, and no Spark runs
        from pyspark import SparkFiles  # noqa: PLC0415 - an extra

        if (sent := Path(SparkFiles.getRootDirectory(), place.name)).is_dir():
            return sent
    raise ModelError(f"{here} has no {model}: put the model on storage that all workers see, or copy it to each")
