"""The component of spaCy beside the real medspaCy and edsnlp: behind their pipes, before them, and saved with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import edsnlp
import medspacy
import pytest
import spacy
from loguru import logger
from medspacy.ner import TargetRule

from cardioner.data.documents import Document, Span
from cardioner.data.spacy_docs import marked
from cardioner.interop.spacy import SpacyTagger
from cardioner.model_dir.save import write_model_dir
from cardioner.prediction.predictor import Predictor

pytestmark = [pytest.mark.spacy_family, pytest.mark.filterwarnings("ignore")]  # the warnings are theirs
logger.disable("PyRuSH")  # it writes every token to standard error

TEXT = "Patient denies chest pain. Known atrial fibrillation, on furosemide 40mg/12h. No oedema."
FOUND = {"chest pain": "SYMPTOM", "atrial fibrillation": "DISEASE", "fibrillation": "DISEASE", "40mg": "DOSE"}
FOUND |= {"oedema": "SYMPTOM"}
FRENCH = "Le patient ne présente pas d'oedema. Atrial fibrillation connue, furosemide 40mg/12h."


class Fixed:
    """Finds some words, in the place of a model."""

    labels = ("DISEASE", "DOSE", "SYMPTOM")
    engines = ()

    def predict(self, notes: list[Document]) -> Any:
        self.notes = notes
        return self

    def groups(self) -> Any:
        for note in self.notes:
            places = [(note.text.lower().find(words), words, label) for words, label in FOUND.items()]
            spans = [Span(start, start + len(words), label, 0.5) for start, words, label in places if start >= 0]
            yield [(note.with_spans(spans), "")]


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The configuration of a component that finds these words."""
    monkeypatch.setattr(SpacyTagger, "_load", lambda _: Fixed())
    return {"model": "model"}


@pytest.fixture
def model(make_model: Callable[..., Any], tokenizers: dict[str, Any], tmp_path: Path) -> Path:
    write_model_dir(make_model("bert", overlap="per-type"), tokenizers["wordpiece"], tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("config", "group"),
    [
        ({"input_span_type": "ents"}, None),
        ({"input_span_type": "group", "span_group_name": "cardioner"}, "cardioner"),
    ],
)
def test_context_of_medspacy_reads_our_spans(config: dict[str, Any], group: str | None, fixed: dict[str, str]) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("medspacy_pyrush")
    nlp.add_pipe("cardioner", config=fixed)
    nlp.add_pipe("medspacy_context", config=config)
    doc = nlp(TEXT)
    spans = doc.spans[group] if group else doc.ents
    assert {TEXT[one.start : one.end] for span in spans if span._.is_negated for one in [marked(span)]} == {
        "chest pain",
        "oedema",
    }
    assert [span._.cardioner_score for span in spans] == [0.5] * len(spans)
    assert len(spans) == (5 if group else 4)
    assert "40mg" in {TEXT[one.start : one.end] for one in map(marked, spans)}


def test_entities_of_medspacys_matcher_stay_beside_ours(fixed: dict[str, str]) -> None:
    nlp = medspacy.load(
        language_code="en", medspacy_enable=["medspacy_pyrush", "medspacy_target_matcher", "medspacy_context"]
    )
    nlp.get_pipe("medspacy_target_matcher").add([TargetRule("furosemide", "DRUG")])
    nlp.add_pipe("cardioner", config=fixed, before="medspacy_context")
    doc = nlp(TEXT)
    assert [ent.label_ for ent in doc.ents] == ["SYMPTOM", "DISEASE", "DRUG", "DOSE", "SYMPTOM"]
    assert [ent._.is_negated for ent in doc.ents] == [True, False, False, False, True]


@pytest.mark.parametrize("pipeline", [spacy.blank, edsnlp.blank])
def test_qualifiers_of_edsnlp_read_our_spans_in_its_pipelines_and_in_spacys(
    pipeline: Callable[[str], Any], fixed: dict[str, str]
) -> None:
    nlp = pipeline("eds")
    nlp.add_pipe("eds.normalizer")
    nlp.add_pipe("eds.sentences")
    nlp.add_pipe("cardioner", config=fixed)
    nlp.add_pipe("eds.negation", config={"span_getter": {"ents": True, "cardioner": True}})
    doc = nlp(FRENCH)
    found = {FRENCH[one.start : one.end]: span._.negation for span in doc.spans["cardioner"] for one in [marked(span)]}
    assert {words: bool(negated) for words, negated in found.items()} == {
        "oedema": True,
        "Atrial fibrillation": False,
        "fibrillation": False,
        "40mg": False,
    }
    assert len(list(nlp.pipe([FRENCH] * 5))) == 5


@pytest.mark.parametrize("copied", [True, False])
def test_a_pipeline_of_edsnlp_is_saved_with_our_component(copied: bool, model: Path, tmp_path: Path) -> None:
    nlp = edsnlp.blank("eds")
    nlp.add_pipe("cardioner", config={"model": str(model), "copy_model": copied})
    expected = Predictor.from_pretrained(model)(FRENCH)
    assert expected
    for each in (nlp, saved(nlp, tmp_path / "pipeline")):
        doc = each(FRENCH)
        spans = list(map(marked, doc.spans["cardioner"]))
        assert [(one.start, one.end, one.label) for one in spans] == [
            (one.start, one.end, one.label) for one in expected
        ]


def saved(nlp: Any, place: Path) -> Any:
    """A pipeline of edsnlp as it is when it was saved and loaded."""
    nlp.to_disk(place)
    return edsnlp.load(place)
