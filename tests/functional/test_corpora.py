"""Real corpora read completely; the numbers are those of the README beside them."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from cardioner.cli import main
from cardioner.data.formats import Corpus, Reading, read_corpus, stream_spans, write_corpus
from cardioner.evaluation import Counts, score

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


def test_the_official_tables_are_read_completely_over_texts_that_hold_their_mentions(tmp_path: Path) -> None:
    table = Path(os.environ["CARDIONER_DATA"], "multicardioner-scorer", "ref", "multicardioner_test_task1_toy.tsv")
    rows = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines()[1:]]
    texts: dict[str, list[str]] = {}
    for name, _, start, end, mention in rows:  # the texts are not public: blanks between the mentions stand for them
        characters = texts.setdefault(name, [])
        characters += " " * (int(end) - len(characters))
        characters[int(start) : int(end)] = mention
    for name, characters in texts.items():
        (tmp_path / f"{name}.txt").write_text("".join(characters), encoding="utf-8")
    corpus = read_corpus(table, "tsv", texts=tmp_path)
    assert (len(corpus.documents), entities(corpus)) == (3, len(rows))
    found = {(d.id, s.label, s.start, s.end, d.text_of(s)) for d in corpus.documents for s in d.spans}
    assert found == {(name, label, int(start), int(end), mention) for name, label, start, end, mention in rows}


@pytest.mark.parametrize("name", ["jsonl", "tsv", "conll", "datasets"])
def test_a_real_corpus_loses_nothing_uncounted_in_any_format(name: str, tmp_path: Path) -> None:
    corpus = corpus_at("cardioccc-es-sample")
    place = tmp_path / {"jsonl": "a.jsonl", "conll": "a.conll"}.get(name, "folder")
    lost = {issue.kind: issue.count for issue in write_corpus(corpus.documents, place, name)}
    again = read_corpus(place, name)
    left_out = sum(count for kind, count in lost.items() if "spans" in kind and "left out" in kind)
    assert entities(again) + left_out == entities(corpus)
    if name in {"jsonl", "tsv"}:
        assert sorted(again.documents, key=lambda document: document.id) == list(corpus.documents)


OFFICIAL = ("all_correct", "all_correct+files_not_in_gs", "all_correct+repeated", "all_incorrect", "some_correct",
            "some_correct+incorrect_span", "some_correct+incorrect_text")  # fmt: skip


def official_file(folder: str, name: str, suffix: str = "tsv") -> Path:
    (found,) = Path(os.environ["CARDIONER_DATA"], "multicardioner-scorer", folder).glob(f"*task1_{name}.{suffix}")
    return found


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_official_figures_are_reproduced_digit_for_digit(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gold, predicted = official_file("ref", "toy"), official_file("pred", name)
    arguments = ["cardioner", "evaluate", str(gold), str(predicted), "--official", "multicardioner"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code
    printed = official_file("pred/results", name, "txt").read_text(encoding="utf-8")
    figures = printed[printed.index("Micro-average precision") :]
    assert figures in capsys.readouterr().out


@pytest.mark.parametrize("name", OFFICIAL)
def test_published_predictions_score_as_a_few_lines_count_them(name: str) -> None:
    def rows(path: Path) -> Counter[tuple[str, ...]]:
        return Counter(tuple(line.split("\t")[:4]) for line in path.read_text(encoding="utf-8").splitlines()[1:])

    paths = official_file("ref", "toy"), official_file("pred", name)
    wanted, found = map(rows, paths)
    micro = score(*(list(stream_spans(path, reading=Reading())) for path in paths)).strict.micro
    assert micro == Counts((wanted & found).total(), (found - wanted).total(), (wanted - found).total())
