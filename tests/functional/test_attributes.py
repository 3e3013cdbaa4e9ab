"""Attributes of spans through every door, from the head's scores to what is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cardioner import Document, LabelSet, ModelTrainer, Predictor, Span, TrainingOptions
from cardioner.errors import DataError, ModelError, UsageError
from cardioner.model_dir.layout import CONFIG
from cardioner.model_dir.load import read_model_dir
from cardioner.model_dir.save import write_model_dir
from cardioner.training import post_training
from cardioner.training.attributes import SPLIT, attributes_in

ATTRIBUTES: dict[str, list[Any]] = {"Certainty": [None, "possible", "unlikely"], "Negation": [None, True]}
TEXTS = [
    "No chest pain. Atrial fibrillation, on bisoprolol 2.5 mg since the aortic valve was replaced.",
    "",
    "Aortaklepstenose met syncope en dyspnoea; geen orthopnoe. " * 6,
]


@pytest.fixture
def directory(make_model: Callable[..., Any], tokenizers: dict[str, Any], tmp_path: Path, head: dict[str, Any]) -> Path:
    write_model_dir(make_model(attributes=ATTRIBUTES, **head), tokenizers["wordpiece"], tmp_path / "model")
    return tmp_path / "model"


def said(spans: Sequence[Any]) -> list[tuple[int, int, str, dict[str, Any]]]:
    return [(span.start, span.end, span.label, dict(span.attributes)) for span in spans]


def test_what_is_said_of_a_span_follows_from_the_mean_of_its_scores(
    make_model: Callable[..., Any], tokenizers: dict[str, Any]
) -> None:
    """Oracle: the model's own output for one window, the mean by hand, torch's softmax."""
    model, tokenizer, text = make_model(attributes=ATTRIBUTES, window_length=64), tokenizers["wordpiece"], TEXTS[0]
    model.config.attribute_temperatures = {"Negation": 3.0}
    encoded = tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
    offsets = encoded.pop("offset_mapping")[0].tolist()
    with torch.no_grad():
        rows = model(**encoded).attribute_logits[0]
    spans = Predictor(model, tokenizer).predict_text(text)
    assert len(spans) > 3
    for span in spans:
        own = [index for index, (start, end) in enumerate(offsets) if start < span.end and span.start < end]
        mean = rows[own].mean(0)
        chances = {"Certainty": mean[:3].softmax(0), "Negation": (mean[3:] / 3.0).softmax(0)}
        for name, chance in chances.items():
            assert span.attributes.get(name) == ATTRIBUTES[name][int(chance.argmax())]
            assert span.attribute_scores[name] == pytest.approx(float(chance.max()), abs=1e-5)


def notes(count: int = 8) -> list[Document]:
    """Notes in which a word before a symptom says whether it is there."""
    made = []
    for number in range(count):
        text, spans = "", []
        for place in range(4):
            cue, said_so = (("no", {"Negation": True}), ("has", {}))[(number + place // 2) % 2]
            start = len(text) + len(cue) + 1
            text += f"{cue} syncope. "
            spans.append(Span(start, start + 7, "SYMPTOM", attributes=said_so))
        made.append(Document(f"n{number}", text, tuple(spans)))
    return made


@pytest.fixture
def trainer(encoder_dir: Callable[[str], Path], tmp_path: Path) -> Callable[..., ModelTrainer]:
    def make(**given: Any) -> ModelTrainer:
        options = {"window_context": 4, "training_context": 4, "precision": "float32", "attribute_weight": 5.0}
        options |= given.pop("options", {})
        chosen: dict[str, Any] = {
            "label2id": LabelSet.from_types(["SYMPTOM"]).label2id,
            "model": encoder_dir("bert"),
            "output_dir": tmp_path / "out",
            "max_length": 32,
            "batch_size": 4,
            "num_train_epochs": 30,
            "learning_rate": 1e-2,
            "attributes": {"Negation": [None, True]},
        }
        return ModelTrainer(**{**chosen, **given}, options=TrainingOptions(**options))

    return make


@pytest.mark.parametrize("use_crf", [True, False])
def test_attributes_are_learned_beside_the_tags(trainer: Callable[..., ModelTrainer], use_crf: bool) -> None:
    result = trainer(use_crf=use_crf, num_train_epochs=60).train(notes(), eval_data=notes(4))
    assert result.evaluation is not None
    assert result.evaluation.strict.micro.f1 == 1.0
    tagged = list(Predictor.from_pretrained(result.output_dir, device="cpu").predict(notes(4)))
    assert [said(one.spans) for one in tagged] == [said(one.spans) for one in notes(4)]
    assert {one.spans[0].attribute_scores["Negation"] > 0.8 for one in tagged} == {True}


def test_attributes_alone_are_learned_on_a_tagger_that_stays_as_it_is(
    trainer: Callable[..., ModelTrainer], tmp_path: Path
) -> None:
    before = trainer(attributes=None, use_crf=True, num_train_epochs=12).train(notes(), eval_data=notes(4))
    text = notes(1)[0].text
    spans = Predictor.from_pretrained(before.output_dir, device="cpu").predict_text(text)
    only = trainer(
        model=before.output_dir, max_length=None, output_dir=tmp_path / "more", options={"attributes_only": True}
    )
    result = only.train(notes(), eval_data=notes(4))
    own, more = (read_model_dir(place, device="cpu").model for place in (before.output_dir, tmp_path / "more"))
    state = more.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in own.state_dict().items())
    assert {name.partition(".")[0] for name in state.keys() - own.state_dict().keys()} == {"attribute_head"}
    assert more.config.score_temperature == own.config.score_temperature
    again = Predictor.from_pretrained(tmp_path / "more", device="cpu").predict_text(text)
    assert [(span.start, span.end, span.label, span.score) for span in again] == [
        (span.start, span.end, span.label, span.score) for span in spans
    ]
    assert [span.attributes for span in again] == [span.attributes for span in notes(1)[0].spans]
    assert result.best_epoch > 1
    unsaid = {"model": before.output_dir, "max_length": None, "learning_rate": None, "num_train_epochs": "auto"}
    settings = trainer(**unsaid, options={"attributes_only": True}).settings
    assert (settings["learning_rate"], settings["num_train_epochs"]) == (2e-3, 20)


@pytest.mark.parametrize("same", [True, False])
def test_attributes_alone_keep_the_precisions_in_which_they_are_the_same(
    trainer: Callable[..., ModelTrainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    monkeypatch.setattr(post_training, "MOST_LOSS", 1.0)  # what a tiny model finds in int8 depends on the processor
    monkeypatch.setattr(post_training, "_agreement", lambda _, __: 1.0)
    before = trainer(attributes=None, num_train_epochs=1).train(notes(), eval_data=notes(4))
    own = read_model_dir(before.output_dir, device="cpu").model.config
    assert len(own.inference_dtypes) > 1
    if not same:  # as if every other precision changed the attributes of some spans
        monkeypatch.setattr(post_training, "_agreement", lambda in_full, found: 1.0 if found is in_full else 0.9)
    only = {"model": before.output_dir, "max_length": None, "num_train_epochs": 1, "output_dir": tmp_path / "more"}
    result = trainer(**only, options={"attributes_only": True}).train(notes(), eval_data=notes(4))
    kept = read_model_dir(tmp_path / "more", device="cpu").model.config
    assert kept.inference_dtypes == (own.inference_dtypes if same else ["float32"])
    assert kept.inference_dtype == (own.inference_dtype if same else "float32")
    assert result.precision is not None
    assert result.precision.allowed == kept.inference_dtypes


def test_attributes_alone_leave_no_layer_out_and_need_notes_that_tell_the_epochs_apart(
    trainer: Callable[..., ModelTrainer], tmp_path: Path
) -> None:
    before = trainer(num_train_epochs=1).train(notes(), eval_data=notes(4)).output_dir
    only = {"model": before, "max_length": None, "output_dir": tmp_path / "more"}
    with pytest.raises(UsageError, match="leaves the tagger as it is: leave out layers"):
        trainer(**only, options={"attributes_only": True, "layers": 1})
    bare = [note.with_spans(replace(span, attributes={}) for span in note.spans) for note in notes(4)]
    with pytest.raises(DataError, match="no span of the evaluation notes has an attribute"):
        trainer(**only, options={"attributes_only": True}).train(notes(), eval_data=bare)


def test_entities_that_no_window_shows_whole_are_counted(trainer: Callable[..., ModelTrainer]) -> None:
    text = "no syncope. " * 20
    long = Span(0, len(text) - 1, "SYMPTOM", attributes={"Negation": True})
    short = Span(3, 10, "SYMPTOM", attributes={"Negation": True})
    remarks = trainer(num_train_epochs=1).train([Document("long", text, (long,)), *notes()]).remarks
    assert remarks == {SPLIT: 1}
    assert (
        not trainer(num_train_epochs=1, options={"overwrite": True})
        .train([Document("short", text, (short,)), *notes()])
        .remarks
    )


def test_a_head_of_other_attributes_starts_afresh(trainer: Callable[..., ModelTrainer], tmp_path: Path) -> None:
    before = trainer(num_train_epochs=1).train(notes(), eval_data=notes(4)).output_dir
    heads = {"same": {"Negation": [None, True]}, "other": {"Doubt": [None, True]}, "none": None}
    starts = {
        name: trainer(model=before, output_dir=tmp_path / name, attributes=given).start for name, given in heads.items()
    }
    fresh = {name: {one.partition(".")[0] for one in start.fresh} for name, start in starts.items()}
    assert fresh == {"same": set(), "other": {"attribute_head"}, "none": set()}
    assert {name: start.unsaid for name, start in starts.items()} == {
        "same": (),
        "other": ("Negation",),
        "none": ("Negation",),
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "needs a model directory to start from; .* is an encoder alone"),
        ({"model": None}, "none was given: --backbone DIR"),
        ({"attributes": None}, "is an encoder alone"),
    ],
)
def test_attributes_alone_need_a_tagger(
    trainer: Callable[..., ModelTrainer], given: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        trainer(**given, options={"attributes_only": True})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["Negation"], "must map names to lists of values.*found list"),
        ({"Negation": [True]}, "attribute 'Negation': expected null"),
        ({"Negation": [None]}, "one value or more"),
        ({"Negation": [None, True, True]}, "that differ"),
        ({"Negation": [None, False]}, "'Negation': expected printable names and values"),
        ({"Neg\nation": [None, True]}, "expected printable names and values"),
        ({"Negation": [None, "x" * 1001]}, "'Negation': expected printable"),
        ({"Negation": [None, *map(str, range(300))]}, "fewer than 256 values"),
    ],
)
def test_attributes_of_another_form_are_refused(trainer: Callable[..., ModelTrainer], given: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        trainer(attributes=given)


def test_what_there_is_to_learn_is_found_in_notes() -> None:
    assert attributes_in(notes()) == {"Negation": [None, True]}
    given = [
        Document("n", "ab", (Span(0, 1, "A", attributes={"C": "y", "D": "z"}), Span(1, 2, "A", attributes={"C": "x"})))
    ]
    assert attributes_in(given) == {"C": [None, "x", "y"], "D": [None, "z"]}
    assert attributes_in(given, ["D"]) == {"D": [None, "z"]}
    with pytest.raises(DataError, match="the attribute 'E'; found 'C', 'D'"):
        attributes_in(given, ["E"])
    comments = [note.with_spans([Span(0, 1, "A", attributes={"C": f"c{n}"})]) for n, note in enumerate(given * 21)]
    with pytest.raises(DataError, match="'C' has 21 values, which may be comments: name the attributes"):
        attributes_in(comments)
    assert len(attributes_in(comments, ["C"])["C"]) == 22
    with pytest.raises(DataError, match="no span of the training notes has an attribute"):
        attributes_in([given[0].with_spans(())])


@pytest.mark.parametrize(
    "change",
    [
        {"attributes": {"Negation": [True]}},
        {"attributes": {"Negation": [None, 3]}},
        {"attributes": {"Neg\nation": [None, True]}},
        {"attributes": [["Negation"]]},
        {"attribute_temperatures": {"Negation": 0}},
        {"attributes": {"Negation": [None, True]}},  # weights of another shape
    ],
)
@pytest.mark.parametrize("head", [{"use_crf": True}])
def test_a_directory_with_other_attributes_is_refused(
    directory: Path, change: dict[str, Any], without_manifest: Callable[[Path], Path]
) -> None:
    config = without_manifest(directory) / CONFIG
    config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    with pytest.raises(ModelError):
        read_model_dir(directory, device="cpu")
