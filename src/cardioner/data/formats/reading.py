"""How a corpus is to be read, and what was left out or repaired."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cardioner.data.corpus import IssueCounter, ReadReport
from cardioner.errors import DataError, FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

MALFORMED = "malformed, skipped"
"""The kind of issue under which malformed files, lines and documents are counted."""

_PROBLEMS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How corpora are to be read.

    Attributes:
        format: A name in `READERS`; `None` finds it by the content.
        encoding: Of every file. A BOM is a character like any other.
        texts: The folder of the notes, for a format whose file holds only spans.
        on_error: `stop` refuses a corpus with problems and names them together; `skip` leaves out what is malformed.
        require_annotations: Whether to refuse a note without annotations, as training and gold data need.
        texts_only: Whether annotations do not matter, as the notes are to be tagged.
    """

    format: str | None = None
    encoding: str = "utf-8"
    texts: Path | None = None
    on_error: Literal["stop", "skip"] = "stop"
    require_annotations: bool = False
    texts_only: bool = False


@dataclass(slots=True)
class Reading:
    """One reading of a corpus: its options, and what has come up so far.

    Attributes:
        options: How to read.
    """

    options: ReadOptions = field(default_factory=ReadOptions)
    _counter: IssueCounter = field(default_factory=IssueCounter)
    _problems: list[DataError] = field(default_factory=list)
    _problem_count: int = 0

    def add_issue(self, kind: str, where: Path | str, line: int = 0, *, count: int = 1) -> None:
        """Count something that was left out or repaired."""
        self._counter.add(kind, f"{where}:{line}" if line else str(where), count)

    @contextmanager
    def guarded(self, path: Path, line: int = 0) -> Iterator[None]:
        """Collect a `DataError` raised inside, so that all problems of a corpus are reported together.

        An error that does not name its place yet gets it: with a line it becomes a `FormatError`.
        """
        try:
            yield
        except DataError as error:
            placed = FormatError(path, line, str(error)) if line and not isinstance(error, FormatError) else error
            if self.options.on_error == "skip":
                self.add_issue(MALFORMED, path, line)
            self._problem_count += 1
            if len(self._problems) < _PROBLEMS_SHOWN:
                self._problems.append(placed)

    @property
    def report(self) -> ReadReport:
        """What has come up so far."""
        return ReadReport(self._counter.issues, self._problem_count, tuple(map(str, self._problems)))

    def finish(self) -> None:
        """Raise the collected problems, unless they are to be skipped.

        Raises:
            DataError: The only problem as it is, or one that lists the first of several.
        """
        if not self._problem_count or self.options.on_error == "skip":
            return
        if self._problem_count == 1:
            raise self._problems[0]
        lines = [str(error) for error in self._problems]
        if self._problem_count > len(lines):
            lines.append(f"and {self._problem_count - len(lines)} more")
        raise DataError(f"{self._problem_count} problems in the corpus:\n" + "\n".join(lines))
