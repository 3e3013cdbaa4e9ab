"""What commands print: results on standard output; tables, progress and errors on standard error."""

from __future__ import annotations

import json
import logging
import traceback
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from cardioner.evaluation import Counts, Scores
    from cardioner.evaluation.intervals import Interval, Intervals

INTERRUPTED = 130
"""The exit code of a command that was stopped by Ctrl-C, as in shells."""

TRACEBACK = "CARDIONER_TRACEBACK"
"""The environment variable that shows unexpected errors in full; their messages may quote a note."""

_FRAMES = 4
"""Places in the code that are shown for an unexpected error."""
_BREAKING = ("Cc", "Zl", "Zp")

output = Console(soft_wrap=True, highlight=False, emoji=False)
notices = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)


def complain(message: str) -> None:
    """One error, on standard error."""
    notices.print(Text.assemble(("error: ", "bold red"), message))


def tell(message: str) -> None:
    """One line, on standard error."""
    notices.print(Text(message))


def unexpected(error: Exception) -> str:
    """An error that the user did not cause: its class and place, without its message, which may quote a note."""
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    return (
        f"unexpected {type(error).__name__} at {' < '.join(reversed(places[-_FRAMES:]))}; its message is not shown, "
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
    cells = [[Text(_shown(cell, place)) for place, cell in enumerate(row)] for row in rows]
    for number, row in enumerate(cells, 1):
        made.add_row(*row, end_section=bool(totals) and number == len(cells) - totals)
    return made


def _shown(cell: Any, place: int) -> str:
    """A cell of a column, counted from 0."""
    if isinstance(cell, float):
        return f"{cell:.3f}"
    return "\n".join(map(plain, str(cell).split("\n"))) if place else plain(str(cell))


def plain(text: str) -> str:
    """A text on one line: control characters and line breaks as escapes."""
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
    """Training spans that tags cannot express exactly."""
    rows = [(kind, plain(label), count) for (kind, label), count in sorted(losses.items())]
    return table("Spans that flat tags cannot express exactly", ("reason", "type", "spans"), rows, left=2)


def count_table(title: str, counts: Counter[str]) -> Table:
    """Issues and how often each occurs."""
    return table(title, ("what", "count"), sorted(counts.items()))


def _figures(counts: Counts) -> tuple[Any, ...]:
    """A row's figures."""
    return counts.precision, counts.recall, counts.f1, counts.gold, counts.predicted, counts.true_positives


@contextmanager
def progress_bars() -> Iterator[Stages]:
    """Progress bars on standard error, one per stage."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=notices, transient=False) as progress:
        yield Stages(progress)


class Stages:
    """Progress of several named stages; a stage that starts again replaces its finished bar."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int | None, *, speed: str = "") -> None:
        """Show how much of a stage is done, of which total if it is known, and how fast it goes, in words."""
        if stage not in self._tasks:  # what is already done does not count for the speed
            self._tasks[stage] = self._progress.add_task(stage, total=total, completed=done, speed=speed)
        task = self._tasks[stage]
        if done < self._progress.tasks[self._progress.task_ids.index(task)].completed:
            self._progress.reset(task, total=total)
        self._progress.update(task, completed=done, total=total, speed=speed)

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Show that something without steps is running."""
        task = self._progress.add_task(what, total=None, speed="")
        try:
            yield
        finally:
            self._progress.remove_task(task)


def quieten() -> None:
    """Silence the progress bars and messages of libraries: commands have their own."""
    from transformers.utils import logging as transformers_logging  # noqa: PLC0415 - slow, and needed only here

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
