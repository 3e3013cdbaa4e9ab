"""What is written as brat is read back, whatever characters and spans a note has."""

from __future__ import annotations

import tempfile
from pathlib import Path

from attributed import WORDS, attributed
from hypothesis import example, given
from hypothesis import strategies as st

from cardioner.data.documents import Document, Span
from cardioner.data.formats import read_corpus, write_corpus

HOSTILE = "\ufeff\r\n\t\u00a0\u00ad\u200b\u200d\u0301\u2028\u2029\x85\x0b\x0c\x1c\x00\U0001fac0\U0001f468;# "
CHARACTERS = st.one_of(st.sampled_from(HOSTILE), st.characters(exclude_categories=["Cs"]))
LABELS = st.text(st.characters(exclude_categories=["Cs", "Z", "Cc"]), min_size=1, max_size=8)
STEPS = st.text("abc.-é ", min_size=1, max_size=4).filter(
    lambda step: not step.startswith(".") and step[-1] not in ". "
)
VALUES = st.just(True) | WORDS.filter(lambda value: value == value.strip() and "\n" not in value)
IDS = st.lists(STEPS, min_size=1, max_size=3).map("/".join)


@st.composite
def spans(draw: st.DrawFn, length: int) -> Span:
    """One to three fragments that do not touch."""
    count = draw(st.integers(1, min(6, length + 1) // 2))
    cuts = sorted(draw(st.sets(st.integers(0, length), min_size=2 * count, max_size=2 * count)))
    pieces = tuple(zip(cuts[::2], cuts[1::2], strict=True))
    return Span(cuts[0], cuts[-1], draw(LABELS), fragments=pieces if count > 1 else ())


@st.composite
def documents(draw: st.DrawFn, name: str) -> Document:
    text = draw(st.text(CHARACTERS, max_size=40))
    marked = draw(st.lists(spans(len(text)), max_size=6)) if text else []
    again = draw(st.lists(st.sampled_from(marked), max_size=2)) if marked else []
    document = Document(name, text, tuple(sorted(marked + again)))
    return draw(attributed(document, names=LABELS, values=VALUES))


def corpora() -> st.SearchStrategy[list[Document]]:
    names = st.lists(IDS, max_size=4, unique=True).map(sorted)
    return names.flatmap(lambda ids: st.tuples(*map(documents, ids))).map(list)


@given(corpora().filter(bool))
@example(
    [
        Document(
            "a", "\ufeffa\r\nb\u2028", (Span(0, 6, "X"), Span(2, 4, "X"), Span(2, 5, "X", fragments=((2, 3), (4, 5))))
        )
    ]
)
def test_documents_are_read_as_they_were_written(corpus: list[Document]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(corpus, Path(folder))
        again = read_corpus(Path(folder), require_annotations=True)
    assert list(again.documents) == corpus
    assert again.report.issues == ()


@given(documents("note"))
def test_writing_what_was_read_gives_the_same_bytes(document: Document) -> None:
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "first"), Path(folder, "second")
        write_corpus([document], first)
        write_corpus(read_corpus(first).documents, second)
        for name in ("note.txt", "note.ann"):
            assert (first / name).read_bytes() == (second / name).read_bytes()
