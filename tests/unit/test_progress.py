"""Progress is bars on a terminal and a line every half minute elsewhere, and earlier callbacks go on working."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from cardioner import _progress
from cardioner._progress import EVERY, Lines, accepting_detail, reporting, showing, silent
from cardioner.errors import UsageError
from cardioner.training.options import TrainingOptions


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """The time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock()
    monkeypatch.setattr(_progress, "time", made)
    return made


def test_a_line_every_half_minute_says_step_loss_rate_and_time_left(clock: Clock) -> None:
    written: list[str] = []
    lines = Lines(written.append)
    for step in range(1, 100):
        clock.now += 2
        lines("training", step, 600, detail="loss 0.2130")
    assert written[0] == "training: 15 of 600 steps, loss 0.2130, 0.5 steps/s, 0:19:30 left"
    assert len(written) == 99 * 2 // EVERY


def test_what_was_done_before_does_not_count_for_the_rate(clock: Clock) -> None:
    written: list[str] = []
    lines = Lines(written.append)
    lines("tagging (notes)", 4000, None)
    clock.now += 60
    lines("tagging (notes)", 4030, None, detail="900 sub-tokens/s")
    assert written == ["tagging: 4,030 notes, 900 sub-tokens/s, 0.5 notes/s"]


def test_a_stage_that_starts_again_starts_its_rate_again(clock: Clock) -> None:
    written: list[str] = []
    lines = Lines(written.append)
    for done in (0, 40_000):
        clock.now += 1
        lines("scoring", done, 40_000)
    clock.now += 1000
    lines("scoring", 0, 40_000)
    clock.now += 100
    lines("scoring", 20_000, 40_000)
    assert written == ["scoring: 0 of 40,000", "scoring: 20,000 of 40,000, 200/s, 0:01:40 left"]


@pytest.mark.parametrize(("terminal", "kind"), [(True, "Bars"), (False, "Lines")])
def test_bars_are_for_terminals(terminal: bool, kind: str) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal)
    with reporting(console, console.print) as report:
        assert type(report).__name__ == kind
        report("training", 1, 2, detail="loss 1.0000")
    assert ("loss 1.0000" in console.file.getvalue()) == terminal  # type: ignore[attr-defined]


def test_a_log_gets_lines_also_where_there_are_bars(clock: Clock) -> None:
    console, logged = Console(file=io.StringIO(), force_terminal=True), list[str]()
    with reporting(console, console.print, log=logged.append) as report:
        clock.now += 31
        report("training", 1, 2)
    assert logged == ["training: 1 of 2 steps"]


def test_callbacks_of_three_arguments_still_work() -> None:
    told: list[tuple[Any, ...]] = []
    accepting_detail(lambda *step: told.append(step))("training", 1, 2, detail="loss 1.0000")
    accepting_detail(lambda stage, done, total, detail="": told.append((stage, done, total, detail)))(
        "training", 1, 2, detail="loss 1.0000"
    )
    assert told == [("training", 1, 2), ("training", 1, 2, "loss 1.0000")]
    assert accepting_detail(silent) is silent
    pickle.dumps(accepting_detail(print))  # a sweep's process gets the options


def test_the_option_takes_true_or_a_function() -> None:
    assert TrainingOptions(progress=True).progress is True
    assert TrainingOptions(progress=silent).progress is silent
    with pytest.raises(UsageError, match="progress: expected true, or a function of the stage"):
        TrainingOptions(progress=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("asked", [None, False])
def test_nothing_is_shown_unless_asked(asked: bool | None, capfd: pytest.CaptureFixture[str]) -> None:
    with showing(asked) as report:
        report("training", 1, 2)
    assert capfd.readouterr() == ("", "")


def test_true_writes_to_standard_error(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with showing(True) as report:
        clock.now += 31
        report("training", 1, 2, detail="loss 1.0000")
    assert capsys.readouterr() == ("", "training: 1 of 2 steps, loss 1.0000\n")
