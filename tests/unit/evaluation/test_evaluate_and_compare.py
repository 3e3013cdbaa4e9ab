"""`evaluate` and `compare` take corpora, documents or paths, and their results print in a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cardioner
from cardioner.data.corpus import Corpus
from cardioner.data.documents import Document, Span
from cardioner.data.formats import write_corpus
from cardioner.errors import DataError, UsageError

GOLD = [Document(f"n{number}", "acute chest pain", (Span(6, 16, "SYMPTOM"),)) for number in range(4)]
WORSE = [GOLD[0], *(document.with_spans(()) for document in GOLD[1:])]


@pytest.fixture(params=["documents", "generator", "corpus", "path", "string"])
def given(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[list[Document]], Any]:
    """Documents in each of the ways in which they may be given."""

    def give(documents: list[Document]) -> Any:
        place = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
        write_corpus(documents, place)
        ways = {"generator": iter(documents), "corpus": Corpus(tuple(documents)), "path": place, "string": str(place)}
        return ways.get(request.param, documents)

    return give


def test_both_take_documents_corpora_and_paths(given: Callable[[list[Document]], Any]) -> None:
    found = cardioner.evaluate(given(GOLD), given(WORSE), training=given(GOLD))
    assert found.to_dict() == cardioner.evaluate(GOLD, WORSE, training=GOLD).to_dict()
    compared = cardioner.compare(given(GOLD), given(WORSE), gold=given(GOLD), samples=50)
    assert compared == cardioner.compare(GOLD, WORSE, gold=GOLD, samples=50)
    assert [len(pairing.pairs) for pairing in compared.pairings] == [4, 4]


def test_results_print_in_a_line() -> None:
    found = cardioner.evaluate(GOLD, WORSE)
    assert repr(found) == "Evaluation(4 documents: strict precision 1.000, recall 0.250, F1 0.400)"
    compared = repr(cardioner.compare(GOLD, WORSE, gold=GOLD, samples=50))
    assert compared.startswith("Comparison(4 documents: strict F1 of A 1.000, of B 0.400; difference +0.600, 95 %")
    assert "\n" not in compared


@pytest.mark.parametrize("wrong", [None, 3, 2.5])
def test_something_else_is_refused_by_the_name_of_the_argument(wrong: Any) -> None:
    expected = f"expected a corpus, documents or the path of a corpus; found {type(wrong).__name__}"
    with pytest.raises(UsageError, match=f"^predicted: {expected}$"):
        cardioner.evaluate(GOLD, wrong)
    with pytest.raises(UsageError, match=f"^b: {expected}$"):
        cardioner.compare(GOLD, wrong, gold=GOLD)


@pytest.mark.parametrize("wrong", [b"notes", ["text"], [None]])
def test_items_that_are_no_documents_are_refused_by_their_places(wrong: Any) -> None:
    with pytest.raises(UsageError, match=r"^gold: item 1 must be a Document; found (int|str|NoneType)$"):
        cardioner.evaluate(wrong, GOLD)


def test_documents_with_the_same_id_are_refused() -> None:
    with pytest.raises(DataError, match=r"gold documents that appear more than once \(1\): n0$"):
        cardioner.evaluate([*GOLD, GOLD[0]], GOLD)


def test_a_folder_without_annotations_is_no_gold_standard(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"1 note without an \.ann file"):
        cardioner.evaluate(tmp_path, tmp_path)
