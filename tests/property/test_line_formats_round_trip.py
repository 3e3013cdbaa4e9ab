"""What line formats and tables of words write is read back; what they cannot hold is counted; no bytes crash them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from attributed import WORDS, said_of
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from cardioner.data.documents import Document, Span
from cardioner.data.formats import Corpus, Issue, read_corpus, write_corpus
from cardioner.data.formats.words import TagReader, cut_words, document_of_words, join_words, parse_tag
from cardioner.errors import CardioNERError
from cardioner.multiclass.tagging import Run

HOSTILE = '\ufeff\r\n\t\u00a0\u00ad\u200b\u200d\u0301\u2028\u2029\x85\x0b\x0c\x1c\x00\U0001fac0\U0001f468;#-"\\{ '
CHARACTERS = st.one_of(st.sampled_from(HOSTILE), st.sampled_from("ab \n"), st.characters(exclude_categories=["Cs"]))
TEXTS = st.text(CHARACTERS, max_size=40)
ANY_LABEL = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
LABELS = ANY_LABEL.filter(lambda label: not any(character.isspace() for character in label))
ANY_ID = st.text(st.one_of(st.sampled_from(HOSTILE), st.characters(exclude_categories=["Cs"])), max_size=6)
IDS = ANY_ID.filter(lambda name: name != "" and "\n" not in name and not name.endswith("\r"))
CANARY = "Zebraquist"
REBUILT = "texts, rebuilt with single spaces"
LEFT_OUT = ("discontinuous spans, left out", "overlapping spans, left out", "spans without a word, left out")


@contextmanager
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder, "corpus")


def round_trip(documents: list[Document], form: str) -> tuple[Corpus, tuple[Issue, ...]]:
    with place() as path:
        issues = write_corpus(documents, path, form)
        return read_corpus(path, form, require_annotations=True), issues


@st.composite
def spans(draw: st.DrawFn, length: int, labels: st.SearchStrategy[str]) -> Span:
    """One to three fragments, which may touch, with or without a score."""
    count = draw(st.integers(1, min(6, length + 1) // 2))
    cuts = sorted(draw(st.sets(st.integers(0, length), min_size=2 * count, max_size=2 * count)))
    pieces = tuple(zip(cuts[::2], cuts[1::2], strict=True))
    if draw(st.booleans()) and len(cuts) > 2:
        pieces = tuple(pairwise(cuts))
    score = draw(st.none() | st.floats(0, 1))
    kept = pieces if count > 1 or draw(st.booleans()) else ()
    span = Span(cuts[0], cuts[-1], draw(labels), score, kept)
    return draw(said_of(span, names=WORDS, values=st.just(True) | WORDS))


@st.composite
def corpora(draw: st.DrawFn, ids: st.SearchStrategy[str], labels: st.SearchStrategy[str]) -> list[Document]:
    """Any notes with any spans, in any order."""
    documents = []
    for name in draw(st.lists(ids, max_size=3, unique=True)):
        text = draw(TEXTS)
        documents.append(
            Document(name, text, tuple(draw(st.lists(spans(len(text), labels), max_size=6)) if text else ()))
        )
    return documents


@st.composite
def flat_corpora(draw: st.DrawFn, newline: str) -> list[Document]:
    """Notes of words joined by single spaces and newlines, with flat spans of whole words of one line."""
    documents = []
    for name in draw(st.lists(IDS, max_size=3, unique=True)):
        sentences = []
        for text in draw(st.lists(TEXTS, max_size=4)):
            words = [text[start:end] for start, end in cut_words(text)]
            sentences += [words] if words else []
        whole = newline.join(" ".join(words) for words in sentences)
        marked, first = [], 0
        for words in sentences:
            cuts = sorted(draw(st.sets(st.integers(0, len(words)), max_size=6)))
            marked += [Run(first + left, first + right, draw(LABELS)) for left, right in pairwise(cuts)][
                :: draw(st.sampled_from([1, 2]))
            ]
            first += len(words)
        made = document_of_words(name, sentences, marked)
        documents.append(Document(name, whole, made.spans))
    return documents


# Round trips


@settings(deadline=None)
@given(corpora(ANY_ID, ANY_LABEL))
@example(
    [Document("", "\ufeffa\r\nb\u2028", (Span(2, 4, " "), Span(0, 6, "X", 1.0, ((0, 6),)), Span(0, 1, "X", 5e-324)))]
)
def test_json_lines_give_back_equal_documents(corpus: list[Document]) -> None:
    again, issues = round_trip(corpus, "jsonl")
    assert list(again.documents) == corpus
    assert again.report.issues == issues == ()


@settings(deadline=None)
@given(flat_corpora("\n"))
@example([Document(" #\t\u2028", "# - \ufeff\n-", (Span(0, 1, "B-#"), Span(2, 3, "B-#")))])
def test_conll_gives_back_equal_documents_of_words(corpus: list[Document]) -> None:
    again, issues = round_trip(corpus, "conll")
    assert list(again.documents) == corpus
    assert again.report.issues == issues == ()


@settings(deadline=None, max_examples=25)
@given(flat_corpora(" ").filter(bool))
def test_tables_give_back_equal_documents_of_words(corpus: list[Document]) -> None:
    again, issues = round_trip(corpus, "datasets")
    assert list(again.documents) == corpus
    assert again.report.issues == issues == ()


@pytest.mark.parametrize("form", ["conll", "datasets"])
def test_writing_again_what_was_read_changes_nothing(form: str) -> None:
    @settings(deadline=None, max_examples=100 if form == "conll" else 15)
    @given(corpora(IDS, LABELS).filter(bool))
    def check(corpus: list[Document]) -> None:
        once, _ = round_trip(corpus, form)
        twice, issues = round_trip(list(once.documents), form)
        assert twice.documents == once.documents
        assert issues == ()

    check()


# What is lost is counted


@settings(deadline=None)
@given(corpora(IDS, LABELS))
def test_every_gold_span_is_read_back_or_reported(corpus: list[Document]) -> None:
    again, issues = round_trip(corpus, "conll")
    counts = {issue.kind: issue.count for issue in issues}
    gold = [(document, span) for document in corpus for span in document.spans]
    kept = [(document, span) for document in again.documents for span in document.spans]
    assert len(gold) == len(kept) + sum(counts.get(kind, 0) for kind in LEFT_OUT)
    assert counts.get(REBUILT, 0) == sum(old.text != new.text for old, new in zip(corpus, again.documents, strict=True))
    if not counts:
        whole = [replace(document, spans=sorted(map(contiguous, document.spans))) for document in corpus]
        assert whole == list(again.documents)


def contiguous(span: Span) -> Span:
    """A span whose fragments touch, without them."""
    return replace(span, fragments=())


@settings(deadline=None)
@given(corpora(IDS, LABELS))
def test_what_is_read_back_covers_a_gold_span_of_its_type(corpus: list[Document]) -> None:
    """Compared by the characters that are not white space, whose order no rebuilding changes."""
    again, issues = round_trip(corpus, "conll")
    exact = not any(issue.kind == "spans that cut a word, widened" for issue in issues)
    for old, new in zip(corpus, again.documents, strict=True):
        before, after = ink(old.text), ink(new.text)
        assert [old.text[place] for place in before] == [new.text[place] for place in after]
        gold = {(span.label, *reach(span, before)) for span in old.spans}
        for span in new.spans:
            first, stop = reach(span, after)
            covered = any(label == span.label and first <= left < right <= stop for label, left, right in gold)
            assert (span.label, first, stop) in gold if exact else covered


def ink(text: str) -> list[int]:
    return [index for index, character in enumerate(text) if not character.isspace()]


def reach(span: Span, places: list[int]) -> tuple[int, int]:
    """The first of the places in a span, and the one behind its last, by number."""
    inside = [number for number, place in enumerate(places) if span.start <= place < span.end]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)


# Words and tags


@given(TEXTS)
def test_words_hold_every_character_but_white_space_once(text: str) -> None:
    words = cut_words(text)
    assert [index for start, end in words for index in range(start, end)] == ink(text)
    assert all(start < end for start, end in words)


@given(TEXTS)
def test_words_cut_again_from_their_joined_text_are_the_same(text: str) -> None:
    words = [text[start:end] for start, end in cut_words(text)]
    joined = join_words([words])
    assert [joined[start:end] for start, end in cut_words(joined)] == words


@given(st.lists(st.lists(st.text("a \u0301", max_size=2), max_size=4), max_size=3), st.data())
def test_offsets_are_exact_in_the_rebuilt_text(sentences: list[list[str]], data: st.DataObject) -> None:
    """Against a text that is put together word by word."""
    flat = [word for words in sentences for word in words]
    if not sentences or any(not words for words in sentences):
        sentences = [words for words in sentences if words]
    cuts = sorted(data.draw(st.sets(st.integers(0, len(flat)))))
    entities = [Run(left, right, "X") for left, right in pairwise(cuts)]
    document = document_of_words("a", sentences, entities)
    expected = []
    for first, stop, _ in entities:
        words = flat[first:stop]
        while words and not words[0]:
            words = words[1:]
        while words and not words[-1]:
            words = words[:-1]
        expected += [" ".join(words)] if words else []
    assert [document.text_of(span).replace("\n", " ") for span in document.spans] == expected
    assert document.text == "\n".join(" ".join(words) for words in sentences)


@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from(["X", "Y", ""])), max_size=8), st.sampled_from("-_"))
def test_one_list_of_entities_is_read_from_each_scheme_that_writes_it(runs: list[tuple[int, str]], dash: str) -> None:
    """An empty type is words outside; IOB1 opens only where entities of one type touch."""
    expected, at = [], 0
    written: dict[str, list[str]] = {name: [] for name in ("IOB1", "IOB2", "IOBES", "BILOU")}
    before = ""
    for length, label in runs:
        if label:
            expected.append(Run(at, at + length, label))
        for name in written:
            shape = shape_of(name, length, touches=bool(label) and before == label)
            written[name] += [f"{prefix}{dash}{label}" for prefix in shape] if label else ["O"] * length
        before, at = label, at + length
    for tags in written.values():
        parsed = [found for tag in tags if (found := parse_tag(tag))]
        assert len(parsed) == len(tags)
        assert TagReader().entities(parsed) == expected


def shape_of(scheme: str, length: int, *, touches: bool) -> str:
    """The prefixes of an entity of so many words."""
    if scheme == "IOB1":
        return ("B" if touches else "I") + "I" * (length - 1)
    if scheme == "IOB2":
        return "B" + "I" * (length - 1)
    last, unit = ("E", "S") if scheme == "IOBES" else ("L", "U")
    return unit if length == 1 else "B" + "I" * (length - 2) + last


# Any bytes

JSON = (
    b'{"id": "a", "text": "Zebraquist x", "tags": [{"start": 0, "end": 2, "tag": "X", "score": 0.5, '
    b'"fragments": [[0, 1], [1, 2]]}]}\n{"id": 7, "text": "Zebraquist", "spans": []}\n'
)
CONLL = b"# newdoc id = a\nZebraquist\tB-X\n,\tI-X\n\n-DOCSTART- O\n\n#\tO\nZebraquist\tS-Y\n"
PIECES = (b"\n", b"\t", b" ", b'"', b"{", b"}", b"[", b"]", b",", b"-", b"1e999", b"-1", b"null", b"true", b"NaN")
MORE = (b"\\ud800", b"\xff", b"\xef\xbb\xbf", b"\x00", b"\r", b"# newdoc", b"-DOCSTART-", b"I-X", b"9" * 5000)


@st.composite
def mutated(draw: st.DrawFn, valid: bytes) -> bytes:
    """A valid file with a few pieces cut out or put in."""
    content = valid
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        stop = min(len(content), start + draw(st.sampled_from([0, 0, 1, 2, 12])))
        content = content[:start] + draw(st.sampled_from([b"", *PIECES, *MORE])) + content[stop:]
    return content


@pytest.mark.parametrize(("form", "valid"), [("jsonl", JSON), ("conll", CONLL)])
@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_any_bytes_are_read_or_refused_without_a_word_of_them(form: str, valid: bytes, on_error: Any) -> None:
    @settings(deadline=None, max_examples=300)
    @given(st.one_of(mutated(valid), st.binary(max_size=60)))
    @example(valid)
    @example(b"[" * 100_000)
    def check(content: bytes) -> None:
        assume(not re.search(rb'id"?[ =:"]+[^"\n]*Zebra', content))  # an id may be told
        found = read_or_refused(content, form, on_error)
        if isinstance(found, CardioNERError):
            assert on_error == "stop"
            assert CANARY[2:] not in str(found)
            assert not isinstance(found.__cause__ or found.__context__, ValueError)
            return
        assert not any(CANARY[2:] in f"{issue.kind} {issue.where}" for issue in found.report.issues)

    check()


def read_or_refused(content: bytes, form: str, on_error: Any) -> Corpus | CardioNERError:
    with place() as path:
        path.write_bytes(content)
        try:
            return read_corpus(path, form, on_error=on_error)
        except CardioNERError as error:
            return error
