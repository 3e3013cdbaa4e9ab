"""A check as one HTML page that needs nothing but itself: no network, no script, no file beside it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from cardioner.checking.findings import spread_of
from cardioner.checking.highlight import cut
from cardioner.checking.plots import plot_report
from cardioner.errors import UsageError
from cardioner.formats.files import writing

if TYPE_CHECKING:
    from pathlib import Path

    from markupsafe import Markup

    from cardioner.checking.findings import CheckReport, Spread
    from cardioner.documents import Document

SHOWN = 50
"""Most rows of a list on the page."""

COLOURS = (
    "#1d5b9e", "#a8430b", "#2d6a2d", "#8a2d86", "#a3222f", "#00676b", "#6b4f00", "#4b4fa8", "#7a3b5c", "#4a5a2a",
)  # fmt: skip
"""Of types in order; white text on each of them, and each of them on white, has a contrast of at least 4.5 to 1."""

LINES = ("solid", "double", "dashed", "dotted")
"""Of types in order: they tell types apart that share a colour."""


def check_installed() -> None:
    """Refuse to begin without what draws the page.

    Raises:
        UsageError: Saying what to install.
    """
    missing = [name for name in ("jinja2", "matplotlib") if find_spec(name) is None]
    if missing:
        raise UsageError(f"--html needs {' and '.join(missing)}: pip install 'cardioner[report]'")


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
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - an extra
    from markupsafe import Markup  # noqa: PLC0415

    environment = Environment(
        loader=PackageLoader("cardioner.checking", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"verbatim": _verbatim, "figure": _figure}
    plots = {name: Markup(svg) for name, svg in plot_report(report).items()}  # noqa: S704 - matplotlib escapes names
    return environment.get_template("report.html.j2").render(
        report=report,
        parts=[*report.parts, report.total] if len(report.parts) > 1 else report.parts,
        flat=report.flat_tags,
        groups=sorted(report.similar, key=lambda group: not group.is_leak),
        plots=plots,
        spreads=_spreads(report),
        styles=_styles(report),
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
    # The name of a file may hold what no encoding can: it is shown escaped.
    page = render(report, ids_only=ids_only).encode("utf-8", "backslashreplace")
    with writing(path, overwrite=overwrite) as file:
        file.write(page)


def _verbatim(text: str) -> Markup:
    """A stretch of a note that a browser shows as it is: it would take a bare carriage return for a newline."""
    from markupsafe import Markup, escape  # noqa: PLC0415

    return Markup(str(escape(text)).replace("\r", "&#13;"))  # noqa: S704 - escaped


def _figure(value: Any) -> str:
    """A number as people read it."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}"


def _styles(report: CheckReport) -> dict[str, dict[str, str]]:
    """Colour and line of each type, and the name of its class."""
    return {
        label: {
            "name": f"t{index}",
            "colour": COLOURS[index % len(COLOURS)],
            "line": LINES[index // len(COLOURS) % len(LINES)],
        }
        for index, label in enumerate(report.total.per_type)
    }


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
