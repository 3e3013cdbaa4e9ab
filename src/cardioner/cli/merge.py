"""`cardioner merge`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cardioner.cli.console import open_log, print_json, quieten, show, showing_progress, table, tell
from cardioner.cli.inputs import JsonAloneOption, LogFileOption, OnErrorOption, ReadingOptions, read_parts
from cardioner.cli.option_groups import grouped
from cardioner.cli.outputs import check_model_folder

if TYPE_CHECKING:
    from cardioner.training.merging import Merged


@grouped()
def merge(  # noqa: PLR0913 - one parameter an option
    models: Annotated[
        list[Path],
        typer.Argument(metavar="MODEL...", help="Model directories, or a folder that --folds or --seeds wrote."),
    ],
    *,
    evaluation: Annotated[
        Path, typer.Option("--eval", metavar="PATH", help="Annotated notes that none of them learned from.")
    ],
    output: Annotated[Path, typer.Option(metavar="DIR", help="The model directory to write.")],
    method: Annotated[
        Literal["mean", "slerp"],
        typer.Option(metavar="WAY", help="mean of any number of models; slerp between two, along an arc."),
    ] = "mean",
    reading: ReadingOptions,
    on_error: OnErrorOption = "stop",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model that DIR holds.")] = False,
    log_file: LogFileOption = None,
    json: JsonAloneOption = False,
) -> None:
    """Merge models that began from the same weights into one whose weights lie between theirs: as fast as one of them.

    It is scored beside its parts: whether it is better than they are depends on the models.

    Models of several folds began from the same weights, those of several seeds only if --backbone was a model.

    Example: cardioner merge folds --eval notes/dev --output model
    """
    open_log(log_file)
    check_model_folder(output, replace=overwrite)
    quieten()
    from cardioner.training.merging import merge as run  # noqa: PLC0415 - torch, and slow

    (documents,) = read_parts([evaluation], reading.names, reading.options(on_error))
    with showing_progress() as stages:
        made = run(models, output, evaluation=documents, method=method, overwrite=overwrite, progress=stages)
    show_merged(made)
    if json:
        print_json(made.to_dict())


def show_merged(made: Merged) -> None:
    """The scores of parts and whole, and what was gained."""
    scores = {**{str(place): found for place, found in made.parts.items()}, "merged": made.scored.scores}
    found = {name: one.strict.micro for name, one in scores.items()}
    rows = [(name, micro.precision, micro.recall, micro.f1) for name, micro in found.items()]
    show(table("Strict spans on the evaluation notes", ("model", "precision", "recall", "F1"), rows, totals=1))
    if made.gain < 0:
        tell(f"warning: the merged model is {-made.gain:.3f} below the best of its parts: take that one")
    tell(f"Model: {made.output_dir}")
