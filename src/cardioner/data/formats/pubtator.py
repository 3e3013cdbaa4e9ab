"""PubTator: a title, an abstract, and a line for each mention, separated by tabs; a blank line between documents.

`ID|t|TITLE` and `ID|a|ABSTRACT`, then `ID START END MENTION TYPE CONCEPT`, as in the corpora of BioCreative V
(https://doi.org/10.1093/database/baw068). Offsets count code points, and one between title and abstract.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cardioner._io import writing
from cardioner.data.corpus import IssueCounter
from cardioner.data.documents import Document, Span
from cardioner.data.formats.files import encoded, read_lines
from cardioner.data.formats.quotes import Quote, matching
from cardioner.data.formats.recognition import line_files
from cardioner.errors import DataError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from cardioner.data.corpus import Issue
    from cardioner.data.formats.reading import Reading

_SECTION = re.compile(r"([^|\t]+)\|([ta])\|(.*)", re.DOTALL)
_OFFSET = re.compile(r"[0-9]{1,15}")
_OTHER = "lines without offsets, such as relations"
_CONCEPTS = "concepts of mentions"
_IDENTIFIER = re.compile(r"[^|\t\r\n\ufeff]*[^|\s\ufeff][^|\t\r\n]*")
_ONE_LINE = str.maketrans("\r\n\t", "   ")


def read_pubtator(path: Path, reading: Reading) -> Iterator[Document]:
    """Read a file, or the files of such a kind in a folder and its sub-folders, in sorted order.

    The text of a document is its title and its abstract with a newline between them. Concepts and lines of relations
    are counted.
    """
    for _, file in line_files(path, "pubtator", reading):
        with reading.guarded(file):
            yield from _read_file(file, reading)


def write_pubtator(documents: Iterable[Document], path: Path, *, overwrite: bool = False) -> tuple[Issue, ...]:
    """Write a file. The first line of a text is its title, and the others are joined to one, its abstract.

    Line breaks become spaces, one for each character, so that offsets stay right; they are counted by documents.

    Raises:
        OutputError: If the file exists and may not be replaced, the format cannot hold an id or a label, or the disk is
            full.
    """
    counter = IssueCounter()
    with writing(path, overwrite=overwrite) as file:
        for document in documents:
            file.write(encoded(_block(document, counter), document.id))
    return counter.issues


@dataclass(slots=True)
class _Draft:
    """A document that is being read: the place of its title, its sections, and its mentions with their lines."""

    name: str
    line: int
    sections: dict[str, str]
    mentions: list[tuple[int, list[str]]] = field(default_factory=list)


def _read_file(path: Path, reading: Reading) -> Iterator[Document]:
    draft: _Draft | None = None
    for number, line in read_lines(path, reading.options.encoding):
        section = _SECTION.fullmatch(line)
        if section and (draft is None or section[1] != draft.name or section[2] in draft.sections):
            yield from _finished(draft, path, reading)
            draft = _Draft(section[1], number, {})
        with reading.guarded(path, number):
            if draft is not None and section:
                draft.sections[section[2]] = section[3]
            elif line.strip():
                if draft is None or (fields := line.split("\t"))[0] != draft.name:
                    raise DataError("expected ID|t|TITLE, ID|a|ABSTRACT, or a line with tabs that starts with that ID")
                draft.mentions.append((number, fields))
    yield from _finished(draft, path, reading)


def _finished(draft: _Draft | None, path: Path, reading: Reading) -> Iterator[Document]:
    if draft is None:
        return
    text = "\n".join(draft.sections[kind] for kind in "ta" if kind in draft.sections)
    quotes = []
    for number, fields in draft.mentions:
        if not _OFFSET.fullmatch(fields[1] if len(fields) > 2 else ""):
            reading.add_issue(_OTHER, path, number)
            continue
        with reading.guarded(path, number):
            quotes.append(_quote(fields, path, number))
        if len(fields) > 5:
            reading.add_issue(_CONCEPTS, path, number)
    with reading.guarded(path, draft.line):
        yield Document(
            draft.name, text, tuple(sorted(quote.span for quote in matching(quotes, text, "mention", reading)))
        )


def _quote(fields: list[str], path: Path, line: int) -> Quote:
    """The mention on a line."""
    if len(fields) < 5 or not _OFFSET.fullmatch(fields[2]) or not fields[4]:
        raise DataError("expected the ID, the offsets of a mention, the mention and its type, with tabs between them")
    return Quote(Span(int(fields[1]), int(fields[2]), fields[4]), fields[3], path, line)


# Writing -------------------------------------------------------------------------------------------------------------


def _block(document: Document, counter: IssueCounter) -> str:
    """The lines of a note, and the blank one that ends them."""
    name = document.id
    if not _IDENTIFIER.fullmatch(name):
        raise OutputError(
            f"the document id {name!r} cannot be one of PubTator: it is blank, or has |, tabs or line breaks"
        )
    counter.add_metadata(document)
    title, newline, abstract = document.text.partition("\n")
    lines = [f"{name}|t|{_flat(title)}", *([f"{name}|a|{_flat(abstract)}"] if newline else [])]
    if _flat(title) + newline + _flat(abstract) != document.text:
        counter.add("texts with tabs or further line breaks, written as spaces", name)
    for span in counter.bare(document):
        if re.search(r"[\t\r\n]", span.label):
            raise OutputError(
                f"document {name!r}: PubTator cannot hold the label {span.label!r}, it has tabs or line breaks"
            )
        mention = _flat(document.text[span.start : span.end])
        lines.append(f"{name}\t{span.start}\t{span.end}\t{mention}\t{span.label}")
    return "\n".join([*lines, "", ""])


def _flat(text: str) -> str:
    """As many characters, on one line."""
    return text.translate(_ONE_LINE)
