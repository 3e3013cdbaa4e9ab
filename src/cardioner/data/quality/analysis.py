"""One pass over corpora that counts what is in them, what flat tags lose of it, and what looks like a mistake.

Documents are seen one at a time and forgotten: counters, ids, what comparing the texts needs, and a few examples stay.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal

from cardioner._io import as_path
from cardioner.data.documents import rename_labels
from cardioner.data.formats import Reading, ReadOptions, detect_format, stream_corpus
from cardioner.data.formats.reading import MALFORMED
from cardioner.data.near_duplicates import group_near_duplicates
from cardioner.data.quality.counting import Count, FlatCount
from cardioner.data.quality.findings import CheckReport, NearDuplicates, Part, Source
from cardioner.data.quality.tokens import Tokens, words
from cardioner.data.quality.type_names import find_similar_names
from cardioner.data.splits import read_splits
from cardioner.errors import DataError, UsageError, listed, many

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from cardioner.data.documents import Document


@dataclass(frozen=True, slots=True)
class Request(ReadOptions):
    """How to read the corpora: malformed content is skipped, as it is reported.

    Attributes:
        mapping: Old to new names of types; an empty name drops the type.
        splits: A file that divides the one corpus into parts.
    """

    on_error: Literal["stop", "skip"] = "skip"
    mapping: Mapping[str, str] = field(default_factory=dict)
    splits: str | Path | None = None


def check_corpora(
    paths: Sequence[str | Path],
    request: Request | None = None,
    *,
    tokens: Tokens | None = None,
    advance: Callable[[], None] | None = None,
) -> CheckReport:
    """Read corpora to their end, whatever is malformed in them, and report what was found.

    Args:
        paths: The corpora; each is a part, unless `request.splits` divides the only one.
        request: How to read them.
        tokens: What gets one tag each; words by default.
        advance: Called after every document.

    Raises:
        DataError: If nothing is at a path or it has no known format, or if the splits cannot be read.
        UsageError: For an unknown format or encoding, the same path twice, or splits with several corpora.
    """
    request = request or Request()
    places = [as_path(path) for path in paths]
    _check(places, request)
    reader = _Reader({place: Reading(request) for place in places}, request)
    names = [str(place) for place in places]
    if request.splits is not None:
        names = reader.divide(request.splits)
    count = Count({name: Part(name) for name in names}, FlatCount(tokens or words()))
    near_duplicates = _group(reader.documents(), count, advance)
    reader.finish()
    labels = {label for part in count.parts.values() for label in part.lengths}
    return CheckReport(
        parts=tuple(count.parts.values()),
        sources=tuple(_source(path, reading) for path, reading in reader.readings.items()),
        flat_tags=count.flat.result(),
        near_duplicates=near_duplicates,
        repeated=dict(sorted(count.repeats.per_type.items())),
        first_repeated=tuple(count.repeats.first),
        similar_names=find_similar_names(labels),
        examples=tuple(count.examples),
    )


def _check(paths: Sequence[Path], request: Request) -> None:
    """Refuse a mistake of the caller's, which is not something to report about the corpora."""
    if not paths or len(set(paths)) != len(paths):
        raise UsageError("give at least one corpus, and each of them once")
    if request.splits is not None and len(paths) > 1:
        raise UsageError(f"--splits divides one corpus into parts; found {len(paths)} corpora")
    for path in paths:
        if request.format is None:
            detect_format(path, request.encoding)


# Reading -------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Reader:
    """The documents of all parts, and where their readings stand.

    Attributes:
        readings: By path.
        request: How to read.
        part_of: The part of each document id of the splits; `None` without splits.
        awaited: Ids of the splits that have not come by yet.
        labels: Entity types, as they are in the files.
    """

    readings: dict[Path, Reading]
    request: Request
    part_of: dict[str, str] | None = None
    awaited: set[str] = field(default_factory=set)
    labels: set[str] = field(default_factory=set)

    def divide(self, path: str | Path) -> list[str]:
        """Take the parts from a file; returns the names of those that list any document."""
        parts = asdict(read_splits(path))
        self.part_of = {name: part for part, ids in parts.items() for name in ids}
        self.awaited = set(self.part_of)
        return [part for part, ids in parts.items() if ids]

    def documents(self) -> Iterator[tuple[str, Document]]:
        """Every document with the name of its part; what cannot be read is left to the readings."""
        for path, reading in self.readings.items():
            with reading.guarded(path):
                for document in stream_corpus(path, reading=reading):
                    part = self._part(path, document.id)
                    if part is not None:
                        yield part, self._renamed(path, document)

    def _part(self, path: Path, name: str) -> str | None:
        if self.part_of is None:
            return str(path)
        self.awaited.discard(name)
        if name not in self.part_of:
            self.readings[path].add_issue("documents in no part of the splits", f"{path}: document {name}")
        return self.part_of.get(name)

    def _renamed(self, path: Path, document: Document) -> Document:
        self.labels.update(span.label for span in document.spans)
        (renamed,) = rename_labels([document], dict(self.request.mapping))
        if dropped := len(document.spans) - len(renamed.spans):
            kind, where = "spans of a type that --map drops", f"{path}: document {document.id}"
            self.readings[path].add_issue(kind, where, count=dropped)
        return renamed

    def finish(self) -> None:
        """Report types and ids that were named and are not in the corpora."""
        path, reading = next(iter(self.readings.items()))
        with reading.guarded(path):
            if unknown := self.request.mapping.keys() - self.labels:
                found = listed(self.labels) or "none"
                raise DataError(f"--map names {listed(unknown)}; the data has the types {found}")
        with reading.guarded(path):
            if self.awaited:
                raise DataError(
                    f"{many(len(self.awaited), 'id')} of the splits are not among the documents that could be read: "
                    f"{listed(self.awaited)}"
                )


def _group(
    documents: Iterable[tuple[str, Document]], count: Count, advance: Callable[[], None] | None
) -> tuple[NearDuplicates, ...]:
    """Count documents while they are searched for near duplicates: they are read once."""

    def texts() -> Iterator[tuple[str, str]]:
        for part, document in documents:
            count.add(part, document)
            if advance is not None:
                advance()
            yield str(len(count.members) - 1), document.text  # an id may be in several parts, a number is not

    groups = [(sorted(map(int, group.ids)), group.identical) for group in group_near_duplicates(texts())]
    return tuple(
        NearDuplicates(tuple(count.members[number] for number in numbers), identical)
        for numbers, identical in sorted(groups)
    )


def _source(path: Path, reading: Reading) -> Source:
    report = reading.report
    issues = tuple(issue for issue in report.issues if issue.kind != MALFORMED)
    return Source(issues, report.malformed, report.problems, str(path))
