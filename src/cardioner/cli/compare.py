"""`cardioner compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cardioner.cli.console import interval_text, notices, output, print_json, table
from cardioner.cli.evaluate import SeedOption, report_pairing
from cardioner.cli.inputs import (
    EncodingOption,
    FormatOption,
    JsonOption,
    MapOption,
    TextsOption,
    UnannotatedOption,
    parse_mapping,
    read_spans,
)
from cardioner.data.formats import ReadOptions
from cardioner.errors import many

if TYPE_CHECKING:
    from rich.table import Table

    from cardioner.evaluation.comparison import Comparison


Criterion = Literal["strict", "exact", "partial", "type", "relaxed"]


def compare(  # noqa: PLR0913 - one parameter an option
    first: Annotated[Path, typer.Argument(metavar="A", help="The notes with the spans that system A predicted.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="The same notes with the spans that system B predicted.")],
    gold: Annotated[Path, typer.Option(metavar="PATH", help="The annotated notes.")],
    criterion: Annotated[
        Criterion, typer.Option(metavar="NAME", help="strict, exact, partial, type or relaxed; JSON has all.")
    ] = "strict",
    bootstrap: Annotated[
        int, typer.Option("--bootstrap", min=1, metavar="N", help="Number of resamples, and of swaps.")
    ] = 10_000,
    seed: SeedOption = 0,
    mapping: MapOption = None,
    format: FormatOption = None,  # noqa: A002 - the name of the option
    encoding: EncodingOption = "utf-8",
    texts: TextsOption = None,
    allow_unannotated: UnannotatedOption = False,
    json: JsonOption = False,
) -> None:
    """Compare two predictions, A and B: the difference in F1, its 95 % interval, and its p-value.

    The interval comes from resampled documents; the p-value from swapping predictions between A and B, document by
    document. With many types, some p-value will be small by chance: look at micro first.

    Example: cardioner compare tagged-crf tagged-linear --gold notes/test
    """
    options = ReadOptions(format, encoding, texts, require_annotations=not allow_unannotated)
    annotated, *sides = read_spans([gold, first, second], parse_mapping(mapping), options)
    with notices.status("comparing"):
        from cardioner.evaluation.comparison import compare as compare_documents  # noqa: PLC0415 - loads numpy

        found = compare_documents(*sides, gold=annotated, samples=bootstrap, seed=seed)
    for name, pairing in zip("AB", found.pairings, strict=True):
        report_pairing(pairing, name)
    if json:
        print_json(found.to_dict())
    else:
        output.print(_table(found, criterion))


def _table(found: Comparison, criterion: str) -> Table:
    """A row for each of micro, macro and the types: F1 of both, and their difference."""
    rows = []
    places = {f"per_type/{name}": name for name in found.types} | {"micro": "micro", "macro": "macro"}
    for place, name in places.items():
        one = found.of(criterion, place, "f1")
        difference = f"{one.first - one.second:+.3f}"
        rows.append((name, one.first, one.second, difference, interval_text(one.interval), f"{one.p_value:.4f}"))
    columns = ("type", "F1 of A", "F1 of B", "A - B", "A - B, 95 %", "p")
    return table(f"A against B, {criterion} spans, {many(found.documents, 'note')}", columns, rows, totals=2)
