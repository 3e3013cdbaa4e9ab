"""A corpus in memory: its documents, and what reading them left out or repaired."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, overload

from cardioner.data.attributes import NO_SCORES
from cardioner.data.documents import Document, Span, check_unique
from cardioner.errors import UsageError, listed, many, missing_packages

if TYPE_CHECKING:
    import pandas

_LONGEST_NAME = 30
_COLUMNS = ("id", "start", "end", "label", "score", "text", "attributes")


@dataclass(frozen=True, slots=True)
class Issue:
    """Something that a reader or a writer left out or changed.

    Attributes:
        kind: What it is, such as `R lines`.
        count: How many of them there are.
        where: The first of them: a file, a file and its line, or a document.
    """

    kind: str
    count: int
    where: str


@dataclass(slots=True)
class IssueCounter:
    """Counts issues by kind."""

    _found: dict[str, Issue] = field(default_factory=dict)

    def add(self, kind: str, where: str, count: int = 1) -> None:
        """Count more of a kind; the first place is remembered."""
        first = self._found.get(kind, Issue(kind, 0, where))
        self._found[kind] = Issue(kind, first.count + count, first.where)

    def add_metadata(self, document: Document) -> None:
        """Count the metadata of a document as left out, by their names where these look like names."""
        for key in document.metadata:
            name = f"field {key}" if key.isidentifier() and len(key) <= _LONGEST_NAME else "fields with other names"
            self.add(f"{name}, left out", document.id)

    def contiguous(self, document: Document) -> list[Span]:
        """The spans of a document without gaps; the discontinuous ones are counted as left out."""
        found = []
        for span in document.spans:
            if any(left[1] < right[0] for left, right in pairwise(span.fragments)):
                self.add("discontinuous spans, left out", document.id)
            else:
                found.append(replace(span, fragments=()))
        return found

    def with_attributes(self, document: Document, span: Span, holds: Callable[[str, str | bool], bool]) -> Span:
        """A span with those of its attributes that a format holds, by name and value; the others are counted.

        The score of an attribute that is left out goes with it; one of an attribute that is absent is counted alone.
        """
        odd = {name for name, value in span.attributes.items() if not holds(name, value)}
        unscored = {name for name in span.attribute_scores.keys() - span.attributes.keys() if not holds(name, True)}
        for kind, count in (("attributes, left out", len(odd)), ("scores, left out", len(unscored))):
            if count:
                self.add(kind, document.id, count)
        attributes = {name: value for name, value in span.attributes.items() if name not in odd}
        scores = {name: score for name, score in span.attribute_scores.items() if name not in odd | unscored}
        return replace(span, attributes=attributes, attribute_scores=scores) if odd or unscored else span

    def without_scores(self, document: Document, spans: Iterable[Span]) -> list[Span]:
        """Spans of a document without scores, also of their attributes; spans that had some are counted."""
        found = []
        for span in spans:
            if span.score is not None or span.attribute_scores:
                self.add("scores, left out", document.id)
            found.append(replace(span, score=None, attribute_scores=NO_SCORES))
        return found

    def bare(self, document: Document) -> list[Span]:
        """The spans of a document without gaps, with offsets and label alone; what is left out is counted."""
        spans = self.without_scores(document, self.contiguous(document))
        return [self.with_attributes(document, span, lambda *_: False) for span in spans]

    @property
    def issues(self) -> tuple[Issue, ...]:
        """One for each kind, sorted by kind."""
        return tuple(self._found[kind] for kind in sorted(self._found))


@dataclass(frozen=True, slots=True)
class ReadReport:
    """How the reading of a corpus went.

    Attributes:
        issues: What was left out or repaired, one for each kind, sorted by kind.
        malformed: How many files, lines or documents could not be used.
        problems: The first of these, each with its file and line.
    """

    issues: tuple[Issue, ...] = ()
    malformed: int = 0
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Corpus(Sequence[Document]):
    """Documents with different ids, in order; a sequence that can be indexed by position, by slice and by id.

    Attributes:
        documents: The notes; those of brat folders are sorted by id, others are in the order of the file.
        report: What reading them left out or repaired.

    Raises:
        DataError: If two documents have the same id.
        UsageError: If something else than documents is given.
    """

    documents: tuple[Document, ...]
    report: ReadReport = field(default_factory=ReadReport)
    _by_id: dict[str, Document] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "documents", tuple(check_unique(self.documents)))
        object.__setattr__(self, "_by_id", {document.id: document for document in self.documents})

    def __len__(self) -> int:
        return len(self.documents)

    def __iter__(self) -> Iterator[Document]:
        return iter(self.documents)

    def __contains__(self, item: object) -> bool:
        return item in self._by_id if isinstance(item, str) else item in self.documents

    @overload
    def __getitem__(self, index: int | str) -> Document: ...

    @overload
    def __getitem__(self, index: slice) -> Corpus: ...

    def __getitem__(self, index: int | str | slice) -> Document | Corpus:
        if isinstance(index, slice):
            return Corpus(self.documents[index])
        if not isinstance(index, str):
            return self.documents[index]
        if index not in self._by_id:
            raise KeyError(f"the corpus has no document {index!r}")
        return self._by_id[index]

    @property
    def labels(self) -> tuple[str, ...]:
        """The entity types of the spans, sorted."""
        return tuple(sorted(self._counts()))

    def to_dataframe(self) -> pandas.DataFrame:
        """A row for each span: the document's `id`, `start` and `end`, `label`, `score`, `text`, `attributes`.

        Raises:
            UsageError: If pandas is not installed.
        """
        try:
            import pandas  # noqa: PLC0415 - an extra
        except ImportError:
            raise UsageError(missing_packages("Corpus.to_dataframe", ["pandas"])) from None
        rows = [
            (document.id, span.start, span.end, span.label, span.score, document.text_of(span), dict(span.attributes))
            for document in self.documents
            for span in document.spans
        ]
        return pandas.DataFrame(rows, columns=_COLUMNS)

    def _counts(self) -> Counter[str]:
        return Counter(span.label for document in self.documents for span in document.spans)

    def __repr__(self) -> str:
        counts = self._counts()
        types = f" of {many(len(counts), 'type')} ({listed(counts)})" if counts else ""
        return f"Corpus({many(len(self), 'document')}, {many(counts.total(), 'span')}{types})"

    def _repr_html_(self) -> str:
        """A table of counts, for notebooks."""
        counts = self._counts()
        rows = [
            ("documents", len(self)),
            ("without spans", sum(not document.spans for document in self.documents)),
            ("characters", sum(len(document.text) for document in self.documents)),
            ("spans", counts.total()),
            *((f"spans: {label}", count) for label, count in sorted(counts.items())),
            *((f"reading: {issue.kind}", issue.count) for issue in self.report.issues),
        ]
        cells = "".join(f"<tr><th>{escape(name)}</th><td>{count:,}</td></tr>" for name, count in rows)
        return f"<table><caption>Corpus</caption>{cells}</table>"
