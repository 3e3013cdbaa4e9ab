"""The resume log of a batch job: which notes are finished and what was found in them, so that none is tagged twice.

No text is in it: a note is recognised by its id and a digest under the key of the log.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from cardioner.data.documents import Span
from cardioner.errors import CardioNERError
from cardioner.multiclass.windows import Coverage
from cardioner.prediction.run_log import RunLog

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MOST_COVERED = 1 << 63


class Entry(NamedTuple):
    """A finished note.

    Attributes:
        id: Its id.
        digest: What `ResumeLog.digest` gives for its text.
        spans: What was found in it.
        problem: Why it could not be tagged; empty if it could.
    """

    id: str
    digest: str
    spans: tuple[Span, ...] = ()
    problem: str = ""


class ResumeLog(RunLog):
    """A resume log that is open for more entries; no other run can open it meanwhile.

    Attributes:
        finished: How many notes are finished.
        coverage: What they came to in all, as numbers that the caller counts; empty if there are none.
    """

    coverage: tuple[int, ...] = ()

    def append(self, entries: Sequence[Entry], coverage: Sequence[int]) -> None:
        """Add the notes of a group; they are on the disk when this returns.

        Args:
            entries: The notes, in order.
            coverage: What these and all notes before them came to; becomes `ResumeLog.coverage`.

        Raises:
            OutputError: If they cannot be written.
        """
        rows = [{**entry._asdict(), "spans": list(map(_values, entry.spans))} for entry in entries]
        if rows:
            rows[-1]["coverage"] = list(coverage)
        self._add([json.dumps(row).encode() for row in rows])
        self.coverage = tuple(coverage)

    def entries(self) -> Iterator[Entry]:
        """The finished notes in order, one at a time."""
        for content in self._contents():
            yield _read_row(content)[0]

    def _take(self, content: bytes) -> bool:
        _, coverage = _read_row(content)
        self.coverage = coverage or self.coverage
        return bool(coverage)

    def _described(self, number: int, content: object) -> str:
        again = f"note {self.finished + 1} and those after it are tagged again"
        return f"the row of {_name_of(number, content)} is damaged: {again}"


def _values(span: Span) -> list[Any]:
    """What a row holds of a span; earlier releases, which knew no attributes, wrote and read the first four."""
    said = [dict(span.attributes), dict(span.attribute_scores)]
    return [span.start, span.end, span.label, span.score, *(said if any(said) else ())]


def _span(start: int, end: int, label: str, score: float | None, *said: dict[str, Any]) -> Span:
    return Span(start, end, label, score, (), *said)


def _read_row(content: bytes) -> tuple[Entry, tuple[int, ...]]:
    """A finished note, and what the notes up to it came to; that is empty within a group.

    Raises:
        ValueError: If `ResumeLog.append` never wrote that.
    """
    try:
        row = json.loads(content)
        entry = Entry(row["id"], row["digest"], tuple(_span(*values) for values in row["spans"]), row["problem"])
        coverage = Coverage(*row["coverage"]) if "coverage" in row else ()
    except (AttributeError, KeyError, TypeError, RecursionError, CardioNERError) as error:
        raise ValueError("not a row of a resume log") from error
    texts, scores = (entry.id, entry.digest, entry.problem), [span.score for span in entry.spans]
    scores += [score for span in entry.spans for score in span.attribute_scores.values()]
    sound = all(isinstance(text, str) for text in texts)
    sound &= all(score is None or (type(score) is float and 0 <= score <= 1) for score in scores)
    sound &= all(type(count) is int and 0 <= count < _MOST_COVERED for count in coverage)
    said = [span.label for span in entry.spans]
    said += [name for span in entry.spans for name in (*span.attributes, *span.attribute_scores)]
    if not sound or not all(text.isprintable() for text in (entry.problem, *said)):
        raise ValueError("not a row of a resume log")
    return entry, coverage


def _name_of(number: int, content: object) -> str:
    """A note by its number and, where a damaged row still says it, its id."""
    try:
        return f"note {number} ({json.loads(content)['id']!r})"  # type: ignore[arg-type]  # refused below
    except (KeyError, TypeError, ValueError, RecursionError):
        return f"note {number}"
