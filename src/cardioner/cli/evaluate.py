"""`cardioner evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cardioner.cli.console import output, print_json, score_table
from cardioner.cli.inputs import MapOption, parse_mapping, read_parts
from cardioner.evaluation import score_strict


def evaluate(
    gold: Annotated[Path, typer.Argument(metavar="GOLD", help="The annotated notes: a brat folder.")],
    predicted: Annotated[Path, typer.Argument(metavar="PREDICTED", help="The same notes, as tagged.")],
    mapping: MapOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON alone on standard output.")] = False,
) -> None:
    """Score predicted spans: a hit has the same first and last character and the same type.

    Example: cardioner evaluate notes/test tagged
    """
    scores = score_strict(*read_parts([gold, predicted], parse_mapping(mapping), require_annotations=True))
    if json:
        print_json(scores.to_dict())
    else:
        output.print(score_table(f"Strict spans, {scores.documents} notes", scores))
