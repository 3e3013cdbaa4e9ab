"""The page of an evaluation in headless Chromium: it opens from a file, filters, and neither complains nor fetches."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from cardioner.data.documents import Document, Span
from cardioner.evaluation import evaluate
from cardioner.reports.evaluation.report import render
from cardioner.reports.html import write_page

pytestmark = pytest.mark.browser

Scheme = Literal["light", "dark"]

TEXT = "Severe aortic stenosis, no mitral stenosis; syncope twice.\nFurosemide 40 mg was begun."
NOTES = {
    # id: gold spans, predicted spans
    "right": ([Span(7, 22, "DISEASE"), Span(44, 51, "SYMPTOM")], [Span(7, 22, "DISEASE"), Span(44, 51, "SYMPTOM")]),
    "boundary": ([Span(0, 22, "DISEASE")], [Span(7, 22, "DISEASE")]),
    "mixed": ([Span(7, 22, "DISEASE"), Span(44, 51, "SYMPTOM")], [Span(7, 22, "DISEASE"), Span(59, 69, "DRUG")]),
    "swapped": ([Span(44, 51, "SYMPTOM")], [Span(44, 51, "DISEASE")]),
    "empty": ([], []),
}


@dataclass(frozen=True)
class Opened:
    """A page in the browser, and what it said and asked for on the way."""

    page: Page
    complaints: list[str]
    requests: list[str]

    def shown(self) -> list[str]:
        """The ids of the notes that can be seen."""
        notes = self.page.locator(".pair")
        return [note.locator(".id").text_content() or "" for note in notes.all() if note.is_visible()]

    def marked(self, identity: str) -> list[str]:
        """What the marks of a note say that are not switched off, those of the gold side first in each row."""
        note = self.page.locator(".pair", has=self.page.get_by_text(identity, exact=True))
        return [mark.get_attribute("title") or "" for mark in note.locator(".note i:not(.off)").all()]

    def uncheck(self, *names: str) -> None:
        for name in names:
            self.page.locator("#filters").get_by_label(name, exact=True).uncheck()

    def told(self) -> str:
        return self.page.locator("#shown").inner_text()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Opened]]:
    """Opens a file; in the end nothing may have been complained of, and nothing but the file asked for."""
    made: list[Opened] = []

    def build(path: Path, *, scripts: bool = True, width: int = 1280, scheme: Scheme = "light") -> Opened:
        size = {"width": width, "height": 720}
        page = browser.new_page(java_script_enabled=scripts, viewport=size, color_scheme=scheme)
        opened = Opened(page, [], [])
        made.append(opened)
        opened.page.on("console", lambda message: opened.complaints.append(message.text))
        opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        opened.page.goto(path.as_uri())
        return opened

    yield build
    for opened in made:
        assert opened.complaints == []
        assert opened.requests == [opened.page.url.partition("#")[0]]
        opened.page.close()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of five notes."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    gold = [Document(name, TEXT, tuple(spans)) for name, (spans, _) in NOTES.items()]
    predicted = [Document(name, TEXT, tuple(spans)) for name, (_, spans) in NOTES.items()]
    write_page(render(evaluate(gold, predicted)), path)
    return path


def test_everything_is_shown_at_first(open_page: Callable[..., Opened], small: Path) -> None:
    opened = open_page(small)
    assert opened.shown() == sorted(NOTES)
    assert opened.told() == "5 of 5 notes shown"
    assert opened.marked("mixed") == [
        "DISEASE 7–22",
        "SYMPTOM 44–51; missed",
        "DISEASE 7–22",
        "DRUG 59–69; spurious",
    ]
    assert opened.page.locator("svg").count() == 3
    assert opened.page.locator("svg").first.is_visible()


def test_notes_without_a_span_of_the_chosen_kinds_are_hidden(open_page: Callable[..., Opened], small: Path) -> None:
    opened = open_page(small)
    opened.uncheck("✓ correct")
    assert opened.shown() == ["boundary", "mixed", "swapped"]
    assert opened.told() == "3 of 5 notes shown"
    assert opened.marked("mixed") == ["SYMPTOM 44–51; missed", "DRUG 59–69; spurious"]
    opened.uncheck("↔ boundary", "− missed", "+ spurious")
    assert opened.shown() == ["swapped"]


def test_a_type_filter_keeps_spans_that_were_confused_with_the_type(
    open_page: Callable[..., Opened], small: Path
) -> None:
    opened = open_page(small)
    opened.page.get_by_role("button", name="no type").click()
    assert opened.shown() == []
    assert opened.told() == "0 of 5 notes shown"
    opened.page.locator("#filters").get_by_label("SYMPTOM").check()
    assert opened.shown() == ["mixed", "right", "swapped"]
    assert opened.marked("swapped") == [
        "SYMPTOM 44–51; type: predicted DISEASE 44–51",
        "DISEASE 44–51; type: gold SYMPTOM 44–51",
    ]
    assert opened.marked("right") == ["SYMPTOM 44–51", "SYMPTOM 44–51"]


def test_a_mark_that_is_switched_off_looks_like_plain_text(open_page: Callable[..., Opened], small: Path) -> None:
    opened = open_page(small)
    looks = """() => [...document.querySelectorAll('.note i')].map((mark) => [
        getComputedStyle(mark, '::after').content,
        getComputedStyle(mark).backgroundColor,
        getComputedStyle(mark).borderBottomColor,
    ])"""
    before = opened.page.evaluate(looks)
    assert '"DISEASE ↔ boundary"' in [content for content, _, _ in before]
    opened.uncheck("DISEASE", "SYMPTOM", "DRUG")
    plain = ["none", "rgba(0, 0, 0, 0)", "rgba(0, 0, 0, 0)"]
    assert opened.page.evaluate(looks) == [plain] * len(before)


def test_only_notes_with_errors_of_the_chosen_types(open_page: Callable[..., Opened], small: Path) -> None:
    opened = open_page(small)
    opened.page.get_by_label("only notes with errors").check()
    assert opened.shown() == ["boundary", "mixed", "swapped"]
    opened.uncheck("DISEASE", "SYMPTOM")
    assert opened.shown() == ["mixed"]


def test_notes_are_found_by_part_of_their_id_and_all_come_back(open_page: Callable[..., Opened], small: Path) -> None:
    opened = open_page(small)
    opened.page.get_by_label("id contains").fill(" ED")
    assert opened.shown() == ["mixed", "swapped"]
    opened.uncheck("DRUG", "− missed")
    opened.page.get_by_label("only notes with errors").check()
    assert opened.shown() == ["swapped"]
    opened.page.get_by_role("button", name="show everything").click()
    assert opened.shown() == sorted(NOTES)
    assert opened.page.get_by_label("id contains").input_value() == ""
    assert len(opened.marked("mixed")) == 4


def test_every_control_is_reached_and_used_by_the_keyboard(open_page: Callable[..., Opened], small: Path) -> None:
    opened = open_page(small)
    controls = opened.page.locator("#filters :is(input, button)")
    opened.page.locator("#filters button").first.focus()
    for control in controls.all():
        expect(control).to_be_focused()
        assert control.evaluate(
            "node => node.ariaLabel || node.textContent.trim() || node.labels[0].textContent.trim()"
        )
        opened.page.keyboard.press("Tab")
    opened.page.get_by_label("only notes with errors").focus()
    opened.page.keyboard.press("Space")
    assert opened.told() == "3 of 5 notes shown"
    opened.page.keyboard.press("Tab")
    opened.page.keyboard.type("mix")
    opened.page.keyboard.press("Enter")
    assert opened.told() == "1 of 5 notes shown"


def test_a_link_to_a_note_that_is_hidden_shows_it(open_page: Callable[..., Opened], small: Path) -> None:
    opened = open_page(small)
    opened.page.get_by_label("id contains").fill("right")
    opened.page.locator("a", has_text="mixed").first.click()
    note = opened.page.locator(".pair", has=opened.page.get_by_text("mixed", exact=True))
    expect(note).to_be_in_viewport()
    assert opened.shown() == sorted(NOTES)


def test_a_link_to_an_error_leads_to_its_span_even_if_it_is_filtered_out(
    open_page: Callable[..., Opened], small: Path
) -> None:
    opened = open_page(small)
    opened.uncheck("− missed")
    row = opened.page.locator(".confusion", has_text="− missed")
    expect(row.locator(".quoted")).to_have_text("“syncope”")
    row.locator("a", has_text="mixed").click()
    mark = opened.page.locator("i:target")
    assert mark.get_attribute("title") == "SYMPTOM 44–51; missed"
    expect(mark).to_be_in_viewport()
    assert mark.evaluate("node => [node.matches('.off'), getComputedStyle(node).outlineStyle]") == [False, "solid"]


@pytest.mark.parametrize(("scheme", "paper", "ink"), [("light", 255, 26), ("dark", 21, 230)])
def test_text_and_plots_suit_the_scheme_that_the_user_prefers(
    open_page: Callable[..., Opened], small: Path, scheme: Scheme, paper: int, ink: int
) -> None:
    opened = open_page(small, scheme=scheme)
    reds = opened.page.evaluate("""() => {
        const red = (colour) => Number(colour.match(/\\d+/)[0]);
        return [
            red(getComputedStyle(document.body).backgroundColor),
            red(getComputedStyle(document.querySelector("td")).color),
            red(getComputedStyle(document.querySelector("svg text")).fill),
        ];
    }""")
    assert reds == [paper, ink, ink]


@pytest.mark.parametrize("ids_only", [False, True])
def test_on_a_narrow_screen_the_page_fits_and_no_column_of_text_collapses(
    open_page: Callable[..., Opened], tmp_path: Path, ids_only: bool
) -> None:
    gold = [Document(name, TEXT, tuple(spans)) for name, (spans, _) in NOTES.items()]
    predicted = [Document(name, TEXT, tuple(spans)) for name, (_, spans) in NOTES.items()]
    write_page(render(evaluate(gold, predicted, samples=10), ids_only=ids_only), tmp_path / "page.html")
    opened = open_page(tmp_path / "page.html", width=500)
    assert opened.page.evaluate("document.documentElement.scrollWidth") == 500
    cells = opened.page.evaluate("""() => [...document.querySelectorAll("td, th")].map(
        (cell) => [cell.innerText.split("\\n").reduce((most, line) => Math.max(most, line.length), 0), cell.clientWidth]
    )""")
    assert max(length for length, _ in cells) > 40
    assert [width for length, width in cells if length > 24 and width < 160] == []


def test_charts_stand_beside_their_tables(open_page: Callable[..., Opened], small: Path) -> None:
    opened = open_page(small, width=1600)
    pairs = opened.page.locator(".beside", has=opened.page.locator("svg")).all()
    assert len(pairs) == 3
    for beside in pairs:
        table, plot = beside.locator("table").bounding_box(), beside.locator("svg").bounding_box()
        assert table is not None
        assert plot is not None
        assert plot["x"] >= table["x"] + table["width"]
        assert plot["y"] < table["y"] + table["height"]


def test_without_scripts_the_page_is_whole_and_has_no_dead_controls(
    open_page: Callable[..., Opened], small: Path
) -> None:
    opened = open_page(small, scripts=False)
    assert not opened.page.locator("#filters").is_visible()
    assert opened.shown() == sorted(NOTES)
    assert len(opened.marked("mixed")) == 4
    assert opened.page.locator("noscript .k1").is_visible()


def test_both_columns_stand_beside_each_other_on_one_level(open_page: Callable[..., Opened], small: Path) -> None:
    opened = open_page(small)
    cells = [cell.bounding_box() for cell in opened.page.locator(".note").all()]
    assert cells
    for gold, predicted in zip(cells[::2], cells[1::2], strict=True):
        assert gold is not None
        assert predicted is not None
        assert gold["y"] == predicted["y"]
        assert gold["x"] + gold["width"] <= predicted["x"]


def test_without_texts_the_outcomes_can_be_filtered_too(open_page: Callable[..., Opened], tmp_path: Path) -> None:
    gold = [Document(name, TEXT, tuple(spans)) for name, (spans, _) in NOTES.items()]
    predicted = [Document(name, TEXT, tuple(spans)) for name, (_, spans) in NOTES.items()]
    write_page(render(evaluate(gold, predicted), ids_only=True), tmp_path / "page.html")
    opened = open_page(tmp_path / "page.html")
    lines = opened.page.locator(".lines tbody tr")
    assert lines.count() == 7
    opened.uncheck("✓ correct", "≠ type")
    assert [line.inner_text() for line in lines.all() if line.is_visible()] == [
        "DISEASE 0–22\tDISEASE 7–22\t↔ boundary",
        "SYMPTOM 44–51\t–\t− missed",
        "–\tDRUG 59–69\t+ spurious",
    ]
    assert opened.shown() == ["boundary", "mixed"]


def test_hostile_names_run_nothing(open_page: Callable[..., Opened], tmp_path: Path) -> None:
    attack = "\"'><img src=x onerror=alert(1)><script>alert(2)</script></style></svg>"
    document = Document(attack, attack * 3, (Span(0, 9, attack), Span(3, 20, "B")))
    write_page(render(evaluate([document], [document.with_spans([Span(0, 9, "B")])])), tmp_path / "page.html")
    opened = open_page(tmp_path / "page.html")
    opened.page.on("dialog", lambda dialog: opened.complaints.append(dialog.message))
    assert opened.shown() == [attack]
    assert opened.page.locator(".note").first.text_content() == attack * 3
    opened.uncheck(attack, "B")
    assert opened.shown() == []


def test_two_hundred_long_notes_are_read_and_filtered_without_waiting(
    open_page: Callable[..., Opened], tmp_path: Path
) -> None:
    chance = random.Random(0)
    gold, predicted = [], []
    for number in range(200):
        text = " ".join(
            chance.choice(["dolor", "torácico", "disnea", "no", "de", "\n", "furosemida"]) for _ in range(1400)
        )
        text = text[:8000].ljust(8000)
        starts = sorted(chance.sample(range(0, 7900, 20), 60))
        spans = [Span(start, start + chance.randrange(3, 25), chance.choice("ABCDEF")) for start in starts]
        gold.append(Document(f"note-{number}", text, tuple(spans)))
        predicted.append(gold[-1].with_spans(span for span in spans if number % 2 or chance.random() < 0.8))
    write_page(render(evaluate(gold, predicted)), tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 8_000_000
    opened = open_page(tmp_path / "page.html")
    assert opened.told() == "200 of 200 notes shown"
    assert opened.page.evaluate("document.querySelectorAll('*').length") < 60_000
    took = opened.page.evaluate("""() => {
        const began = performance.now();
        document.getElementById("errors-only").click();
        document.body.getBoundingClientRect();
        return performance.now() - began;
    }""")
    assert opened.told() == "100 of 200 notes shown"
    assert opened.page.locator(".pair:visible").count() == 100
    assert took < 2000, "milliseconds"
