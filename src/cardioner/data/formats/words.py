"""Words and their tags to documents and back: what CoNLL files, tables of words and word lists in memory share.

Tags are read as IOB1, IOB2, IOBES or BILOU alike; they are written as BIO (IOB2).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from cardioner.data.documents import Document, Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cardioner.data.corpus import IssueCounter
    from cardioner.data.formats.reading import Reading

OUTSIDE = "O"
REBUILT = "texts, rebuilt with single spaces"
"""The remark on documents whose text is not what their words give."""
WORDLESS = "entities whose words have no character, left out"
"""The remark on tags that mark no character."""

_STRAY = "inside tags that continued nothing, read as opening"
_POSITIONS = {"B": "B", "I": "I", "E": "E", "S": "S", "L": "E", "U": "S"}  # BILOU: last and unit
_TAG = re.compile(r"([BIESLU])[-_](.+)", re.DOTALL)
_PIECE = re.compile(r"\w+|\S")


class Entity(NamedTuple):
    """Consecutive words of one entity: `first` to `stop`, half-open, counted through the document; and its type."""

    first: int
    stop: int
    label: str


# Reading -------------------------------------------------------------------------------------------------------------


def parse_tag(tag: str) -> tuple[str, str] | None:
    """A tag's position (`B`, `I`, `E`, `S` or `O`) and entity type, or `None` if it is not `O` or `PREFIX-TYPE`."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    found = _TAG.fullmatch(tag)
    return (_POSITIONS[found[1]], found[2]) if found else None


@dataclass(slots=True)
class TagReader:
    """Reads the tags of one source, and remembers whether inside tags stood alone there.

    In a source without any opening tag (IO, most of IOB1) they do by design; where there are some they are counted.
    """

    _opens: bool = False
    _stray: int = 0
    _where: str = ""

    def entities(self, tags: Iterable[tuple[str, str]], *, first: int = 0, where: str = "") -> list[Entity]:
        """The entities of one sentence; an inside or ending tag that continues nothing opens one.

        Args:
            tags: Position and type of each word, as `parse_tag` gives them.
            first: The number of the sentence's first word in its document.
            where: Of the sentence, for the remark.
        """
        found: list[Entity] = []
        continuing = ""  # the type of the entity that the word before left open
        for index, (position, label) in enumerate(tags, start=first):
            if position in {"I", "E"} and continuing == label:
                found[-1] = found[-1]._replace(stop=index + 1)
            elif position != OUTSIDE:
                found.append(Entity(index, index + 1, label))
                self._note(position, where)
            continuing = label if position in {"B", "I"} else ""
        return found

    def report(self, reading: Reading) -> None:
        """Count what was met aside, when the source is at its end."""
        if self._opens and self._stray:
            reading.add_issue(_STRAY, self._where, count=self._stray)

    def _note(self, position: str, where: str) -> None:
        self._opens |= position == "B"
        if position in {"I", "E"}:
            self._stray += 1
            self._where = self._where or where


def join_words(sentences: Iterable[Iterable[str]]) -> str:
    """The text of a document of words: words joined by one space, sentences by one newline."""
    return "\n".join(" ".join(words) for words in sentences)


def document_of_words(
    identifier: str, sentences: Sequence[Sequence[str]], entities: Iterable[tuple[int, int, str]]
) -> Document:
    """Rebuild a document of its words.

    Args:
        identifier: The id of the document.
        sentences: The words of each sentence; offsets are exact in their `join_words`.
        entities: First word, word behind the last, and type, as in `Entity`. One whose words have no character gives no
            span, and words without a character are left out at the edges of the others.

    Raises:
        DataError: If a word holds half of a surrogate pair.
    """
    offsets, position = [], 0
    for word in chain.from_iterable(sentences):
        offsets.append((position, position + len(word)))
        position += len(word) + 1  # a space or a newline
    spans = []
    for first, stop, label in entities:
        pieces = [(start, end) for start, end in offsets[first:stop] if start < end]
        if pieces:
            spans.append(Span(pieces[0][0], pieces[-1][1], label))
    return Document(identifier, join_words(sentences), tuple(spans))


# Writing -------------------------------------------------------------------------------------------------------------


def cut_words(text: str) -> list[tuple[int, int]]:
    """The words of a text, as characters, half-open: runs of word characters and combining marks, else one character.

    White space belongs to no word; every other character belongs to exactly one.
    """
    words: list[tuple[int, int]] = []
    runs = False  # whether the last word is a run, which may go on
    for piece in _PIECE.finditer(text):
        start, end = piece.span()
        in_run = text[start].isalnum() or text[start] == "_" or unicodedata.category(text[start]).startswith("M")
        if in_run and runs and words[-1][1] == start:
            words[-1] = (words[-1][0], end)
        else:
            words.append((start, end))
        runs = in_run
    return words


def tag_words(document: Document, counter: IssueCounter) -> list[list[tuple[str, str]]]:
    """Cut a document into words with BIO tags, a sentence for each line of the text that has words.

    A line that ends inside of a kept span goes on in the same sentence, as no tag can cross the end of one.

    Args:
        document: The note.
        counter: Counts spans that tags cannot carry as they are. Of spans that claim the same word the longest is kept,
            of equally long ones the first.

    Returns:
        Word and tag, sentence by sentence.
    """
    words = cut_words(document.text)
    tags = _tags(document, words, counter)
    sentences: list[list[tuple[str, str]]] = []
    behind = 0
    for (start, end), tag in zip(words, tags, strict=True):
        breaks = "\n" in document.text[behind:start] and not tag.startswith("I-")
        if breaks or not sentences:
            sentences.append([])
        sentences[-1].append((document.text[start:end], tag))
        behind = end
    return sentences


def _tags(document: Document, words: Sequence[tuple[int, int]], counter: IssueCounter) -> list[str]:
    tags = [OUTSIDE] * len(words)
    owner = _owners(len(document.text), words)
    for span in sorted(document.spans, key=lambda span: (-span.length, span.start, span.label)):
        inside = [index for index in owner[span.start : span.end] if index >= 0]
        first, stop = (inside[0], inside[-1] + 1) if inside else (0, 0)
        if (obstacle := _obstacle(span, tags[first:stop])) is not None:
            counter.add(obstacle, document.id)
            continue
        tags[first:stop] = [f"B-{span.label}", *[f"I-{span.label}"] * (stop - first - 1)]
        for change in _changes(span, words[first][0], words[stop - 1][1]):
            counter.add(change, document.id)
    return tags


def _owners(length: int, words: Iterable[tuple[int, int]]) -> list[int]:
    """For each character the number of its word, -1 for white space."""
    owners = [-1] * length
    for index, (start, end) in enumerate(words):
        owners[start:end] = [index] * (end - start)
    return owners


def _obstacle(span: Span, tags: Sequence[str]) -> str | None:
    """Why a span cannot have these tags, or `None` if it can."""
    if any(left[1] < right[0] for left, right in zip(span.fragments, span.fragments[1:], strict=False)):
        return "discontinuous spans, left out"
    if not tags:
        return "spans without a word, left out"
    return "overlapping spans, left out" if any(tag != OUTSIDE for tag in tags) else None


def _changes(span: Span, start: int, end: int) -> Iterator[str]:
    """What is not the same when a span is read back from words that start and end there."""
    if start < span.start or end > span.end:
        yield "spans that cut a word, widened"
    if start > span.start or end < span.end:
        yield "spans with white space at an edge, trimmed"
    if span.score is not None:
        yield "scores, left out"
