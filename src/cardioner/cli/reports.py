"""What commands that write an HTML report share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cardioner.cli.console import tell
from cardioner.errors import OutputError, UsageError
from cardioner.reports.html import check_installed, write_page

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
    if html.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--html {html}: expected its name to end in .html, so that no note is overwritten")
    place = html.resolve()
    if any(path.resolve() in (place, *place.parents) for path in inputs if path):
        raise UsageError(f"--html {html} is a corpus or lies in one: choose another place")
    if html.is_dir():
        raise OutputError(f"{html} is a folder; expected a file, or a place for a new one")
    if html.exists() and not overwrite:
        raise OutputError(f"{html} exists; choose another name, or replace it with --overwrite")


def publish_page(page: str, html: Path, *, overwrite: bool, private: bool) -> None:
    """Write the page, and say where it is and whether it contains the text of notes."""
    write_page(page, html, overwrite=overwrite)
    tell(f"Page: {html}" + (", which holds the text of notes: keep it private" if private else ""))
