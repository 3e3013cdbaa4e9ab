"""How a page is made and written: what it needs, its templates and their filters, tables, colours of entity types."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from cardioner._io import writing
from cardioner.errors import UsageError, many, missing_packages
from cardioner.reports.palette import PALETTE, TYPES
from cardioner.reports.svg import draw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from markupsafe import Markup

    from cardioner.evaluation.intervals import Interval
    from cardioner.evaluation.scores import Counts

LINES = ("solid", "double", "dashed", "dotted")
"""Of types in order: they distinguish types that share a colour."""

SCORE_COLUMNS = ("precision", "recall", "F1")
COUNT_COLUMNS = ("matched", "wrong", "missed")

SHOWN = 50
"""Most rows of a list on a page."""

_HEADING = re.compile(r'<h2 id="([^"]*)">(.*?)</h2>')


class TypeStyle(NamedTuple):
    """How the spans of an entity type look: their CSS class, which holds nothing of the type's name, and their line."""

    name: str
    colour: str
    line: str


class Cell(NamedTuple):
    """A text or a number, what stands in small print below it, and whether it is alarming."""

    value: str | float | None
    below: str = ""
    alarming: bool = False


class Table(NamedTuple):
    """A table on a page.

    Attributes:
        columns: What heads each column.
        rows: Texts, numbers, `None` and `Cell`s.
        left: How many columns, the first ones, are text; the others are figures.
        total: Whether the last row is the sum of the others.
        highlighted: A row that stands out, counted from 0.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    left: int = 1
    total: bool = False
    highlighted: int | None = None


def check_installed() -> None:
    """Refuse to begin without the packages that draw a page.

    Raises:
        UsageError: Saying what to install.
    """
    missing = [name for name in ("jinja2", "matplotlib") if find_spec(name) is None]
    if missing:
        raise UsageError(missing_packages("--html", missing))


def type_styles(labels: Iterable[str]) -> dict[str, TypeStyle]:
    """A style for each type, in the order given."""
    return {
        label: TypeStyle(f"t{index}", f"var(--c{index % TYPES})", LINES[index // TYPES % len(LINES)])
        for index, label in enumerate(labels)
    }


def render_page(package: str, plots: Mapping[str, Callable[[], Any]], **values: Any) -> str:
    """The page that the `report.html.j2` of a package describes, which may extend `page.html.j2`.

    Args:
        package: Full name of the package that holds the template.
        plots: What `draw` takes; the template gets SVG elements.
        **values: What the template names; plain strings are escaped.

    Returns:
        HTML.

    Raises:
        UsageError: If jinja2 or matplotlib is missing.
    """
    check_installed()
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - an extra

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(name, ".") for name in (package, "cardioner.reports")]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"verbatim": _verbatim, "figure": _figure, "hash_source": _hash_source}
    environment.filters |= {"score": score_text, "many": many}
    environment.filters["headings"] = _HEADING.findall
    environment.tests["cell"] = lambda value: isinstance(value, Cell)
    shared = {"shown": SHOWN, "palette": PALETTE, "plots": draw(plots)}
    return environment.get_template("report.html.j2").render(**shared, **values)


def write_page(page: str, path: Path, *, overwrite: bool = False, private: bool = False) -> None:
    """Write a page as a file, which only its owner may read if it is private.

    Raises:
        OutputError: If the file exists and may not be replaced, or cannot be written.
    """
    # The name of a file may hold what no encoding can: it is shown escaped.
    content = page.encode("utf-8", "backslashreplace")
    with writing(path, overwrite=overwrite, private=private) as file:
        file.write(content)


def _verbatim(text: str) -> Markup:
    """A stretch of a note that a browser shows as it is: it would take a bare carriage return for a newline."""
    from markupsafe import Markup, escape  # noqa: PLC0415 - an extra

    return Markup(str(escape(text)).replace("\r", "&#13;"))  # noqa: S704 - escaped


def _figure(value: Any) -> str:
    """A number as people read it; a text as it is."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"


def score_text(value: float | None) -> str:
    """A score with three digits."""
    return "–" if value is None else f"{value:.3f}"


def score_cells(counts: Counts, intervals: Sequence[Interval | None] = (None, None, None)) -> list[Cell]:
    """Precision, recall and F1, with their intervals below; an F1 of 0 although there are spans is alarming."""
    values = counts.precision, counts.recall, counts.f1
    alarming = False, False, finds_nothing(counts)
    return [*map(Cell, map(score_text, values), map(interval_text, intervals), alarming)]


def interval_text(interval: Interval | None) -> str:
    """An interval, or nothing."""
    return "" if interval is None else f"{score_text(interval.low)} to {score_text(interval.high)}"


def finds_nothing(counts: Counts) -> bool:
    """Whether nothing that was predicted or was to be found is right, although there is something."""
    return not counts.credit and bool(counts.gold or counts.predicted)


def count_cells(counts: Counts) -> tuple[float, float, float]:
    """How many spans are matched, wrong and missed."""
    return counts.true_positives, counts.false_positives, counts.false_negatives


def _hash_source(script: str) -> str:
    """What a content security policy calls a script, so that this one runs and no other does.

    Source: https://www.w3.org/TR/CSP3/#grammardef-hash-source
    """
    return f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}"
