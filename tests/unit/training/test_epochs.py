"""How many epochs a training makes, and that every door knows the number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cardioner.data.documents import Document
from cardioner.data.labels import LabelSet
from cardioner.errors import UsageError
from cardioner.model_dir.card import model_card
from cardioner.model_dir.findings import LEAST_STEPS, MOST_EPOCHS
from cardioner.model_dir.json_files import read_json
from cardioner.model_dir.manifest import read_manifest
from cardioner.training.arguments import DEFAULT_EPOCHS, pick_epochs
from cardioner.training.options import AUTO, TrainerArguments, TrainingOptions
from cardioner.training.trainer import ModelTrainer


def test_few_notes_get_the_steps_that_a_head_needs_and_many_the_usual_epochs() -> None:
    for steps in range(1, 2 * LEAST_STEPS):
        epochs = pick_epochs(AUTO, steps)
        assert DEFAULT_EPOCHS <= epochs <= MOST_EPOCHS
        assert epochs * steps >= LEAST_STEPS or epochs == MOST_EPOCHS
        assert (epochs - 1) * steps < LEAST_STEPS or epochs == DEFAULT_EPOCHS, "no more than it takes"
    assert pick_epochs(3, 1) == 3


@pytest.mark.parametrize("given", [0, -1, 1.5, True, "many", "0", None])
def test_epochs_are_auto_or_a_whole_number(given: Any) -> None:
    with pytest.raises(UsageError, match="num_train_epochs: expected auto, or a whole number, 1 or more"):
        TrainerArguments(output_dir=Path("m"), num_train_epochs=given)
    assert TrainerArguments(output_dir=Path("m")).num_train_epochs == AUTO
    assert TrainerArguments(output_dir=Path("m"), num_train_epochs="12").num_train_epochs == 12  # type: ignore[arg-type]


def test_the_number_of_epochs_is_in_the_record_the_manifest_and_the_card(
    encoder_dir: Callable[[str], Path],
    labels: LabelSet,
    documents: list[Document],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cardioner.training.arguments.LEAST_STEPS", 6)
    monkeypatch.setattr("cardioner.training.arguments.DEFAULT_EPOCHS", 1)
    trainer = ModelTrainer(
        label2id=labels.label2id,
        model=encoder_dir("bert"),
        output_dir=tmp_path / "out",
        max_length=32,
        batch_size=2,
        gradient_accumulation_steps=2,
        options=TrainingOptions(training_context=4, precision="float32", device="cpu"),
    )
    result = trainer.train(documents)
    steps = -(-result.windows // 4)
    assert (result.asked_epochs, result.planned_epochs, result.steps) == (AUTO, -(-6 // steps), steps)
    record = read_json(tmp_path / "out" / "training_args.json")
    assert record["num_train_epochs"] == result.planned_epochs
    assert record["training_data"]["steps_per_epoch"] == steps
    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None
    assert manifest.record["num_train_epochs"] == result.planned_epochs
    card = model_card(read_json(tmp_path / "out" / "config.json"), manifest)
    assert f"epochs {result.planned_epochs} (chosen by the number of steps);" in card
    assert max(row["step"] for row in result.history) == result.planned_epochs * steps
