"""What every page shares: colours that can be read, styles that differ, figures, and saying what is not installed."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources
from pathlib import Path

import pytest

from cardioner.errors import OutputError, UsageError
from cardioner.evaluation import Counts
from cardioner.reports import html as page
from cardioner.reports.html import (
    LINES,
    _figure,
    _hash_source,
    _verbatim,
    check_installed,
    score_cells,
    type_styles,
    write_page,
)
from cardioner.reports.palette import PALETTE, SHADES, TYPES
from cardioner.reports.svg import draw, new_figure, short


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2 defines it (https://www.w3.org/TR/WCAG22/#dfn-relative-luminance)."""
    shares = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(name: str, behind: str, scheme: int) -> float:
    """Of two colours on light (0) or dark (1) paper, as WCAG 2 defines it."""
    return ratio(PALETTE[name][scheme], PALETTE[behind][scheme])


def ratio(colour: str, behind: str) -> float:
    """Of any two colours."""
    pair = sorted(map(luminance, (colour, behind)))
    return (pair[1] + 0.05) / (pair[0] + 0.05)


def mixed(colour: str, paper: str, percent: int) -> str:
    """A colour that lets the paper through, as CSS mixes them in sRGB."""
    pairs = [[int(one[start : start + 2], 16) for one in (colour, paper)] for start in (1, 3, 5)]
    return "#" + "".join(f"{round((percent * over + (100 - percent) * under) / 100):02x}" for over, under in pairs)


READ = [
    *((name, "paper") for name in ("ink", "quiet", "link", "good", "bad", *(f"c{index}" for index in range(TYPES)))),
    *(("ink", behind) for behind in ("head", "marked", "private", *(f"k{index}" for index in range(1, 6)))),
    *(("link", "head"), ("quiet", "marked")),
]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("name", "behind"), READ, ids="-".join)
def test_text_can_be_read_on_light_and_on_dark_paper(name: str, behind: str, scheme: int) -> None:
    assert contrast(name, behind, scheme) >= 4.5


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_names_of_types_can_be_read_on_the_tint_of_any_type(scheme: int) -> None:
    style = resources.files("cardioner.server").joinpath("page/style.css").read_text(encoding="utf-8")
    percents = set(map(int, re.findall(r"var\(--(?:tint|special)\) (\d+)%", style)))
    assert len(percents) > 1
    types = [PALETTE[f"c{index}"][scheme] for index in range(TYPES)]
    tints = [mixed(colour, PALETTE["paper"][scheme], percent) for colour in types for percent in percents]
    assert min(ratio(name, tint) for name in (*types, PALETTE["ink"][scheme]) for tint in tints) >= 4.5


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_series_of_plots_stand_out_from_the_paper_and_from_each_other(scheme: int) -> None:
    names = [f"s{index}" for index in range(len(SHADES))]
    assert min(contrast(name, "paper", scheme) for name in names) >= 3
    assert len({PALETTE[name][scheme] for name in names}) == len(names)


def test_types_differ_in_colour_or_line_as_long_as_there_are_any() -> None:
    styles = type_styles(f"TYPE{index}" for index in range(TYPES * len(LINES)))
    assert len({(style.colour, style.line) for style in styles.values()}) == len(styles)
    assert len({style.name for style in type_styles("</style>" + "x" * n for n in range(90)).values()}) == 90


def test_no_character_of_a_types_name_gets_into_its_class() -> None:
    assert next(iter(type_styles(["</style><script>"]).values())).name == "t0"


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "–"), (1234567, "1,234,567"), (1234.56, "1,234.6"), (0, "0"), (0.04, "0.0")]
)
def test_numbers_are_written_as_people_read_them(value: float | None, shown: str) -> None:
    assert _figure(value) == shown


def test_long_names_keep_their_end() -> None:
    assert short("a" * 40) == "a" * 40
    assert short("/data/" + "a" * 36 + ".txt") == "…" + "a" * 35 + ".txt"
    assert short("abcdef", most=4) == "…def"


def test_text_is_escaped_and_keeps_its_carriage_returns() -> None:
    assert _verbatim("<b>&\r\n\r") == "&lt;b&gt;&amp;&#13;\n&#13;"


def test_a_script_is_named_by_the_digest_of_its_bytes() -> None:
    script = "'ä'"
    kind, _, digest = _hash_source(script).partition("-")
    assert (kind, base64.b64decode(digest)) == ("sha256", hashlib.sha256(script.encode()).digest())


def test_a_page_is_not_replaced_unasked_and_shows_what_no_encoding_holds(tmp_path: Path) -> None:
    place = tmp_path / "page.html"
    write_page("\udcff å\r\n", place)
    assert place.read_bytes() == b"\\udcff \xc3\xa5\r\n"
    with pytest.raises(OutputError, match="exists"):
        write_page("new", place)
    write_page("new", place, overwrite=True)
    assert place.read_bytes() == b"new"


def test_plots_on_one_page_share_no_id_and_are_drawn_the_same_again() -> None:
    def plot() -> object:
        figure, axes = new_figure(1.0)
        axes.plot([0, 1], [1, 0], "o")
        axes.set_title("<script>$x^2$</script>")
        return figure

    drawn = draw({"one": plot, "two": plot})
    assert drawn == draw({"one": plot, "two": plot})
    ids = [set(re.findall(r' id="([^"]*)"', svg)) for svg in drawn.values()]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert "&lt;script&gt;$x^2$&lt;/script&gt;" in drawn["one"]


def test_what_is_missing_for_the_page_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "find_spec", lambda name: None if name == "matplotlib" else object())
    with pytest.raises(UsageError, match="needs matplotlib: pip install matplotlib"):
        check_installed()


def test_plots_take_their_colours_from_the_page() -> None:
    def plot() -> object:
        figure, axes = new_figure(1.0, "title")
        for shade in SHADES:
            axes.plot([0, 1], [1, 0], color=shade)
        axes.set_xlabel("label")
        return figure

    drawn = draw({"one": plot})["one"]
    assert not re.search(r"#[0-9a-fA-F]{3,8}\b(?=[;\"])", drawn)
    assert {f"var(--s{index})" for index in range(len(SHADES))} <= set(re.findall(r"var\([^)]*\)", drawn))
    assert re.search(r"<text[^>]*fill: var\(--ink\)", drawn), "black letters could not be read on dark paper"


def test_an_f1_of_zero_is_alarming_where_there_is_something_to_find_or_something_found() -> None:
    for counts, alarming in (
        (Counts(0, 0, 3), True),
        (Counts(0, 3, 0), True),
        (Counts(), False),
        (Counts(1, 3, 3), False),
    ):
        assert [cell.alarming for cell in score_cells(counts)] == [False, False, alarming]
    assert not any(cell.alarming for cell in score_cells(Counts(0, 0, 0, partial=1)))
