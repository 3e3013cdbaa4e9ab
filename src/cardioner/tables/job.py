"""Tag a table so that an interrupted run can be resumed: what is finished is in a log, batch by batch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timezone
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from cardioner.errors import DataError, OutputError
from cardioner.multiclass.windows import Coverage
from cardioner.prediction.run_log import RunLog
from cardioner.tables.source import CHANGED, NoteBatch, Tagged, content_of

if TYPE_CHECKING:
    from cardioner.tables.source import Source
    from cardioner.tables.sql_sink import TableSink


Advance = Callable[[Coverage], None]


class TaggedBatch(NamedTuple):
    """Notes, what `tag_batch` made of them, and what that came to."""

    notes: NoteBatch
    tagged: pa.RecordBatch
    coverage: Coverage


Tag = Callable[[Iterator[NoteBatch], Advance], Iterator[TaggedBatch]]
"""Tags batches, in order; calls the function with what is covered behind the last one that came out."""


class BatchLog(RunLog):
    """The tagged batches of a run: what the output will hold, and for each a digest of its notes.

    Attributes:
        finished: How many batches are finished.
        coverage: What they came to.
    """

    coverage = Coverage()

    def append(self, digest: str, tagged: pa.RecordBatch, when: datetime, coverage: Coverage) -> None:
        """Add a batch; it is on the disk when this returns.

        Args:
            digest: Of its notes.
            tagged: What became of them.
            when: It was tagged.
            coverage: What this and all batches before came to.

        Raises:
            OutputError: If it cannot be written.
        """
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, tagged.schema) as writer:
            writer.write_batch(tagged)
        header = json.dumps({"digest": digest, "when": when.isoformat(), "coverage": coverage}).encode()
        self._add([header + b"\n" + sink.getvalue().to_pybytes()])
        self.coverage = coverage

    def entries(self) -> Iterator[tuple[str, pa.RecordBatch, datetime]]:
        """The digests, the tagged batches and when they were tagged, in order."""
        for content in self._contents():
            header, _, held = content.partition(b"\n")
            try:
                facts = json.loads(header)
                when = datetime.fromisoformat(facts["when"])
                yield facts["digest"], pa.ipc.open_stream(held).read_next_batch(), when
            except (pa.ArrowException, ValueError, KeyError) as error:
                raise OutputError(f"{self.path} is damaged: start again with --overwrite") from error

    def _take(self, content: bytes) -> bool:
        try:
            self.coverage = Coverage(*json.loads(content.partition(b"\n")[0])["coverage"])
        except (KeyError, TypeError) as error:
            raise ValueError("not a row of this log") from error
        return True

    def _described(self, number: int, _: object) -> str:
        return f"batch {number} is damaged: it and those after it are tagged again"


def tagging_here(tag: Callable[[NoteBatch, Advance], pa.RecordBatch]) -> Tag:
    """What tags one batch after the other in this process.

    Args:
        tag: Tags a batch, and calls the function with what is covered of it.
    """

    def tag_each(batches: Iterator[NoteBatch], advance: Advance) -> Iterator[TaggedBatch]:
        for batch in batches:
            covered = [Coverage()]

            def count(coverage: Coverage, covered: list[Coverage] = covered) -> None:
                covered.append(coverage)
                advance(coverage)

            yield TaggedBatch(batch, tag(batch, count), covered[-1])

    return tag_each


def tag_table(source: Source, log: BatchLog, tag: Tag, *, advance: Advance) -> Iterator[Tagged]:
    """Every batch of a source, tagged; each is put into the log before it comes.

    Args:
        source: All notes, the finished ones first and unchanged.
        log: Where the finished ones are.
        tag: Tags the batches that are not finished.
        advance: Called with what is covered, finished batches of earlier runs included.

    Raises:
        DataError: If finished notes have changed.
        OutputError: If the log cannot be written.
    """
    with closing(source.batches()) as batches:
        for digest, tagged, when in log.entries():
            batch = next(batches, None)
            if batch is None or log.digest(content_of(batch, source.columns)) != digest:
                raise DataError(CHANGED)
            yield Tagged(batch.rows, tagged, when)
        for batch, made, coverage in _tagged(batches, tag, log.coverage, advance):
            log.append(log.digest(content_of(batch, source.columns)), made.tagged, made.when, coverage)
            yield made


def fill_table(
    source: Source,
    sink: TableSink,
    tag: Tag,
    shape: Callable[[Tagged], pa.RecordBatch],
    *,
    advance: Advance,
) -> None:
    """Tag what a table of a database lacks, and write it, each batch in one transaction.

    Args:
        source: All notes.
        sink: The table, and how far it is.
        tag: Tags the batches.
        shape: The rows that are written for it.
        advance: As for `tag_table`.

    Raises:
        DataError: If the notes cannot be read, or the database cannot be written.
        OutputError: If another run fills the table.
    """
    with closing(source.batches(sink.position)) as batches:
        for batch, made, coverage in _tagged(batches, tag, sink.coverage, advance):
            ids = batch.rows.column(source.columns.id).to_pylist()
            sink.append(shape(made), ids, batch.position, coverage)


def _tagged(
    batches: Iterator[NoteBatch], tag: Tag, before: Coverage, advance: Advance
) -> Iterator[tuple[NoteBatch, Tagged, Coverage]]:
    """Each batch, what became of it, and what all up to it came to."""
    covered = [before]
    for batch, tagged, coverage in tag(batches, lambda part: advance(covered[0].plus(part))):
        covered[0] = covered[0].plus(coverage)
        advance(covered[0])
        when = datetime.now(timezone.utc).replace(microsecond=0)
        yield batch, Tagged(batch.rows, tagged, when), covered[0]
