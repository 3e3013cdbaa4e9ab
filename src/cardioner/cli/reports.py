"""What commands that write an HTML report share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cardioner.cli.console import tell
from cardioner.errors import OutputError, UsageError


def check_page(html: Path, inputs: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse a page that cannot be written, before the work begins.

    Raises:
        UsageError: If its name does not end in .html, if it would lie in a corpus, or if a package is missing.
        OutputError: If it exists already.
    """
    from cardioner.reports.html import check_installed  # noqa: PLC0415

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


def announce_page(html: Path, *, private: bool) -> None:
    """Say where the page is, and whether it contains the text of notes."""
    tell(f"Page: {html}" + (", which holds the text of notes: keep it private" if private else ""))
