"""A corpus is a sequence of documents with its report; what it prints holds no text."""

from __future__ import annotations

import logging
import pickle
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from cardioner.data.corpus import Corpus, Issue, ReadReport
from cardioner.data.documents import Annotations, Document, ImpossibleSpan, Span, rename_labels
from cardioner.data.formats import read_corpus, write_corpus
from cardioner.data.labels import LabelSet
from cardioner.data.splits import make_splits
from cardioner.errors import DataError, UsageError
from cardioner.evaluation import Pair, evaluate, pair_documents

SECRET = "Jane Roe"
NOTES = (
    Document("a", f"{SECRET}: chest pain", (Span(10, 20, "SYMPTOM", attributes={"Negation": True}),)),
    Document("b", f"bisoprolol for {SECRET}", (Span(0, 10, "DRUG", 0.5), Span(15, 23, "<NAME>"))),
    Document("c", SECRET),
)
CORPUS = Corpus(NOTES, ReadReport((Issue("R lines", 2, "a.ann:3"),)))


def test_it_is_a_sequence_of_documents_by_position_slice_and_id() -> None:
    assert len(CORPUS) == 3
    assert list(CORPUS) == list(NOTES) == [*CORPUS[:2], CORPUS[-1]]
    assert (CORPUS["b"], CORPUS.index(NOTES[2]), next(reversed(CORPUS))) == (NOTES[1], 2, NOTES[2])
    assert isinstance(CORPUS[1:], Corpus)
    assert "a" in CORPUS
    assert NOTES[0] in CORPUS
    assert "x" not in CORPUS
    assert pickle.loads(pickle.dumps(CORPUS)) == CORPUS


def test_a_document_that_is_not_there_is_named() -> None:
    with pytest.raises(KeyError, match="the corpus has no document 'x'"):
        CORPUS["x"]
    with pytest.raises(IndexError):
        CORPUS[3]


def test_documents_with_the_same_id_are_refused_with_their_places() -> None:
    with pytest.raises(DataError, match="documents 2 and 4 have the same id, 'b': each needs its own"):
        Corpus((*NOTES, NOTES[1]))


@pytest.mark.parametrize("item", [None, 3, "text", b"text"])
def test_something_else_than_documents_is_refused(item: Any) -> None:
    with pytest.raises(UsageError, match=f"item 2 of the documents must be a Document; found {type(item).__name__}"):
        Corpus((NOTES[0], item))


def test_what_takes_documents_takes_a_corpus(tmp_path: Path) -> None:
    write_corpus(CORPUS, tmp_path / "notes.jsonl")
    assert read_corpus(tmp_path / "notes.jsonl").documents == NOTES
    assert len(make_splits(CORPUS, (1, 1, 1), seed=0).train) == 1
    LabelSet.from_types(CORPUS.labels).check(CORPUS)
    assert rename_labels(CORPUS, {}) == list(NOTES)
    assert evaluate(CORPUS, CORPUS).scores.strict.micro.f1 == 1.0


def test_it_knows_its_types_and_how_it_was_read(tmp_path: Path) -> None:
    assert CORPUS.labels == ("<NAME>", "DRUG", "SYMPTOM")
    write_corpus(NOTES, tmp_path)
    (tmp_path / "README.md").touch()
    (tmp_path / "a.ann").write_text("T1\tSYMPTOM 10 20\tchest pain\nT2 x\n")
    report = read_corpus(tmp_path, on_error="skip").report
    assert [(issue.kind, issue.count) for issue in report.issues] == [("malformed, skipped", 1), ("other files", 1)]
    assert (report.malformed, len(report.problems)) == (1, 1)
    assert "a.ann:2" in report.problems[0]


def test_it_becomes_a_table_of_spans() -> None:
    frame = CORPUS.to_dataframe()
    assert list(frame.columns) == ["id", "start", "end", "label", "score", "text", "attributes"]
    assert frame.astype(object).where(frame.notna(), None).to_numpy().tolist() == [
        ["a", 10, 20, "SYMPTOM", None, "chest pain", {"Negation": True}],
        ["b", 0, 10, "DRUG", 0.5, "bisoprolol", {}],
        ["b", 15, 23, "<NAME>", None, SECRET, {}],
    ]
    assert list(Corpus(()).to_dataframe().columns) == list(frame.columns)


def test_without_pandas_a_table_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match="needs pandas: pip install pandas"):
        CORPUS.to_dataframe()


def test_what_is_printed_is_short_and_says_what_is_there() -> None:
    assert repr(CORPUS) == "Corpus(3 documents, 3 spans of 3 types (<NAME>, DRUG, SYMPTOM))"
    assert repr(Corpus((Document("c", "x"),))) == "Corpus(1 document, 0 spans)"
    assert repr(NOTES[0]) == "Document('a', 20 characters, 1 span)"
    assert repr(NOTES[1].spans[0]) == "Span(0, 10, 'DRUG', score=0.5)"
    assert (
        repr(Span(0, 9, "A", 0.97123, ((0, 2), (5, 9)))) == "Span(0, 9, 'A', score=0.9712, fragments=((0, 2), (5, 9)))"
    )


def test_in_a_notebook_a_corpus_is_a_table_of_counts() -> None:
    page = CORPUS._repr_html_()
    for row in ("documents</th><td>3", "characters</th><td>51", "spans: &lt;NAME&gt;</th><td>1", "R lines</th><td>2"):
        assert row in page
    assert SECRET not in page


HOLDERS = {
    "corpus": CORPUS,
    "documents": list(NOTES),
    "pair": Pair(*NOTES[:1] * 2),
    "pairing": pair_documents(NOTES, NOTES),
    "evaluation": evaluate(NOTES, NOTES),
    "spans without text": Annotations("a", (Span(0, 8, "X"),), (SECRET,), (ImpossibleSpan(5, 0, "X", SECRET),)),
    "impossible": ImpossibleSpan(5, 0, "X", SECRET),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_no_text_gets_into_logs_and_tracebacks(name: str, caplog: pytest.LogCaptureFixture) -> None:
    holder = HOLDERS[name]
    logging.getLogger(__name__).warning("%s %r", holder, [holder])
    try:
        raise ValueError(holder)
    except ValueError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "ValueError" in shown
    assert SECRET not in shown + caplog.text
