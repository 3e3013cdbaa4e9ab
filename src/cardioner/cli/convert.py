"""`cardioner convert`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from cardioner.cli.console import Stages, notices, progress_bars, table, tell
from cardioner.cli.inputs import (
    EncodingOption,
    FormatName,
    MapOption,
    OnError,
    OnErrorOption,
    TextsOption,
    Wishes,
    check_mapping,
    parse_mapping,
    show_remarks,
)
from cardioner.data.documents import Document, rename_labels
from cardioner.data.formats import write_corpus
from cardioner.errors import UsageError

_BY_SUFFIX = {".tsv": FormatName.tsv, ".jsonl": FormatName.jsonl, ".conll": FormatName.conll}


def convert(  # noqa: PLR0913 - one parameter an option
    source: Annotated[Path, typer.Argument(metavar="IN", help="A folder or a file of annotated notes.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The folder or the file to write.")],
    to: Annotated[
        FormatName | None,
        typer.Option(metavar="NAME", help="brat, tsv, jsonl, conll or datasets. Default: by the suffix of OUT."),
    ] = None,
    format: Annotated[  # noqa: A002 - the name of the option
        FormatName | None,
        typer.Option("--from", metavar="NAME", help="The format of IN. Default: what the content looks like."),
    ] = None,
    mapping: MapOption = None,
    encoding: EncodingOption = "utf-8",
    texts: TextsOption = None,
    on_error: OnErrorOption = OnError.stop,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what OUT holds.")] = False,
) -> None:
    """Turn annotated notes of one format into another, and count what that one cannot hold.

    Notes pass one at a time: a corpus may be larger than memory. OUT is written whole or not at all.

    Example: cardioner convert notes notes.jsonl
    """
    chosen = to or _BY_SUFFIX.get(target.suffix)
    if chosen is None:
        raise UsageError(f"which format shall {target} have? Give --to brat, tsv, jsonl, conll or datasets")
    names, labels = parse_mapping(mapping), Counter[str]()
    documents, reading = Wishes(format, encoding, texts, on_error).stream(source)
    with progress_bars() as stages:
        passing = _pass(documents, names, labels=labels, stages=stages)
        lost = write_corpus(passing, target, chosen.value, overwrite=overwrite)
    show_remarks(f"Set aside in {source}", reading.tally.remarks())
    show_remarks(f"What {chosen.value} does not hold of it", lost)
    kept = Counter({names.get(label, label): 0 for label in labels})
    for label, count in labels.items():
        kept[names.get(label, label)] += count
    notices.print(table("Spans read", ("type", "spans"), sorted((label, n) for label, n in kept.items() if label)))
    tell(f"Notes: {target}")


def _pass(
    documents: Iterator[Document], names: dict[str, str], *, labels: Counter[str], stages: Stages
) -> Iterator[Document]:
    """Rename, count and show documents on their way; refuse, at the end, a renaming that met nothing."""
    for number, document in enumerate(documents, start=1):
        labels.update(span.label for span in document.spans)
        stages("converting (notes)", number, None)
        yield from rename_labels([document], names)
    check_mapping(names, set(labels))
