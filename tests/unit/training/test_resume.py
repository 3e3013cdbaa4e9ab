"""A training that was interrupted and resumed ends where an undisturbed one does, bit for bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cardioner.data.documents import Document
from cardioner.data.labels import LabelSet
from cardioner.errors import OutputError, UsageError
from cardioner.model_dir.load import enter
from cardioner.prediction.predictor import Predictor
from cardioner.training.checkpoints import SEAL, is_finished, last_checkpoint, read_checkpoint
from cardioner.training.options import TrainingOptions
from cardioner.training.trainer import ModelTrainer


class Killed(BaseException):
    """Ends a training where a signal would have."""


@pytest.fixture(scope="module")
def notes(documents: list[Document]) -> list[Document]:
    """Enough notes for several steps an epoch."""
    return [
        Document(f"{document.id}{copy}", document.text, document.spans) for copy in range(4) for document in documents
    ]


@pytest.fixture(scope="module")
def fit(encoder_dir: Callable[[str], Path], labels: LabelSet, notes: list[Document]) -> Callable[..., ModelTrainer]:
    """Train on the notes; `killed_after` steps, or in the stage of that name, it is interrupted."""

    def run(
        place: Path, *, killed_after: int | str | None = None, train: Any = None, evaluated: bool = True, **given: Any
    ) -> ModelTrainer:
        def progress(stage: str, done: int, total: int) -> None:  # noqa: ARG001 - the contract
            if stage == killed_after or (stage == "training" and done == killed_after):
                raise Killed

        asked = {"window_context": 4, "training_context": 4, "precision": "float32", "device": "cpu"}
        asked |= {"checkpoint_steps": 2, "resume": True, "progress": progress}
        asked |= {name: given.pop(name) for name in list(given) if name in TrainingOptions.__dataclass_fields__}
        trainer = ModelTrainer(
            label2id=labels.label2id,
            model=encoder_dir("bert"),
            output_dir=place,
            **{
                "use_crf": True,
                "max_length": 32,
                "batch_size": 4,
                "num_train_epochs": 3,
                "learning_rate": 5e-3,
                **given,
            },
            options=TrainingOptions(**asked),
        )
        trainer.train(notes if train is None else train, eval_data=notes[:3] if evaluated else None)
        return trainer

    return run


def left_behind(fit: Callable[..., ModelTrainer], place: Path, after: int | str, **given: Any) -> None:
    """Have a training interrupted."""
    with pytest.raises(Killed):
        fit(place, killed_after=after, **given)


@pytest.fixture(scope="module")
def quiet(fit: Callable[..., ModelTrainer], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an undisturbed training comes to."""
    place = tmp_path_factory.mktemp("quiet") / "model"
    fit(place)
    return place


@pytest.fixture(scope="module")
def left(fit: Callable[..., ModelTrainer], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training leaves that is killed after its fifth step."""
    place = tmp_path_factory.mktemp("left") / "model"
    left_behind(fit, place, 5)
    return place


@pytest.fixture
def cut(left: Path, tmp_path: Path) -> Path:
    """A copy of what the killed training left."""
    return shutil.copytree(left, tmp_path / "cut")


def record(place: Path) -> dict[str, Any]:
    """What was written down, but for times."""
    content: dict[str, Any] = json.loads((place / "training_args.json").read_text())
    del content["seconds"]
    return content


def assert_same(one: Path, other: Path) -> None:
    """The same weights, the same record."""
    weights, others = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert all(torch.equal(value, others[name]) for name, value in weights.items())
    assert record(one) == record(other)
    assert json.loads((one / "config.json").read_text()) == json.loads((other / "config.json").read_text())


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({}, id="crf"),
        *(
            pytest.param(given, id=name, marks=pytest.mark.slow)
            for name, given in {
                "accumulated": {"gradient_accumulation_steps": 2, "batch_size": 2},
                "unfrozen": {"unfreeze_per_epoch": 1, "layer_decay": 0.8, "schedule": "cosine"},
                "weighted": {"use_crf": False, "class_weights": "balanced", "label_smoothing": 0.1},
                "unscored": {"evaluated": False, "precision": "bfloat16", "attention_dropout": 0.1},
            }.items()
        ),
    ],
)
def test_interrupted_after_any_step_it_ends_with_the_same_weights(
    given: dict[str, Any], fit: Callable[..., ModelTrainer], quiet: Path, tmp_path: Path
) -> None:
    if given:
        quiet = tmp_path / "quiet"
        fit(quiet, **given)
    steps = max(row["step"] for row in record(quiet)["history"])
    assert steps >= 9
    for step in range(1, int(steps) + 1, 1 if not given else 4):
        place = tmp_path / f"after-{step}"
        left_behind(fit, place, step, **given)
        assert not is_finished(place)
        fit(place, **given)
        assert is_finished(place)
        assert_same(place, quiet)


def test_interrupted_again_and_again_it_ends_with_the_same_weights(
    fit: Callable[..., ModelTrainer], quiet: Path, tmp_path: Path
) -> None:
    for step in (3, 4, 6, 8):
        left_behind(fit, tmp_path / "often", step)
    left_behind(fit, tmp_path / "often", "calibrating (notes)")
    fit(tmp_path / "often")
    assert_same(tmp_path / "often", quiet)


def test_stopped_early_and_interrupted_it_does_not_train_on(fit: Callable[..., ModelTrainer], tmp_path: Path) -> None:
    given = {"learning_rate": 1e-9, "crf_learning_rate": 1e-9, "num_train_epochs": 6, "early_stopping": 1}
    quiet = fit(tmp_path / "quiet", **given)
    assert quiet.result is not None
    assert len(quiet.result.epochs) == 2, "the second epoch gained nothing"
    left_behind(fit, tmp_path / "cut", "calibrating (notes)", **given)
    assert last_checkpoint(tmp_path / "cut").finished  # type: ignore[union-attr]
    fit(tmp_path / "cut", **given)
    assert_same(tmp_path / "cut", tmp_path / "quiet")


def test_a_checkpoint_is_a_model_directory_that_tags(left: Path) -> None:
    found = last_checkpoint(left)
    assert found is not None
    assert found.step == 4
    enter(found.folder)
    assert Predictor.from_pretrained(found.folder, device="cpu").predict(["chest pain"])
    pickles = {path.name for path in found.folder.iterdir() if path.suffix in {".bin", ".pkl"}}
    assert not pickles


@pytest.mark.parametrize("damage", ["unsealed", "cut", "lost", "seal cut"])
def test_a_half_written_checkpoint_is_never_taken(
    damage: str, fit: Callable[..., ModelTrainer], quiet: Path, cut: Path
) -> None:
    last = last_checkpoint(cut)
    assert last is not None
    copy = last.folder.with_name("checkpoint-99")
    shutil.copytree(last.folder, copy)
    content = json.loads((copy / SEAL).read_text())
    (copy / SEAL).write_text(json.dumps({**content, "step": 99}))
    assert read_checkpoint(copy) is not None, "it would be the last one"
    if damage == "unsealed":
        (copy / SEAL).unlink()
    elif damage == "cut":
        (copy / "optimizer.pt").write_bytes((copy / "optimizer.pt").read_bytes()[:-100])
    elif damage == "lost":
        (copy / "rng_state.pth").unlink()
    else:
        (copy / SEAL).write_text((copy / SEAL).read_text()[:-20])
    assert read_checkpoint(copy) is None
    fit(cut)
    assert_same(cut, quiet)


def test_only_the_best_and_the_last_checkpoint_are_kept(fit: Callable[..., ModelTrainer], tmp_path: Path) -> None:
    left_behind(fit, tmp_path, 9)
    found = last_checkpoint(tmp_path)
    assert found is not None
    steps = {int(folder.name.partition("-")[2]) for folder in found.folder.parent.iterdir()}
    assert steps == {found.step, found.best_step}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"learning_rate": 1e-3}, "learning_rate"),
        ({"seed": 1}, "seed"),
        ({"num_train_epochs": 4}, "num_train_epochs"),
        ({"use_crf": False}, "use_crf"),
        ({"layer_decay": 0.5}, "layer_decay"),
    ],
)
def test_other_settings_are_refused(
    given: dict[str, Any], named: str, fit: Callable[..., ModelTrainer], cut: Path
) -> None:
    with pytest.raises(UsageError, match=f"{named} \\(it was .*now "):
        fit(cut, **given)


def test_other_data_are_refused_without_a_word_of_them(
    fit: Callable[..., ModelTrainer], notes: list[Document], cut: Path
) -> None:
    with pytest.raises(UsageError, match="other settings: data: ") as caught:
        fit(cut, train=[replace(notes[0], spans=()), *notes[1:]])
    assert "chest" not in str(caught.value)


def test_what_does_not_touch_the_weights_may_change(fit: Callable[..., ModelTrainer], quiet: Path, cut: Path) -> None:
    fit(cut, also_bin=True, checkpoint_steps=100)
    assert (cut / "pytorch_model.bin").is_file()
    weights, others = (load_file(place / "model.safetensors") for place in (cut, quiet))
    assert all(torch.equal(value, others[name]) for name, value in weights.items())


def test_a_training_that_was_started_with_an_earlier_name_of_an_option_is_resumed(
    fit: Callable[..., ModelTrainer], quiet: Path, cut: Path
) -> None:
    for seal in cut.glob(f"checkpoints/*/{SEAL}"):
        assert '"unfreeze_per_epoch"' in seal.read_text()
        seal.write_text(seal.read_text().replace('"unfreeze_per_epoch"', '"thawed_per_epoch"'))
    fit(cut)
    assert_same(cut, quiet)


def test_without_resume_what_was_left_is_neither_used_nor_lost(fit: Callable[..., ModelTrainer], cut: Path) -> None:
    with pytest.raises(OutputError, match="--resume"):
        fit(cut, resume=False)
    assert last_checkpoint(cut) is not None
    fit(cut, resume=False, overwrite=True)
    assert is_finished(cut)


def test_resuming_where_nothing_was_begun_begins(fit: Callable[..., ModelTrainer], quiet: Path, tmp_path: Path) -> None:
    fit(tmp_path / "plain", resume=False)
    assert_same(tmp_path / "plain", quiet)


def test_the_same_seed_gives_the_same_weights_and_another_one_others(
    fit: Callable[..., ModelTrainer], tmp_path: Path
) -> None:
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        fit(tmp_path / name, seed=seed, num_train_epochs=1)
    assert_same(tmp_path / "one", tmp_path / "two")
    weights = [load_file(tmp_path / name / "model.safetensors")["classifier.weight"] for name in ("one", "three")]
    assert not torch.equal(*weights)


def test_a_finished_training_is_not_begun_again(fit: Callable[..., ModelTrainer], quiet: Path, tmp_path: Path) -> None:
    place = shutil.copytree(quiet, tmp_path / "copy")
    (place / ".checkpoints-deleted").mkdir()  # by a kill
    with pytest.raises(OutputError, match="is finished: there is nothing to resume"):
        fit(place)
    assert not (place / ".checkpoints-deleted").exists()
    with pytest.raises(OutputError, match="already holds a model"):
        fit(place, resume=False)


def test_cut_off_while_checkpoints_are_deleted_it_is_finished(
    fit: Callable[..., ModelTrainer], quiet: Path, tmp_path: Path
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        rename = Path.rename
        patch.setattr(Path, "rename", lambda *given: (rename(*given), patch.setattr(shutil, "rmtree", killed))[0])
        with pytest.raises(Killed):
            fit(tmp_path / "cut")
    assert is_finished(tmp_path / "cut")
    enter(tmp_path / "cut")
    fit(tmp_path / "cut", resume=False, overwrite=True)
    assert not list((tmp_path / "cut").glob(".*")), "what was left is gone"
    assert_same(tmp_path / "cut", quiet)


def test_what_a_kill_left_half_written_is_removed(fit: Callable[..., ModelTrainer], cut: Path) -> None:
    (cut / ".partial-x1").mkdir()
    (cut / ".partial-x1" / "model.safetensors").write_bytes(b"half")
    fit(cut)
    assert not list(cut.glob(".*"))
