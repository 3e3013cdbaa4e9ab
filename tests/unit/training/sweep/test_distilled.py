"""The recipe `best`: what the model learns from, what is left at the end, and what an interruption changes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cardioner.data.documents import Document, Span
from cardioner.data.labels import LabelSet
from cardioner.errors import OutputError, UsageError
from cardioner.model_dir.json_files import read_json
from cardioner.model_dir.layout import MEMBERS
from cardioner.model_dir.verify import verify
from cardioner.training import checkpoints
from cardioner.training.options import Distillation, TrainingOptions
from cardioner.training.sweep import distilled
from cardioner.training.sweep.distilled import DistilledTraining
from cardioner.training.sweep.repeated import RepeatedTraining
from cardioner.training.sweep.trial import Parts
from cardioner.training.trainer import ModelTrainer

LABELS = LabelSet.from_types(("DISEASE",))
OPTIONS = TrainingOptions(precision="float32", device="cpu", training_context=4, checkpoint_steps=1)


class Killed(BaseException):
    """Ends a training where a signal would have."""


def note(number: int) -> Document:
    """A note unlike all others, with one entity."""
    words = ["".join(random.Random(100 * number + word).choices("aeionrst", k=5)) for word in range(10)]
    return Document(f"id{number}", " ".join(words), (Span(0, 5, "DISEASE"),))


PARTS = Parts(*([note(number) for number in part] for part in (range(6), range(6, 8), range(8, 10))))


@pytest.fixture(scope="module")
def arguments(encoder_dir: Callable[[str], Path]) -> dict[str, Any]:
    """Of a tiny tagger with a CRF."""
    tiny = {"max_length": 32, "batch_size": 2, "num_train_epochs": 1, "learning_rate": 5e-3}
    return {"model": encoder_dir("bert"), "use_crf": True, **tiny}


@pytest.fixture
def recipe(arguments: dict[str, Any], tmp_path: Path) -> Callable[..., DistilledTraining]:
    """A training to a directory of the test's own, with some options."""

    def made(**options: Any) -> DistilledTraining:
        return DistilledTraining(
            labels=LABELS, output_dir=tmp_path / "model", arguments=arguments, options=replace(OPTIONS, **options)
        )

    return made


@pytest.fixture(scope="module")
def undisturbed(arguments: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model, trained without an interruption."""
    place = tmp_path_factory.mktemp("undisturbed") / "model"
    DistilledTraining(labels=LABELS, output_dir=place, arguments=arguments, options=OPTIONS).train(PARTS)
    return place


def weights(place: Path) -> bytes:
    return (place / "model.safetensors").read_bytes()


def test_the_model_is_the_student_of_three_seeds(undisturbed: Path, arguments: dict[str, Any], tmp_path: Path) -> None:
    seeds = RepeatedTraining(
        labels=LABELS, output_dir=tmp_path / "seeds", seeds=3, arguments=arguments, options=OPTIONS
    )
    seeds.train(PARTS)
    by_hand = ModelTrainer(
        **{**arguments, "num_train_epochs": 2},
        output_dir=tmp_path / "student",
        options=OPTIONS,
        distillation=Distillation(teachers=tmp_path / "seeds"),
    )
    by_hand.train(PARTS.train, PARTS.test, PARTS.evaluation)
    assert weights(undisturbed) == weights(tmp_path / "student")


def test_a_sound_model_is_left_and_no_member(undisturbed: Path) -> None:
    assert [place.name for place in undisturbed.iterdir() if place.is_dir()] == []
    assert verify(undisturbed).sound
    record = read_json(undisturbed / "training_args.json")
    assert (record["distillation"]["recipe"], len(record["distillation"]["manifests"])) == ("best", 3)
    assert record["scores"].keys() == {"evaluation", "test"}
    assert "Recipe `best`: distilled from 3 teachers" in (undisturbed / "README.md").read_text()


def test_the_members_never_see_the_test_notes(recipe: Callable[..., DistilledTraining], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="train_members"):
        recipe().student()
    summary = recipe().train_members(PARTS)
    assert (summary.scored_on, [member.seed for member in summary.members]) == ("evaluation notes", [0, 1, 2])
    records = [read_json(place) for place in (tmp_path / "model" / MEMBERS).glob("*/training_args.json")]
    assert [record["scores"].keys() for record in records] == [{"evaluation"}] * 3


# Interruptions -------------------------------------------------------------------------------------------------------


def killing(training: int) -> Callable[[str, int, int], None]:
    """Progress that ends the nth training at its second step."""
    begun: list[int] = []

    def progress(stage: str, done: int, total: int) -> None:  # noqa: ARG001 - the contract
        if stage == "training" and done == 1:
            begun.append(1)
        if stage == "training" and done == 2 and len(begun) == training:
            raise Killed

    return progress


@pytest.mark.parametrize("training", [2, 4], ids=["a member", "the model"])
def test_an_interrupted_training_ends_as_if_undisturbed(
    training: int, recipe: Callable[..., DistilledTraining], undisturbed: Path, tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        recipe(progress=killing(training)).train(PARTS)
    with pytest.raises(OutputError, match="--resume"):
        recipe().train(PARTS)
    states: list[str] = []
    recipe(resume=True).train(PARTS, watch=lambda _, state, __: states.append(state))
    assert states.count("kept") == training - 1
    assert weights(tmp_path / "model") == weights(undisturbed)
    assert [place.name for place in (tmp_path / "model").iterdir() if place.is_dir()] == []


def test_what_was_killed_before_the_members_were_deleted_is_resumed(
    recipe: Callable[..., DistilledTraining], undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: Path) -> None:
        raise Killed

    monkeypatch.setattr(distilled, "drop_members", killed)
    with pytest.raises(Killed):
        recipe().train(PARTS)
    monkeypatch.undo()
    assert (tmp_path / "model/config.json").exists()
    written = (tmp_path / "model/model.safetensors").stat().st_mtime_ns
    for _ in range(2):
        with pytest.raises(OutputError, match="nothing to resume"):
            recipe(resume=True).train(PARTS)
    assert not (tmp_path / "model" / MEMBERS).exists()
    assert (tmp_path / "model/model.safetensors").stat().st_mtime_ns == written, "nothing was trained again"
    assert weights(tmp_path / "model") == weights(undisturbed)


def test_members_that_were_being_deleted_are_gone_after_the_next_training(
    recipe: Callable[..., DistilledTraining], arguments: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "model/.members-deleted/seed-0").mkdir(parents=True)
    ModelTrainer(**arguments, label2id=LABELS.label2id, output_dir=tmp_path / "model", options=OPTIONS).train(
        PARTS.train
    )
    assert not (tmp_path / "model/.members-deleted").exists()
    assert checkpoints.is_finished(recipe().output_dir)


# Refusals ------------------------------------------------------------------------------------------------------------


def test_what_cannot_work_is_refused_before_anything_is_trained(
    recipe: Callable[..., DistilledTraining], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="needs evaluation notes"):
        recipe().train(PARTS._replace(evaluation=()))
    with pytest.raises(UsageError, match="leave them out, or the recipe"):
        recipe(attributes_only=True).train(PARTS)
    for wrong in ({"label_smoothing": 0.1}, {"data_key": tmp_path / "model/key"}):
        with pytest.raises(UsageError):
            recipe(**wrong).train(PARTS)
    assert not (tmp_path / "model" / MEMBERS).exists()
    assert not (tmp_path / "model" / "key").exists()


def test_a_folder_of_the_users_is_left_alone(recipe: Callable[..., DistilledTraining], tmp_path: Path) -> None:
    own = tmp_path / "model/members/list.csv"
    own.parent.mkdir(parents=True)
    own.write_text("ours")
    recipe().train(PARTS)
    assert own.read_text() == "ours"


def test_a_hidden_folder_of_the_users_is_left_alone_too(
    recipe: Callable[..., DistilledTraining], arguments: dict[str, Any], tmp_path: Path
) -> None:
    own = tmp_path / "model" / MEMBERS / "list.csv"
    own.parent.mkdir(parents=True)
    own.write_text("ours")
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(OutputError, match="is not of a training"):
            recipe(**options).train(PARTS)
    plain = {**arguments, "label2id": LABELS.label2id, "output_dir": tmp_path / "model"}
    ModelTrainer(**plain, options=replace(OPTIONS, overwrite=True)).train(PARTS.train)
    assert own.read_text() == "ours"


def test_a_model_that_is_there_is_replaced_only_on_request_and_at_the_end(
    recipe: Callable[..., DistilledTraining], undisturbed: Path, arguments: dict[str, Any], tmp_path: Path
) -> None:
    ModelTrainer(**arguments, label2id=LABELS.label2id, output_dir=tmp_path / "model", options=OPTIONS).train(
        PARTS.train
    )
    before = weights(tmp_path / "model")
    with pytest.raises(OutputError, match="overwrite"):
        recipe().train(PARTS)
    with pytest.raises(Killed):
        recipe(overwrite=True, progress=killing(4)).train(PARTS)
    assert weights(tmp_path / "model") == before
    recipe(overwrite=True).train(PARTS)
    assert weights(tmp_path / "model") == weights(undisturbed)


def test_one_training_is_not_resumed_as_the_other(
    recipe: Callable[..., DistilledTraining], arguments: dict[str, Any], tmp_path: Path
) -> None:
    plain = {**arguments, "label2id": LABELS.label2id, "output_dir": tmp_path / "model"}
    with pytest.raises(Killed):
        recipe(progress=killing(2)).train(PARTS)
    for options in (replace(OPTIONS, resume=True), OPTIONS):
        with pytest.raises(OutputError, match="--recipe best --resume"):
            ModelTrainer(**plain, options=options).train(PARTS.train)
    seeds = RepeatedTraining(labels=LABELS, output_dir=plain["output_dir"], seeds=2, arguments=arguments)
    with pytest.raises(OutputError, match="--recipe best --resume"):
        seeds.train(PARTS)
    ModelTrainer(**plain, options=replace(OPTIONS, overwrite=True)).train(PARTS.train)
    assert not (tmp_path / "model" / MEMBERS).exists(), "as they were to be replaced"
    plain["output_dir"] = tmp_path / "plain"
    with pytest.raises(Killed):
        ModelTrainer(**plain, options=replace(OPTIONS, progress=killing(1))).train(PARTS.train)
    with pytest.raises(UsageError, match="started without the recipe best"):
        replace(recipe(resume=True), output_dir=tmp_path / "plain").train(PARTS)
