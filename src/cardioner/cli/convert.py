"""`cardioner convert`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from cardioner._io import is_stream
from cardioner.cli.console import Stages, show, showing_progress, table, tell
from cardioner.cli.inputs import WRITABLE, OnErrorOption, ReadingOptions, Writable, check_mapping, show_issues
from cardioner.cli.option_groups import grouped
from cardioner.cli.outputs import check_outside, place_name, tell_interface
from cardioner.data.documents import Document, rename_labels
from cardioner.data.formats import Reading, format_of_name, stream_corpus, write_corpus
from cardioner.errors import UsageError


@grouped()
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A folder or a file of annotated notes.")],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="The folder or the file to write; - is standard output.")
    ],
    *,
    to: Annotated[
        Writable | None,
        typer.Option(metavar="FORMAT", help=f"{WRITABLE}. Default: by the suffix of OUT."),
    ] = None,
    reading: ReadingOptions,
    on_error: OnErrorOption = "stop",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what OUT holds.")] = False,
) -> None:
    """Convert annotated notes from one format to another, and count what the new format cannot hold.

    Notes are read one at a time, so a corpus may be larger than memory. If anything fails, OUT is not written at all.

    Example: cardioner convert notes notes.jsonl
    """
    if to is None and not target.suffix and not is_stream(target):
        raise UsageError(f"{target}: choose a format for it with --to: {WRITABLE}")
    check_outside(target, source)
    chosen = to or format_of_name(target)
    names, labels, said = reading.names, Counter[str](), defaultdict[str, set[str | bool]](set)
    progress = Reading(reading.options(on_error))
    with showing_progress() as stages:
        documents = _pass(stream_corpus(source, reading=progress), names, labels=labels, said=said, stages=stages)
        lost = write_corpus(documents, target, chosen, overwrite=overwrite)
    show_issues(f"Left out or repaired in {source}", progress.report.issues)
    show_issues(f"Not in {target}, as {chosen} cannot hold it", lost)
    kept = Counter({names.get(label, label): 0 for label in labels})
    for label, count in labels.items():
        kept[names.get(label, label)] += count
    show(table("Spans read", ("type", "spans"), sorted((label, n) for label, n in kept.items() if label)))
    tell_interface(chosen, filter(None, kept), said)
    tell(f"Notes: {place_name(target)}")


def _pass(
    documents: Iterator[Document],
    names: dict[str, str],
    *,
    labels: Counter[str],
    said: defaultdict[str, set[str | bool]],
    stages: Stages,
) -> Iterator[Document]:
    """Rename and count documents as they pass; at the end, refuse a renaming of a type that none had."""
    for number, document in enumerate(documents, start=1):
        labels.update(span.label for span in document.spans)
        for name, value in (one for span in document.spans for one in span.attributes.items()):
            said[name].add(value)
        stages("converting (notes)", number, None)
        yield from rename_labels([document], names)
    check_mapping(names, set(labels))
