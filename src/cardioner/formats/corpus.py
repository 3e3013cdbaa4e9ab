"""What a reader hands over: the documents, and remarks on what it set aside."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cardioner.errors import DataError, FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cardioner.documents import Document

_PROBLEMS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Remark:
    """Something a reader met and did not turn into a span.

    Attributes:
        kind: What it is, such as `R lines`.
        count: How many of them there are.
        where: The first of them: a file, or a file and its line.
    """

    kind: str
    count: int
    where: str


@dataclass(frozen=True, slots=True)
class Corpus:
    """The documents of a folder or a file.

    Attributes:
        documents: The notes, sorted by id.
        remarks: What was set aside, one for each kind, sorted by kind.
    """

    documents: tuple[Document, ...]
    remarks: tuple[Remark, ...] = ()


@dataclass(slots=True)
class Tally:
    """Counts what a reader sets aside while it reads."""

    _seen: dict[str, Remark] = field(default_factory=dict)

    def add(self, kind: str, where: str) -> None:
        """Count one more of a kind; the first place is remembered."""
        first = self._seen.get(kind, Remark(kind, 0, where))
        self._seen[kind] = Remark(kind, first.count + 1, first.where)

    def remarks(self) -> tuple[Remark, ...]:
        """One remark for each kind, sorted by kind."""
        return tuple(self._seen[kind] for kind in sorted(self._seen))


@dataclass(slots=True)
class Problems:
    """Gathers what is wrong with a corpus, so that it takes one round to mend it."""

    _errors: list[DataError] = field(default_factory=list)

    @contextmanager
    def gathered(self, path: Path | None = None, line: int = 0) -> Iterator[None]:
        """Keep a `DataError` raised inside for later; with a path and a line, as a `FormatError` there."""
        try:
            yield
        except DataError as error:
            self._errors.append(FormatError(path, line, str(error)) if path else error)

    def raise_together(self) -> None:
        """Raise what was gathered.

        Raises:
            DataError: The only problem as it is, or one that lists the first of several; nothing if there is none.
        """
        if not self._errors:
            return
        if len(self._errors) == 1:
            raise self._errors[0]
        lines = [str(error) for error in self._errors[:_PROBLEMS_SHOWN]]
        if len(self._errors) > _PROBLEMS_SHOWN:
            lines.append(f"and {len(self._errors) - _PROBLEMS_SHOWN} more")
        raise DataError(f"{len(self._errors)} problems in the corpus:\n" + "\n".join(lines))
