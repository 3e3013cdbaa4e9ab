"""What several commands take: corpora, how to read them, and the options that go with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from cardioner.cli.console import notices, table
from cardioner.cli.option_groups import Earlier
from cardioner.data.documents import Annotations, Document, Note, rename_labels
from cardioner.data.formats import Issue, Reading, ReadOptions, stream_corpus, stream_spans
from cardioner.errors import DataError, UsageError

OnError = Literal["stop", "skip"]
FormatName = Literal["brat", "tsv", "jsonl", "conll", "datasets"]
_NAMES = "brat, tsv, jsonl, conll or datasets"

MapOption = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="OLD=NEW", help="Rename an entity type; OLD= drops it. May be given several times."),
]
FormatOption = Annotated[
    FormatName | None,
    typer.Option("--from", metavar="FORMAT", help=f"{_NAMES}. Default: what the content looks like."),
    Earlier("--format"),
]
EncodingOption = Annotated[str, typer.Option(metavar="NAME", help="Of the files, such as latin-1 or cp1252.")]
TextsOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The .txt notes of a TSV file that lies elsewhere.")
]
OnErrorOption = Annotated[
    OnError,
    typer.Option(metavar="WAY", help="stop names all malformed rows and ends; skip leaves them out and counts them."),
]
UnannotatedOption = Annotated[
    bool, typer.Option("--allow-unannotated", help="Take notes without annotations as notes without entities.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]
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
                raise UsageError(f"--map: a type's name has no white space, as no file could hold it; found {new!r}")
            if mapping.setdefault(old.strip(), new.strip()) != new.strip():
                raise UsageError(f"--map gives {old.strip()!r} two names")
        return mapping

    def options(self, on_error: OnError = "stop", *, allow_unannotated: bool = True) -> ReadOptions:
        """As the readers take it."""
        return ReadOptions(self.format, self.encoding, self.texts, on_error, require_annotations=not allow_unannotated)


BY_DEFAULT = ReadOptions()


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
        notices.print(table(title, ("what", "first", "count"), rows, left=2))
