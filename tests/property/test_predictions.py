"""From text to spans: offsets that hold, and windows that leave no trace."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import reduce
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from cardioner.data.documents import Document
from cardioner.multiclass import TokenClassificationModel
from cardioner.multiclass.encoding import encode_notes, plan_windows
from cardioner.multiclass.inference import decode_notes, emissions_of
from cardioner.multiclass.pipeline import CardioNERPipeline, Entity, tag_texts
from cardioner.multiclass.windows import READ_AHEAD, Coverage
from cardioner.prediction.predictor import Predictor

HOSTILE = [
    *"\ufeff\t\u00a0\u00ad\u200b\u200d\u0301\u2028\u2029\x85\x1c\x00 \n.-/",
    "\r\n",
    "\U0001fac0",
    "\U0001f468\u200d\u2695\ufe0f",
    "e\u0301",
    "İ",
    "心",
    "</s>",
    "[SEP]",
    "<pad>",
]
WORDS = ["heart", "failure", "bisoprolol", "cardíaca", "2.5", "mg/12h", " ", " "]
TEXTS = st.lists(
    st.sampled_from([*HOSTILE, *WORDS]) | st.characters(exclude_categories=["Cs"]), min_size=0, max_size=25
).map("".join)
NOTHING = ["", " ", "\n\n", "   \t"]
FAMILIES = {"bert": "wordpiece", "roberta": "byte-bpe", "xlm-roberta": "unigram"}
DOORS = st.tuples(st.sampled_from(sorted(FAMILIES)), st.booleans())
EXAMPLES = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

MakeModel = Callable[..., TokenClassificationModel]


class EmbeddingAlone(nn.Module):
    """An encoder that reads each position by itself."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)

    def forward(self, input_ids: Tensor, **_: Any) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=self.table(input_ids))


def position_wise(model: TokenClassificationModel, vocabulary: int) -> TokenClassificationModel:
    torch.manual_seed(2)
    model.backbone = EmbeddingAlone(vocabulary, 16)
    return model.eval()


@pytest.fixture
def models(make_model: MakeModel, tokenizers: dict[str, Any]) -> Callable[..., TokenClassificationModel]:
    """Models that are built once for all examples of a test; with the windows and the kind of encoder asked for."""
    made: dict[tuple[str, bool, bool], TokenClassificationModel] = {}

    def build(
        door: tuple[str, bool], *, reads_context: bool, length: int, context: int = 4
    ) -> TokenClassificationModel:
        family, use_crf = door
        if (*door, reads_context) not in made:
            model = make_model(family, use_crf=use_crf)
            made[(*door, reads_context)] = (
                model if reads_context else position_wise(model, len(tokenizers[FAMILIES[family]]))
            )
        model = made[(*door, reads_context)]
        model.config.window_length, model.config.window_context = length, context
        return model

    return build


def places(entities: list[Entity]) -> list[tuple[int, int, str]]:
    return [(entity.start, entity.end, entity.label) for entity in entities]


@EXAMPLES
@given(DOORS, st.booleans(), st.lists(TEXTS, max_size=3))
@example(("xlm-roberta", False), False, ["\ufeff\x1f\ufeff"])  # two sub-tokens share a character before a blank
def test_spans_are_sorted_apart_and_free_of_white_space_at_the_edges(
    models: MakeModel, tokenizers: dict[str, Any], door: tuple[str, bool], viterbi: bool, texts: list[str]
) -> None:
    tokenizer = tokenizers[FAMILIES[door[0]]]
    model = models(door, reads_context=False, length=32)
    tagged = tag_texts(model, tokenizer, texts, viterbi=viterbi)
    assert len(tagged) == len(texts)
    for text, entities in zip(texts, tagged, strict=True):
        end = 0
        for entity in entities:
            assert end <= entity.start < entity.end <= len(text)
            words = text[entity.start : entity.end]
            assert words == words.strip()
            assert 0.0 <= entity.score <= 1.0
            assert entity.label in {"DISEASE", "MEDICATION", "SYMPTOM"}
            end = entity.end


@EXAMPLES
@given(DOORS, st.lists(TEXTS, min_size=1, max_size=3), st.integers(0, 4), st.integers(1, 20), st.integers(1, 200))
def test_windows_and_batches_leave_no_trace_where_context_does_not_matter(
    models: MakeModel,
    tokenizers: dict[str, Any],
    door: tuple[str, bool],
    texts: list[str],
    context: int,
    room: int,
    batch_tokens: int,
) -> None:
    tokenizer = tokenizers[FAMILIES[door[0]]]
    model = models(door, reads_context=False, length=4000)
    notes = encode_notes(tokenizer, texts)
    whole, whole_spans = emissions_of(model, tokenizer, notes), tag_texts(model, tokenizer, texts)
    models(door, reads_context=False, length=2 * context + room + 2, context=context)
    finished: list[Coverage] = []
    pieces = emissions_of(model, tokenizer, notes, batch_tokens=batch_tokens, advance=finished.append)
    for one, many in zip(whole, pieces, strict=True):
        torch.testing.assert_close(many, one, atol=1e-5, rtol=0)
    windows = plan_windows(model.config, tokenizer)
    assert reduce(Coverage.plus, finished) == Coverage(
        documents=len(texts),
        windows=sum(len(windows.cut(note)) for note in notes),
        tokens=sum(len(note.ids) for note in notes),
        characters=sum(map(len, texts)),
    )
    assert decode_notes(model, pieces) == decode_notes(model, whole)
    piece_spans = tag_texts(model, tokenizer, texts, batch_tokens=batch_tokens)
    assert list(map(places, piece_spans)) == list(map(places, whole_spans))
    scores = [[entity.score for note in spans for entity in note] for spans in (piece_spans, whole_spans)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


@EXAMPLES
@given(DOORS, TEXTS)
def test_a_note_of_one_window_is_decoded_as_the_model_alone_does(
    models: MakeModel, tokenizers: dict[str, Any], door: tuple[str, bool], text: str
) -> None:
    tokenizer = tokenizers[FAMILIES[door[0]]]
    model = models(door, reads_context=True, length=128)
    inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=120)
    notes = [note for note in encode_notes(tokenizer, [text]) if len(note.ids) <= 118]
    with torch.no_grad():
        logits = model(**inputs).logits
    expected = model.decode(logits, inputs["attention_mask"].bool())
    for note, emissions in zip(notes, emissions_of(model, tokenizer, notes), strict=True):
        assert len(emissions) == len(note.ids) + 2
        torch.testing.assert_close(emissions, logits[0], atol=1e-5, rtol=0)
        assert decode_notes(model, [emissions]) == [expected]


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("use_crf", [False, True])
def test_notes_of_nothing_give_no_spans_whoever_stands_beside_them(
    make_model: MakeModel, tokenizers: dict[str, Any], family: str, use_crf: bool
) -> None:
    tokenizer = tokenizers[FAMILIES[family]]
    model = make_model(family, use_crf=use_crf)
    text = "Patient denies chest pain. Atrial fibrillation since 2019, treated with bisoprolol."
    alone = tag_texts(model, tokenizer, [text])
    assert alone[0]
    tagged = tag_texts(model, tokenizer, [*NOTHING, text, *NOTHING])
    assert [places(entities) for entities in tagged] == [[]] * 4 + [places(alone[0])] + [[]] * 4
    assert tag_texts(model, tokenizer, []) == []


# What a span says is what the text says ------------------------------------------------------------------------------

PLANTED = "bisoprolol"
BARE = [piece for piece in HOSTILE if not any("a" <= character.lower() <= "z" for character in piece)]


def one_word_model(
    make_model: MakeModel, family: str, tokenizer: Any, *, use_crf: bool = False, **windows: int
) -> TokenClassificationModel:
    """A model that marks the sub-tokens of the planted word, behind a blank, and nothing else; with no rounding."""
    model = position_wise(make_model(family, use_crf=use_crf, **windows), len(tokenizer))
    (note,) = encode_notes(tokenizer, [f". {PLANTED} ."])
    pieces = [index for index, (start, end) in zip(note.ids, note.offsets, strict=True) if 2 <= start < end <= 12]
    assert pieces[0] not in pieces[1:]
    with torch.no_grad():
        for parameter in [*model.classifier.parameters(), model.backbone.table.weight]:
            parameter.zero_()
        model.classifier.weight[model.config.label2id["O"], 0] = 1
        model.classifier.weight[model.config.label2id["B-MEDICATION"], 1] = 1
        model.classifier.weight[model.config.label2id["I-MEDICATION"], 2] = 1
        model.backbone.table.weight[:, 0] = 8
        model.backbone.table.weight[pieces] = 0
        model.backbone.table.weight[pieces[0], 1] = 8
        model.backbone.table.weight[pieces[1:], 2] = 8
    return model


def planted_in(text: str) -> list[tuple[int, int, str]]:
    """Where the word stands."""
    return [(found.start(), found.end(), "MEDICATION") for found in re.finditer(PLANTED, text)]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_between_hostile_characters_every_door_finds_the_very_word(
    family: str, make_model: MakeModel, tokenizers: dict[str, Any]
) -> None:
    tokenizer = tokenizers[FAMILIES[family]]
    model = one_word_model(make_model, family, tokenizer, window_length=12, window_context=2)
    predictor = Predictor(model, tokenizer)
    pipeline = CardioNERPipeline(model=model, tokenizer=tokenizer, device="cpu")
    hostile = st.lists(st.sampled_from([*BARE, *BARE, f" {PLANTED} "]), max_size=40).map("".join)

    @EXAMPLES
    @given(st.lists(hostile, min_size=1, max_size=3))
    @example([f"\ufeff {PLANTED} \u0301\u200d{PLANTED[:0]}\r\n {PLANTED} \U0001fac0\u00a0 {PLANTED} "])
    def agree(texts: list[str]) -> None:
        documents = [Document(str(index), text) for index, text in enumerate(texts)]
        tagged, rows = list(predictor.predict(documents)), pipeline(texts)
        for text, note, found in zip(texts, tagged, rows, strict=True):
            assert [(span.start, span.end, span.label) for span in note.spans] == planted_in(text)
            assert [note.text_of(span) for span in note.spans] == [PLANTED] * len(note.spans)
            assert [(row["start"], row["end"], row["entity_group"], row["score"]) for row in found] == [
                (span.start, span.end, span.label, span.score) for span in note.spans
            ]
            assert [row["word"] for row in found] == [text[row["start"] : row["end"]] for row in found]

    agree()


@EXAMPLES
@given(DOORS, st.lists(TEXTS, min_size=1, max_size=3))
def test_the_pipeline_class_gives_exactly_the_spans_of_the_predictor(
    models: MakeModel, tokenizers: dict[str, Any], door: tuple[str, bool], texts: list[str]
) -> None:
    tokenizer = tokenizers[FAMILIES[door[0]]]
    model = models(door, reads_context=True, length=32)
    many = texts * READ_AHEAD  # more than one group
    rows = CardioNERPipeline(model=model, tokenizer=tokenizer, device="cpu")(many)
    notes = Predictor(model, tokenizer).predict([Document(str(index), text) for index, text in enumerate(many)])
    for note, found in zip(notes, rows, strict=True):
        assert [(row["start"], row["end"], row["entity_group"], row["score"]) for row in found] == [
            (span.start, span.end, span.label, span.score) for span in note.spans
        ]
        assert [row["word"] for row in found] == [note.text_of(span) for span in note.spans]


# What stands beside a note -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", [(family, use_crf) for family in sorted(FAMILIES) for use_crf in (False, True)])
def test_neither_neighbours_nor_order_nor_batches_nor_threads_change_a_span(
    door: tuple[str, bool], models: MakeModel, tokenizers: dict[str, Any]
) -> None:
    tokenizer = tokenizers[FAMILIES[door[0]]]
    model = models(door, reads_context=True, length=32)
    dice = random.Random(4)
    texts = ["".join(dice.choices([*WORDS, *HOSTILE], k=size)) for size in (1, 3, 20, 20, 90, 200)]
    alone = [tag_texts(model, tokenizer, [text])[0] for text in texts]
    assert sum(map(len, alone)) > 20
    threads = torch.get_num_threads()
    try:
        for count, budget in ((1, 1), (1, 333), (1, 4096), (2, 40), (2, 4096)):
            torch.set_num_threads(count)
            order = dice.sample(range(len(texts)), len(texts))
            together = tag_texts(model, tokenizer, [texts[index] for index in order], batch_tokens=budget)
            for index, entities in zip(order, together, strict=True):
                assert places(entities) == places(alone[index])
                scores = [entity.score for entity in entities]
                assert scores == pytest.approx([entity.score for entity in alone[index]], abs=1e-5)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("use_crf", [False, True])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_an_entity_at_any_position_of_a_long_note_is_found_as_in_a_short_one(
    family: str, use_crf: bool, make_model: MakeModel, tokenizers: dict[str, Any]
) -> None:
    """It is planted again and again, and the whole note is shifted until each sub-token has once been its first."""
    tokenizer = tokenizers[FAMILIES[family]]
    model = one_word_model(make_model, family, tokenizer, use_crf=use_crf, window_length=128, window_context=16)
    predictor = Predictor(model, tokenizer)
    filler = next(
        text for text in (".", "-", ",", " .") if pieces_in(tokenizer, text * 9) == pieces_in(tokenizer, text * 8) + 1
    )
    unit = f" {PLANTED} {filler}{filler}"
    period = pieces_in(tokenizer, unit * 21) - pieces_in(tokenizer, unit * 20)
    (alone,) = predictor.predict_text(filler * 30 + unit + filler * 30)
    assert (alone.start, alone.end) == (31, 31 + len(PLANTED))
    count, first = 20_000 // period, set[int]()
    for shift in range(period):
        text = filler * (30 + shift) + unit * count + filler * 30
        (note,) = encode_notes(tokenizer, [text])
        assert len(note.ids) >= 20_000
        spans = predictor.predict_text(text)
        assert [(span.start, span.end, span.label) for span in spans] == planted_in(text)
        assert len(spans) == count
        if not use_crf:  # with one, how sure it is depends on the neighbours
            assert {span.score for span in spans} == {alone.score}
        index_of = {start: index for index, (start, end) in enumerate(note.offsets) if start < end}
        first |= {index_of[span.start] for span in spans}
    assert first >= set(range(40 + period, 20_000))


def pieces_in(tokenizer: Any, text: str) -> int:
    return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
