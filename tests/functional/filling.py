"""Fills a table of the database of the environment with a stand-in for a model: a program that may be killed."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import pyarrow as pa

from cardioner.data.documents import Document, Span
from cardioner.multiclass.windows import Coverage
from cardioner.prediction.predictions import Predictions
from cardioner.tables import sql_source
from cardioner.tables.columns import Columns
from cardioner.tables.database import connecting, database_url
from cardioner.tables.job import fill_table, tagging_here
from cardioner.tables.shape import AsTagged
from cardioner.tables.source import NoteBatch
from cardioner.tables.sql_sink import TableSink
from cardioner.tables.tagging import tag_batch

COLUMNS = Columns()
ROWS = 16


class FirstWord:
    """Marks the first word of each note, and says with a dot that it is at work."""

    def predict(self, documents: Any, *, batch_tokens: Any, advance: Any) -> Predictions:  # noqa: ARG002
        def find(group: list[Document], count: Any) -> list[Document]:
            os.write(1, b".")
            time.sleep(0.002)
            count(Coverage(len(group)))
            return [note.with_spans([Span(0, note.text.index(" "), "WORD", 0.5)]) for note in group]

        return Predictions(documents, find, advance)


def fill(target: str) -> None:
    """Tag the table `note` into another, behind what is there."""
    sql_source.ROWS = ROWS  # type: ignore[misc]
    finder: Any = FirstWord()

    def tag(batch: NoteBatch, advance: Any) -> pa.RecordBatch:
        return tag_batch(batch.rows, finder, COLUMNS, advance=advance, refused=batch.refused)

    with connecting(database_url(None)) as engine:
        source = sql_source.QueryNotes(engine, "SELECT note_id, note_text FROM note", COLUMNS)
        sink = TableSink(engine, target)
        sink.begin({"model": "first word"}, resume=True, overwrite=False)
        fill_table(source, sink, tagging_here(tag), AsTagged(), advance=lambda _: None)


if __name__ == "__main__":  # for each name of a table that comes in, a process that has everything imported
    for line in sys.stdin:
        if pid := os.fork():
            print(pid, flush=True)  # noqa: T201
            print(f"!{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}", flush=True)  # noqa: T201
        else:
            fill(line.strip())
            os._exit(0)
