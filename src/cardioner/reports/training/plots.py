"""A training, drawn: loss, learning rate and gradient norm by step, scores by epoch; each with its words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from cardioner.evaluation.scores import FIGURES
from cardioner.reports import SHADES, draw, new_figure, short

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from markupsafe import Markup

    from cardioner.reports.training.content import Content, Epoch

_TYPES = 8
_DASHES = ("solid", "dashed", "dotted", "dashdot")
_MARKS = ("o", "s", "^", "D")
_NAMES = {"precision": "precision", "recall": "recall", "f1": "F1"}
_CURVES = {"loss": "Training loss", "learning_rate": "Learning rate", "grad_norm": "Norm of the gradient"}
_WIDE = 20.0
"""A curve whose greatest value is so many times its least one is drawn on a logarithmic scale."""


class Plot(NamedTuple):
    """A plot.

    Attributes:
        svg: The element.
        words: What it shows, for those who do not see it.
    """

    svg: Markup
    words: str


def plot_training(content: Content) -> dict[str, Plot]:
    """Plots by name: `scores`, `types`, `loss`, `learning_rate` and `grad_norm`, as far as there is something to draw.

    Raises:
        ImportError: If matplotlib is missing.
    """
    plots: dict[str, Callable[[], Any]] = {}
    words: dict[str, str] = {}
    ends = [epoch.step for epoch in content.epochs if epoch.step is not None]
    if content.epochs:
        plots["scores"] = lambda: _plot_scores(content.epochs)
        words["scores"] = _scores_in_words(content.epochs)
        if len(content.epochs[-1].scores.strict.per_type) > 1:
            plots["types"] = lambda: _plot_types(content.epochs)
            words["types"] = _types_in_words(content.epochs)
    for name, title in _CURVES.items():
        points = _points(content, name)
        if points:
            limit = content.gradient_limit if name == "grad_norm" else None
            plots[name] = _curve(title, points, ends, limit)
            words[name] = _curve_in_words(title, points)
    drawn = draw(plots) if plots else {}
    return {name: Plot(svg, words[name]) for name, svg in drawn.items()}


# By step -------------------------------------------------------------------------------------------------------------


def _points(content: Content, name: str) -> list[tuple[float, float]]:
    """Steps and values, without those that are no numbers."""
    rows = [(row["step"], row.get(name)) for row in content.history]
    return [(step, value) for step, value in rows if isinstance(value, (int, float)) and math.isfinite(value)]


def _curve(
    title: str, points: Sequence[tuple[float, float]], ends: Sequence[int], limit: float | None
) -> Callable[[], Any]:
    """What draws a curve, a faint line at the end of each epoch, and a limit."""

    def plot() -> Any:
        figure, axes = new_figure(2.0)
        steps, values = zip(*points, strict=True)
        for end in ends:
            axes.axvline(end, color="#d5dbe1", linewidth=0.8, zorder=0)
        marker = "o" if len(points) < 4 else None
        axes.plot(steps, values, color=SHADES[0], linewidth=1.4, marker=marker, label="logged")
        if limit is not None and max(values) > limit:
            axes.axhline(limit, color=SHADES[1], linestyle="dashed", linewidth=1.2, label=f"scaled down to {limit:g}")
            figure.legend(loc="outside lower left", ncols=2, frameon=False)
        wide = min(values) > 0 and max(values) > _WIDE * min(values)
        if wide and title != _CURVES["learning_rate"]:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
        else:
            axes.set_ylim(bottom=min(0.0, *values))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("step" + (" (a line at the end of each epoch)" if ends else ""))
        axes.set_title(title, loc="left")
        return figure

    return plot


def _curve_in_words(title: str, points: Sequence[tuple[float, float]]) -> str:
    (first, begin), (last, end) = points[0], points[-1]
    if len(points) == 1:
        return f"{title} by step: {begin:.4g} at step {first:,}."
    (low, least), (high, most) = (pick(points, key=lambda point: point[1]) for pick in (min, max))
    return (
        f"{title} by step: {begin:.4g} at step {first:,}, {end:.4g} at step {last:,}; "
        f"least {least:.4g} at step {low:,}, most {most:.4g} at step {high:,}."
    )


# By epoch ------------------------------------------------------------------------------------------------------------


def _plot_scores(epochs: Sequence[Epoch]) -> Any:
    figure, axes = new_figure(2.4)
    numbers = [epoch.number for epoch in epochs]
    for index, name in enumerate(FIGURES):
        values = [getattr(epoch.scores.strict.micro, name) for epoch in epochs]
        width = 2.2 if name == "f1" else 1.3
        axes.plot(numbers, values, f"{_MARKS[index]}-", color=SHADES[index], linewidth=width, label=_NAMES[name])
    _mark_saved(axes, epochs)
    _lay_out(axes, numbers)
    axes.set_title("Strict scores of the evaluation notes", loc="left")
    figure.legend(loc="outside lower left", ncols=4, frameon=False)
    return figure


def _plot_types(epochs: Sequence[Epoch]) -> Any:
    counts = epochs[-1].scores.strict.per_type
    frequent = sorted(counts, key=lambda label: (-counts[label].gold, label))
    figure, axes = new_figure(2.4)
    for index, label in enumerate(sorted(frequent[:_TYPES])):
        found = [(epoch.number, epoch.scores.strict.per_type.get(label)) for epoch in epochs]
        numbers = [number for number, known in found if known is not None]
        values = [known.f1 for _, known in found if known is not None]
        style = {"color": SHADES[index % len(SHADES)], "linestyle": _DASHES[index % len(_DASHES)]}
        axes.plot(numbers, values, marker=_MARKS[index % len(_MARKS)], label=short(label, most=24), **style)
    _mark_saved(axes, epochs)
    _lay_out(axes, [epoch.number for epoch in epochs])
    more = len(frequent) - _TYPES
    few = f" (the {_TYPES} most frequent types; {more} more)" if more > 0 else ""
    axes.set_title(f"Strict F1 per type{few}", loc="left")
    figure.legend(loc="outside lower left", ncols=3, frameon=False)
    return figure


def _mark_saved(axes: Any, epochs: Sequence[Epoch]) -> None:
    saved = next((epoch.number for epoch in epochs if epoch.saved), None)
    if saved is not None:
        axes.axvline(saved, color="#57606a", linestyle="dotted", linewidth=1.4, label="saved epoch", zorder=0)


def _lay_out(axes: Any, numbers: Sequence[int]) -> None:
    axes.set_xlim(numbers[0] - 0.5, numbers[-1] + 0.5)
    axes.set_ylim(-0.02, 1.02)
    axes.grid(axis="y", color="#e3e7eb", linewidth=0.8)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("epoch")


def _scores_in_words(epochs: Sequence[Epoch]) -> str:
    found = ", ".join(f"{epoch.scores.strict.micro.f1:.3f}" for epoch in epochs)
    saved = next((f"; the model of epoch {epoch.number} is saved" for epoch in epochs if epoch.saved), "")
    return f"Strict precision, recall and F1 by epoch. F1: {found}{saved}. The table of epochs has all figures."


def _types_in_words(epochs: Sequence[Epoch]) -> str:
    first, last = epochs[0].scores.strict.per_type, epochs[-1].scores.strict.per_type
    found = (
        f"{label} from {first[label].f1:.3f} to {counts.f1:.3f}" if label in first else f"{label} {counts.f1:.3f}"
        for label, counts in last.items()
    )
    return f"Strict F1 of each type by epoch, first to last: {', '.join(found)}."
