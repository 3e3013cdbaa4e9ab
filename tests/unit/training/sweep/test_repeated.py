"""Cross-validation and several seeds: who learns from what, what is scored once, and what a second run keeps."""

from __future__ import annotations

import gc
import json
import random
import shutil
import statistics
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cardioner.data.documents import Document, Span
from cardioner.data.labels import LabelSet
from cardioner.errors import CardioNERError, DataError, ModelError, OutputError, UsageError
from cardioner.evaluation import Scores, score
from cardioner.model_dir.layout import SUMMARY
from cardioner.prediction.directories import model_directories
from cardioner.prediction.predictor import Predictor
from cardioner.training.options import TrainingOptions
from cardioner.training.run_metadata import TrainingResult
from cardioner.training.sweep.repeated import RepeatedTraining
from cardioner.training.sweep.trial import Parts
from cardioner.training.trainer import ModelTrainer

CANARY = "zyxwvcanary"
TYPES = ("DISEASE", "MEDICATION")


class Killed(BaseException):
    """Ends a training where a signal would have."""


def note(number: int, types: tuple[str, ...] = TYPES) -> Document:
    """A note unlike all others, with one entity of each type."""
    chance = random.Random(number)
    words = ["".join(chance.choices("aeionrst", k=5)) for _ in range(12)]
    text, spans = f"{CANARY} ", []
    for label, word in zip(types, words, strict=False):
        spans.append(Span(len(text), len(text) + len(word), label))
        text += f"{word} "
    return Document(f"id{number}", text + " ".join(words[len(types) :]), tuple(spans))


NOTES = [note(number) for number in range(6)]
HELD_OUT = [note(number) for number in range(100, 102)]


def plan_of(output_dir: Path, encoder: Path, **given: Any) -> RepeatedTraining:
    """Trainings of a tiny model for one epoch."""
    options = TrainingOptions(precision="float32", device="cpu", training_context=4)
    arguments = {"max_length": 32, "batch_size": 2, "num_train_epochs": 1, "learning_rate": 5e-3}
    known = set(TrainingOptions.__dataclass_fields__)
    return RepeatedTraining(
        labels=LabelSet.from_types(TYPES),
        output_dir=output_dir,
        folds=given.pop("folds", None),
        seeds=given.pop("seeds", None),
        options=replace(options, **{name: given.pop(name) for name in known & given.keys()}),
        arguments={"model": encoder, **arguments, **given},
    )


@pytest.fixture
def repeats(encoder_dir: Callable[[str], Path], tmp_path: Path) -> Callable[..., RepeatedTraining]:
    """Plans in a folder of the test's own."""
    return lambda place="out", **given: plan_of(tmp_path / place, encoder_dir("bert"), **given)


@pytest.fixture(scope="module")
def begun(encoder_dir: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folds, of which the second was interrupted."""
    place = tmp_path_factory.mktemp("begun") / "out"
    interrupted(plan_of(place, encoder_dir("bert"), folds=2), "training", 2)
    return place


@pytest.fixture(scope="module")
def finished(encoder_dir: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folds with a CRF."""
    place = tmp_path_factory.mktemp("finished") / "out"
    plan_of(place, encoder_dir("bert"), folds=2, use_crf=True).train(Parts(NOTES, HELD_OUT))
    return place


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Parts]]:
    """The name and the data of each training, in their order."""
    calls: list[tuple[str, Parts]] = []
    original = ModelTrainer.train

    def train(self: ModelTrainer, train_data: Any, test_data: Any = None, eval_data: Any = None) -> TrainingResult:
        calls.append((self.output_dir.name, Parts(train_data, eval_data, test_data)))
        return original(self, train_data, test_data, eval_data)

    monkeypatch.setattr(ModelTrainer, "train", train)
    return calls


def ids(documents: Any) -> list[str]:
    return sorted(document.id for document in documents)


def test_every_document_is_scored_once_by_the_model_that_has_not_seen_it(
    repeats: Callable[..., RepeatedTraining], trained: list[tuple[str, Parts]], tmp_path: Path
) -> None:
    summary = repeats(folds=3).train(Parts(NOTES))
    assert [name for name, _ in trained] == ["fold-1", "fold-2", "fold-3"] == [one.name for one in summary.members]
    assert ids(document for _, part in trained for document in part.test) == ids(NOTES)
    for member, (name, part) in zip(summary.members, trained, strict=True):
        assert ids([*part.train, *part.test]) == ids(NOTES)
        assert member.learned == len(part.train)
        tagged = Predictor.from_pretrained(tmp_path / "out" / name, device="cpu").predict(part.test)
        assert member.scores == score(part.test, list(tagged))
    (pooled,) = summary.pooled.values()
    assert pooled.documents == len(NOTES)
    assert pooled.strict.micro.gold == sum(len(document.spans) for document in NOTES)


def test_folds_and_seeds_multiply_on_the_same_folds(
    repeats: Callable[..., RepeatedTraining], trained: list[tuple[str, Parts]]
) -> None:
    summary = repeats(folds=2, seeds=2, seed=7).train(Parts(NOTES))
    assert [(one.name, one.fold, one.seed) for one in summary.members] == [
        ("fold-1-seed-7", 1, 7),
        ("fold-2-seed-7", 2, 7),
        ("fold-1-seed-8", 1, 8),
        ("fold-2-seed-8", 2, 8),
    ]
    parts = [part for _, part in trained]
    assert parts[:2] == parts[2:]
    assert list(summary.pooled) == [7, 8]
    assert all(scores.documents == len(NOTES) for scores in summary.pooled.values())


def test_a_seed_is_the_training_with_that_seed(repeats: Callable[..., RepeatedTraining], tmp_path: Path) -> None:
    plan = repeats(seeds=2, seed=3)
    summary = plan.train(Parts(NOTES, HELD_OUT))
    for member in summary.members[1:]:
        alone = ModelTrainer(
            label2id=plan.labels.label2id,
            output_dir=tmp_path / "alone" / member.name,
            options=replace(plan.options, seed=member.seed),
            **plan.arguments,
        )
        assert alone.train(NOTES, eval_data=HELD_OUT).evaluation == member.scores
        weights = [tmp_path / place / member.name / "model.safetensors" for place in ("out", "alone")]
        assert weights[0].read_bytes() == weights[1].read_bytes()
    assert summary.scored_on == "evaluation notes"
    assert [one.epoch for one in summary.members] == [1, 1]
    assert (tmp_path / "out/seed-3/model.safetensors").read_bytes() != (
        tmp_path / "out/seed-4/model.safetensors"
    ).read_bytes()


def test_mean_and_sample_deviation_are_those_of_the_members(
    repeats: Callable[..., RepeatedTraining], tmp_path: Path
) -> None:
    summary = repeats(seeds=2).train(Parts(NOTES, (), HELD_OUT))
    own = [one.scores.strict.micro.recall for one in summary.members if one.scores is not None]
    assert summary.scored_on == "test notes"
    assert summary.mean["recall"] == pytest.approx(sum(own) / 2)
    assert summary.deviation is not None
    assert summary.deviation["recall"] == pytest.approx(statistics.stdev(own))
    assert summary.pooled == {}
    written = json.loads((tmp_path / "out" / SUMMARY).read_text())
    assert written == json.loads(json.dumps(summary.to_dict()))
    assert Scores.from_dict(written["members"][1]["scores"]) == summary.members[1].scores


def test_one_member_has_no_deviation(repeats: Callable[..., RepeatedTraining]) -> None:
    assert repeats(seeds=1).train(Parts(NOTES, HELD_OUT)).deviation is None


def test_the_summary_holds_no_text_and_no_id(finished: Path) -> None:
    written = (finished / SUMMARY).read_text()
    for document in (*NOTES, *HELD_OUT):
        assert document.id not in written
        assert not [word for word in document.text.split() if word in written]
    assert str(finished) not in written


# Going on ------------------------------------------------------------------------------------------------------------


def killing(stage: str, member: int, begun: list[int], *, at: int) -> Callable[[str, int, int], None]:
    """Progress that ends the training of the nth member in a stage, once so much of it is done."""

    def progress(now: str, done: int, total: int) -> None:  # noqa: ARG001 - the contract
        if now == stage and len(begun) == member and done >= at:
            raise Killed

    return progress


def interrupted(plan: RepeatedTraining, stage: str, member: int, *, at: int = 0) -> None:
    """Begin, and be killed in the nth member."""
    begun: list[int] = []

    def watch(_: Any, state: str, __: Any) -> None:
        if state == "started":
            begun.append(1)

    options = replace(plan.options, progress=killing(stage, member, begun, at=at))
    with pytest.raises(Killed):
        replace(plan, options=options).train(Parts(NOTES), watch=watch)


def test_finished_members_are_kept_and_the_interrupted_one_ends_as_if_undisturbed(
    repeats: Callable[..., RepeatedTraining], trained: list[tuple[str, Parts]], tmp_path: Path
) -> None:
    whole = repeats("whole", folds=2, num_train_epochs=2, checkpoint_steps=2)
    undisturbed = whole.train(Parts(NOTES))
    plan = replace(whole, output_dir=tmp_path / "out")
    interrupted(plan, "training", 2, at=3)
    assert list((tmp_path / "out/fold-2/checkpoints").glob("*/config.json"))
    before = (tmp_path / "out/fold-1/model.safetensors").stat().st_mtime_ns
    (tmp_path / "out/fold-1/.checkpoints-deleted").mkdir()  # by a kill
    trained.clear()
    told: list[tuple[str, str]] = []
    resumed = replace(plan, options=replace(plan.options, resume=True)).train(
        Parts(NOTES), watch=lambda member, state, _: told.append((member.name, state))
    )
    assert [name for name, _ in trained] == ["fold-2"]
    assert told == [("fold-1", "kept"), ("fold-2", "started"), ("fold-2", "finished")]
    assert (tmp_path / "out/fold-1/model.safetensors").stat().st_mtime_ns == before
    assert resumed == undisturbed
    assert not (tmp_path / "out/fold-1/.checkpoints-deleted").exists()
    for fold in (1, 2):
        weights = [tmp_path / place / f"fold-{fold}" / "model.safetensors" for place in ("whole", "out")]
        assert weights[0].read_bytes() == weights[1].read_bytes()


def test_nothing_is_trained_twice_and_more_seeds_may_follow(
    repeats: Callable[..., RepeatedTraining], trained: list[tuple[str, Parts]]
) -> None:
    first = repeats(seeds=2, unfreeze_per_epoch=1, use_crf=True, class_weights="balanced").train(Parts(NOTES, HELD_OUT))
    again = {"unfreeze_per_epoch": 1, "use_crf": True, "class_weights": "balanced", "resume": True}
    assert repeats(seeds=2, **again).train(Parts(NOTES, HELD_OUT)) == first
    assert len(trained) == 2
    more = repeats(seeds=3, **again).train(Parts(NOTES, HELD_OUT))
    assert more.members[:2] == first.members
    assert [name for name, _ in trained] == ["seed-0", "seed-1", "seed-2"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"batch_size": 3}, "batch_size (it was 2, now 3)"),
        ({"warmup": 0.5}, "warmup (it was 0.1, now 0.5)"),
        ({"folds": 3}, "folds (it was 2, now 3)"),
        ({"seed": 1}, "seed (it was 0, now 1)"),
    ],
)
def test_other_settings_are_refused(
    given: dict[str, Any],
    said: str,
    begun: Path,
    repeats: Callable[..., RepeatedTraining],
    trained: list[tuple[str, Parts]],
    tmp_path: Path,
) -> None:
    shutil.copytree(begun, tmp_path / "out")
    with pytest.raises(UsageError, match="started with other settings") as caught:
        repeats(**{"folds": 2, "resume": True, **given}).train(Parts(NOTES))
    assert said in str(caught.value)
    assert not trained


def test_other_data_are_refused_without_a_word_of_them(
    begun: Path, repeats: Callable[..., RepeatedTraining], tmp_path: Path
) -> None:
    shutil.copytree(begun, tmp_path / "out")
    changed = [*NOTES[:-1], NOTES[-1].with_spans(NOTES[-1].spans[:1])]
    for notes in (Parts(changed), Parts(NOTES, HELD_OUT), Parts([*NOTES, note(50)])):
        with pytest.raises(UsageError, match="other settings: data: ") as caught:
            repeats(folds=2, resume=True).train(notes)
        assert CANARY not in str(caught.value)


def test_a_member_that_another_training_replaced_is_not_taken(
    finished: Path, repeats: Callable[..., RepeatedTraining], tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "out")
    plan = repeats(folds=2, use_crf=True, resume=True)
    record = tmp_path / "out/fold-1/training_args.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps({**content, "batch_size": 5}))
    with pytest.raises(UsageError, match="batch_size"):
        plan.train(Parts(NOTES, HELD_OUT))
    record.write_text(json.dumps({**content, "scores": {}}))
    with pytest.raises(ModelError, match="lacks the scores"):
        plan.train(Parts(NOTES, HELD_OUT))


def test_what_is_there_is_only_replaced_on_request(
    repeats: Callable[..., RepeatedTraining], trained: list[tuple[str, Parts]], tmp_path: Path
) -> None:
    interrupted(repeats(folds=2, checkpoint_steps=1), "scoring", 2)
    with pytest.raises(OutputError, match="--resume"):
        repeats(folds=2).train(Parts(NOTES))
    assert (tmp_path / "out/fold-1/config.json").exists()
    assert (tmp_path / "out/fold-2/checkpoints").exists()
    interrupted(repeats(folds=2, overwrite=True, batch_size=3), "training", 1)
    trained.clear()
    repeats(folds=2, resume=True, batch_size=3).train(Parts(NOTES))
    assert [name for name, _ in trained] == ["fold-1", "fold-2"]
    records = [json.loads((tmp_path / f"out/fold-{fold}/training_args.json").read_text()) for fold in (1, 2)]
    assert [record["batch_size"] for record in records] == [3, 3]


def test_a_folder_of_something_else_is_refused(
    repeats: Callable[..., RepeatedTraining], tmp_path: Path, encoder_dir: Callable[[str], Path]
) -> None:
    shutil.copytree(encoder_dir("bert"), tmp_path / "model")
    with pytest.raises(OutputError, match="holds a model"):
        repeats("model", folds=2, overwrite=True).train(Parts(NOTES))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / SUMMARY).write_text('{"mine": 1}')
    for wish in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(OutputError, match="is not of a sweep"):
            repeats("other", folds=2, **wish).train(Parts(NOTES))
    assert (tmp_path / "other" / SUMMARY).read_text() == '{"mine": 1}'


# What cannot be done -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "notes", "error", "said"),
    [
        ({"folds": 7}, Parts(NOTES), DataError, "at least 7 groups of documents"),
        ({"folds": 1}, Parts(NOTES), UsageError, "2 folds or more"),
        ({}, Parts(NOTES, HELD_OUT), UsageError, "give folds, seeds, or both"),
        ({"seeds": 0}, Parts(NOTES, HELD_OUT), UsageError, "1 seed or more"),
        ({"folds": 2}, Parts(NOTES, (), HELD_OUT), UsageError, "leave the test notes out"),
        ({"seeds": 2}, Parts(NOTES), UsageError, "give test or evaluation notes"),
        (
            {"folds": 3},
            Parts([*(note(number, TYPES[:1]) for number in range(5)), note(5)]),
            DataError,
            "no entity of the type MEDICATION",
        ),
        ({"folds": 2}, Parts([*NOTES, NOTES[0]]), DataError, "each document id once"),
        ({"seeds": 2, "seed": 2**32 - 1}, Parts(NOTES, HELD_OUT), UsageError, "seed"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_trained(
    given: dict[str, int],
    notes: Parts,
    error: type[CardioNERError],
    said: str,
    repeats: Callable[..., RepeatedTraining],
    trained: list[tuple[str, Parts]],
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=said) as caught:
        repeats(**given).train(notes)
    assert CANARY not in str(caught.value)
    assert not trained
    assert not (tmp_path / "out").exists()


def test_nothing_is_kept_of_a_member_when_the_next_one_begins(
    repeats: Callable[..., RepeatedTraining], monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[Any] = []
    alive: list[int] = []
    original = ModelTrainer.__init__

    def build(self: ModelTrainer, *arguments: Any, **keywords: Any) -> None:
        alive.append(sum(reference() is not None for reference in models))
        original(self, *arguments, **keywords)
        models.append(weakref.ref(self.model))

    monkeypatch.setattr(ModelTrainer, "__init__", build)
    gc.disable()
    try:
        repeats(folds=2).train(Parts(NOTES))
    finally:
        gc.enable()
    assert alive == [0, 0]


# The members as one --------------------------------------------------------------------------------------------------


def spans_of(predictor: Predictor) -> list[Any]:
    return [document.spans for document in predictor.predict(HELD_OUT)]


def test_a_folder_of_members_predicts_as_all_of_them_wherever_it_lies(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "moved")
    members = sorted(path.parent for path in (tmp_path / "moved").glob("*/config.json"))
    assert len(members) == 2
    together = Predictor.from_pretrained(tmp_path / "moved", device="cpu")
    one_by_one = Predictor.from_pretrained(members, device="cpu")
    assert Counter(model_directories(tmp_path / "moved")) == Counter(members)
    assert len(together.model.members) == 2
    assert spans_of(together) == spans_of(one_by_one)
    with_another = Predictor.from_pretrained([tmp_path / "moved", members[0]], device="cpu")
    assert len(with_another.model.members) == 3


def test_a_model_directory_stands_for_itself_whatever_else_it_holds(finished: Path, tmp_path: Path) -> None:
    member = shutil.copytree(finished / "fold-1", tmp_path / "fold-1")
    (member / SUMMARY).write_text("{}")
    assert model_directories(str(member)) == [member]
    assert model_directories([tmp_path / "nothing"]) == [tmp_path / "nothing"]


def test_members_that_are_not_all_there_are_refused(begun: Path, finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="1 of 2 models are finished"):
        Predictor.from_pretrained(begun, device="cpu")
    shutil.copytree(finished, tmp_path / "out", ignore=shutil.ignore_patterns("fold-2"))
    with pytest.raises(ModelError, match="fold-2"):
        Predictor.from_pretrained(tmp_path / "out", device="cpu")


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "[]",
        "cut {",
        '{"complete": true, "members": []}',
        '{"complete": true, "members": [3]}',
        '{"complete": true, "members": [{"name": "../elsewhere"}]}',
        '{"complete": true, "members": [{"name": "/etc"}]}',
        '{"complete": true, "members": [{"name": ".."}]}',
    ],
)
def test_a_summary_of_something_else_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / SUMMARY).write_text(content)
    with pytest.raises(ModelError, match=r"summary\.json names no models"):
        model_directories(tmp_path)
