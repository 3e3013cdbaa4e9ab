"""Several models as one: against a hand-written mean, and side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PretrainedConfig

from cardioner.data.documents import Document
from cardioner.data.labels import LabelSet
from cardioner.errors import ModelError, UsageError
from cardioner.model_dir.save import write_model_dir
from cardioner.multiclass import CardioNERConfig, TokenClassificationModel, TokenClassificationModelCRF
from cardioner.multiclass.encoding import encode_notes, plan_windows
from cardioner.multiclass.inference import decode_notes, emissions_of, score_spans
from cardioner.multiclass.pipeline import runs_of, tag_texts
from cardioner.prediction.directories import models_digest
from cardioner.prediction.engines.torch import TorchEngine
from cardioner.prediction.ensemble import join
from cardioner.prediction.predictor import Predictor
from cardioner.prediction.vote import THRESHOLD

TEXTS = [
    "Patient denies chest pain. Atrial fibrillation since 2019, treated with bisoprolol 2.5 mg o.d. " * 4,
    "Dyspnoea on exertion",
    "",
]
NOTES = [Document(str(index), text) for index, text in enumerate(TEXTS)]
TYPES = ("DISEASE", "MEDICATION", "SYMPTOM")

Make = Callable[..., TokenClassificationModel]


@pytest.fixture
def make(encoder_config: Callable[[str], PretrainedConfig]) -> Make:
    """A model with opinions of its own."""

    def build(
        seed: int = 1,
        *,
        types: tuple[str, ...] = TYPES,
        use_crf: bool = True,
        family: str = "bert",
        overlap: Any = "flat",
        **settings: Any,
    ) -> TokenClassificationModel:
        torch.manual_seed(seed)
        labels = LabelSet.from_types(types, overlap=overlap)
        names = {"id2label": labels.id2label, "label2id": labels.label2id}
        encoder = encoder_config(family).to_dict()
        settings = {"window_length": 32, "window_context": 4, **names, **settings}
        config = CardioNERConfig(encoder_config=encoder, **settings)
        model = (TokenClassificationModelCRF if use_crf else TokenClassificationModel)(config)
        for parameter in [*model.classifier.parameters(), *(model.crf.parameters() if use_crf else ())]:
            torch.nn.init.normal_(parameter, std=0.7)
        return model.eval()

    return build


@pytest.fixture
def save(make: Make, tokenizers: dict[str, Any], tmp_path: Path) -> Callable[..., Path]:
    """A directory with such a model."""

    def build(name: str, *arguments: Any, **settings: Any) -> Path:
        kind = {"bert": "wordpiece", "roberta": "byte-bpe"}[settings.get("family", "bert")]
        write_model_dir(make(*arguments, **settings), tokenizers[kind], tmp_path / name)
        return tmp_path / name

    return build


@pytest.mark.parametrize("use_crf", [True, False])
@pytest.mark.parametrize("decoder", ["viterbi", "argmax"])
@pytest.mark.parametrize("copies", [2, 3])
def test_copies_of_a_model_are_that_model_to_the_last_bit(
    copies: int, decoder: str, use_crf: bool, save: Callable[..., Path]
) -> None:
    place = save("one", use_crf=use_crf, temperature=1.3)
    alone = list(Predictor.from_pretrained(place, device="cpu", decoder=decoder).predict(NOTES))
    together = Predictor.from_pretrained([place] * copies, device="cpu", decoder=decoder)
    assert list(together.predict(NOTES)) == alone
    assert alone[0].spans
    assert len(together.engines) == 1


@pytest.mark.parametrize("use_crf", [True, False])
@pytest.mark.parametrize("viterbi", [True, False])
def test_two_models_are_the_mean_of_their_numbers(
    viterbi: bool, use_crf: bool, make: Make, tokenizers: dict[str, Any]
) -> None:
    models, tokenizer = [make(1, use_crf=use_crf), make(2, use_crf=use_crf)], tokenizers["wordpiece"]
    (joint,) = join([TorchEngine(model, tokenizer) for model in models])
    notes = encode_notes(tokenizer, TEXTS)
    each = [emissions_of(model, tokenizer, notes) for model in models]
    mean = [(one + other) / 2 for one, other in zip(*each, strict=True)]
    for found, expected in zip(emissions_of(joint.model, tokenizer, notes), mean, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    hand = make(3, use_crf=use_crf)
    if use_crf:
        for name in ("start_transitions", "end_transitions", "transitions"):
            one, other = (getattr(model.crf, name).data for model in models)
            getattr(hand.crf, name).data = (one + other) / 2
    tags = decode_notes(hand, mean, viterbi=viterbi)
    assert decode_notes(joint.model, mean, viterbi=viterbi) == tags
    spans = [(3, tags[0][0][3:6])]
    expected_scores = score_spans(hand, mean[:1], [spans])[0]
    assert score_spans(joint.model, mean[:1], [spans])[0] == pytest.approx(expected_scores, abs=1e-6)
    found_spans = tag_texts(joint.model, tokenizer, TEXTS, viterbi=viterbi)
    alone = [tag_texts(model, tokenizer, TEXTS, viterbi=viterbi) for model in models]
    special = plan_windows(hand.config, tokenizer).special
    places = [
        [(*edges, run.label) for run, edges in runs_of(hand, note, row, special)]
        for note, (row,) in zip(notes, tags, strict=True)
    ]
    assert [[entity[:3] for entity in entities] for entities in found_spans] == places
    assert places[0]
    assert found_spans not in alone


def test_members_stay_as_they_are(make: Make, tokenizers: dict[str, Any]) -> None:
    models = [make(1, window_length=64, temperature=1.0), make(2, window_length=32, temperature=3.0)]
    before = [{name: value.clone() for name, value in model.state_dict().items()} for model in models]
    (joint,) = join([TorchEngine(model, tokenizers["wordpiece"]) for model in models])
    assert (joint.model.config.window_length, joint.model.config.score_temperature) == (32, 2.0)
    for model, state in zip(models, before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert [model.config.window_length for model in models] == [64, 32]
    assert sum(p.numel() for p in joint.model.decoder.backbone.parameters()) == 0, "no second copy of an encoder"


@pytest.mark.parametrize(("dtypes", "expected"), [(["bfloat16"] * 2, "bfloat16"), (["bfloat16", "float32"], "float32")])
def test_all_must_allow_bfloat16(dtypes: list[str], expected: str, make: Make, tokenizers: dict[str, Any]) -> None:
    models = [make(seed, inference_dtype=dtype) for seed, dtype in enumerate(dtypes)]
    (joint,) = join([TorchEngine(model, tokenizers["wordpiece"]) for model in models])
    assert joint.model.config.inference_dtype == expected


def test_models_of_other_types_are_united_and_may_overlap(save: Callable[..., Path]) -> None:
    places = [
        save("a", 1, types=("DISEASE",)),
        save("b", 2, types=("SYMPTOM", "DRUG"), use_crf=False),
        save("c", 3, types=("DATE",), family="roberta"),
    ]
    alone = [list(Predictor.from_pretrained(place, device="cpu").predict(NOTES)) for place in places]
    reports: list[Any] = []
    predictions = Predictor.from_pretrained(places, device="cpu").predict(NOTES, advance=reports.append)
    united = list(predictions)
    for index, note in enumerate(united):
        expected = [span for notes in alone for span in notes[index].spans]
        assert list(note.spans) == sorted(expected, key=lambda span: (span.start, span.end, span.label))
    spans = united[0].spans
    assert any(one.end > other.start for one, other in pairwise(spans)), "some overlap"
    assert (predictions.coverage.documents, predictions.coverage.characters) == (3, sum(map(len, TEXTS)))
    assert predictions.coverage == reports[-1]
    apart = [Predictor.from_pretrained(place, device="cpu").predict(NOTES) for place in places]
    counted = [list(each) and each.coverage for each in apart]
    assert predictions.coverage.windows == sum(each.windows for each in counted)
    assert predictions.coverage.tokens == sum(each.tokens for each in counted)


OTHERS: list[dict[str, Any]] = [
    {"use_crf": False},
    {"types": ("DISEASE", "DATE")},
    {"types": TYPES[:2]},
    {"family": "roberta"},
    {"overlap": "per-type"},
]


@pytest.mark.parametrize("rule", [None, "majority", 0.2])
@pytest.mark.parametrize("second", OTHERS, ids=str)
def test_models_that_cannot_be_averaged_vote(
    second: dict[str, Any], rule: str | float | None, save: Callable[..., Path]
) -> None:
    """Oracle: the spans of each model alone, counted by hand."""
    places = [save("first"), save("second", 2, **second)]
    predictor = Predictor.from_pretrained(places, device="cpu", vote=rule)
    alone = [Predictor.from_pretrained(place, device="cpu") for place in places]
    expected = "majority" if rule == "majority" else f"score, from {rule or THRESHOLD}"
    assert predictor.combination == f"vote of 2 members by {expected}"
    assert f"({predictor.combination})" in repr(predictor)
    found = list(predictor.predict(NOTES))
    for index, note in enumerate(found):
        each = [{span[:3]: span[3] for span in map(astuple, list(one.predict(NOTES))[index].spans)} for one in alone]
        for span in note.spans:
            place = (span.start, span.end, span.label)
            voters = [own for own, one in zip(each, alone, strict=True) if span.label in one.labels]
            scores = [own.get(place, 0.0) for own in voters]
            assert span.score == pytest.approx(sum(scores) / len(scores), abs=1e-9)
            if not all(place in own for own in voters):
                assert rule != "majority"
                assert span.score >= (rule or THRESHOLD)
    assert found[0].spans or rule == "majority", "two models of chance seldom agree"
    assert list(Predictor.from_pretrained(places[::-1], device="cpu", vote=rule).predict(NOTES)) == found


@pytest.mark.parametrize("rule", ["score", "majority", 0.9])
@pytest.mark.parametrize("settings", [{}, *OTHERS], ids=str)
def test_a_model_that_votes_with_itself_is_that_model(
    settings: dict[str, Any], rule: str | float, save: Callable[..., Path]
) -> None:
    place = save("one", **settings)
    alone = list(Predictor.from_pretrained(place, device="cpu").predict(NOTES))
    together = Predictor.from_pretrained([place] * 3, device="cpu", vote=rule)
    assert list(together.predict(NOTES)) == alone
    assert alone[0].spans
    assert len(together.engines) == 3


def test_the_doors_of_several_models(save: Callable[..., Path]) -> None:
    one, other = save("a", 1, types=("DISEASE",)), save("b", 2, types=("DISEASE",))
    third = save("c", 3, types=("DRUG",))
    assert Predictor.from_pretrained([one, other]).combination == "mean of 2 models"
    assert Predictor.from_pretrained([one, third]).combination == "spans of 2 models united"
    assert Predictor.from_pretrained([one, other, third]).combination == "vote of 3 members by score, from 0.4"
    assert Predictor.from_pretrained(one).combination == ""
    with pytest.raises(ModelError, match="found none"):
        Predictor.from_pretrained([])
    with pytest.raises(UsageError, match="two models or more"):
        Predictor.from_pretrained(one, vote="score")
    with pytest.raises(UsageError, match="found 'most'"):
        Predictor.from_pretrained([one, other], vote="most")


def test_a_digest_of_models_changes_with_every_file_that_decides(tmp_path: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        for name in ("config.json", "tokenizer.json", "model.safetensors", "README.md"):
            (tmp_path / place / name).write_text(name)
    first, second = tmp_path / "a", tmp_path / "b"
    alone = models_digest([first])
    assert alone == models_digest([second])
    (second / "README.md").write_text("another")
    assert alone == models_digest([second])
    seen = {alone, models_digest([first, second])}
    for name in ("config.json", "tokenizer.json", "model.safetensors", "model-00002-of-00002.safetensors"):
        (second / name).write_text("another")
        seen.add(models_digest([second]))
    assert len(seen) == 6
