"""`cardioner compare`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cardioner.cli.console import interval_text, notices, output, print_json, table
from cardioner.cli.evaluate import SeedOption, tell_of_pairing
from cardioner.cli.inputs import (
    EncodingOption,
    FormatOption,
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

    from cardioner.evaluation.intervals import Comparison


class Criterion(str, Enum):
    """The criteria by name."""

    strict = "strict"
    exact = "exact"
    partial = "partial"
    type = "type"
    relaxed = "relaxed"


def compare(  # noqa: PLR0913 - one parameter an option
    first: Annotated[Path, typer.Argument(metavar="A", help="Notes as one system tagged them.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="The same notes, as another one did.")],
    gold: Annotated[Path, typer.Option(metavar="PATH", help="The annotated notes.")],
    criterion: Annotated[
        Criterion, typer.Option(metavar="NAME", help="strict, exact, partial, type or relaxed; JSON has all.")
    ] = Criterion.strict,
    bootstrap: Annotated[
        int, typer.Option("--bootstrap", min=1, metavar="N", help="Samples of documents, and swaps of predictions.")
    ] = 10_000,
    seed: SeedOption = 0,
    mapping: MapOption = None,
    format: FormatOption = None,  # noqa: A002 - the name of the option
    encoding: EncodingOption = "utf-8",
    texts: TextsOption = None,
    allow_unannotated: UnannotatedOption = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON alone on standard output.")] = False,
) -> None:
    """Tell whether A is better than B: the difference, its 95 % interval, and how easily chance makes it.

    Documents are resampled for the interval, and predictions swapped document by document for the p-value. With many
    types, some p-value is small by chance: look at micro first.

    Example: cardioner compare tagged-crf tagged-linear --gold notes/test
    """
    options = ReadOptions(format, encoding, texts, require_annotations=not allow_unannotated)
    wanted, *sides = read_spans([gold, first, second], parse_mapping(mapping), options)
    with notices.status("comparing"):
        from cardioner.evaluation.intervals import compare as compare_pairs  # noqa: PLC0415 - loads numpy
        from cardioner.evaluation.pairing import pair_with_each  # noqa: PLC0415

        here, there = pair_with_each(wanted, *sides)
        found = compare_pairs(here.pairs, there.pairs, samples=bootstrap, seed=seed)
    tell_of_pairing(here, "A")
    tell_of_pairing(there, "B")
    if json:
        print_json(found.to_dict())
    else:
        output.print(_table(found, criterion.value))


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
