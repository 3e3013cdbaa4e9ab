"""Real corpora read completely; the numbers are those of the README beside them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cardioner.formats import Corpus, read_corpus, write_corpus

pytestmark = pytest.mark.corpus


def corpus_at(name: str) -> Corpus:
    return read_corpus(Path(os.environ["CARDIONER_DATA"], name), require_annotations=True)


def entities(corpus: Corpus) -> int:
    return sum(len(document.spans) for document in corpus.documents)


@pytest.mark.parametrize(
    ("name", "documents", "spans"),
    [("ncbi-disease/train", 593, 5145), ("ncbi-disease/devel", 100, 787), ("ncbi-disease/test", 100, 960)],
)
def test_ncbi_disease_is_read_completely(name: str, documents: int, spans: int) -> None:
    corpus = corpus_at(name)
    assert (len(corpus.documents), entities(corpus)) == (documents, spans)


def test_english_cardioccc_is_read_completely() -> None:
    train, dev = corpus_at("cardioccc-en-med/train"), corpus_at("cardioccc-en-med/dev")
    assert (len(train.documents), len(dev.documents)) == (200, 58)
    assert entities(train) + entities(dev) == 2510
    assert {span.label for document in train.documents for span in document.spans} == {"MEDICATION"}


def test_spanish_cardioccc_is_read_completely() -> None:
    corpus = corpus_at("cardioccc-es-sample")
    assert len(corpus.documents) == 24
    labels = {span.label for document in corpus.documents for span in document.spans}
    assert labels == {"DISEASE", "SYMPTOM", "PROCEDURE", "MEDICATION"}


def test_a_real_corpus_is_read_as_it_was_written(tmp_path: Path) -> None:
    corpus = corpus_at("cardioccc-es-sample")
    write_corpus(corpus.documents, tmp_path)
    assert read_corpus(tmp_path).documents == corpus.documents
