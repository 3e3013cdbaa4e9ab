"""What several commands take: corpora, `--map`, and how to read them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cardioner.cli.console import notices, table
from cardioner.documents import Document, rename_labels
from cardioner.errors import DataError, UsageError
from cardioner.formats import Remark, read_corpus

MapOption = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="OLD=NEW", help="Rename an entity type; OLD= drops it. May be given several times."),
]
DeviceOption = Annotated[str, typer.Option(help="auto takes the GPU where there is one; or cpu, cuda.")]


def parse_mapping(pairs: Sequence[str] | None) -> dict[str, str]:
    """`OLD=NEW` pairs as a mapping.

    Raises:
        UsageError: If one has another form, or a name is mapped twice.
    """
    mapping: dict[str, str] = {}
    for pair in pairs or ():
        old, equals, new = pair.partition("=")
        if not equals or not old.strip():
            raise UsageError(f"--map takes OLD=NEW, or OLD= to drop a type; found {pair!r}")
        if len(new.split()) > 1:
            raise UsageError(f"--map: a type's name has no white space, as no file could hold it; found {new!r}")
        if mapping.setdefault(old.strip(), new.strip()) != new.strip():
            raise UsageError(f"--map gives {old.strip()!r} two names")
    return mapping


def read_parts(
    paths: Sequence[Path], mapping: dict[str, str], *, require_annotations: bool = False
) -> list[list[Document]]:
    """Read corpora, rename their types, and show what was set aside.

    Raises:
        DataError: If one cannot be used, or `mapping` names a type that none of them has.
    """
    parts = []
    for path in paths:
        corpus = read_corpus(path, require_annotations=require_annotations)
        show_remarks(path, corpus.remarks)
        parts.append(corpus.documents)
    found = {span.label for part in parts for document in part for span in document.spans}
    if unknown := sorted(set(mapping) - found):
        raise DataError(
            f"--map names {', '.join(unknown)}; the data has the types {', '.join(sorted(found)) or 'none'}"
        )
    return [rename_labels(part, mapping) for part in parts]


def show_remarks(path: Path, remarks: Sequence[Remark]) -> None:
    """A table of what a reader set aside."""
    if remarks:
        rows = [(remark.kind, remark.where, remark.count) for remark in remarks]
        notices.print(table(f"Set aside in {path}", ("what", "first", "count"), rows, left=2))
