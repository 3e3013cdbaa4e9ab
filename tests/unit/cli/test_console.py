"""Words and tables of the command line."""

from __future__ import annotations

import pytest
from rich.console import Console

from cardioner.cli.console import plain, table
from cardioner.errors import many


def drawn(*rows: tuple[object, ...]) -> list[str]:
    console = Console(width=60, color_system=None)
    with console.capture() as caught:
        console.print(table("a title", ("name", "value"), rows, left=2))
    return caught.get().splitlines()


@pytest.mark.parametrize("character", ["\n", "\r", "\t", "\x1b", "\x00", "\x85", "\u2028"])
def test_a_name_stays_on_one_line(character: str) -> None:
    assert len(drawn((f"one{character}two", 1))) == len(drawn(("one", 1)))
    assert plain(f"one{character}two") == "one" + character.encode("unicode_escape").decode() + "two"


def test_lines_of_a_cell_stay_lines_and_hold_no_other_control_characters() -> None:
    lines = drawn(("one", "first\nsec\x1bond"))
    assert [line.split()[1] for line in lines if "first" in line] == ["one"]
    assert any("sec\\x1bond" in line for line in lines)


@pytest.mark.parametrize("more", range(9))
def test_paths_are_broken_where_a_part_of_them_ends(more: int) -> None:
    path = f"{'a' * more}/hospital-of-the-north/cardiology/letters/of-2021/2021-03-12.txt:12"
    shown = [line.split("│")[2].strip() for line in drawn(("kind", path), ("kind", "x" * 70)) if "│" in line]
    assert "".join(shown) == path + "x" * 70
    assert all(part[-1] in "/-x" or path.endswith(part) for part in shown)


def test_other_scripts_are_shown_as_they_are() -> None:
    assert plain("心\u200d é قصور") == "心\u200d é قصور"


def test_one_thing_is_no_plural() -> None:
    assert [many(count, "note") for count in (0, 1, 2)] == ["0 notes", "1 note", "2 notes"]
    assert [many(count, "entity", "entities") for count in (1, 2)] == ["1 entity", "2 entities"]
