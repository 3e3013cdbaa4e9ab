"""Quotes that say what a span reads: white space is compared loosely, and a quote that is elsewhere says how."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cardioner.data.documents import Span
from cardioner.data.formats import Corpus, read_corpus
from cardioner.errors import DataError

TEXT = "No fever today, no chest pain.\nPulse 80."
Row = tuple[int, int, str]
"""Start, end and quote."""


def brat(folder: Path, rows: list[Row]) -> Path:
    lines = [f"T{number}\tX {start} {end}\t{quote}\n" for number, (start, end, quote) in enumerate(rows, start=1)]
    (folder / "a.ann").write_text("".join(lines))
    return folder


def tsv(folder: Path, rows: list[Row]) -> Path:
    lines = [f"a\tX\t{start}\t{end}\t{quote}\n" for start, end, quote in rows]
    (folder / "a.tsv").write_text("".join(["filename\tlabel\tstart_span\tend_span\ttext\n", *lines]))
    return folder


def pubtator(folder: Path, rows: list[Row]) -> Path:
    (folder / "a.txt").unlink()
    title, abstract = TEXT.split("\n")
    lines = [f"a\t{start}\t{end}\t{quote}\tX\tD1\n" for start, end, quote in rows]
    (folder / "a.pubtator").write_text("".join([f"a|t|{title}\na|a|{abstract}\n", *lines]))
    return folder


every_format = pytest.mark.parametrize("form", [brat, tsv, pubtator])


def read(folder: Path, form: Callable[[Path, list[Row]], Path], rows: list[Row], **options: str) -> Corpus:
    (folder / "a.txt").write_text(TEXT)
    return read_corpus(form(folder, rows), **options)  # type: ignore[arg-type]


@every_format
@pytest.mark.parametrize(
    ("start", "end", "quote"),
    [
        (3, 8, "fever "),
        (3, 8, "fever  "),
        (3, 9, "fever"),
        (2, 8, "fever"),
        (31, 36, "\u00a0Pulse"),
        (19, 29, " chest pain "),
    ],
)
def test_white_space_at_the_edges_of_a_quote_is_accepted_and_counted(
    tmp_path: Path, form: Callable[[Path, list[Row]], Path], start: int, end: int, quote: str
) -> None:
    corpus = read(tmp_path, form, [(start, end, quote)])
    assert corpus[0].spans == (Span(start, end, "X"),)
    counted = {issue.kind: issue.count for issue in corpus.report.issues}
    assert counted["quotes with other white space at the edges"] == 1


@every_format
@pytest.mark.parametrize(
    ("start", "end", "quote"), [(3, 8, "fever"), (23, 36, "t pain. Pulse"), (24, 36, " pain. Pulse")]
)
def test_a_quote_that_matches_is_not_counted(
    tmp_path: Path, form: Callable[[Path, list[Row]], Path], start: int, end: int, quote: str
) -> None:
    corpus = read(tmp_path, form, [(start, end, quote)])
    assert corpus[0].spans == (Span(start, end, "X"),)
    assert {issue.kind for issue in corpus.report.issues} <= {"concepts of mentions"}


@every_format
@pytest.mark.parametrize(
    ("rows", "hint"),
    [
        ([(3, 7, "fever"), (19, 28, "chest pain")], "at 3 to 8; all ends look inclusive: add 1 to them"),
        ([(3, 7, "fever "), (19, 29, "chest pain")], "at 3 to 8; 1 of 2 ends look inclusive: add 1 to them"),
        ([(4, 8, "fever")], "counted from 1, with inclusive ends: subtract 1 from the starts"),
        ([(4, 9, "fever")], "it would match at 3 to 8; all offsets look counted from 1: subtract 1 from them"),
        ([(1, 6, "fever")], "it would match at 3 to 8"),
        ([(3, 7, "fever"), (9, 14, "today"), (31, 36, "Pulse")], "it would match at 3 to 8"),
        ([(20, 25, "fever")], "the nearest match is at 3 to 8"),
        ([(3, 8, "cough")], "the text does not have it anywhere"),
    ],
)
def test_a_quote_that_does_not_match_says_where_it_would_and_what_that_looks_like(
    tmp_path: Path, form: Callable[[Path, list[Row]], Path], rows: list[Row], hint: str
) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, form, rows)
    first = str(caught.value).split(".ann:1: " if form is brat else ".tsv:2: " if form is tsv else ".pubtator:3: ")[1]
    assert first.partition("\n")[0].endswith(f"{hint})")
    assert not any(word in str(caught.value) for word in ("fever", "chest", "cough", "today"))
