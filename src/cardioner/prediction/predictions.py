"""Notes as callers give them, and the tagged notes that they get back one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from pathlib import PurePath
from typing import Any, NamedTuple

from cardioner._progress import Progress, ProgressOption, showing, silent
from cardioner.data.documents import Document, check_unique
from cardioner.errors import UsageError, many
from cardioner.multiclass.windows import Coverage, apart, in_groups, reason_of

Advance = Callable[[Coverage], None]
"""Called with what is covered."""

TagGroup = Callable[[list[Document], Advance], list[Document]]
"""Tags notes together; reports what each batch adds to what is covered."""


class TaggedNote(NamedTuple):
    """What became of a note.

    Attributes:
        document: The note with the spans that were found, or as it was if it could not be tagged.
        problem: Why it could not be tagged, without a word of the text; empty if it could.
    """

    document: Document
    problem: str = ""


class Predictions:
    """An iterator over tagged notes in the order of the input; each group is tagged when it is asked for.

    A note that cannot be tagged is left out, and the others go on.

    Attributes:
        coverage: What has been read so far; for several members, the windows and sub-tokens of all.
    """

    def __init__(
        self,
        documents: Iterable[Document],
        tag: TagGroup,
        advance: Advance | None,
        *,
        progress: ProgressOption = None,
        total: int | None = None,
    ) -> None:
        self.coverage = Coverage()
        self._tag = tag
        self._advance = advance
        self._report: Progress = silent
        self._total = total
        self._problems: list[tuple[str, str]] = []
        groups = in_groups(documents, lambda document: len(document.text))
        self._groups = self._tag_groups(groups, progress)
        self._tagged = (note.document for group in self._groups for note in group if not note.problem)

    def __iter__(self) -> Iterator[Document]:
        return self

    def __next__(self) -> Document:
        return next(self._tagged)

    def groups(self) -> Iterator[list[TaggedNote]]:
        """The notes that were tagged together, also those that could not be tagged, group by group."""
        return self._groups

    @property
    def problems(self) -> tuple[tuple[str, str], ...]:
        """The notes that could not be tagged so far: the id, and the reason without a word of the text."""
        return tuple(self._problems)

    def _tag_groups(self, groups: Iterable[list[Document]], progress: ProgressOption) -> Iterator[list[TaggedNote]]:
        """Tag group by group, and show how far this is."""
        with showing(progress) as self._report:
            for group in groups:
                yield self._tag_apart(group)

    def _tag_apart(self, group: list[Document]) -> list[TaggedNote]:
        """Tag a group together or, if that fails, each note by itself, to find the one that causes it."""
        return [
            self._untagged(document, found) if isinstance(found, Exception) else TaggedNote(found)
            for document, found in zip(group, apart(group, self._tag_together), strict=True)
        ]

    def _tag_together(self, group: list[Document]) -> list[Document]:
        """Tag a group; if that fails, it counts as unread."""
        before = self.coverage
        try:
            return self._tag(group, self._count)
        except Exception:
            self.coverage = before
            raise

    def _untagged(self, document: Document, error: Exception) -> TaggedNote:
        """A note that could not be tagged, which is remembered."""
        problem = f"its {many(len(document.text), 'character')} could not be tagged ({reason_of(error)})"
        self._problems.append((document.id, problem))
        return TaggedNote(document, problem)

    def _count(self, more: Coverage) -> None:
        self.coverage = self.coverage.plus(more)
        if self._advance is not None:
            self._advance(self.coverage)
        self._report("tagging (notes)", self.coverage.documents, self._total)


def as_documents(notes: Iterable[str | Document]) -> Iterator[Document]:
    """Documents as they are, and texts as Documents whose ids say their place: `text-1` for the first note.

    Args:
        notes: Texts, Documents, or both.

    Raises:
        UsageError: If `notes` is a single note or not an iterable of notes; later, if an item is not a note.
        DataError: Later, if two notes have the same id.
    """
    return check_unique(_converted(each_note(notes)))


def each_note(notes: Iterable[str | Document]) -> Iterator[Any]:
    """An iterator over what should be notes.

    Raises:
        UsageError: If there is only one, or nothing that holds notes in order.
    """
    if isinstance(notes, (str, Document)):
        kind = type(notes).__name__
        raise UsageError(f"expected several notes, found one {kind}: put it in a list, or call the tagger with it")
    if not isinstance(notes, Iterable) or isinstance(notes, (bytes, bytearray, Mapping, Set)):
        raise not_a_note(notes, "a str, a Document, or a list of them")
    return iter(notes)


def not_a_note(found: object, expected: str, where: str = "") -> UsageError:
    """What to raise for something that is not a note: its type, never its content, and what to do."""
    hint = "pass the text as a str, or a Document"
    if isinstance(found, (bytes, bytearray)):
        hint = "decode it to a str first"
    elif isinstance(found, PurePath):
        hint = "read the file first, or use cardioner predict"
    return UsageError(f"{where}expected {expected}; found {type(found).__name__}: {hint}")


def _converted(notes: Iterator[Any]) -> Iterator[Document]:
    """The notes as Documents, one at a time."""
    for number, note in enumerate(notes, start=1):
        document = Document(f"text-{number}", note) if isinstance(note, str) else note
        if not isinstance(document, Document):
            raise not_a_note(note, "a str or a Document", f"note {number}: ")
        yield document
