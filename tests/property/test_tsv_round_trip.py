"""What is written as a table and notes is read back, whatever characters and spans a note has."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from cardioner.data.documents import Document, Span
from cardioner.data.formats import read_corpus, write_corpus

HOSTILE = "\ufeff\r\n\t\"'\u00a0\u00ad\u200b\u200d\u0301\u2028\u2029\x85\x0b\x0c\x1c\x00\U0001fac0\U0001f468;# "
CHARACTERS = st.one_of(st.sampled_from(HOSTILE), st.sampled_from('"\t\r\n'), st.characters(exclude_categories=["Cs"]))
LABELS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
STEPS = st.text('abc.-é "', min_size=1, max_size=4).filter(
    lambda step: not step.startswith(".") and step[-1] not in ". "
)
IDS = st.lists(STEPS, min_size=1, max_size=3).map("/".join)
ROWS = st.lists(st.sampled_from(["a\tX\t0\t1\ty", '"', '""', "\n", "\r\n", "\t", "x"]), max_size=12).map("".join)
"""Notes that look like tables."""


@st.composite
def documents(draw: st.DrawFn, name: str) -> Document:
    text = draw(st.text(CHARACTERS, max_size=40) | ROWS)
    cuts = st.sets(st.integers(0, len(text)), min_size=2, max_size=2).map(sorted)
    marked = [Span(*edges, draw(LABELS)) for edges in draw(st.lists(cuts, max_size=6))] if text else []
    again = draw(st.lists(st.sampled_from(marked), max_size=2)) if marked else []
    return Document(name, text, tuple(sorted(marked + again, key=lambda span: (span.start, span.end, span.label))))


def corpora() -> st.SearchStrategy[list[Document]]:
    names = st.lists(IDS, min_size=1, max_size=4, unique=True).map(sorted)
    return names.flatmap(lambda ids: st.tuples(*map(documents, ids))).map(list)


ROW_LIKE = '"' * 14 + "\na\tX\t0\t1\tyyyyy"


@given(corpora())
@example([Document("a", "\ufeffa\r\nb\u2028", (Span(0, 6, "X"), Span(2, 4, "X"), Span(2, 4, "X")))])
@example([Document("a", ROW_LIKE, tuple(Span(0, end, "X") for end in range(1, len(ROW_LIKE) + 1)))])
def test_documents_are_read_as_they_were_written(corpus: list[Document]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert write_corpus(corpus, Path(folder, "out"), "tsv") == ()
        again = read_corpus(Path(folder, "out"))
    assert list(again.documents) == corpus
    assert again.report.issues == ()


@given(corpora())
def test_one_file_and_its_notes_elsewhere_give_the_same_documents(corpus: list[Document]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(corpus, Path(folder, "notes"), "tsv")
        write_corpus(corpus, Path(folder, "run.tsv"), "tsv")
        again = read_corpus(Path(folder, "run.tsv"), texts=Path(folder, "notes"))
    assert list(again.documents) == corpus


@given(corpora())
def test_other_readers_of_quoted_tables_find_the_same_fields(corpus: list[Document]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(corpus, Path(folder, "run.tsv"), "tsv")
        content = Path(folder, "run.tsv").read_bytes().decode()
    expected = [
        [note.id + ".txt" * note.id.endswith(".txt"), span.label, str(span.start), str(span.end), note.text_of(span)]
        for note in corpus
        for span in note.spans
    ]
    assert list(csv.reader(io.StringIO(content, newline=""), delimiter="\t"))[1:] == expected


@given(documents("note"))
def test_writing_what_was_read_gives_the_same_bytes(document: Document) -> None:
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "first"), Path(folder, "second")
        write_corpus([document], first, "tsv")
        write_corpus(read_corpus(first).documents, second, "tsv")
        for name in ("note.txt", "annotations.tsv"):
            assert (first / name).read_bytes() == (second / name).read_bytes()
