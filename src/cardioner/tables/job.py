"""Tag a table so that an interrupted run can be resumed: what is finished is in a log, batch by batch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from cardioner.errors import DataError, OutputError
from cardioner.multiclass.windows import Coverage
from cardioner.prediction.run_log import RunLog
from cardioner.tables.source import CHANGED, content_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cardioner.tables.source import NoteBatch, Source


class Tagged(NamedTuple):
    """A batch of notes, and what `tag_batch` made of it."""

    notes: pa.RecordBatch
    tagged: pa.RecordBatch


class BatchLog(RunLog):
    """The tagged batches of a run: what the output will hold, and for each a digest of its notes.

    Attributes:
        finished: How many batches are finished.
        coverage: What they came to.
    """

    coverage = Coverage()

    def append(self, digest: str, tagged: pa.RecordBatch, coverage: Coverage) -> None:
        """Add a batch; it is on the disk when this returns.

        Args:
            digest: Of its notes.
            tagged: What became of them.
            coverage: What this and all batches before came to.

        Raises:
            OutputError: If it cannot be written.
        """
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, tagged.schema) as writer:
            writer.write_batch(tagged)
        header = json.dumps({"digest": digest, "coverage": coverage}).encode()
        self._add([header + b"\n" + sink.getvalue().to_pybytes()])
        self.coverage = coverage

    def entries(self) -> Iterator[tuple[str, pa.RecordBatch]]:
        """The digests and the tagged batches, in order."""
        for content in self._contents():
            header, _, held = content.partition(b"\n")
            try:
                yield json.loads(header)["digest"], pa.ipc.open_stream(held).read_next_batch()
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


def tag_table(
    source: Source,
    log: BatchLog,
    tag: Callable[[NoteBatch, Callable[[Coverage], None]], pa.RecordBatch],
    *,
    advance: Callable[[Coverage], None],
) -> Iterator[Tagged]:
    """Every batch of a source, tagged; each is put into the log before it comes.

    Args:
        source: All notes, the finished ones first and unchanged.
        log: Where the finished ones are.
        tag: Tags a batch that is not finished, and calls the function with what is covered of it.
        advance: Called with what is covered, finished batches of earlier runs included.

    Raises:
        DataError: If finished notes have changed.
        OutputError: If the log cannot be written.
    """
    batches = source.batches()
    for digest, tagged in log.entries():
        batch = next(batches, None)
        if batch is None or log.digest(content_of(batch, source.columns)) != digest:
            raise DataError(CHANGED)
        yield Tagged(batch.rows, tagged)
    for batch in batches:
        made, coverage = covering(batch, tag, log.coverage, advance)
        log.append(log.digest(content_of(batch, source.columns)), made, coverage)
        yield Tagged(batch.rows, made)


def covering(
    batch: NoteBatch,
    tag: Callable[[NoteBatch, Callable[[Coverage], None]], pa.RecordBatch],
    before: Coverage,
    advance: Callable[[Coverage], None],
) -> tuple[pa.RecordBatch, Coverage]:
    """A tagged batch, and what all up to it came to."""
    covered = [before]

    def count(coverage: Coverage) -> None:
        covered.append(before.plus(coverage))
        advance(covered[-1])

    made = tag(batch, count)
    return made, covered[-1]
