"""`cardioner evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cardioner.cli.console import output, print_json, score_table
from cardioner.cli.inputs import (
    EncodingOption,
    FormatOption,
    MapOption,
    TextsOption,
    UnannotatedOption,
    Wishes,
    parse_mapping,
    read_parts,
)
from cardioner.evaluation import score_strict


def evaluate(  # noqa: PLR0913 - one parameter an option
    gold: Annotated[Path, typer.Argument(metavar="GOLD", help="The annotated notes, in any format.")],
    predicted: Annotated[Path, typer.Argument(metavar="PREDICTED", help="The same notes, as tagged.")],
    mapping: MapOption = None,
    format: FormatOption = None,  # noqa: A002 - the name of the option
    encoding: EncodingOption = "utf-8",
    texts: TextsOption = None,
    allow_unannotated: UnannotatedOption = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON alone on standard output.")] = False,
) -> None:
    """Score predicted spans: a hit has the same first and last character and the same type.

    Example: cardioner evaluate notes/test tagged
    """
    wishes = Wishes(format, encoding, texts, allow_unannotated=allow_unannotated)
    scores = score_strict(*read_parts([gold, predicted], parse_mapping(mapping), wishes))
    if json:
        print_json(scores.to_dict())
    else:
        output.print(score_table(f"Strict spans, {scores.documents} notes", scores))
