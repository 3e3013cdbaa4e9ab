"""Plots as SVG elements to put into a page: the same bytes for the same figures, and nothing to fetch."""

from __future__ import annotations

import io
import logging
import re
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from markupsafe import Markup

SHADES = ("#1f4e79", "#b85c00", "#3d7a3d", "#7a3d7a", "#555555", "#a03030")
"""Of the series of a plot, in order."""

_WIDTH = 7.2
_STYLE: dict[Any, Any] = {
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
    with _quiet():
        import matplotlib as mpl  # noqa: PLC0415 - an extra, and slow
        from markupsafe import Markup  # noqa: PLC0415

        with mpl.rc_context():
            mpl.rcdefaults()  # a user's own matplotlibrc would change the page
            mpl.rcParams.update(_STYLE)
            figures = {name: make() for name, make in plots.items()}
            return {name: Markup(_svg(made, name)) for name, made in figures.items()}  # noqa: S704 - it escapes names


def new_figure(rows: float) -> tuple[Any, Any]:
    """A figure as wide as a page, and its axes.

    Args:
        rows: Inches of its height, beside one for title and axis.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, and slow

    figure = Figure(figsize=(_WIDTH, 1.0 + rows), layout="constrained")
    return figure, figure.subplots()


def short(name: str, *, most: int = 40) -> str:
    """A name of at most so many characters: the end of a path tells more than its beginning."""
    return name if len(name) <= most else f"…{name[1 - most :]}"


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


def _svg(figure: Any, name: str) -> str:
    """The figure's SVG element, whose ids are its own on a page with several."""
    from matplotlib import rc_context  # noqa: PLC0415 - an extra, and slow

    target = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with rc_context({"svg.hashsalt": name}):
        figure.savefig(target, format="svg", metadata=nothing)
    drawn = target.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    return re.sub(r'(<[^<>]*? (?:id="|xlink:href="#)|url\(#)', rf"\1{name}-", drawn)
