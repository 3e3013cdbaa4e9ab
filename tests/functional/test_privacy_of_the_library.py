"""What the library raises holds no word of a note, in no error of a chain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from leaks import CANARIES
from watching import Lab, Watch, note, quoting, raised

from cardioner.data.documents import Document, Span
from cardioner.data.formats import read_corpus
from cardioner.data.labels import LabelSet
from cardioner.errors import CardioNERError, DataError, UsageError
from cardioner.multiclass import pipeline
from cardioner.prediction.engines import torch as torch_engine
from cardioner.prediction.predictor import Predictor
from cardioner.training import features
from cardioner.training.trainer import ModelTrainer

WORD, QUOTE = CANARIES["broken"], CANARIES["quote"]
TEXT = f"{WORD} and {WORD} {WORD} .\n"
LABELS = LabelSet.from_types(("DISEASE", "DRUG", "SYMPTOM"))
TAGS = ["O"] * 2
DATA: dict[str, Callable[[], Any]] = {
    "texts": lambda: [TEXT],
    "tokens and tags in each other's place": lambda: [{"tokens": TAGS, "tags": [WORD, QUOTE]}],
    "tokens that are a text": lambda: [{"tokens": TEXT, "tags": TAGS}],
    "more tokens than tags": lambda: [{"tokens": [WORD] * 3, "tags": TAGS}],
    "tokens with half of a pair": lambda: [{"tokens": [WORD, f"{QUOTE}\ud800"], "tags": TAGS}],
    "ids that are words": lambda: [{"input_ids": [WORD, QUOTE], "labels": [0, 0]}],
    "labels that are words": lambda: [{"input_ids": [1, 2], "labels": [WORD, QUOTE]}],
    "half of a pair": lambda: [Document("a", f"{TEXT}\ud800{TEXT}")],
    "a span behind the text": lambda: [Document("a", TEXT, (Span(0, 999, "DRUG"),))],
    "the same id twice": lambda: [Document("a", TEXT, (Span(0, 4, "DRUG"),))] * 2,
    "another type": lambda: [Document("a", TEXT, (Span(0, 4, "FINDING"),))],
    "nothing": lambda: [Document("a", "")],
}


@pytest.mark.parametrize("name", DATA)
def test_training_data_that_does_not_fit_is_refused_without_a_word(name: str, lab: Lab, watch: Watch) -> None:
    trainer = ModelTrainer(label2id=LABELS.label2id, model=lab.encoder, max_length=64, output_dir=watch.place / "m")
    problems: list[CardioNERError] = []
    done = watch.do(lambda: problems.extend(raised(lambda: trainer.train(DATA[name]()))))
    assert [type(one) for one in problems] == [DataError]
    assert lab.search.in_errors(problems[0]) == []
    assert (done.code, done.leaks) == (0, [])


def test_a_tokenizer_that_fails_is_told_with_the_note_it_fails_on(lab: Lab, monkeypatch: Any, tmp_path: Path) -> None:
    def some(tokenizer: Any, texts: Any) -> Any:
        return quoting(texts) if any(" t1 " in text for text in texts) else pipeline.encode_notes(tokenizer, texts)

    trainer = ModelTrainer(label2id=LABELS.label2id, model=lab.encoder, max_length=64, output_dir=tmp_path / "m")
    monkeypatch.setattr(features, "encode_notes", some)
    with pytest.raises(DataError, match=r"^document t1: the \d+ characters could not .* \(ValueError\)$") as caught:
        trainer.train([note("t0"), note("t1"), note("t2")])
    assert lab.search.in_errors(caught.value) == []


def test_one_text_that_cannot_be_tagged_is_told_without_a_word(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = Predictor.from_pretrained(lab.model)
    monkeypatch.setattr(torch_engine, "tag_texts", lambda _, __, texts, **___: quoting(texts))
    with pytest.raises(DataError, match="could not be tagged") as caught:
        loaded.predict_text(TEXT)
    assert lab.search.in_errors(caught.value) == []


TABLES: dict[str, dict[str, Any]] = {
    "no tags": {"tokens": [[WORD]], "text": [TEXT]},
    "words that are a text": {"tokens": [TEXT], "ner_tags": [["O"]]},
    "fewer tags": {"tokens": [[WORD, QUOTE]], "ner_tags": [["O"]]},
    "tags that are numbers": {"tokens": [[WORD]], "ner_tags": [[1]]},
    "cut": {"tokens": [[WORD]], "ner_tags": [["O"]]},
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_that_are_malformed_are_told_without_a_word(
    name: str, lab: Lab, watch: Watch, tmp_path_factory: Any
) -> None:
    import datasets  # noqa: PLC0415 - an extra

    place = tmp_path_factory.mktemp("table") / "table"
    datasets.Dataset.from_dict(TABLES[name]).save_to_disk(str(place))
    if name == "cut":
        (arrow,) = place.glob("*.arrow")
        arrow.write_bytes(arrow.read_bytes()[:-200])
    done = watch("check", place)
    assert (done.code, done.leaks) == (DataError.exit_code, []), done.err
    (problem,) = raised(lambda: read_corpus(place))
    assert lab.search.in_errors(problem) == []


def test_wrong_arguments_are_told_without_a_word(lab: Lab, watch: Watch) -> None:
    (problem,) = raised(lambda: read_corpus(lab.notes / "train", encoding="utf-99"))
    assert isinstance(problem, UsageError)
    assert lab.search.in_errors(problem) == []
    assert watch("check", lab.notes / "train", "--encoding", "utf-16").leaks == []
    assert watch("check", lab.notes / "train", "--encoding", "ascii").leaks == []
