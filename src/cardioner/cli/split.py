"""`cardioner split`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cardioner._io import check_file, check_no_file, is_stream, reporting_failed_writes, staging
from cardioner.cli.console import show, table, tell
from cardioner.cli.inputs import OnErrorOption, ReadingOptions, UnannotatedOption, read_parts
from cardioner.cli.option_groups import grouped
from cardioner.cli.outputs import check_outside, place_name
from cardioner.data.documents import Document
from cardioner.data.near_duplicates import Group, group_near_duplicates
from cardioner.data.splits import Splits, apply_splits, make_folds, make_splits, write_older_splits, write_splits
from cardioner.errors import OutputError, UsageError, many

_RATIOS = "80,10,10"
_MEASURES = ("notes", "notes without entities", "characters")
_FOLD = re.compile(r"fold-\d+\.json")


@grouped()
def split(  # noqa: PLR0913 - one parameter an option
    corpus: Annotated[Path, typer.Argument(metavar="CORPUS", help="Annotated notes: a folder or a file.")],
    *,
    output: Annotated[Path, typer.Option(metavar="PATH", help="The JSON file to write; with --folds a folder.")],
    ratios: Annotated[
        str | None,
        typer.Option(metavar="N,N,N", help=f"Shares of train, validation and test. Default: {_RATIOS}."),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, metavar="N", help="Write fold-1.json to fold-N.json, for cross-validation.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="For the random choices; another seed gives other parts.")] = 0,
    older: Annotated[
        str | None,
        typer.Option(
            metavar="LANGUAGE",
            help="Write the older form of a splits file, which lists notes by language and entity type.",
        ),
    ] = None,
    reading: ReadingOptions,
    on_error: OnErrorOption = "stop",
    allow_unannotated: UnannotatedOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the splits that PATH holds.")] = False,
) -> None:
    """Divide a corpus into parts for `cardioner train --splits`, each with its share of every entity type.

    Notes stay whole, and near duplicates go to the same part. The same notes and seed give the same parts.

    Example: cardioner split notes --output splits.json --ratios 80,10,10
    """
    if folds is not None and ratios is not None:
        raise UsageError("--folds makes equal parts: give either --folds or --ratios")
    if older is not None and not older.strip():
        raise UsageError("--older takes the name of a language, such as en")
    shares = _parse_ratios(ratios or _RATIOS)
    with reporting_failed_writes(output):
        _check_target(output, corpus, folder=folds is not None, overwrite=overwrite)
    options = reading.options(on_error, allow_unannotated=allow_unannotated)
    (documents,) = read_parts([corpus], reading.names, options)
    groups = group_near_duplicates((document.id, document.text) for document in documents)
    if folds is None:
        made: tuple[Splits, ...] = (make_splits(documents, shares, seed=seed, groups=groups),)
        parts = dict(zip(("train", "validation", "test"), apply_splits(documents, made[0]), strict=True))
    else:
        made = make_folds(documents, folds, seed=seed, groups=groups)
        parts = {f"fold {number}": apply_splits(documents, fold)[1] for number, fold in enumerate(made, start=1)}
    write = write_splits if older is None else partial(write_older_splits, documents=documents, language=older)
    if folds is None:
        write(made[0], path=output, overwrite=overwrite)
    else:
        _write_folds(made, output, write)
    _show(parts, groups)
    tell(f"Splits: {place_name(output)}")


def _parse_ratios(text: str) -> tuple[float, float, float]:
    """`80,10,10` as numbers; whether they can be shares is for `make_splits` to say."""
    try:
        train, validation, test = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"--ratios takes the shares of train, validation and test, such as {_RATIOS}; found {text!r}"
        ) from None
    return train, validation, test


def _check_target(output: Path, corpus: Path, *, folder: bool, overwrite: bool) -> None:
    """Refuse, before the corpus is read, a place that cannot be written.

    Raises:
        OutputError: Naming the place.
    """
    if output.resolve() == corpus.resolve():
        raise OutputError(f"{output} is the corpus: choose another place for the splits")
    check_outside(output, corpus)
    if not folder:
        if output.suffix.lower() not in ("", ".json") and not is_stream(output):
            raise UsageError(f"--output {output}: the splits are JSON; expected a name that ends in .json")
        check_file(output, overwrite=overwrite)
        return
    check_no_file(output)
    if not overwrite and output.is_dir() and any(output.iterdir()):
        raise OutputError(f"{output} exists; choose another name, or ask to overwrite it (--overwrite)")


def _write_folds(made: Sequence[Splits], output: Path, write: Callable[..., None]) -> None:
    """Write all files to a temporary folder, then move them to their places.

    Earlier folds in the folder are removed, as they could be mistaken for some of these. Other files stay.
    """
    with staging(output) as stage:
        for number, splits in enumerate(made, start=1):
            write(splits, path=stage / f"fold-{number}.json")
        output.mkdir(exist_ok=True)
        for path in output.iterdir():
            if _FOLD.fullmatch(path.name):
                path.unlink()
        for path in stage.iterdir():
            path.replace(output / path.name)


def _show(parts: Mapping[str, Sequence[Document]], groups: Sequence[Group]) -> None:
    """What each part holds, as numbers and as shares of the whole."""
    counts = {name: _count(part) for name, part in parts.items()}
    total = sum(counts.values(), Counter[str]())
    rows = [
        (what, *(f"{count[what]} ({count[what] / total[what]:.1%})" for count in counts.values()), total[what])
        for what in sorted(total, key=lambda what: (what not in _MEASURES, what))
    ]
    show(table("Parts", ("", *parts, "all"), rows))
    together, identical = sum(len(group.ids) for group in groups), sum(group.identical for group in groups)
    tell(
        f"Near duplicates kept together: {many(len(groups), 'group')} of {many(together, 'note')} in all; "
        f"in {many(identical, 'group')} all notes are identical"
    )


def _count(documents: Sequence[Document]) -> Counter[str]:
    """Measures of some notes, and their entities of each type."""
    counts = Counter(f"entities: {span.label}" for document in documents for span in document.spans)
    counts["notes"] = len(documents)
    counts["notes without entities"] = sum(not document.spans for document in documents)
    counts["characters"] = sum(len(document.text) for document in documents)
    return counts
