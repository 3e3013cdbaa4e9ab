"""What an evaluation found, drawn: scores per type, reliability, confusions, F1 by length."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from cardioner.reports.palette import LIGHT, SHADES
from cardioner.reports.svg import FIGURES, grouped_bars, legend, most_frequent, new_figure, short

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cardioner.evaluation.calibration import Calibration
    from cardioner.evaluation.evaluate import Evaluation
    from cardioner.evaluation.intervals import Intervals
    from cardioner.evaluation.scores import Counts

_CELLS = 16


def plots_of(evaluation: Evaluation) -> dict[str, Callable[[], Any]]:
    """What draws `types`, `reliability` if spans have scores, `confusions` and `lengths`; nothing without spans."""
    types, calibration, analysis = evaluation.scores.strict.per_type, evaluation.calibration, evaluation.analysis
    if not analysis.matrix:
        return {}
    reliability = {} if calibration is None else {"reliability": lambda: _plot_reliability(calibration)}
    return {
        "types": lambda: _plot_types(types, evaluation.intervals),
        **reliability,
        "confusions": lambda: _plot_confusions(analysis.matrix),
        "lengths": lambda: _plot_lengths(analysis.by_length),
    }


def _plot_types(types: Mapping[str, Counts], intervals: Intervals | None) -> Any:
    labels, title = most_frequent({label: counts.gold for label, counts in types.items()}, "Strict scores per type")
    series = [(shown, [getattr(types[label], name) for label in labels]) for name, shown in FIGURES.items()]
    figure, axes = grouped_bars(title, labels, series)
    for (name, (_, values)), bars in zip(zip(FIGURES, series, strict=True), [*axes.containers], strict=True):
        if intervals is not None:
            rows = [bar.get_y() + bar.get_height() / 2 for bar in bars]
            whiskers = _whiskers(values, labels, name, intervals)
            axes.errorbar(values, rows, xerr=whiskers, fmt="none", color=LIGHT["ink"], elinewidth=1, capsize=2)
    axes.set_xlim(0, 1)
    return figure


def _whiskers(values: Sequence[float], labels: Sequence[str], name: str, intervals: Intervals) -> list[list[float]]:
    """How far the intervals reach below and above the figures; a figure may lie outside of its interval."""
    found = [intervals.of("strict", f"per_type/{label}", name) for label in labels]
    below = [max(0.0, value - interval.low) for value, interval in zip(values, found, strict=True)]
    above = [max(0.0, interval.high - value) for value, interval in zip(values, found, strict=True)]
    return [below, above]


def _plot_lengths(groups: Mapping[str, Counts]) -> Any:
    figure, axes = new_figure(2.0, "Strict F1 by length")
    values = [counts.f1 if counts.gold or counts.predicted else 0.0 for counts in groups.values()]
    bars = axes.bar(range(len(groups)), values, 0.7, color=SHADES[0])
    shown = [f"{counts.f1:.2f}" if counts.gold or counts.predicted else "–" for counts in groups.values()]
    axes.bar_label(bars, shown, padding=2, fontsize=9)
    names = [f"{name}\n{counts.gold:,} gold" for name, counts in groups.items()]
    axes.set_xticks(range(len(groups)), names, fontsize=8)
    axes.set_ylim(0, 1.08)
    axes.set_xlabel("characters of a span")
    return figure


def _plot_reliability(calibration: Calibration) -> Any:
    figure, axes = new_figure(3.2, f"Reliability: expected calibration error {calibration.error:.3f}")
    width = max(found.high - found.low for found in calibration.bins)
    middles = [(found.low + found.high) / 2 for found in calibration.bins]
    shares = [found.spans / calibration.spans for found in calibration.bins]
    axes.bar(middles, shares, width * 0.9, color=LIGHT["pale"], label="share of the spans")
    axes.plot([0, 1], [0, 1], color=LIGHT["quiet"], linestyle="dashed", linewidth=1, label="perfectly calibrated")
    scores, right = [found.mean_score for found in calibration.bins], [found.right for found in calibration.bins]
    axes.plot(scores, right, "o-", color=SHADES[1], label="share that is correct")
    axes.set_xlim(0, 1.01)
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("score of a span")
    legend(figure, 2)
    return figure


def _plot_confusions(matrix: Mapping[tuple[str | None, str | None], int]) -> Any:
    """Counts by gold and predicted type; a cell is as dark as its share of the row is great."""
    labels, rest = _split(matrix)
    known = {label: number for number, label in enumerate(labels)}
    last = len(labels) + bool(rest)
    counts = [[0] * (last + 1) for _ in range(last + 1)]
    for (gold, predicted), count in matrix.items():
        row, column = (last if label is None else known.get(label, last - 1) for label in (gold, predicted))
        counts[row][column] += count
    names = [short(label, most=20) for label in labels] + ([f"{rest} other types"] if rest else [])
    figure, axes = new_figure(0.6 + 0.34 * len(counts), "Spans by gold and predicted type")
    shares = [[count / max(1, sum(row)) for count in row] for row in counts]
    axes.pcolormesh(shares, cmap=_shades_of(SHADES[0]), vmin=0, vmax=1, edgecolors=LIGHT["rule"], linewidth=0.5)
    for row, numbers in enumerate(counts):
        for column, number in enumerate(numbers):
            colour = LIGHT["paper"] if shares[row][column] > 0.55 else LIGHT["ink"]
            if number:
                axes.text(column + 0.5, row + 0.5, f"{number:,}", ha="center", va="center", color=colour, fontsize=8)
    places = [number + 0.5 for number in range(len(counts))]
    axes.set_xticks(places, [*names, "missed"], rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, [*names, "spurious"])
    axes.invert_yaxis()
    axes.set_xlabel("predicted")
    axes.set_ylabel("gold")
    return figure


def _shades_of(colour: str) -> Any:
    """From nothing to a colour, so that it suits any paper."""
    from matplotlib.colors import LinearSegmentedColormap  # noqa: PLC0415 - an extra, and slow

    return LinearSegmentedColormap.from_list("shades", [(colour, 0.0), (colour, 1.0)])


def _split(matrix: Mapping[tuple[str | None, str | None], int]) -> tuple[list[str], int]:
    """The types with most spans, sorted by name, and how many others there are."""
    totals = Counter[str]()
    for pair, count in matrix.items():
        for label in filter(None, pair):
            totals[label] += count
    frequent = sorted(totals, key=lambda label: (-totals[label], label))
    kept = frequent if len(frequent) <= _CELLS else frequent[: _CELLS - 1]
    return sorted(kept), len(frequent) - len(kept)
