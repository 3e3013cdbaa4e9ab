"""From text to spans: offsets that hold, and windows that leave no trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from cardioner.multiclass import TokenClassificationModel
from cardioner.multiclass.pipeline import Entity, decode_notes, emissions_of, encode_notes, tag_texts

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
    finished: list[int] = []
    pieces = emissions_of(model, tokenizer, notes, batch_tokens=batch_tokens, advance=finished.append)
    for one, many in zip(whole, pieces, strict=True):
        torch.testing.assert_close(many, one, atol=1e-5, rtol=0)
    assert sum(finished) == sum(map(len, texts))
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
        assert decode_notes(model, [emissions]) == expected


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
