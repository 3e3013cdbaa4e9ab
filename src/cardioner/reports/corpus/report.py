"""A check as one HTML page that needs nothing but itself: no network, no script, no file beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cardioner.data.quality.findings import spread_of
from cardioner.reports import check_installed, cut, render_page, type_styles, write_page
from cardioner.reports.corpus.plots import plot_report

if TYPE_CHECKING:
    from pathlib import Path

    from cardioner.data.documents import Document
    from cardioner.data.quality.findings import CheckReport, Spread

SHOWN = 50
"""Most rows of a list on the page."""


def render(report: CheckReport, *, ids_only: bool = False) -> str:
    """The page.

    Args:
        report: What was found.
        ids_only: Leave the text of the notes out; else the page holds up to ten notes, and is as private as they are.

    Returns:
        HTML, the same for the same report.

    Raises:
        UsageError: If jinja2 or matplotlib is missing.
    """
    check_installed()
    return render_page(
        "cardioner.reports.corpus",
        report=report,
        parts=[*report.parts, report.total] if len(report.parts) > 1 else report.parts,
        flat=report.flat_tags,
        groups=sorted(report.near_duplicates, key=lambda group: not group.is_leak),
        plots=plot_report(report),
        spreads=_spreads(report),
        styles=type_styles(report.total.per_type),
        examples=[_example(member.part, document, ids_only=ids_only) for member, document in report.examples],
        ids_only=ids_only,
        shown=SHOWN,
    )


def write_report(report: CheckReport, path: Path, *, ids_only: bool = False, overwrite: bool = False) -> None:
    """Write the page as a file.

    Raises:
        UsageError: If jinja2 or matplotlib is missing.
        OutputError: If the file exists and may not be replaced, or cannot be written.
    """
    write_page(render(report, ids_only=ids_only), path, overwrite=overwrite)


def _spreads(report: CheckReport) -> list[tuple[str, int, Spread]]:
    """Rows of the table of lengths: what, of how many, and how they are spread."""
    total = report.total
    rows = [
        (f"{label}, characters", total.per_type[label], spread_of(total.lengths[label])) for label in total.per_type
    ]
    rows.append(("all types, characters", total.entities, spread_of(total.all_lengths)))
    rows += [
        (f"{part.name}, entities per document", part.documents, spread_of(part.per_document)) for part in report.parts
    ]
    return [(what, count, spread) for what, count, spread in rows if spread is not None]


def _example(part: str, document: Document, *, ids_only: bool) -> dict[str, Any]:
    """A document as the template takes it: its spans, and its segments unless the text is to be left out."""
    segments = [] if ids_only else cut(len(document.text), document.spans)
    return {
        "part": part,
        "id": document.id,
        "spans": document.spans,
        "characters": len(document.text),
        "segments": [(document.text[segment.start : segment.end], segment.marks) for segment in segments],
        "depth": max((mark.lane for segment in segments for mark in segment.marks), default=0),
    }
