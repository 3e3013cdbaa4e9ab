"""What a reader is told, what it hands over, and where it reports what it set aside."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cardioner.errors import DataError, FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cardioner.data.documents import Document

_PROBLEMS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Remark:
    """Something a reader or a writer met and set aside.

    Attributes:
        kind: What it is, such as `R lines`.
        count: How many of them there are.
        where: The first of them: a file, a file and its line, or a document.
    """

    kind: str
    count: int
    where: str


@dataclass(frozen=True, slots=True)
class Corpus:
    """The documents of a folder or a file.

    Attributes:
        documents: The notes; of brat folders sorted by id, else in the order of the file.
        remarks: What was set aside, one for each kind, sorted by kind.
    """

    documents: tuple[Document, ...]
    remarks: tuple[Remark, ...] = ()


@dataclass(slots=True)
class Tally:
    """Counts what is set aside."""

    _seen: dict[str, Remark] = field(default_factory=dict)

    def add(self, kind: str, where: str, count: int = 1) -> None:
        """Count more of a kind; the first place is remembered."""
        first = self._seen.get(kind, Remark(kind, 0, where))
        self._seen[kind] = Remark(kind, first.count + count, first.where)

    def remarks(self) -> tuple[Remark, ...]:
        """One remark for each kind, sorted by kind."""
        return tuple(self._seen[kind] for kind in sorted(self._seen))


@dataclass(slots=True)
class Reading:
    """One reading of a corpus: the caller's wishes, and what has been met so far.

    Attributes:
        encoding: Of every file; UTF-8 unless another is named. A BOM is a character like any other.
        require_annotations: Whether to refuse a note without annotations, as training and gold data need.
        texts: The folder of the notes, for a format whose file holds spans alone.
        on_error: `stop` refuses a corpus with problems and names them together; `skip` leaves out what is malformed.
        tally: What was set aside.
    """

    encoding: str = "utf-8"
    require_annotations: bool = False
    texts: Path | None = None
    on_error: Literal["stop", "skip"] = "stop"
    tally: Tally = field(default_factory=Tally)
    _problems: list[DataError] = field(default_factory=list)
    _problem_count: int = 0

    def aside(self, kind: str, where: Path | str, line: int = 0) -> None:
        """Count something that becomes no span."""
        self.tally.add(kind, f"{where}:{line}" if line else str(where))

    @contextmanager
    def guarded(self, path: Path, line: int = 0) -> Iterator[None]:
        """Keep a `DataError` raised inside for the end, so that it takes one round to mend a corpus.

        An error that does not name its place yet gets it: with a line it becomes a `FormatError`.
        """
        try:
            yield
        except DataError as error:
            placed = FormatError(path, line, str(error)) if line and not isinstance(error, FormatError) else error
            if self.on_error == "skip":
                self.tally.add("malformed, skipped", f"{path}:{line}" if line else str(path))
            self._problem_count += 1
            if len(self._problems) < _PROBLEMS_SHOWN:
                self._problems.append(placed)

    @property
    def problems(self) -> tuple[str, ...]:
        """The first problems, file and line each."""
        return tuple(str(error) for error in self._problems)

    def finish(self) -> None:
        """Raise what was gathered, unless it is to be skipped.

        Raises:
            DataError: The only problem as it is, or one that lists the first of several.
        """
        if not self._problem_count or self.on_error == "skip":
            return
        if self._problem_count == 1:
            raise self._problems[0]
        lines = [str(error) for error in self._problems]
        if self._problem_count > len(lines):
            lines.append(f"and {self._problem_count - len(lines)} more")
        raise DataError(f"{self._problem_count} problems in the corpus:\n" + "\n".join(lines))
