"""What every page shares: colours that can be read, styles that differ, figures, and saying what is not installed."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest

from cardioner.errors import OutputError, UsageError
from cardioner.reports import html as page
from cardioner.reports.html import (
    COLOURS,
    LINES,
    _figure,
    _hash_source,
    _verbatim,
    check_installed,
    type_styles,
    write_page,
)
from cardioner.reports.svg import draw, new_figure, short


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2 defines it (https://www.w3.org/TR/WCAG22/#dfn-relative-luminance)."""
    shares = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colour", COLOURS)
def test_white_letters_can_be_read_on_every_colour(colour: str) -> None:
    assert 1.05 / (luminance(colour) + 0.05) >= 4.5


def test_types_differ_in_colour_or_line_as_long_as_there_are_any() -> None:
    styles = type_styles(f"TYPE{index}" for index in range(len(COLOURS) * len(LINES)))
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
