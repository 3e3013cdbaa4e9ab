"""What commands that write an HTML report share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cardioner.cli.console import tell
from cardioner.errors import OutputError, UsageError
from cardioner.reports.html import check_installed, write_page


def check_page(html: Path, inputs: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse a page that cannot be written, before the work begins.

    Raises:
        UsageError: If its name does not end in .html, if it would lie in a corpus, or if a package is missing.
        OutputError: If it exists already.
    """
    check_installed()
    if html.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--html {html}: expected its name to end in .html, so that no note is overwritten")
    place = html.resolve()
    if any(path.resolve() in (place, *place.parents) for path in inputs):
        raise UsageError(f"--html {html} is a corpus or lies in one: choose another place")
    if html.is_dir():
        raise OutputError(f"{html} is a folder; expected a file, or a place for a new one")
    if html.exists() and not overwrite:
        raise OutputError(f"{html} exists; choose another name, or replace it with --overwrite")


def publish_page(page: str, html: Path, *, overwrite: bool, private: bool) -> None:
    """Write the page, and say where it is and whether it contains the text of notes."""
    write_page(page, html, overwrite=overwrite)
    tell(f"Page: {html}" + (", which holds the text of notes: keep it private" if private else ""))
