"""The page of an evaluation: notes as they are on both sides, every span with what became of it, nothing fetched."""

from __future__ import annotations

import base64
import hashlib
import random
import re
from collections import Counter
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cardioner.data.documents import Annotations, Document, Span
from cardioner.errors import OutputError
from cardioner.evaluation import Evaluation, evaluate
from cardioner.evaluation.error_analysis import KINDS
from cardioner.reports import html
from cardioner.reports.evaluation import side_by_side
from cardioner.reports.evaluation.report import render
from cardioner.reports.html import write_page

HOSTILE = (
    "\n\ufeff A <script>alert('x')</script> &amp; & \"quoted\" <!-- no --> {{ 7 * 7 }}\r\n"
    "قصور القلب\rbare\ttab  two\u00a0spaces \u2028 e\u0301 \U0001fac0 ]]> </div>\r\n\n  "
)
VOID = {"meta", "br", "use", "path", "input"}
SECRET = "quetzalcoatl"


class Page(HTMLParser):
    """What a browser would make of the page.

    Attributes:
        cells: The text of both columns of each note, gold first.
        marked: Per note and column, the characters under each mark, by its title.
        classes: Per note and column, the classes of each mark, by its title.
        lines: Per note, the cells of its table, where there is no text.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.cells: dict[str, list[str]] = {}
        self.marked: dict[tuple[str, int], dict[str, str]] = {}
        self.classes: dict[tuple[str, int], dict[str, set[str]]] = {}
        self.lines: dict[str, list[list[str]]] = {}
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self._open: list[tuple[str, dict[str, str]]] = []
        self._id, self._column = "", 0
        self.feed(page)
        self.close()
        assert self._open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags[tag] += 1
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[name] for name in ("href", "src", "xlink:href", "data", "action") if name in given]
        self.handlers += [name for name in given if name.startswith("on")]
        classes = given.get("class", "").split()
        if "pair" in classes:
            self._id = ""
        if "head" in classes or "lines" in classes:
            self.cells.setdefault(self._id, ["", ""])
            self.lines.setdefault(self._id, [])
        if "note" in classes:
            self._column = 1 - self._column
        if tag == "i":
            where = self._id, 1 - self._column
            self.marked.setdefault(where, {}).setdefault(given["title"], "")
            self.classes.setdefault(where, {}).setdefault(given["title"], set()).update(classes)
        if tag == "tr" and self._inside("lines"):
            self.lines[self._id].append([])
        if tag == "td" and self._inside("lines"):
            self.lines[self._id][-1].append("")
        if tag not in VOID:
            self._open.append((tag, given))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if self._inside("id"):
            self._id += data
        if self._inside("note"):
            self.cells[self._id][1 - self._column] += data
            for title in {given["title"] for tag, given in self._open if tag == "i"}:
                self.marked[self._id, 1 - self._column][title] += data
        if self._inside("lines") and self._open[-1][0] == "td":
            self.lines[self._id][-1][-1] += data

    def _inside(self, name: str) -> bool:
        return any(name in given.get("class", "").split() for _, given in self._open)


def random_pair(seed: int) -> tuple[Document, Document]:
    """A note of hostile pieces, long enough for several rows, with spans anywhere on both sides."""
    chance = random.Random(seed)
    text = "".join(chance.choice(["<b>", "&", "\r\n", " ", '"', "å", "心", "x", "\n\n"]) for _ in range(600))
    gold = [some_span(chance, len(text)) for _ in range(20)]
    predicted = [span for span in gold if chance.random() < 0.5] + [some_span(chance, len(text)) for _ in range(10)]
    scored = [Span(s.start, s.end, s.label, chance.random(), s.fragments) for s in predicted]
    return Document(f"n{seed}", text, tuple(gold)), Document(f"n{seed}", text, tuple(scored))


def some_span(chance: random.Random, length: int) -> Span:
    start = chance.randrange(length - 40)
    end = start + chance.randrange(1, 40)
    fragments = ((start, start + 1), (end - 1, end)) if end - start > 3 and chance.random() < 0.2 else ()
    return Span(start, end, chance.choice(["A", "B&B", "C<"]), fragments=fragments)


def random_evaluation(seeds: Iterable[int] = range(4), samples: int = 0) -> Evaluation:
    pairs = [random_pair(seed) for seed in seeds]
    return evaluate([gold for gold, _ in pairs], [predicted for _, predicted in pairs], samples=samples)


def of_spans(gold: Iterable[Span], predicted: Iterable[Span], text: str = "severe aortic stenosis") -> Evaluation:
    return evaluate([Document("n", text, tuple(gold))], [Document("n", text, tuple(predicted))])


def covered(text: str, span: Span) -> str:
    return "".join(text[start:end] for start, end in span.fragments or ((span.start, span.end),))


@pytest.fixture(scope="module")
def whole() -> str:
    """The page of random notes with intervals."""
    return render(random_evaluation(samples=20))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without plots, which take most of the time."""
    monkeypatch.setattr(html, "draw", lambda _: {})


# The notes -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("undrawn")
def test_both_columns_of_each_note_read_as_the_note_does() -> None:
    hostile = Document("hostile", HOSTILE * 9, (Span(0, len(HOSTILE), "A"), Span(3, 12, "B"), Span(90, 95, "C")))
    pairs = [(hostile, hostile.with_spans([])), *(random_pair(seed) for seed in range(4))]
    made = render(evaluate([gold for gold, _ in pairs], [predicted for _, predicted in pairs]))
    assert Page(made).cells == {gold.id: [gold.text, gold.text] for gold, _ in pairs}
    assert "\r" not in made, "a browser would take it for a newline; as a reference it stays what it is"


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.usefixtures("undrawn")
def test_each_span_is_marked_over_its_characters_and_as_what_became_of_it(seed: int) -> None:
    found = random_evaluation([seed])
    page = Page(render(found))
    text = found.pairing.pairs[0].text or ""
    for column, side in enumerate(("gold", "predicted")):
        expected: dict[str, tuple[str, int]] = {}
        for outcome in found.analysis.outcomes[f"n{seed}"]:
            span, other = (outcome.gold, outcome.predicted) if side == "gold" else (outcome.predicted, outcome.gold)
            if span is None:
                continue
            title = f"{span.label} {span.start}–{span.end}"
            title += "" if span.score is None else f", score {span.score:.3f}"
            title += "" if outcome.kind == "correct" else f"; {outcome.kind}"
            if other is not None and outcome.kind != "correct":
                title += f": {'predicted' if side == 'gold' else 'gold'} {other.label} {other.start}–{other.end}"
            expected[title] = covered(text, span), KINDS.index(outcome.kind)
        assert page.marked[f"n{seed}", column] == {title: covering for title, (covering, _) in expected.items()}
        kinds = {
            title: [int(name[1:]) for name in classes if re.fullmatch(r"k\d", name)] or [0]
            for title, classes in page.classes[f"n{seed}", column].items()
        }
        assert kinds == {title: [kind] for title, (_, kind) in expected.items()}


@pytest.mark.usefixtures("undrawn")
def test_of_equal_spans_one_is_right_and_the_other_is_not() -> None:
    page = Page(render(of_spans([Span(0, 6, "A")], [Span(0, 6, "A"), Span(0, 6, "A")])))
    assert page.marked["n", 1].keys() == {"A 0–6", "A 0–6; spurious"}
    assert page.marked["n", 0].keys() == {"A 0–6"}


@pytest.mark.usefixtures("undrawn")
def test_a_confused_type_can_be_filtered_by_either_type() -> None:
    page = Page(render(of_spans([Span(0, 6, "A")], [Span(0, 6, "B")])))
    assert page.classes["n", 0]["A 0–6; type: predicted B 0–6"] == {"t0", "l0", "k2", "p1"}
    assert page.classes["n", 1]["B 0–6; type: gold A 0–6"] == {"t1", "l0", "k2", "p0"}


@pytest.mark.usefixtures("undrawn")
def test_rows_begin_after_a_newline_so_that_both_columns_stay_level() -> None:
    text = "word " * 200 + "\n" + "short\n" * 100 + "no newline at the end"
    made = render(of_spans([Span(0, 4, "A")], [], text=text))
    rows = re.findall(r'<div class="note[^>]*>(.*?)</div>', made, flags=re.DOTALL)
    columns = ["".join(re.sub("<[^>]*>", "", row) for row in rows[start::2]) for start in (0, 1)]
    assert columns == [text, text]
    assert 2 < len(rows) // 2 < 6
    assert all(row.endswith("\n") for row in rows[:-2])


@pytest.mark.usefixtures("undrawn")
def test_a_note_without_text_is_a_list_of_outcomes() -> None:
    gold = Annotations("n", (Span(0, 6, "A"), Span(7, 9, "B")), ("severe", None))
    predicted = Annotations("n", (Span(0, 5, "A", 0.25), Span(20, 22, "C", 0.5)), (None, None))
    page = Page(render(evaluate([gold], [predicted])))
    assert page.lines["n"][1:] == [
        ["A 0–6", "A 0–5, score 0.250", "↔ boundary"],
        ["B 7–9", "–", "− missed"],
        ["–", "C 20–22, score 0.500", "+ spurious"],
    ]
    assert page.cells["n"] == ["", ""]


# Privacy -------------------------------------------------------------------------------------------------------------


def test_with_ids_alone_no_word_of_a_note_is_on_the_page() -> None:
    text = f"{SECRET} saw furosemide"
    spans = (Span(0, 12, "NAME"), Span(17, 27, "DRUG"))
    gold = Document("note-7", text, spans)
    found = evaluate(
        [gold], [gold.with_spans([Span(0, 12, "DRUG", 0.7)])], samples=20, training=[gold], official="multicardioner"
    )
    whole, made = render(found), render(found, ids_only=True)
    assert SECRET in whole
    assert not re.search(f"{SECRET}|furosemide", made)
    assert all(message in made for message in ("note-7", "NAME 0–12", "DRUG 17–27", "DRUG 0–12, score 0.700"))
    assert 'class="private"' not in made
    assert 'class="private"' in whole


@pytest.mark.usefixtures("undrawn")
def test_a_page_that_quotes_a_note_too_crowded_to_be_shown_is_private_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "_MOST_MARKS", 0)
    made = render(of_spans([Span(0, 6, "A")], []))
    assert "too many overlapping spans" in made
    assert "“severe”" in made
    assert "contains the text of 1 note." in made


def test_what_spans_read_according_to_their_file_is_left_out_too() -> None:
    gold = Annotations("note-7", (Span(0, 12, "NAME"),), (SECRET,))
    found = evaluate([gold], [Annotations("note-7")], training=[Document("t", SECRET, (Span(0, 12, "NAME"),))])
    assert found.analysis.by_mention is not None
    assert SECRET not in render(found, ids_only=True)


# The page ------------------------------------------------------------------------------------------------------------


def test_names_of_types_and_notes_are_shown_as_they_are_and_do_nothing() -> None:
    names = [
        "$x^2$",
        "A<B",
        "C&D",
        '"Q"',
        "'S'",
        "心",
        "}</style>",
        "<script>alert(1)</script>",
        "{{ 7 }}",
        "on\nerror",
    ]
    spans = [Span(index, index + 1, name) for index, name in enumerate(names)]
    wrong = [Span(index, index + 1, name) for index, name in enumerate(reversed(names))]
    identity = '"><script>alert(2)</script><img src=x onerror=alert(3)>'
    text = "abcdefghijkl"
    found = evaluate([Document(identity, text, tuple(spans))], [Document(identity, text, tuple(wrong))], samples=10)
    made = render(found, names=("<i>gold</i>", "<script>alert(4)</script>"))
    page = Page(made)
    assert page.tags["script"] == 1
    assert made.count("</style>") == 1 + page.tags["svg"]
    assert page.handlers == []
    assert not page.tags.keys() & {"img", "iframe"}
    assert page.cells == {identity: [text, text]}
    assert {title.rpartition("; type")[0] for title in page.marked[identity, 0]} == {
        f"{name} {index}–{index + 1}" for index, name in enumerate(names)
    }


def test_only_the_script_of_the_page_may_run() -> None:
    made = render(random_evaluation())
    (script,) = re.findall(r"<script>(.*?)</script>", made, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', made)
    assert policy == (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )


def test_the_page_fetches_nothing_and_its_links_lead_into_itself(whole: str) -> None:
    made = whole
    page = Page(made)
    assert not page.tags.keys() & {"link", "iframe", "img", "object", "embed", "form", "base", "image"}
    assert page.tags["svg"] == 4
    assert len(page.ids) == len(set(page.ids))
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert set(re.findall(r"url\(([^)]?)", made)) <= {"#"}
    assert set(re.findall(r"https?://[^\"' ]*", made)) == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_the_same_evaluation_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.html", "two.html"):
        write_page(render(random_evaluation(samples=20)), tmp_path / name)
    made = (tmp_path / "one.html").read_bytes()
    assert made == (tmp_path / "two.html").read_bytes()
    assert not re.search(rb"20[2-9][0-9]-[0-9]{2}-[0-9]{2}", made)


def test_a_page_that_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    found, place = of_spans([], []), tmp_path / "page.html"
    place.touch()
    with pytest.raises(OutputError, match="exists"):
        write_page(render(found), place)
    write_page(render(found), place, overwrite=True)
    assert place.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


# Figures -------------------------------------------------------------------------------------------------------------


def test_every_figure_of_every_criterion_and_type_is_on_the_page() -> None:
    found = random_evaluation(samples=20)
    made = render(found)
    assert found.intervals is not None
    assert found.calibration is not None
    rows = [(name, "micro", found.scores.by(name).micro) for name in ("strict", "exact", "partial", "type", "relaxed")]
    rows += [("strict", f"per_type/{label}", counts) for label, counts in found.scores.strict.per_type.items()]
    for criterion, row, counts in rows:
        for figure in ("precision", "recall", "f1"):
            interval = found.intervals.of(criterion, row, figure)
            value = f"{getattr(counts, figure):.3f}"
            assert f'{value}<span class="below">{interval.low:.3f} to {interval.high:.3f}</span>' in made
    assert f"calibration error {found.calibration.error:.3f}" in made
    assert made.count("<tr><td", made.index("minimum score"), made.index("Kinds of errors</h2>")) == 12


def test_without_scores_of_spans_and_samples_nothing_is_said_of_them() -> None:
    made = render(of_spans([Span(0, 6, "A")], [Span(0, 6, "A")]))
    assert not re.search(r'class="interval"|[Cc]alibration|Brier', made)
    assert Page(made).tags["svg"] == 3


@pytest.mark.usefixtures("undrawn")
def test_official_figures_stand_beside_the_honest_ones() -> None:
    text, twice = "severe aortic stenosis", (Span(0, 6, "A"), Span(0, 6, "A"))
    made = render(evaluate([Document("n", text, twice[:1])], [Document("n", text, twice)], official="multicardioner"))
    assert "Official rules of multicardioner" in made
    assert "<li>Micro-average precision: 1.0</li>" in made
    assert "These rules leave out 1 repeated span, and 0 spans in notes without gold spans" in made


@pytest.mark.usefixtures("undrawn")
def test_notes_that_only_one_side_has_are_named() -> None:
    gold = [Document("a", "text"), Document("b", "text", (Span(0, 4, "A"),))]
    made = render(evaluate(gold, [Annotations("b", (Span(0, 4, "A"),), (None,))]))
    assert "Notes without any prediction, scored as if nothing was found in them: 1 (a)" in made


def test_many_types_of_any_depth_can_be_drawn() -> None:
    deep = [Span(index, 200 - index, f"TYPE{index}") for index in range(45)]
    made = render(of_spans(deep, deep[::2], text="x" * 200))
    assert len(Page(made).marked["n", 0]) == 45
    assert "30 other types" in made


def test_nothing_to_compare_has_a_page_all_the_same() -> None:
    notes = [Document("a", ""), Document("b", "nothing")]
    page = Page(render(evaluate(notes, notes)))
    assert (page.tags["svg"], page.cells) == (0, {"a": ["", ""], "b": ["nothing", "nothing"]})


@pytest.mark.usefixtures("undrawn")
def test_a_prediction_that_finds_nothing_is_named_so() -> None:
    gold = [Span(0, 6, "A"), Span(7, 13, "B")]
    silent, wrong = render(of_spans(gold, [])), render(of_spans(gold, [Span(0, 5, "A")]))
    assert '<p class="alarm">predicted finds nothing: it has no spans at all.</p>' in silent
    assert '<p class="alarm">predicted finds nothing: none of its spans is a gold span.</p>' in wrong
    half = render(of_spans(gold, gold[:1]))
    assert 'class="alarm"' not in half
    assert '<p class="bad">No span of these types is found: B</p>' in half
    nothing_to_find = render(of_spans([], []))
    assert not re.search(r"finds nothing|is found:", nothing_to_find)


@pytest.mark.usefixtures("undrawn")
def test_an_f1_of_zero_stands_out() -> None:
    made = render(of_spans([Span(0, 6, "A"), Span(7, 13, "B")], [Span(0, 6, "A")]))
    types = made.partition('<h2 id="types">')[2].partition("</table>")[0]
    rows = dict(re.findall(r'<tr><th scope="row">([AB])</th>(.*?)</tr>', types))
    assert [row.count('<td class="n bad">0.000</td>') for row in (rows["A"], rows["B"])] == [0, 1]


def test_the_contents_of_the_page_lead_to_each_section_and_charts_follow_their_tables(whole: str) -> None:
    made = whole
    sections = re.findall(r'<h2 id="([^"]*)">([^<]*)</h2>', made)
    assert len(sections) == made.count("<h2") >= 8
    assert re.findall(r'<li><a href="#([^"]*)">([^<]*)</a></li>', made) == sections
    places = [
        made.index(wanted)
        for wanted in (
            '<h2 id="types">', "<td", 'id="types-', '<h2 id="acceptance">', "minimum score", 'id="reliability-',
            '<h2 id="kinds">', 'id="confusions-', '<h2 id="lengths">', 'id="lengths-', '<h2 id="positions">',
        )
        if wanted != "<td"
    ]  # fmt: skip
    assert places == sorted(places)


@pytest.mark.usefixtures("undrawn")
def test_frequent_errors_lead_to_their_spans_and_quote_them_where_the_page_holds_the_notes() -> None:
    text = "severe aortic <stenosis> & more"
    gold = (Span(0, 6, "A"), Span(7, 24, "B"))
    found = of_spans(gold, [Span(7, 13, "B"), Span(27, 31, "A")], text=text)
    made = render(found)
    links = dict(re.findall(r'<li><a href="#(n0o\d)">n</a> ([^\n]*?)</li>', made))
    assert links == {
        "n0o0": '0–6 <bdi class="quoted">“severe”</bdi> → –',
        "n0o1": '7–24 <bdi class="quoted">“aortic &lt;stenosis&gt;”</bdi> → 7–13 <bdi class="quoted">“aortic”</bdi>',
        "n0o2": '– → 27–31 <bdi class="quoted">“more”</bdi>',
    }
    marks = dict(re.findall(r'<i id="(n0o\d)" class="[^"]*" title="([^";]*)', made))
    assert marks == {"n0o0": "A 0–6", "n0o1": "B 7–24", "n0o2": "A 27–31"}
    without = render(found, ids_only=True)
    assert "quoted" not in without.partition("</style>")[2]
    assert re.findall(r'<tr id="(n0o\d)"', without) == ["n0o0", "n0o1", "n0o2"]


@pytest.mark.usefixtures("undrawn")
def test_a_span_over_several_rows_and_fragments_has_one_id() -> None:
    text = ("word " * 120 + "\n") * 3
    spans = [Span(10, 1500, "A"), Span(20, 900, "B", fragments=((20, 30), (700, 900)))]
    for predicted in ([], spans):
        page = Page(render(of_spans(spans, predicted, text=text)))
        assert len(page.ids) == len(set(page.ids))
        assert {"n0o0", "n0o1"} <= set(page.ids)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_colour_is_a_variable_that_both_schemes_give(whole: str, scheme: str) -> None:
    made = whole
    head, _, body = made.partition("</style>")
    dark = head.partition("prefers-color-scheme: dark")[2].partition("\n")[0]
    given = dark if scheme == "dark" else head.partition("prefers-color-scheme")[0]
    used = set(re.findall(r"var\((--[a-z0-9-]+)\)", made))
    assert used <= set(re.findall(r"(--[a-z0-9-]+): #[0-9a-f]{6};", given))
    rules = head.partition("@media print")[2]
    assert not re.search(r"#[0-9a-f]{3,6}[;}]", rules.partition("\n")[2])
    assert not re.search(r"(fill|stroke): #", body)
