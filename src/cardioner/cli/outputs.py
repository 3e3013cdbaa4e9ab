"""Where commands write: pages, models, standard output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from cardioner._io import STANDARD_OUTPUT, check_file, check_no_file, is_stream
from cardioner.cli.console import tell
from cardioner.data.formats.files import files_below, is_hidden
from cardioner.data.formats.labeling_interface import AttributeValues, labeling_interface
from cardioner.errors import OutputError, UsageError, many
from cardioner.model_dir.layout import CONFIG
from cardioner.reports.html import check_installed, write_page

_LEFT_BY_TRAINING = {"checkpoints", "logs", "mlruns", "summary.json", "ablation.json"}
"""What a training that ended before there was a model may leave, and the same command may find again."""

IdsOnlyOption = Annotated[bool, typer.Option("--ids-only", help="With --html: leave out the text of the notes.")]
OverwritePageOption = Annotated[bool, typer.Option("--overwrite", help="With --html: replace the page.")]


def check_page(html: Path | None, inputs: Sequence[Path | None], *, overwrite: bool) -> None:
    """Refuse a page that is asked for and cannot be written, before the work begins.

    Raises:
        UsageError: If its name does not end in .html, if it would lie in a corpus, or if a package is missing.
        OutputError: If it exists already.
    """
    if html is None:
        return
    check_installed()
    if html.suffix.lower() not in (".html", ".htm") and not (is_stream(html) and html != STANDARD_OUTPUT):
        raise UsageError(f"--html {html}: expected its name to end in .html, so that no note is overwritten")
    place = html.resolve()
    if any(path.resolve() in (place, *place.parents) for path in inputs if path):
        raise UsageError(f"--html {html} is a corpus or lies in one: choose another place")
    check_file(html, overwrite=overwrite)


def check_outside(output: Path, corpus: Path) -> None:
    """Refuse a new file or folder in the folder of a corpus, where it would be read as a part of it next time.

    Raises:
        OutputError: If it lies there.
    """
    if not is_stream(output) and corpus.resolve() in output.resolve().parents:
        raise OutputError(f"{output} lies in the corpus {corpus}: choose a place outside of it")


def publish_page(page: str, html: Path, *, overwrite: bool, private: bool) -> None:
    """Write the page, for its owner's eyes alone if it holds the text of notes, and say where it is."""
    write_page(page, html, overwrite=overwrite, private=private)
    tell(f"Page: {html}" + (", which holds the text of notes: keep it private" if private else ""))


def check_model_folder(folder: Path, *, replace: bool) -> None:
    """Refuse a place for one model or several that holds something else; other models there are checked elsewhere.

    Raises:
        OutputError: Naming what is there.
    """
    check_no_file(folder)
    if replace or not folder.is_dir() or any(folder.rglob(CONFIG)):
        return
    found = (file.relative_to(folder) for file in files_below(folder) if not is_hidden(file, folder))
    if others := [file for file in found if file.parts[0] not in _LEFT_BY_TRAINING]:
        raise OutputError(
            f"{folder} holds {many(len(others), 'other file')}, such as {others[0]}; choose another folder, or write "
            "beside them with --overwrite"
        )


def place_name(path: Path) -> str:
    """What to call an output."""
    return "standard output" if path == STANDARD_OUTPUT else str(path)


def tell_interface(form: str, labels: Iterable[str], attributes: AttributeValues) -> None:
    """Show the labeling interface that a project of Label Studio needs for the tasks that were written."""
    if form == "label-studio":
        tell(f"Labeling interface for the project: {labeling_interface(labels, attributes)}")
