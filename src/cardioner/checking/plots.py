"""Plots as SVG elements to put into a page: the same bytes for the same figures, and nothing to fetch."""

from __future__ import annotations

import io
import logging
import re
import warnings
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cardioner.checking.findings import spread_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cardioner.checking.findings import CheckReport, Part

_ROWS = 30
_BARS = 40
_WIDTH = 7.2
_SHADES = ("#1f4e79", "#b85c00", "#3d7a3d", "#7a3d7a", "#555555", "#a03030")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": ["sans-serif"],
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def plot_report(report: CheckReport) -> dict[str, str]:
    """SVG elements by name: `types`, `lengths` and `per-document`; empty without entities.

    Raises:
        ImportError: If matplotlib is missing.
    """
    if not report.total.entities:
        return {}
    with _quiet():
        import matplotlib as mpl  # noqa: PLC0415 - an extra, and slow

        with mpl.rc_context():
            mpl.rcdefaults()  # a user's own matplotlibrc would change the page
            mpl.rcParams.update(_STYLE)
            drawn = {
                "types": _plot_types(
                    [replace(part, name=report.short_names[part.name]) for part in report.parts], report.total
                ),
                "lengths": _plot_lengths(report.total),
                "per-document": _plot_per_document(report.total),
            }
            return {name: _svg(figure, name) for name, figure in drawn.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself that fonts lack a letter of a type's name, or that the home folder cannot hold a cache."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _figure(rows: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(_WIDTH, 1.0 + rows), layout="constrained")
    return figure, figure.subplots()


def _frequent(total: Part) -> list[str]:
    """The most frequent types, the most frequent last: charts are read from the top, and drawn from the bottom."""
    counts = total.per_type
    return sorted(counts, key=lambda label: (-counts[label], label))[:_ROWS][::-1]


def _title(total: Part, what: str) -> str:
    more = len(total.lengths) - _ROWS
    return f"{what} (the {_ROWS} most frequent types; {more} more)" if more > 0 else what


def _plot_types(parts: Sequence[Part], total: Part) -> Any:
    labels = _frequent(total)
    height = 0.8 / len(parts)
    figure, axes = _figure(len(labels) * max(0.3, 0.16 * len(parts)))
    for index, part in enumerate(parts):
        counts = part.per_type
        rows = [row + 0.4 - height * (index + 0.5) for row in range(len(labels))]
        widths = [counts.get(label, 0) for label in labels]
        bars = axes.barh(rows, widths, height * 0.9, color=_SHADES[index % len(_SHADES)], label=_short(part.name))
        axes.bar_label(bars, padding=3, fontsize=8)
    axes.set_yticks(range(len(labels)), [_short(label) for label in labels])
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("entities")
    axes.set_title(_title(total, "Entities per type"), loc="left")
    if len(parts) > 1:
        figure.legend(loc="outside lower left", ncols=2, frameon=False)
    return figure


def _plot_lengths(total: Part) -> Any:
    labels = _frequent(total)
    figure, axes = _figure(len(labels) * 0.3)
    for row, label in enumerate(labels):
        spread = spread_of(total.lengths[label])
        assert spread is not None, "a type is there because an entity has it"
        axes.plot([spread.least, spread.most], [row, row], color="#9aa7b4", linewidth=1.5)
        axes.plot([spread.median, spread.p95], [row, row], color=_SHADES[0], linewidth=5, solid_capstyle="butt")
        axes.plot([spread.median], [row], "o", color="#ffffff", markeredgecolor=_SHADES[0], markersize=7)
    least, most = min(total.all_lengths), max(total.all_lengths)
    axes.set_xscale("log")
    axes.set_xlim(least * 0.8, most * 1.25)
    ticks = [step * 10**power for power in range(10) for step in (1, 2, 5)]
    axes.set_xticks([tick for tick in ticks if least * 0.8 <= tick <= most * 1.25])
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.tick_params(which="minor", bottom=False, labelbottom=False)
    axes.set_yticks(range(len(labels)), [_short(label) for label in labels])
    axes.set_ylim(-0.6, len(labels) - 0.4)
    axes.set_xlabel("characters: least to most (thin), median (dot) to 95th percentile (thick)")
    axes.set_title(_title(total, "Length of entities"), loc="left")
    return figure


def _plot_per_document(total: Part) -> Any:
    figure, axes = _figure(2.0)
    most = max(total.per_document)
    width = -(-(most + 1) // _BARS)
    bars = [0] * (most // width + 1)
    for number, count in total.per_document.items():
        bars[number // width] += count
    axes.bar([(index + 0.5) * width - 0.5 for index in range(len(bars))], bars, width * 0.9, color=_SHADES[0])
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("entities in a document")
    axes.set_ylabel("documents")
    axes.set_title("Entities per document", loc="left")
    return figure


def _short(name: str) -> str:
    """A name that leaves room for the plot: the end of a path tells more than its beginning."""
    return name if len(name) <= 40 else f"…{name[-39:]}"


def _svg(figure: Any, name: str) -> str:
    """The figure's SVG element, whose ids are its own on a page with several."""
    from matplotlib import rc_context  # noqa: PLC0415

    target = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with rc_context({"svg.hashsalt": name}):
        figure.savefig(target, format="svg", metadata=nothing)
    drawn = target.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    return re.sub(r'(<[^<>]*? (?:id="|xlink:href="#)|url\(#)', rf"\1{name}-", drawn)
