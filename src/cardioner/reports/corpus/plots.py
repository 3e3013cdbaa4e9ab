"""What is in corpora, drawn: how many entities, how long, how many in a document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cardioner.data.quality.findings import spread_of
from cardioner.reports.palette import LIGHT, SHADES
from cardioner.reports.svg import grouped_bars, most_frequent, name_rows, new_figure, short, whole_numbers

if TYPE_CHECKING:
    from collections.abc import Callable

    from cardioner.data.quality.findings import CheckReport, Part

_BARS = 40


def plots_of(report: CheckReport) -> dict[str, Callable[[], Any]]:
    """What draws `types`, `lengths` and `per-document`; nothing without entities."""
    if not report.total.entities:
        return {}
    return {
        "types": lambda: _plot_types(report),
        "lengths": lambda: _plot_lengths(report.total),
        "per-document": lambda: _plot_per_document(report.total),
    }


def _plot_types(report: CheckReport) -> Any:
    labels, title = most_frequent(report.total.per_type, "Entities per type")
    series = [
        (short(report.short_names[part.name]), [part.per_type.get(label, 0) for label in labels])
        for part in report.parts
    ]
    figure, axes = grouped_bars(title, labels, series)
    for bars in axes.containers:
        axes.bar_label(bars, padding=3, fontsize=8)
    whole_numbers(axes.xaxis)
    axes.set_xlabel("entities")
    return figure


def _plot_lengths(total: Part) -> Any:
    labels, title = most_frequent(total.per_type, "Length of entities")
    figure, axes = new_figure(len(labels) * 0.3, title)
    for row, label in enumerate(labels):
        spread = spread_of(total.lengths[label])
        assert spread is not None, "a type is there because an entity has it"
        axes.plot([spread.least, spread.most], [row, row], color=LIGHT["quiet"], linewidth=1.5)
        axes.plot([spread.median, spread.p95], [row, row], color=SHADES[0], linewidth=5, solid_capstyle="butt")
        axes.plot([spread.median], [row], "o", color=LIGHT["paper"], markeredgecolor=SHADES[0], markersize=7)
    least, most = min(total.all_lengths), max(total.all_lengths)
    axes.set_xscale("log")
    axes.set_xlim(least * 0.8, most * 1.25)
    ticks = [step * 10**power for power in range(10) for step in (1, 2, 5)]
    axes.set_xticks([tick for tick in ticks if least * 0.8 <= tick <= most * 1.25])
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.tick_params(which="minor", bottom=False, labelbottom=False)
    name_rows(axes, labels)
    axes.set_xlabel("characters: shortest to longest (thin),\nmedian (dot) to 95th percentile (thick)")
    return figure


def _plot_per_document(total: Part) -> Any:
    figure, axes = new_figure(2.0, "Entities per document")
    most = max(total.per_document)
    width = -(-(most + 1) // _BARS)
    bars = [0] * (most // width + 1)
    for number, count in total.per_document.items():
        bars[number // width] += count
    axes.bar([(index + 0.5) * width - 0.5 for index in range(len(bars))], bars, width * 0.9, color=SHADES[0])
    whole_numbers(axes.xaxis, axes.yaxis)
    axes.set_xlabel("entities in a document")
    axes.set_ylabel("documents")
    return figure
