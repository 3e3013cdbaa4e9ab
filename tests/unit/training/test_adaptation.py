"""Adapting an encoder: what is hidden, what is computed of it, what is saved, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForMaskedLM

from cardioner.data.documents import Document
from cardioner.data.labels import LabelSet
from cardioner.errors import DataError, ModelError, OutputError, TrainingError
from cardioner.model_dir.encoder import load_masked_language_model
from cardioner.multiclass.modeling import IGNORED
from cardioner.training.adaptation import RECORD, Adaptation, Lesson, Masking, adapt, mask, only_at
from cardioner.training.options import AdaptationOptions
from cardioner.training.trainer import ModelTrainer

OPTIONS = AdaptationOptions(
    epochs=4, batch_size=2, learning_rate=0.01, max_length=32, precision="float32", device="cpu"
)
MASKED = 4
MASKING = Masking(mask_id=MASKED, special=frozenset(range(5)), size=1000)


@pytest.fixture
def ids() -> Tensor:
    """Rows of sub-tokens between special ones, with padding behind them."""
    rows = torch.randint(5, 1000, (400, 500), generator=torch.Generator().manual_seed(1))
    rows[:, 0], rows[:, 450], rows[:, 451:] = 2, 3, 0
    return rows


@pytest.fixture(scope="module")
def notes() -> list[Document]:
    """Notes that say nearly the same."""
    text = "Patient denies chest pain. Atrial fibrillation, treated with bisoprolol 2.5 mg."
    return [Document(f"n{number}", f"{number} {text}") for number in range(20)]


@pytest.fixture(scope="module")
def adapted(
    encoder_dir: Callable[[str], Path], notes: list[Document], tmp_path_factory: pytest.TempPathFactory
) -> Adaptation:
    """A tiny encoder, adapted to them."""
    place = tmp_path_factory.mktemp("encoders") / "adapted"
    return adapt(notes, place, backbone=encoder_dir("bert"), options=OPTIONS)


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def weights(place: Path) -> dict[str, Tensor]:
    return load_file(place / "model.safetensors")


# Masks ---------------------------------------------------------------------------------------------------------------


def test_a_share_is_hidden_replaced_and_kept_as_in_bert(ids: Tensor) -> None:
    """15 % are guessed; of these the mask stands for 80 %, another sub-token for 10 %, and 10 % stay."""
    shown, wanted = mask(ids, MASKING, chance())
    usual = ids.ge(5)
    guessed = wanted.ne(IGNORED)
    assert guessed.sum() / usual.sum() == pytest.approx(0.15, abs=0.004)
    for share, which in ((0.8, shown.eq(MASKED)), (0.1, shown.eq(ids)), (0.1, shown.ne(ids) & shown.ne(MASKED))):
        assert (which & guessed).sum() / guessed.sum() == pytest.approx(share, abs=0.01)


def test_masks_touch_nothing_else(ids: Tensor) -> None:
    """Special and padding ids are never hidden or put in; what is not guessed stays; what is guessed is what was."""
    shown, wanted = mask(ids, MASKING, chance())
    guessed = wanted.ne(IGNORED)
    assert torch.equal(shown[~guessed], ids[~guessed])
    assert torch.equal(wanted[guessed], ids[guessed])
    assert not guessed[ids.lt(5)].any()
    assert set(shown[guessed & shown.lt(5)].tolist()) == {MASKED}


def test_masks_depend_on_the_generator_alone(ids: Tensor) -> None:
    first, again, other = (mask(ids, MASKING, chance(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


# Learning ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bert", "electra", "roberta", "modernbert", "deberta-v2"])
def test_guessing_at_some_places_gives_the_scores_of_all(encoder_dir: Callable[[str], Path], family: str) -> None:
    model, _, _ = load_masked_language_model(encoder_dir(family))
    model.eval()
    ids = torch.randint(6, 40, (3, 12), generator=chance())
    places = torch.rand(ids.shape, generator=chance()).lt(0.4)
    attention = torch.ones_like(ids)
    with torch.inference_mode():
        wanted = model(input_ids=ids, attention_mask=attention).logits[places]
        with only_at(model.base_model, places):
            found = model(input_ids=ids, attention_mask=attention).logits
        after = model(input_ids=ids, attention_mask=attention).logits[places]
    assert found.shape == (1, *wanted.shape)
    torch.testing.assert_close(found[0], wanted)
    assert torch.equal(after, wanted)


def test_adapting_lowers_the_perplexity_of_notes_that_were_held_out(adapted: Adaptation) -> None:
    assert adapted.held_out == 1
    assert adapted.after < 0.8 * adapted.before


def test_the_same_seed_gives_the_same_encoder(
    adapted: Adaptation, encoder_dir: Callable[[str], Path], notes: list[Document], tmp_path: Path
) -> None:
    """Whatever the order of the notes."""
    torch.rand(7)
    again = adapt(notes[::-1], tmp_path / "again", backbone=encoder_dir("bert"), options=OPTIONS)
    first, second = weights(adapted.output_dir), weights(again.output_dir)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (again.before, again.after) == (adapted.before, adapted.after)


def test_a_loss_that_is_no_number_ends_it(encoder_dir: Callable[[str], Path]) -> None:
    model, _, _ = load_masked_language_model(encoder_dir("bert"))
    torch.nn.init.constant_(model.base_model.embeddings.word_embeddings.weight, float("nan"))
    lesson = Lesson(model, Masking(4, frozenset(range(4)), 40), 0, OPTIONS)
    with pytest.raises(TrainingError, match="loss is nan at step 1"):
        lesson.learn([list(range(5, 30))])


# What is saved -------------------------------------------------------------------------------------------------------


def test_a_training_begins_from_an_adapted_encoder(
    adapted: Adaptation, encoder_dir: Callable[[str], Path], labels: LabelSet
) -> None:
    """From all its weights, which are not those that it was adapted from."""
    start = ModelTrainer(label2id=labels.label2id, model=adapted.output_dir).start
    own, before = weights(adapted.output_dir), weights(encoder_dir("bert"))
    assert {name.removeprefix("backbone.") for name in start.taken} == own.keys()
    state = start.model.state_dict()
    assert all(torch.equal(state[f"backbone.{name}"], value) for name, value in own.items())
    changed = [name for name in own if not torch.equal(own[name], before[name])]
    assert any("layer.0" in name for name in changed)
    assert any("word_embeddings" in name for name in changed)


def test_the_record_has_figures_and_neither_text_nor_places(
    adapted: Adaptation, encoder_dir: Callable[[str], Path], notes: Sequence[Document]
) -> None:
    record = json.loads((adapted.output_dir / RECORD).read_text())
    assert {name: record[name] for name in adapted.to_dict()} == adapted.to_dict()
    assert record["options"]["epochs"] == OPTIONS.epochs
    described = "".join(path.read_text() for path in adapted.output_dir.glob("*config.json")) + json.dumps(record)
    assert str(encoder_dir("bert").parent) not in described
    assert not any(document.id in described or document.text[:20] in described for document in notes)


@pytest.mark.parametrize("kept", [True, False])
def test_a_head_that_the_encoder_brings_is_used(
    encoder_dir: Callable[[str], Path], tokenizers: dict[str, Any], tmp_path: Path, kept: bool
) -> None:
    place = encoder_dir("bert")
    if kept:
        torch.manual_seed(5)
        model = AutoModelForMaskedLM.from_pretrained(place)
        model.save_pretrained(tmp_path)
        tokenizers["wordpiece"].save_pretrained(tmp_path)
        place = tmp_path
    found = load_masked_language_model(place)
    assert found.fresh_head is not kept
    if kept:
        assert torch.equal(
            found.model.cls.predictions.transform.dense.weight, model.cls.predictions.transform.dense.weight
        )
    assert found.model.get_output_embeddings().weight is found.model.get_input_embeddings().weight


# What is refused -----------------------------------------------------------------------------------------------------


def test_one_note_is_too_few(encoder_dir: Callable[[str], Path], notes: list[Document], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected 2 notes or more"):
        adapt(notes[:1], tmp_path / "new", backbone=encoder_dir("bert"), options=OPTIONS)
    with pytest.raises(DataError, match="no text"):
        adapt([Document("a", ""), Document("b", " ")], tmp_path / "new", backbone=encoder_dir("bert"), options=OPTIONS)
    assert not (tmp_path / "new").exists()


def test_a_tokenizer_without_a_mask_is_refused(tokenizers: dict[str, Any]) -> None:
    class Unmasked:
        mask_token_id, unk_token_id = 1, 1

    with pytest.raises(ModelError, match="no mask token"):
        Masking.of(Unmasked())
    assert Masking.of(tokenizers["byte-bpe"]).mask_id == tokenizers["byte-bpe"].mask_token_id


def test_only_an_adapted_encoder_is_replaced(
    adapted: Adaptation, encoder_dir: Callable[[str], Path], notes: list[Document], tmp_path: Path
) -> None:
    place, replacing = adapted.output_dir, AdaptationOptions(**{**vars(OPTIONS), "overwrite": True, "epochs": 1})
    with pytest.raises(OutputError, match="is not empty: choose another folder, or pass --overwrite"):
        adapt(notes, place, backbone=encoder_dir("bert"), options=OPTIONS)
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="only what an adaptation wrote"):
        adapt(notes, other, backbone=encoder_dir("bert"), options=replacing)
    place = tmp_path / "again"
    shutil.copytree(adapted.output_dir, place)
    before = weights(place)
    adapt(notes, place, backbone=encoder_dir("bert"), options=replacing)
    assert any(not torch.equal(before[name], value) for name, value in weights(place).items())
