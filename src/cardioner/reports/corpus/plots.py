"""What is in corpora, drawn: how many entities, how long, how many in a document."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cardioner.data.quality.findings import spread_of
from cardioner.reports import SHADES, draw, new_figure, short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from cardioner.data.quality.findings import CheckReport, Part

_ROWS = 30
_BARS = 40


def plot_report(report: CheckReport) -> dict[str, Markup]:
    """SVG elements by name: `types`, `lengths` and `per-document`; empty without entities.

    Raises:
        ImportError: If matplotlib is missing.
    """
    if not report.total.entities:
        return {}
    parts = [replace(part, name=report.short_names[part.name]) for part in report.parts]
    return draw(
        {
            "types": lambda: _plot_types(parts, report.total),
            "lengths": lambda: _plot_lengths(report.total),
            "per-document": lambda: _plot_per_document(report.total),
        }
    )


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
    figure, axes = new_figure(len(labels) * max(0.3, 0.16 * len(parts)))
    for index, part in enumerate(parts):
        counts = part.per_type
        rows = [row + 0.4 - height * (index + 0.5) for row in range(len(labels))]
        widths = [counts.get(label, 0) for label in labels]
        bars = axes.barh(rows, widths, height * 0.9, color=SHADES[index % len(SHADES)], label=short(part.name))
        axes.bar_label(bars, padding=3, fontsize=8)
    axes.set_yticks(range(len(labels)), [short(label) for label in labels])
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("entities")
    axes.set_title(_title(total, "Entities per type"), loc="left")
    if len(parts) > 1:
        figure.legend(loc="outside lower left", ncols=2, frameon=False)
    return figure


def _plot_lengths(total: Part) -> Any:
    labels = _frequent(total)
    figure, axes = new_figure(len(labels) * 0.3)
    for row, label in enumerate(labels):
        spread = spread_of(total.lengths[label])
        assert spread is not None, "a type is there because an entity has it"
        axes.plot([spread.least, spread.most], [row, row], color="#9aa7b4", linewidth=1.5)
        axes.plot([spread.median, spread.p95], [row, row], color=SHADES[0], linewidth=5, solid_capstyle="butt")
        axes.plot([spread.median], [row], "o", color="#ffffff", markeredgecolor=SHADES[0], markersize=7)
    least, most = min(total.all_lengths), max(total.all_lengths)
    axes.set_xscale("log")
    axes.set_xlim(least * 0.8, most * 1.25)
    ticks = [step * 10**power for power in range(10) for step in (1, 2, 5)]
    axes.set_xticks([tick for tick in ticks if least * 0.8 <= tick <= most * 1.25])
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.tick_params(which="minor", bottom=False, labelbottom=False)
    axes.set_yticks(range(len(labels)), [short(label) for label in labels])
    axes.set_ylim(-0.6, len(labels) - 0.4)
    axes.set_xlabel("characters: least to most (thin), median (dot) to 95th percentile (thick)")
    axes.set_title(_title(total, "Length of entities"), loc="left")
    return figure


def _plot_per_document(total: Part) -> Any:
    figure, axes = new_figure(2.0)
    most = max(total.per_document)
    width = -(-(most + 1) // _BARS)
    bars = [0] * (most // width + 1)
    for number, count in total.per_document.items():
        bars[number // width] += count
    axes.bar([(index + 0.5) * width - 0.5 for index in range(len(bars))], bars, width * 0.9, color=SHADES[0])
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("entities in a document")
    axes.set_ylabel("documents")
    axes.set_title("Entities per document", loc="left")
    return figure
