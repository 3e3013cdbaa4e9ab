"""Plots as SVG elements to put into a page: the same bytes for the same figures, and nothing to fetch."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from cardioner._io import silenced
from cardioner.reports.palette import LIGHT, SHADES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from markupsafe import Markup

FIGURES = {"precision": "precision", "recall": "recall", "f1": "F1"}
"""What scores are called in a plot."""

_VARIABLES = {LIGHT[name]: f"var(--{name})" for name in ("paper", "ink", "quiet", "rule", "pale")}
_VARIABLES |= {colour: f"var(--s{index})" for index, colour in enumerate(SHADES)}
"""What stands on the page for each colour of a plot."""

_ROWS = 30
"""Most entity types in a plot of bars."""

_WIDTH = 5.6
_INK = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
_STYLE: dict[Any, Any] = {
    **dict.fromkeys(_INK, LIGHT["ink"]),
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": ["sans-serif"],
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(plots: Mapping[str, Callable[[], Any]]) -> dict[str, Markup]:
    """Draw plots.

    Args:
        plots: Per name, which becomes part of the ids of its elements, what makes the figure (see `new_figure`).

    Returns:
        SVG elements by name, ready for a template.

    Raises:
        ImportError: If matplotlib or markupsafe is missing.
    """
    if not plots:
        return {}
    with silenced("matplotlib"):  # letters that a font lacks, or a home folder that cannot hold a cache
        import matplotlib as mpl  # noqa: PLC0415 - an extra, and slow
        from markupsafe import Markup  # noqa: PLC0415

        drawn = {}
        for name, make in plots.items():
            with mpl.rc_context():
                mpl.rcdefaults()  # a user's own matplotlibrc would change the page
                mpl.rcParams.update(_STYLE, **{"svg.hashsalt": name})
                drawn[name] = Markup(_svg(make(), name))  # noqa: S704 - it escapes names
        return drawn


def new_figure(rows: float, title: str = "") -> tuple[Any, Any]:
    """A figure as wide as a page, its rows so many inches high, and its axes."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, and slow

    figure = Figure(figsize=(_WIDTH, 1.0 + rows), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, loc="left")
    return figure, axes


def legend(figure: Any, columns: int) -> None:
    """Explain the series of a plot below it."""
    figure.legend(loc="outside lower left", ncols=columns, frameon=False)


def whole_numbers(*axes: Any) -> None:
    """Have marks on an axis stand at whole numbers only."""
    for axis in axes:
        axis.get_major_locator().set_params(integer=True)


def most_frequent(counts: Mapping[str, int], title: str, most: int = _ROWS) -> tuple[list[str], str]:
    """The most frequent types, the most frequent first, and the title of a plot of them."""
    labels = sorted(counts, key=lambda label: (-counts[label], label))
    more = len(labels) - most
    return labels[:most], f"{title} (the {most} most frequent types; {more} more)" if more > 0 else title


def grouped_bars(title: str, labels: Sequence[str], series: Sequence[tuple[str, Sequence[float]]]) -> tuple[Any, Any]:
    """A figure with a group of horizontal bars for each type, the first one on top, and its axes.

    Each series, drawn in one colour, has a name and a value per type.
    """
    height = 0.8 / len(series)
    figure, axes = new_figure(len(labels) * max(0.3, 0.18 * len(series)), title)
    for index, (name, values) in enumerate(series):
        rows = [row - 0.4 + height * (index + 0.5) for row in range(len(labels))]
        axes.barh(rows, values, height * 0.9, color=SHADES[index % len(SHADES)], label=name)
    name_rows(axes, labels)
    if len(series) > 1:
        legend(figure, 3)
    return figure, axes


def name_rows(axes: Any, labels: Sequence[str]) -> None:
    """Name the rows of a plot, the first one on top."""
    axes.set_yticks(range(len(labels)), [short(label) for label in labels])
    axes.set_ylim(len(labels) - 0.4, -0.6)


def short(name: str, *, most: int = 40) -> str:
    """A name of at most so many characters, without its beginning: the end of a path says more."""
    return name if len(name) <= most else f"…{name[1 - most :]}"


def _svg(figure: Any, name: str) -> str:
    """The figure's SVG element, in the colours of the page; no other one on the page has its ids."""
    target = io.StringIO()
    figure.savefig(target, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    drawn = target.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    for colour, variable in _VARIABLES.items():
        drawn = drawn.replace(colour, variable)
    return re.sub(r'(<[^<>]*? (?:id="|xlink:href="#)|url\(#)', rf"\1{name}-", drawn)
