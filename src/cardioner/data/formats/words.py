"""Words and their tags to documents and back: what CoNLL files, tables of words and word lists in memory share.

Tags are read as IOB1, IOB2, IOBES, BILOU, BMES or BMEWO alike; they are written as BIO (IOB2).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from cardioner.data.documents import Document, Span
from cardioner.multiclass.tagging import OUTSIDE, Run, run_offsets, to_runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cardioner.data.corpus import IssueCounter
    from cardioner.data.formats.reading import Reading

WORDLESS = "entities whose words have no character, left out"
"""The kind of issue of tags that mark no character."""

_REBUILT = "texts, rebuilt with single spaces"
_STRAY = "inside tags that continued nothing, read as opening"
_POSITIONS = {"B": "B", "I": "I", "E": "E", "S": "S"}
_POSITIONS |= {"L": "E", "U": "S", "M": "I", "W": "S"}  # last and unit of BILOU, middle and whole of BMEWO
_TAG = re.compile(r"([BIESLUMW])[-_](.+)", re.DOTALL)
_TYPE = re.compile(r"[^\W\d_][\w.+/&-]*")
_PIECE = re.compile(r"\w+|\S")


# Reading -------------------------------------------------------------------------------------------------------------


def parse_tag(tag: str) -> tuple[str, str] | None:
    """A tag's position (`B`, `I`, `E`, `S` or `O`) and entity type, or `None` if it is not `O` or `PREFIX-TYPE`."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    found = _TAG.fullmatch(tag)
    return (_POSITIONS[found[1]], found[2]) if found else None


class Sentence(NamedTuple):
    """Words, the position and type of each as `parse_tag` gives them, and the place of the sentence, for reports."""

    words: list[str]
    tags: list[tuple[str, str]]
    where: str


def is_bare_type(tag: str) -> bool:
    """Whether a tag can be an entity type without a prefix: a name, and no letter that is a prefix without a type."""
    return tag not in {OUTSIDE, *_POSITIONS} and _TYPE.fullmatch(tag) is not None and parse_tag(tag) is None


def are_bare_types(tags: Iterable[str]) -> bool:
    """Whether the tags of a file are types without prefixes, and not another column, whose words nobody should see.

    Of five words or more at least a quarter are outside, and a type occurs twice on average.
    """
    counts = Counter(tags)
    outside, named = counts.pop(OUTSIDE, 0), counts.total()
    enough = outside + named >= 5 and 3 * outside >= named >= 2 * len(counts)
    return enough and all(map(is_bare_type, counts))


@dataclass(slots=True)
class TagReader:
    """Reads the tags of one source, and counts inside tags that continue nothing.

    In IO and IOB1 they are not reported: there they are how entities begin. Such a source has opening tags, if any,
    only right after another entity of the same type.
    """

    _opens: bool = False
    _stray: int = 0
    _where: str = ""

    def entities(self, tags: Sequence[tuple[str, str]], *, first: int = 0, where: str = "") -> list[Run]:
        """The entities of one sentence; an inside or ending tag that continues nothing opens one.

        Args:
            tags: Position and type of each word, as `parse_tag` gives them.
            first: The number of the sentence's first word in its document, from which the entities count.
            where: The place of the sentence, for the report.
        """
        runs = to_runs([f"{position}-{label}" if label else position for position, label in tags])
        before = [("", ""), *tags]
        self._opens |= any(tag[0] == "B" and tag[1] != before[place][1] for place, tag in enumerate(tags))
        if stray := sum(tags[run.first][0] in {"I", "E"} for run in runs):
            self._stray += stray
            self._where = self._where or where
        return [Run(run.first + first, run.stop + first, run.label) for run in runs]

    def document(self, name: str, sentences: Sequence[Sentence], reading: Reading) -> Document:
        """Rebuild a document from its words and their tags; entities whose words have no character are reported."""
        entities: list[Run] = []
        first = 0
        for sentence in sentences:
            entities += self.entities(sentence.tags, first=first, where=sentence.where)
            first += len(sentence.words)
        document = document_of_words(name, [sentence.words for sentence in sentences], entities)
        if lost := len(entities) - len(document.spans):
            reading.add_issue(WORDLESS, name, count=lost)
        return document

    def report(self, reading: Reading) -> None:
        """Report the inside tags that stood alone, when the source is at its end."""
        if self._opens and self._stray:
            reading.add_issue(_STRAY, self._where, count=self._stray)


def join_words(sentences: Iterable[Iterable[str]]) -> str:
    """The text of a document of words: words joined by one space, sentences by one newline."""
    return "\n".join(" ".join(words) for words in sentences)


def document_of_words(
    identifier: str, sentences: Sequence[Sequence[str]], entities: Iterable[tuple[int, int, str]]
) -> Document:
    """Rebuild a document from its words.

    Args:
        identifier: The id of the document.
        sentences: The words of each sentence; offsets are exact in their `join_words`.
        entities: First word, word after the last, and type, as in `Run`. One whose words have no character gives no
            span, and words without a character are left out at the edges of the others.

    Raises:
        DataError: If a word holds half of a surrogate pair.
    """
    offsets, position = [], 0
    for word in chain.from_iterable(sentences):
        offsets.append((position, position + len(word)))
        position += len(word) + 1  # a space or a newline
    marked = [(*run_offsets(Run(*entity), offsets), entity[2]) for entity in entities]
    spans = [Span(start, end, label) for start, end, label in marked if start < end]
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


def tag_words(document: Document, counter: IssueCounter, *, by_line: bool) -> list[list[tuple[str, str]]]:
    """Cut a document into words with BIO tags: one sentence, or one for each line of the text that has words.

    A line that ends inside of a kept span goes on in the same sentence, as no tag can cross the end of one.

    Args:
        document: The note.
        counter: Counts spans that tags cannot carry as they are, a text that is not what the words give, and metadata.
            Of spans that claim the same word the longest is kept, of equally long ones the first.
        by_line: Whether lines are sentences.

    Returns:
        Word and tag, sentence by sentence.
    """
    counter.add_metadata(document)
    words = cut_words(document.text)
    tags = _tags(document, words, counter)
    sentences: list[list[tuple[str, str]]] = []
    last_end = 0
    for (start, end), tag in zip(words, tags, strict=True):
        breaks = by_line and "\n" in document.text[last_end:start] and not tag.startswith("I-")
        if breaks or not sentences:
            sentences.append([])
        sentences[-1].append((document.text[start:end], tag))
        last_end = end
    if join_words([word for word, _ in sentence] for sentence in sentences) != document.text:
        counter.add(_REBUILT, document.id)
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
    if span.score is not None or span.attribute_scores:
        yield "scores, left out"
    yield from ["attributes, left out"] * len(span.attributes)
