"""The page of a check: its text is the notes' text, it fetches nothing, and every span can be distinguished."""

from __future__ import annotations

import random
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cardioner.data.documents import Document, Span
from cardioner.data.formats import write_corpus
from cardioner.data.quality import CheckReport, check_corpora
from cardioner.errors import OutputError
from cardioner.reports.corpus.report import render
from cardioner.reports.html import write_page

HOSTILE = (
    "\n\ufeff A <script>alert('x')</script> &amp; & \"quoted\" <!-- no --> {{ 7 * 7 }}\r\n"
    "قصور القلب\rbare\ttab  two\u00a0spaces \u2028 e\u0301 \U0001fac0 ]]> </div>\r\n\n  "
)
VOID = {"meta", "br", "use", "path"}


class Page(HTMLParser):
    """What a browser would make of a page: the text of each note, its marks, and everything that could be fetched."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.notes: list[str] = []
        self.marks: list[Counter[str]] = []
        self.marked: dict[str, str] = {}
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.links: list[str] = []
        self._open: list[tuple[str, str]] = []
        self.feed(page)
        self.close()
        assert self._open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags[tag] += 1
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[name] for name in ("href", "src", "xlink:href", "data", "action") if name in given]
        if "note" in given.get("class", "").split():
            self.notes.append("")
            self.marks.append(Counter())
        if tag == "i":
            self.marks[-1][given["title"]] += 1
        if tag not in VOID:
            self._open.append((tag, given.get("title", "") if tag == "i" else ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        inside = [title for tag, title in self._open if tag == "i"]
        if any(tag == "div" for tag, _ in self._open) and self.notes and "table" not in dict(self._open):
            self.notes[-1] += data if self._in_note() else ""
        for title in set(inside):
            self.marked[title] = self.marked.get(title, "") + data

    def _in_note(self) -> bool:
        return [tag for tag, _ in self._open if tag != "i"] == ["html", "body", "main", "div"]


def check(folder: Path, *documents: Document) -> CheckReport:
    write_corpus(documents, folder, "jsonl" if folder.suffix else "brat")
    return check_corpora([folder])


def random_note(seed: int) -> Document:
    chance = random.Random(seed)
    text = "".join(chance.choice(["<b>", "&", "\r\n", " ", '"', "å", "心", "x"]) for _ in range(80))
    spans = []
    for _ in range(12):
        start, end = sorted(chance.sample(range(len(text) + 1), 2))
        fragments = ((start, start + 1), (end - 1, end)) if end - start > 3 and chance.random() < 0.3 else ()
        spans.append(Span(start, end, chance.choice(["A", "B&B", "C<"]), fragments=fragments))
    return Document(f"n{seed}", text, tuple(spans))


def test_the_text_of_each_rendered_document_is_the_note(tmp_path: Path) -> None:
    hostile = Document("hostile", HOSTILE, (Span(0, len(HOSTILE), "A"), Span(3, 12, "B"), Span(90, 95, "C")))
    documents = [hostile, *(random_note(seed) for seed in range(4))]
    made = render(check(tmp_path / "c", *documents))
    assert Page(made).notes == [document.text for document in documents]
    assert "\r" not in made, "a browser would take it for a newline; as a reference it stays what it is"


def test_each_span_is_marked_over_exactly_its_characters(tmp_path: Path) -> None:
    text = "severe aortic and mitral stenosis & <b>more</b>"
    spans = (
        Span(0, 33, "A"),
        Span(7, 33, "B", fragments=((7, 13), (25, 33))),
        Span(14, 40, "C"),
        Span(14, 17, "D"),
    )
    page = Page(render(check(tmp_path / "c", Document("n", text, spans))))
    assert page.marked == {
        f"{span.label} {span.start}–{span.end}": "".join(
            text[start:end] for start, end in span.fragments or ((span.start, span.end),)
        )
        for span in spans
    }


def test_the_page_fetches_nothing_and_runs_nothing(tmp_path: Path) -> None:
    made = render(check(tmp_path / "c", Document("n", HOSTILE, (Span(3, 12, "A"),))))
    page = Page(made)
    assert not page.tags.keys() & {"script", "link", "iframe", "img", "object", "embed", "form", "base", "image"}
    assert page.tags["svg"] == 3
    assert [link for link in page.links if not link.startswith("#")] == []
    assert set(re.findall(r"url\(([^)]?)", made)) <= {"#"}
    assert "@import" not in made
    assert set(re.findall(r"https?://[^\"' ]*", made)) == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "default-src 'none'" in made


def test_ids_on_the_page_are_unique_and_links_find_theirs(tmp_path: Path) -> None:
    page = Page(render(check(tmp_path / "c", *(random_note(seed) for seed in range(3)))))
    assert len(page.ids) == len(set(page.ids))
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    found = check(tmp_path / "c", *(random_note(seed) for seed in range(3)))
    pages = []
    for name in ("one.html", "two.html"):
        write_page(render(found), tmp_path / name)
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1]
    assert not re.search(rb"20[2-9][0-9]-[0-9]{2}-[0-9]{2}", pages[0])


def test_without_texts_the_page_holds_offsets_and_ids_alone(tmp_path: Path) -> None:
    text = "quetzalcoatl saw furosemide"
    found = check(tmp_path / "c", Document("note-7", text, (Span(0, 12, "NAME"), Span(17, 27, "DRUG"))))
    page = render(found, ids_only=True)
    assert not any(word in page for word in text.split() if word != "saw")
    assert all(message in page for message in ("note-7", "NAME 0–12", "DRUG 17–27"))
    assert 'class="private"' not in page
    assert Page(page).notes == []


def test_names_of_types_are_shown_as_they_are_wherever_they_stand(tmp_path: Path) -> None:
    names = ["$x^2$", "A<B", "C&D", '"Q"', "心", "$\\frac$", "}</style>"]
    spans = tuple(Span(index, index + 1, name) for index, name in enumerate(names))
    made = render(check(tmp_path / "c", Document("n", "abcdefghij", spans)))
    page = Page(made)
    assert page.marked.keys() == {f"{name} {index}–{index + 1}" for index, name in enumerate(names)}
    assert made.count("</style>") == 1 + page.tags["svg"]


def test_many_types_and_parts_of_any_depth_can_be_drawn(tmp_path: Path) -> None:
    text = "x" * 200
    deep = tuple(Span(index, 200 - index, f"TYPE{index}") for index in range(45))
    page = Page(render(check(tmp_path / "c", Document("n", text, deep), Document("none", "nothing"))))
    assert page.notes == [text]
    assert len(page.marked) == 45


def test_a_corpus_without_entities_has_a_page_without_plots(tmp_path: Path) -> None:
    page = Page(render(check(tmp_path / "c", Document("n", "nothing here"))))
    assert (page.tags["svg"], page.notes) == (0, [])


def test_a_page_that_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    found = check(tmp_path / "c", Document("n", "text", (Span(0, 4, "A"),)))
    place = tmp_path / "page.html"
    place.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        write_page(render(found), place)
    assert place.read_text() == "mine"
    write_page(render(found), place, overwrite=True)
    assert place.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_the_folders_that_a_corpus_lies_in_are_not_on_the_page(tmp_path: Path) -> None:
    note = Document("n", "text", (Span(0, 4, "A"), Span(0, 4, "A")))
    write_corpus([note], tmp_path / "train", "brat")
    write_corpus([note], tmp_path / "test", "brat")
    (tmp_path / "test" / "extra.dat").touch()
    (tmp_path / "test" / "bad.txt").touch()
    (tmp_path / "test" / "bad.ann").write_text("nothing\n")
    found = check_corpora([tmp_path / "train", tmp_path / "test"])
    made = render(found)
    assert found.sources[1].path == str(tmp_path / "test")
    assert str(tmp_path) not in made
    assert "<h3>test</h3>" in made
    assert "test/extra.dat" in made
    assert "<li>test/bad.ann:1: expected" in made
    assert "<title>Check of train, test</title>" in made


def test_the_contents_of_the_page_lead_to_each_section(tmp_path: Path) -> None:
    made = render(check(tmp_path / "c", *(random_note(seed) for seed in range(3))))
    sections = re.findall(r'<h2 id="([^"]*)">([^<]*)</h2>', made)
    assert len(sections) == made.count("<h2") >= 3
    assert re.findall(r'<li><a href="#([^"]*)">([^<]*)</a></li>', made) == sections
