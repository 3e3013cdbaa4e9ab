"""Spark: a function for `DataFrame.mapInArrow`; each Python worker process loads the model once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cardioner.distributed.job import TaggingJob
from cardioner.tables.source import ROWS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa


@dataclass(frozen=True)
class SparkTagger:
    """Tags the notes of a DataFrame: `notes.mapInArrow(tagger, tagger.schema(notes))`.

    Attributes:
        job: What is sent to the workers.
    """

    job: TaggingJob

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows of batches with the spans of their notes, some at a time, as Spark's batches may be large."""
        for batch in batches:
            for start in range(0, batch.num_rows, ROWS):
                yield self.job.tag(batch.slice(start, ROWS))

    def schema(self, notes: Any) -> Any:
        """The schema of the tagged rows, as `mapInArrow` takes it.

        Args:
            notes: The DataFrame.

        Raises:
            DataError: If a column is not there, or ids or notes have another type.
        """
        from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema  # noqa: PLC0415 - an extra

        return from_arrow_schema(self.job.schema(to_arrow_schema(notes.schema)))

    def tag(self, notes: Any) -> Any:
        """The DataFrame of the tagged rows; nothing is computed before it is consumed."""
        return notes.mapInArrow(self, self.schema(notes))


def spark_tagger(model: str | Path | Sequence[str | Path], **settings: Any) -> SparkTagger:
    """What tags the notes of DataFrames with models.

    The models lie at the same paths on all workers, or were sent along with `SparkContext.addFile(path,
    recursive=True)`.

    Args:
        model: Model directories.
        settings: As `TaggingJob.of` takes them.

    Raises:
        UsageError: If a setting cannot be.
        ModelError: If there is no model.
    """
    return SparkTagger(TaggingJob.of(model, **settings))
