"""A page: one HTML file that needs nothing but itself, with plots as SVG and notes whose spans are marked in them."""

from cardioner.data.highlight import Mark, Segment, cut
from cardioner.reports.html import COLOURS, LINES, TypeStyle, check_installed, render_page, type_styles, write_page
from cardioner.reports.svg import SHADES, draw, new_figure, short

__all__ = [
    "COLOURS",
    "LINES",
    "SHADES",
    "Mark",
    "Segment",
    "TypeStyle",
    "check_installed",
    "cut",
    "draw",
    "new_figure",
    "render_page",
    "short",
    "type_styles",
    "write_page",
]
