"""A training, drawn: loss, learning rate and gradient norm by step, scores by epoch; each with its words."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from cardioner.reports.palette import LIGHT, SHADES
from cardioner.reports.svg import FIGURES, legend, most_frequent, new_figure, short, whole_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cardioner.reports.training.content import Content, Epoch

_TYPES = 8
_DASHES = ("solid", "dashed", "dotted", "dashdot")
_MARKS = ("o", "s", "^", "D")
_CURVES = {"loss": "Training loss", "learning_rate": "Learning rate", "grad_norm": "Gradient norm"}
_WIDE = 20.0
"""A curve whose greatest value is so many times its smallest one is drawn on a logarithmic scale."""


class Plot(NamedTuple):
    """A plot: what draws it, and what it shows in words, for people who cannot see it."""

    draw: Callable[[], Any]
    words: str


def plots_of(content: Content) -> dict[str, Plot]:
    """`scores`, `types`, `loss`, `learning_rate` and `grad_norm`: those for which there are figures."""
    plots, epochs = {}, content.epochs
    if epochs:
        plots["scores"] = Plot(partial(_plot_scores, epochs), _scores_in_words(epochs))
        if len(epochs[-1].scores.strict.per_type) > 1:
            plots["types"] = Plot(partial(_plot_types, epochs), _types_in_words(epochs))
    for name, title in _CURVES.items():
        if points := content.curve(name):
            plots[name] = Plot(partial(_plot_curve, content, name, points), _curve_in_words(title, points))
    return plots


def _plot_curve(content: Content, name: str, points: Sequence[tuple[float, float]]) -> Any:
    """A curve, a faint line at the end of each epoch, and the limit of gradients."""
    figure, axes = new_figure(2.0, _CURVES[name])
    steps, values = zip(*points, strict=True)
    ends = [epoch.step for epoch in content.epochs if epoch.step is not None]
    for end in ends:
        axes.axvline(end, color=LIGHT["rule"], linewidth=0.8, zorder=0)
    marker = "o" if len(points) < 4 else None
    axes.plot(steps, values, color=SHADES[0], linewidth=1.4, marker=marker, label="logged")
    limit = content.gradient_limit if name == "grad_norm" else None
    if limit is not None and max(values) > limit:
        axes.axhline(limit, color=SHADES[1], linestyle="dashed", linewidth=1.2, label=f"clipped to {limit:g}")
        legend(figure, 2)
    if name != "learning_rate" and min(values) > 0 and max(values) > _WIDE * min(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    else:
        axes.set_ylim(bottom=min(0.0, *values))
    whole_numbers(axes.xaxis)
    axes.set_xlabel("step" + (" (a line at the end of each epoch)" if ends else ""))
    return figure


def _curve_in_words(title: str, points: Sequence[tuple[float, float]]) -> str:
    (first, begin), (last, end) = points[0], points[-1]
    if len(points) == 1:
        return f"{title} by step: {begin:.4g} at step {first:,}."
    (low, least), (high, most) = (pick(points, key=lambda point: point[1]) for pick in (min, max))
    return (
        f"{title} by step: {begin:.4g} at step {first:,}, {end:.4g} at step {last:,}; "
        f"lowest {least:.4g} at step {low:,}, highest {most:.4g} at step {high:,}."
    )


def _plot_scores(epochs: Sequence[Epoch]) -> Any:
    figure, axes = new_figure(2.4, "Strict scores on the evaluation notes")
    for index, (name, shown) in enumerate(FIGURES.items()):
        points = [(epoch.number, getattr(epoch.scores.strict.micro, name)) for epoch in epochs]
        width = 2.2 if name == "f1" else 1.3
        axes.plot(*zip(*points, strict=True), f"{_MARKS[index]}-", color=SHADES[index], linewidth=width, label=shown)
    _lay_out(axes, epochs)
    legend(figure, 4)
    return figure


def _plot_types(epochs: Sequence[Epoch]) -> Any:
    counts = epochs[-1].scores.strict.per_type
    labels, title = most_frequent({label: counts[label].gold for label in counts}, "Strict F1 per type", _TYPES)
    figure, axes = new_figure(2.4, title)
    for index, label in enumerate(sorted(labels)):
        by_epoch = [(epoch.number, epoch.scores.strict.per_type.get(label)) for epoch in epochs]
        points = [(number, found.f1) for number, found in by_epoch if found is not None]
        style = {"color": SHADES[index % len(SHADES)], "linestyle": _DASHES[index % len(_DASHES)]}
        marker, name = _MARKS[index % len(_MARKS)], short(label, most=24)
        axes.plot(*zip(*points, strict=True), marker=marker, label=name, **style)
    _lay_out(axes, epochs)
    legend(figure, 3)
    return figure


def _lay_out(axes: Any, epochs: Sequence[Epoch]) -> None:
    """Scores from 0 to 1 by epoch, with a line at the saved one."""
    saved = next((epoch.number for epoch in epochs if epoch.saved), None)
    if saved is not None:
        axes.axvline(saved, color=LIGHT["quiet"], linestyle="dotted", linewidth=1.4, label="saved epoch", zorder=0)
    axes.set_xlim(epochs[0].number - 0.5, epochs[-1].number + 0.5)
    axes.set_ylim(-0.02, 1.02)
    axes.grid(axis="y", color=LIGHT["rule"], linewidth=0.8)
    whole_numbers(axes.xaxis)
    axes.set_xlabel("epoch")


def _scores_in_words(epochs: Sequence[Epoch]) -> str:
    found = ", ".join(f"{epoch.scores.strict.micro.f1:.3f}" for epoch in epochs)
    saved = next((f"; the model of epoch {epoch.number} is saved" for epoch in epochs if epoch.saved), "")
    return f"Strict precision, recall and F1 by epoch. F1: {found}{saved}. The table of epochs has all the figures."


def _types_in_words(epochs: Sequence[Epoch]) -> str:
    first, last = epochs[0].scores.strict.per_type, epochs[-1].scores.strict.per_type
    found = (
        f"{label} from {first[label].f1:.3f} to {counts.f1:.3f}" if label in first else f"{label} {counts.f1:.3f}"
        for label, counts in last.items()
    )
    return f"Strict F1 of each type by epoch, first to last: {', '.join(found)}."
