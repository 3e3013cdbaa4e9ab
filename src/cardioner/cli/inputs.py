"""What several commands read: corpora, and the options that say how to read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from cardioner.cli.console import show, table, tell
from cardioner.cli.option_groups import Earlier
from cardioner.data.documents import Annotations, Document, Note, rename_labels
from cardioner.data.formats import Issue, Reading, ReadOptions, detect_format, stream_corpus, stream_spans
from cardioner.data.notes import NoteSource
from cardioner.data.splits import read_splits
from cardioner.errors import DataError, UsageError, listed, many

OnError = Literal["stop", "skip"]
Writable = Literal[
    "brat",
    "tsv",
    "jsonl",
    "conll",
    "datasets",
    "pubtator",
    "xmi",
    "bioc",
    "docbin",
    "doccano",
    "label-studio",
    "prodigy",
]
"""The names of `cardioner.data.formats.FORMATS`."""
Readable = Literal[Writable, "spacy"]
"""The names of `cardioner.data.formats.READERS`."""
_READABLE = ", ".join(get_args(Readable))
WRITABLE = ", ".join(get_args(Writable))

MapOption = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="OLD=NEW", help="Rename an entity type; OLD= drops it. May be given several times."),
]
FormatOption = Annotated[
    Readable | None,
    typer.Option("--from", metavar="FORMAT", help=f"{_READABLE}. Default: what the content looks like."),
    Earlier("--format"),
]
EncodingOption = Annotated[str, typer.Option(metavar="NAME", help="Encoding of the files, such as latin-1 or cp1252.")]
TextsOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Folder of the .txt notes of a TSV file, if they are elsewhere.")
]
OnErrorOption = Annotated[
    OnError,
    typer.Option(metavar="WAY", help="stop names all malformed rows and ends; skip leaves them out and counts them."),
]
UnannotatedOption = Annotated[
    bool, typer.Option("--allow-unannotated", help="Take notes without annotations as notes without entities.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]
LogFileOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Append everything that is shown on standard error to a file, with the time."),
]
JsonAloneOption = Annotated[bool, typer.Option("--json", help="Print JSON alone on standard output.")]


@dataclass(frozen=True)
class ReadingOptions:
    """How annotated notes are read."""

    mapping: MapOption = None
    format: FormatOption = None
    encoding: EncodingOption = "utf-8"
    texts: TextsOption = None

    @property
    def names(self) -> dict[str, str]:
        """The new name of each type that gets one, `""` for one that is dropped.

        Raises:
            UsageError: If a pair has another form than `OLD=NEW`, or a name is mapped twice.
        """
        mapping: dict[str, str] = {}
        for pair in self.mapping or ():
            old, equals, new = pair.partition("=")
            if not equals or not old.strip():
                raise UsageError(f"--map takes OLD=NEW, or OLD= to drop a type; found {pair!r}")
            if len(new.split()) > 1:
                raise UsageError(f"--map: brat and CoNLL cannot hold types with white space; found {new!r}")
            if mapping.setdefault(old.strip(), new.strip()) != new.strip():
                raise UsageError(f"--map gives {old.strip()!r} two names")
        return mapping

    def options(self, on_error: OnError = "stop", *, allow_unannotated: bool = True) -> ReadOptions:
        """As the readers take it."""
        return ReadOptions(self.format, self.encoding, self.texts, on_error, require_annotations=not allow_unannotated)


@dataclass(frozen=True)
class NoteOptions:
    """How notes are read that need no annotations."""

    format: Annotated[
        Readable | None,
        typer.Option("--from", metavar="FORMAT", help="The format of the notes. Default: what the content looks like."),
    ] = None
    encoding: EncodingOption = "utf-8"
    texts: TextsOption = None

    def source(self, paths: Sequence[Path], only: frozenset[str] | None = None) -> NoteSource:
        """The notes at some places, or those of some ids."""
        return NoteSource(tuple(paths), self.encoding, self.texts, self.format, only)


@dataclass(frozen=True)
class PartOptions:
    """Which of the notes are meant: all, or one part of a splits file."""

    splits: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Take one part of the notes: a file of `cardioner split`.")
    ] = None
    part: Annotated[
        Literal["train", "validation", "test"] | None,
        typer.Option(metavar="NAME", help="With --splits: train, validation or test. Default: test."),
    ] = None

    def ids(self) -> frozenset[str] | None:
        """The ids of the notes in the part; `None` for all notes.

        Raises:
            UsageError: If a part is named and no file.
            DataError: If the file cannot be read, or the part is empty.
        """
        if self.splits is None:
            if self.part is not None:
                raise UsageError("--part names a part of a splits file: give --splits FILE too")
            return None
        name = self.part or "test"
        if not (ids := frozenset(getattr(read_splits(self.splits), name))):
            raise DataError(f"{self.splits} lists no {name} notes: expected ids under {name!r}")
        tell(f"Of {self.splits}: the {name} part, {many(len(ids), 'note')}")
        return ids

    def select(self, gold: Sequence[Note], *predicted: Sequence[Note]) -> list[list[Note]]:
        """The part's notes of the gold ones, and of each prediction what is not of another part.

        Raises:
            UsageError: If a part is named and no file.
            DataError: If the file cannot be read, or the part has a note that the gold notes lack.
        """
        known, ids = {note.id for note in gold}, self.ids()
        if unknown := (ids or frozenset()) - known:
            raise DataError(f"{many(len(unknown), 'note')} of {self.splits} are not among the gold: {listed(unknown)}")
        elsewhere = known - ids if ids else set()
        return [[note for note in side if note.id not in elsewhere] for side in (gold, *predicted)]


BY_DEFAULT = ReadOptions()

_OF_SEVERAL_FORMATS = {".json", ".tab", ".txt", ".xml"}
"""Suffixes of files whose content tells their format."""


def read_parts(
    paths: Sequence[Path], mapping: dict[str, str], options: ReadOptions = BY_DEFAULT
) -> list[list[Document]]:
    """Read corpora, rename their types, and show what was left out or repaired.

    Raises:
        DataError: If one cannot be used, or `mapping` names a type that none of them has.
    """
    return _read(paths, mapping, options, stream_corpus)


def read_spans(
    paths: Sequence[Path], mapping: dict[str, str], options: ReadOptions = BY_DEFAULT
) -> list[list[Document | Annotations]]:
    """As `read_parts`, for what needs no text: a table whose notes are missing gives only its spans, note by note."""
    return _read(paths, mapping, options, stream_spans)


def _read(
    paths: Sequence[Path], mapping: dict[str, str], options: ReadOptions, stream: Callable[..., Iterator[Note]]
) -> list[list[Note]]:
    parts = []
    for path in paths:
        reading = Reading(options)
        parts.append(list(stream(path, reading=reading)))
        if options.format is None and path.is_file() and path.suffix.lower() in _OF_SEVERAL_FORMATS:
            tell(f"{path} was read as {detect_format(path, options.encoding)} (another format: --from)")
        show_issues(f"Left out or repaired in {path}", reading.report.issues)
    check_mapping(mapping, {span.label for part in parts for document in part for span in document.spans})
    return [rename_labels(part, mapping) for part in parts]


def check_mapping(mapping: dict[str, str], found: set[str]) -> None:
    """Refuse a mapping of types that the data does not have.

    Raises:
        DataError: Naming them.
    """
    if unknown := sorted(set(mapping) - found):
        raise DataError(
            f"--map names {', '.join(unknown)}; the data has the types {', '.join(sorted(found)) or 'none'}"
        )


def show_issues(title: str, issues: Sequence[Issue]) -> None:
    """A table of what a reader or a writer left out or repaired."""
    if issues:
        rows = [(issue.kind, issue.where, issue.count) for issue in issues]
        show(table(title, ("what", "first", "count"), rows, left=2))
