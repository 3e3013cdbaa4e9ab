"""CoNLL: a word and its tag on each line, columns between them, a blank line between sentences.

The format of the shared task CoNLL-2003 (https://aclanthology.org/W03-0419/), whose `-DOCSTART-` lines start documents;
so do the comments `# newdoc id = X` of https://universaldependencies.org/format.html.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cardioner._io import writing
from cardioner.data.corpus import IssueCounter
from cardioner.data.formats.files import encoded, read_lines
from cardioner.data.formats.recognition import line_files
from cardioner.data.formats.words import Sentence, TagReader, are_bare_types, is_bare_type, parse_tag, tag_words
from cardioner.errors import DataError, OutputError, many

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from cardioner.data.corpus import Issue
    from cardioner.data.documents import Document
    from cardioner.data.formats.reading import Reading

_DOCSTART = re.compile(r"-DOCSTART-(?:[ \t].*)?", re.DOTALL)
_NEWDOC = re.compile(r"# ?newdoc(?:[ \t]+id[ \t]*=[ \t]?(.*))?[ \t]*", re.DOTALL)


def read_conll(path: Path, reading: Reading) -> Iterator[Document]:
    """Read a file of words and tags, or the files of such a kind in a folder and its sub-folders, in sorted order.

    The first column is the word and the last its tag: `O`, or a prefix of IOB1, IOB2, IOBES, BILOU, BMES or BMEWO, `-`
    or `_`, and the entity type; types without prefixes are read as inside tags where a file has no others. Columns are
    separated by tabs if the first word's line has one, else by spaces; empty ones at the end of a line do not count.
    The text is rebuilt: one space between words, one newline between sentences. The id of a document is that of its
    `# newdoc id`, else the file's name without the suffix, with a number where several are in the file. A malformed
    line that is skipped is left out as if it were not there.
    """
    for stem, file in line_files(path, "conll", reading):
        with reading.guarded(file):
            yield from _File(file, stem, reading).documents()


def write_conll(documents: Iterable[Document], path: Path, *, overwrite: bool = False) -> tuple[Issue, ...]:
    """Write two columns, word and BIO tag, with a tab between them; `words.cut_words` says what a word is.

    `read_conll` gives back documents that are words joined by single spaces and newlines, with flat spans of whole
    words of one line. Rebuilt texts, spans that are left out, widened or trimmed, and scores are counted.

    Raises:
        OutputError: If the file exists and may not be replaced, an id is empty or no single line, a label has white
            space, or the disk is full.
    """
    counter = IssueCounter()
    with writing(path, overwrite=overwrite) as file:
        for document in documents:
            file.write(_lines(document, counter))
    return counter.issues


def _lines(document: Document, counter: IssueCounter) -> bytes:
    """A document's lines, a blank one after each sentence."""
    name = document.id
    if not name or "\n" in name or name.endswith("\r"):
        raise OutputError(f"CoNLL cannot hold the document id {name!r}: expected text on one line; rename it")
    for span in document.spans:
        if re.search(r"\s", span.label):
            raise OutputError(f"document {name}: CoNLL cannot hold the label {span.label!r}, it has white space")
    sentences = tag_words(document, counter, by_line=True)
    blocks = ["".join(f"{word}\t{tag}\n" for word, tag in sentence) for sentence in sentences]
    return encoded(f"# newdoc id = {name}\n" + "\n".join([*blocks, ""]) + "\n" * (not blocks), name)


# Reading -------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Draft:
    """A document that is being read: where and how it starts, its id if it has one, and its sentences so far."""

    line: int
    marker: str = ""
    name: str = ""
    sentences: list[Sentence] = field(default_factory=list)


@dataclass(slots=True)
class _File:
    """One file: the columns of its first word's line, and the document that is being read."""

    path: Path
    stem: str
    reading: Reading
    tags: TagReader = field(default_factory=TagReader)
    separator: str = ""
    columns: int = 0
    count: int = 0
    draft: _Draft = field(default_factory=lambda: _Draft(0))
    in_sentence: bool = False
    bare: bool | None = None

    def documents(self) -> Iterator[Document]:
        for number, line in read_lines(self.path, self.reading.options.encoding):
            marker, name = _marker(line)
            if marker:
                yield from self._start(_Draft(number, marker, name))
            elif not line.strip(" \t\r"):
                self.in_sentence = False
            else:
                with self.reading.guarded(self.path, number):
                    self._take(line, number)
        yield from self._finish(last=True)
        self.tags.report(self.reading)

    def _start(self, draft: _Draft) -> Iterator[Document]:
        """Begin a document; a marker right after one of the other kind belongs to the same document."""
        old, self.in_sentence = self.draft, False
        if old.marker and not old.sentences and old.marker != draft.marker:
            old.name = old.name or draft.name
            return
        yield from self._finish(last=False)
        self.draft = draft

    def _take(self, line: str, number: int) -> None:
        """Add a line with a word."""
        columns = self._split(line.rstrip(" \t\r"))
        tag = self._tag(columns[-1], number)
        # "# O" is the word # and its tag, as long as it has the columns of a word's line.
        if line.startswith("# ") and "\t" not in line and (tag is None or len(columns) not in {self.columns or 2}):
            self.reading.add_issue("comment lines", self.path, number)
            return
        if len(columns) < 2:
            raise DataError("expected a word and its tag, found one column")
        if tag is None:
            raise DataError(
                "expected O or a tag such as B-TYPE in the last column (prefixes of IOB, IOBES, BILOU or BMEWO), or in "
                f"the whole file types without prefixes; found {many(len(columns[-1]), 'character')} that are no tag"
            )
        if not self.columns:
            self._set_columns(line.rstrip(" \t\r"), number, len(columns))
        if len(columns) != self.columns:
            raise DataError(f"expected {self.columns} columns as in the lines before, found {len(columns)}")
        if not self.in_sentence:
            self.draft.sentences.append(Sentence([], [], f"{self.path}:{number}"))
            self.in_sentence = True
        self.draft.sentences[-1].words.append(columns[0])
        self.draft.sentences[-1].tags.append(tag)

    def _tag(self, tag: str, number: int) -> tuple[str, str] | None:
        """Position and type of a tag, if it is one; a type without a prefix counts as inside."""
        if not is_bare_type(tag):
            return parse_tag(tag)
        if self.bare is None:
            lines = read_lines(self.path, self.reading.options.encoding)
            self.bare = are_bare_types(
                line.split()[-1]
                for _, line in lines
                if line.strip() and not (_marker(line)[0] or line.startswith("# "))
            )
        if self.bare:
            self.reading.add_issue(
                "types without a prefix, where neighbours of a type are one entity", self.path, number
            )
        return ("I", tag) if self.bare else None

    def _split(self, line: str) -> list[str]:
        if "\t" in line if not self.separator else self.separator == "\t":
            return line.split("\t")
        return [column for column in line.split(" ") if column]

    def _set_columns(self, line: str, number: int, columns: int) -> None:
        self.separator, self.columns = "\t" if "\t" in line else " ", columns
        if columns > 2:
            self.reading.add_issue("columns between word and tag", self.path, number, count=columns - 2)

    def _finish(self, *, last: bool) -> Iterator[Document]:
        """The document that was being read, if there is one."""
        draft = self.draft
        if not draft.sentences and not draft.marker:
            return
        self.count += 1
        numbered = draft.marker or not last
        name = draft.name or (f"{self.stem}-{self.count}" if numbered else self.stem)
        with self.reading.guarded(self.path, draft.line):
            yield self.tags.document(name, draft.sentences, self.reading)


def _marker(line: str) -> tuple[str, str]:
    """The kind of line that starts a document, if it is one, and the id it gives."""
    if _DOCSTART.fullmatch(line):
        return "-DOCSTART-", ""
    found = _NEWDOC.fullmatch(line)
    return ("# newdoc", found[1] or "") if found else ("", "")
