"""What commands print: results on standard output; tables, progress and errors on standard error."""

from __future__ import annotations

import json
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import typer
from rich.console import Console
from rich.containers import Lines as WrappedLines
from rich.table import Table
from rich.text import Text

from cardioner._io import reporting_failed_writes
from cardioner._progress import Bars, Lines, reporting
from cardioner.errors import without_message

if TYPE_CHECKING:
    from cardioner.evaluation import Counts, Scores
    from cardioner.evaluation.intervals import Interval, Intervals

INTERRUPTED = 130
"""The exit code of a command that was stopped by Ctrl-C, as in shells."""

TRACEBACK = "CARDIONER_TRACEBACK"
"""The environment variable that shows unexpected errors in full; their messages may quote a note."""

_BREAKING = ("Cc", "Cs", "Zl", "Zp")

Stages: TypeAlias = Bars | Lines
"""Shows the progress of several named stages."""

output = Console(soft_wrap=True, highlight=False, emoji=False)
notices = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)


_logs: list[Console] = []


def complain(message: str) -> None:
    """One error on one line, on standard error: a name in it may hold what a terminal obeys."""
    message = plain(message)
    notices.print(Text.assemble(("error: ", "bold red"), message))
    _log(f"error: {message}")


def tell(message: str) -> None:
    """A line, or several, on standard error."""
    message = "\n".join(map(plain, message.split("\n")))
    notices.print(Text(message))
    _log(message)


def show(made: Table) -> None:
    """A table, on standard error."""
    for console in (notices, *([] if notices.quiet else _logs)):
        console.print(made)


def _log(message: str) -> None:
    """One line for the log file, if there is one, with the time."""
    for console in [] if notices.quiet else _logs:
        console.print(Text(f"{datetime.now():%Y-%m-%d %H:%M:%S} {message}"))


def open_log(path: Path | None) -> None:
    """Append to a file, from now on, what is shown on standard error, and the progress as lines.

    Raises:
        OutputError: If it cannot be written.
    """
    if path is not None:
        with reporting_failed_writes(path):
            file = path.open("a", encoding="utf-8")
        _logs.append(Console(file=file, soft_wrap=True, highlight=False, emoji=False, no_color=True))


def close_log() -> None:
    """Close the log file."""
    while _logs:
        _logs.pop().file.close()


def unexpected(error: Exception) -> str:
    """An error that the user did not cause: its class and place, without its message, which may quote a note."""
    return (
        f"unexpected {without_message(error)}; its message is not shown, "
        f"because it may quote a note: set {TRACEBACK}=1 in the environment to see it"
    )


def print_json(content: Any) -> None:
    """Print JSON on standard output: the same bytes for the same content."""
    typer.echo(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False))


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, left: int = 1, totals: int = 0
) -> Table:
    """A table whose first `left` columns are text and whose others are figures; cells are never read as markup.

    Control characters are shown as escapes. A newline starts a new line in its cell, except in the first column. A line
    separates the last `totals` rows from the others.
    """
    made = Table(title=Text(plain(title)), title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        made.add_column(plain(column), justify="left" if index < left else "right", overflow="fold")
    cells = [[_Cell(_shown(cell, place)) for place, cell in enumerate(row)] for row in rows]
    for number, row in enumerate(cells, 1):
        made.add_row(*row, end_section=bool(totals) and number == len(cells) - totals)
    return made


class _Cell(Text):
    """Text that is broken where a path or a name may be: rich breaks a long word at any character."""

    def wrap(self, console: Console, width: int, **choices: Any) -> WrappedLines:
        return Text(_broken(self.plain, width)).wrap(console, width, **choices)


def _broken(text: str, width: int) -> str:
    """A text whose words that are longer than a line are broken after a slash, a dash, a dot or the like."""
    return re.sub(rf"\S{{{width + 1},}}", lambda word: "\n".join(_pieces(word[0], width)), text)


def _pieces(word: str, width: int) -> Iterator[str]:
    line = ""
    for part in re.findall(r"[^/\\_.:-]*[/\\_.:-]+|[^/\\_.:-]+$", word):
        if line and len(line) + len(part) > width:
            yield line
            line = ""
        line += part
    yield line


def _shown(cell: Any, place: int) -> str:
    """A cell of a column, counted from 0."""
    if isinstance(cell, float):
        return f"{cell:.3f}"
    return "\n".join(map(plain, str(cell).split("\n"))) if place else plain(str(cell))


def plain(text: str) -> str:
    """A text on one line: control characters, line breaks and bytes that are no UTF-8 as escapes."""
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in _BREAKING else character
        for character in text
    )


def score_table(title: str, scores: Scores, intervals: Intervals | None = None) -> Table:
    """Strict precision, recall and F1 per type, micro and macro, with the interval of F1 if there is one."""
    strict = scores.strict
    rows: list[list[Any]] = [[name, *_figures(counts)] for name, counts in strict.per_type.items()]
    macro = strict.macro
    rows += [["micro", *_figures(strict.micro)], ["macro", macro.precision, macro.recall, macro.f1, "", "", ""]]
    columns = ["type", "precision", "recall", "F1", "gold", "predicted", "correct"]
    if intervals is not None:
        columns[4:] = ["F1, 95 %", "gold", "predicted"]  # one column less, to fit into 80 characters
        places = [f"per_type/{name}" for name in strict.per_type] + ["micro", "macro"]
        for row, place in zip(rows, places, strict=True):
            row[4:] = [interval_text(intervals.of("strict", place, "f1")), *row[4:6]]
    return table(title, columns, rows, totals=2)


def interval_text(interval: Interval) -> str:
    """An interval as its edges."""
    return f"{interval.low:.3f}–{interval.high:.3f}"


def loss_table(losses: Mapping[tuple[str, str], int]) -> Table:
    """Training spans that tags cannot represent."""
    rows = [(kind, plain(label), count) for (kind, label), count in sorted(losses.items())]
    return table("Spans that the tags cannot represent", ("reason", "type", "spans"), rows, left=2)


def count_table(title: str, counts: Counter[str]) -> Table:
    """Issues and how often each occurs."""
    return table(title, ("what", "count"), sorted(counts.items()))


def _figures(counts: Counts) -> tuple[Any, ...]:
    """A row's figures."""
    return counts.precision, counts.recall, counts.f1, counts.gold, counts.predicted, counts.true_positives


@contextmanager
def showing_progress() -> Iterator[Stages]:
    """Progress on standard error: bars, or lines where it is no terminal; and lines in the log file."""
    with reporting(notices, tell, log=_log) as shown:
        yield shown


def quieten() -> None:
    """Silence the progress bars and messages of libraries: commands have their own."""
    from transformers.utils import logging as transformers_logging  # noqa: PLC0415 - slow, and needed only here

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
