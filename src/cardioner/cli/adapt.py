"""`cardioner adapt`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cardioner.cli.console import open_log, print_json, quieten, showing_progress, tell
from cardioner.cli.inputs import (
    JsonAloneOption,
    LogFileOption,
    NoteOptions,
    PartOptions,
    show_issues,
)
from cardioner.cli.option_groups import grouped
from cardioner.data.formats import ReadReport
from cardioner.errors import many
from cardioner.training.options import AdaptationOptions

if TYPE_CHECKING:
    from cardioner.training.adaptation import Adaptation


@grouped()
def adapt(  # noqa: PLR0913 - one parameter an option
    notes: Annotated[
        list[Path],
        typer.Argument(metavar="NOTES...", help="Notes: .txt files, folders of them, corpora of any format."),
    ],
    *,
    output: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write, for train --backbone.")],
    backbone: Annotated[
        str | None,
        typer.Option(metavar="NAME_OR_DIR", help="The encoder to adapt. Default: the bundled MiniLM-L6."),
    ] = None,
    options: AdaptationOptions,
    part: PartOptions,
    reading: NoteOptions,
    log_file: LogFileOption = None,
    json: JsonAloneOption = False,
) -> None:
    """Adapt an encoder to the language of your notes before you train; the notes need no annotations.

    It learns to guess hidden words. It may reveal parts of the notes: it is as confidential as they are.

    Leave out the notes that you will test on (--splits FILE --part train): on these, scores would be too high.

    Example: cardioner adapt notes --output encoder, then cardioner train --backbone encoder ...
    """
    from cardioner.training.adaptation import adapt as run  # noqa: PLC0415 - torch, and slow
    from cardioner.training.adaptation import check_place  # noqa: PLC0415

    open_log(log_file)
    check_place(output, overwrite=options.overwrite)
    source, reports = reading.source(notes, part.ids()), list[tuple[str, ReadReport]]()
    quieten()
    with showing_progress() as stages:
        with stages.busy("reading the notes"):
            documents = list(source.read(reports))
        made = run(documents, output, backbone=backbone, options=options, progress=stages)
    for place, report in reports:
        show_issues(f"Left out or repaired in {place}", report.issues)
        for problem in report.problems:
            tell(f"warning: not learned from: {problem}")
    _show(made)
    if json:
        print_json(made.to_dict())


def _show(made: Adaptation) -> None:
    """What was learned from, and what was gained."""
    sizes = f"{many(made.notes, 'note')}, {many(made.windows, 'window')}, {many(made.sub_tokens, 'sub-token')}"
    tell(f"Learned from {sizes}: {many(made.steps, 'step')} in {made.seconds:.0f} s")
    unseen = many(made.held_out, "held-out note")
    tell(f"Perplexity of hidden sub-tokens on {unseen}: {made.before:,.1f} before, {made.after:,.1f} after")
    if made.fresh_head:
        tell(
            "This encoder came without a head for masked language modelling: a new one was trained with it, so the "
            "perplexity before says nothing about the encoder"
        )
    tell(f"Encoder: {made.output_dir} (cardioner train --backbone {made.output_dir})")
