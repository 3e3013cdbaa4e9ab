"""An ablation around processes that a test plays, and the real processes without a model in them."""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cardioner.data.documents import Document, Span
from cardioner.data.labels import LabelSet
from cardioner.errors import DataError, OutputError, UsageError
from cardioner.evaluation import score
from cardioner.evaluation.comparison import compare_pairs
from cardioner.evaluation.intervals import bootstrap
from cardioner.evaluation.pairing import pair_documents
from cardioner.training.options import TrainingOptions
from cardioner.training.sweep import process as processes
from cardioner.training.sweep.ablation import REPORT, Plan, ablate
from cardioner.training.sweep.process import Cost, Job, Message, Problem, Step, Tagged, peak_memory, run_apart
from cardioner.training.sweep.recipes import ARGMAX, RECIPES, VITERBI, recipes_named
from cardioner.training.sweep.trial import Parts

SECRET = "zyxwvcanary"
LABELS = LabelSet.from_types(["DISEASE", "DRUG"])


def note(number: int, *labels: str) -> Document:
    """A note whose name, like its text, no output may hold."""
    spans = tuple(Span(index * 4, index * 4 + 3, label) for index, label in enumerate(labels))
    return Document(f"{SECRET}-{number}", f"abc def ghi {SECRET}", spans)


TRAIN = [note(0, "DISEASE"), note(1, "DRUG")]
DEV = [note(2, "DRUG"), note(3)]
TEST = [note(4, "DISEASE", "DRUG"), note(5, "DRUG"), note(6), note(7, "DISEASE", "DISEASE")]
COST = Cost(seconds=1.5, memory=2**20, device_memory=None, best_epoch=1)

Plans = Callable[..., Plan]


@pytest.fixture
def plan(tmp_path: Path) -> Plans:
    """A plan with a few notes and samples; anything may be replaced."""

    def build(**changes: Any) -> Plan:
        parts = Parts(TRAIN, DEV, TEST)._replace(
            **{name: changes.pop(name) for name in Parts._fields if name in changes}
        )
        options = TrainingOptions(seed=changes.pop("seed", 3))
        given: dict[str, Any] = {"output": tmp_path / "out", "parts": parts, "labels": LABELS, "samples": 50}
        return Plan(**{**given, "options": options, **changes})

    return build


def found_by(recipe: str, decoder: str) -> list[Document]:
    """The test notes as a recipe tags them: each loses another span, and decoders find one more."""
    drop = list(RECIPES).index(recipe)
    tagged = [
        document.with_spans(document.spans[:1] if i == drop else document.spans) for i, document in enumerate(TEST)
    ]
    return tagged if decoder == VITERBI else [*tagged[:2], tagged[2].with_spans([Span(4, 7, "DRUG")]), tagged[3]]


def write_model(place: Path) -> None:
    """What makes a folder look like a model."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.json").write_text("{}")


class Stage:
    """Plays the processes: each recipe trains and tags, unless it was told to fail."""

    def __init__(self, **failing: Problem) -> None:
        self.failing = failing
        self.jobs: list[Job] = []

    def __call__(self, job: Job, receive: Callable[[Message], None]) -> None:
        self.jobs.append(job)
        name = job.trial.name
        receive(Step("training", 1, 2, "loss 0.2130"))
        if name in self.failing:
            receive(self.failing[name])
            return
        if not job.trained:
            write_model(job.folder / name)
            receive(COST)
        spans = {
            decoder: {document.id: document.spans for document in found_by(name, decoder)} for decoder in job.decoders
        }
        receive(Tagged(spans, dict.fromkeys(job.decoders, 10.0), 0))


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Stage]:
    """Put a stage in the place of real processes."""

    def build(**failing: Problem) -> Stage:
        made = Stage(**failing)
        monkeypatch.setattr("cardioner.training.sweep.ablation.run_apart", made)
        return made

    return build


@pytest.mark.parametrize("names", [[], ["crf", "crf"], ["simple", "lstm"], [""]])
def test_recipes_that_are_unknown_or_repeated_are_refused(names: list[str]) -> None:
    with pytest.raises(UsageError, match="simple, mlp, crf, mlp-crf"):
        recipes_named(names)


def test_recipes_come_in_the_order_in_which_they_are_named() -> None:
    assert [recipe.name for recipe in recipes_named(["crf", "simple"])] == ["crf", "simple"]
    assert {recipe.name: (recipe.use_crf, recipe.mlp) for recipe in recipes_named(list(RECIPES))} == {
        "simple": (False, False),
        "mlp": (False, True),
        "crf": (True, False),
        "mlp-crf": (True, True),
    }


def test_without_a_crf_there_is_no_viterbi() -> None:
    assert [recipe.decoders for recipe in RECIPES.values()] == [(ARGMAX,), (ARGMAX,), *[(VITERBI, ARGMAX)] * 2]


def test_a_plan_without_held_out_notes_or_with_an_id_twice_is_refused(plan: Plans) -> None:
    with pytest.raises(UsageError, match="held-out notes"):
        plan(evaluation=(), test=())
    with pytest.raises(DataError, match=f"{SECRET}-5"):
        plan(test=[*TEST, TEST[1]])


def test_evaluation_notes_are_scored_where_there_are_no_test_notes_and_this_flatters(plan: Plans) -> None:
    assert (plan().held_out, plan().flatters) == (TEST, False)
    assert (plan(test=()).held_out, plan(test=()).flatters) == (DEV, True)


def test_settings_name_an_encoder_but_not_where_it_lies(plan: Plans, tmp_path: Path) -> None:
    (tmp_path / "encoder").mkdir()
    described = plan(arguments={"model": str(tmp_path / "encoder"), "batch_size": 2}).settings()
    assert (described["model"], described["batch_size"], described["seed"]) == ("encoder", 2, 3)
    assert str(tmp_path) not in json.dumps(described)


def test_figures_are_those_of_the_evaluation_and_of_the_comparison(plan: Plans, stage: Callable[..., Stage]) -> None:
    stage()
    found = ablate(recipes_named(["simple", "crf"]), plan())
    for outcome in found.outcomes:
        assert set(outcome.decodings) == set(outcome.recipe.decoders)
        for decoder, decoding in outcome.decodings.items():
            tagged = found_by(outcome.recipe.name, decoder)
            assert decoding.scores == score(TEST, tagged)
            assert decoding.intervals == bootstrap(pair_documents(TEST, tagged).pairs, samples=50, seed=3)
    simple, crf = found.outcomes
    assert simple.difference is None
    sides = [pair_documents(TEST, found_by(name, way)).pairs for name, way in (("crf", VITERBI), ("simple", ARGMAX))]
    assert crf.difference == compare_pairs(*sides, samples=50, seed=3)
    assert crf.own is crf.decodings[VITERBI]


def test_a_note_that_could_not_be_tagged_counts_as_one_in_which_nothing_was_found(
    plan: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(_: Job, receive: Callable[[Message], None]) -> None:
        receive(COST)
        receive(Tagged({ARGMAX: {document.id: document.spans for document in TEST[1:]}}, {ARGMAX: 1.0}, 1))

    monkeypatch.setattr("cardioner.training.sweep.ablation.run_apart", run)
    (outcome,) = ablate(recipes_named(["simple"]), plan()).outcomes
    assert outcome.untagged == 1
    assert outcome.own.scores.strict.micro.false_negatives == len(TEST[0].spans)


def test_the_report_holds_all_figures_and_no_text_or_id(plan: Plans, stage: Callable[..., Stage]) -> None:
    stage()
    found = ablate(recipes_named(list(RECIPES)), plan())
    written = [path for path in (plan().output).iterdir() if path.is_file()]
    assert sorted(path.name for path in written) == ["ablation-state.json", "ablation.json"]
    assert all(SECRET not in path.read_text() for path in written)
    assert json.loads((plan().output / REPORT).read_text()) == json.loads(json.dumps(found.to_dict()))
    assert found.to_dict()["order"] == list(RECIPES)
    assert found.to_dict()["recipes"]["crf"]["disk"] == len("{}")


def test_a_recipe_that_fails_does_not_stop_the_others_and_the_next_one_is_the_first(
    plan: Plans, stage: Callable[..., Stage]
) -> None:
    stage(simple=Problem("the disk is full", 5))
    found = ablate(recipes_named(["simple", "mlp", "crf"]), plan())
    assert [(failure.recipe.name, failure.reason, failure.exit_code) for failure in found.failures] == [
        ("simple", "the disk is full", 5)
    ]
    assert [outcome.difference is None for outcome in found.outcomes] == [True, False]
    assert json.loads((plan().output / REPORT).read_text())["failures"] == {"simple": "the disk is full"}


def test_early_stopping_without_evaluation_notes_is_refused_before_anything_is_trained(plan: Plans) -> None:
    with pytest.raises(UsageError, match="early_stopping needs evaluation data"):
        plan(evaluation=(), options=TrainingOptions(early_stopping=1))


def test_progress_names_the_recipe(plan: Plans, stage: Callable[..., Stage]) -> None:
    stage()
    told: list[tuple[Any, ...]] = []
    ablate(recipes_named(["mlp"]), plan(), progress=lambda *step, detail="": told.append((*step, detail)))
    assert told == [("recipes", 0, 1, ""), ("mlp: training", 1, 2, "loss 0.2130"), ("recipes", 1, 1, "")]


# Going on ------------------------------------------------------------------------------------------------------------


def test_what_was_trained_is_only_measured_when_an_ablation_is_resumed(
    plan: Plans, stage: Callable[..., Stage]
) -> None:
    stage(crf=Problem("killed", 6))
    before = ablate(recipes_named(["simple", "crf"]), plan())
    (plan().output / "crf" / "checkpoints").mkdir(parents=True)
    again = stage()
    after = ablate(recipes_named(["simple", "crf", "mlp"]), plan(), resume=True)
    assert [(job.trial.name, job.trained, job.trial.options.resume) for job in again.jobs] == [
        ("simple", True, False),
        ("crf", False, True),
        ("mlp", False, False),
    ]
    assert not any(job.trial.options.resume and job.trial.options.overwrite for job in again.jobs), (
        "which exclude each other"
    )
    assert after.outcomes[0] == before.outcomes[0]
    assert not after.failures


def test_a_recipe_that_is_added_takes_no_place_that_is_taken(plan: Plans, stage: Callable[..., Stage]) -> None:
    stage()
    ablate(recipes_named(["simple"]), plan())
    write_model(plan().output / "mlp")
    again = stage()
    with pytest.raises(OutputError, match="already holds mlp: choose another folder, or"):
        ablate(recipes_named(["simple", "mlp"]), plan(), resume=True)
    assert again.jobs == []


def test_a_model_that_is_gone_is_trained_again(plan: Plans, stage: Callable[..., Stage]) -> None:
    stage()
    ablate(recipes_named(["simple"]), plan())
    (plan().output / "simple" / "config.json").unlink()
    again = stage()
    ablate(recipes_named(["simple"]), plan(), resume=True)
    assert [job.trained for job in again.jobs] == [False]


def test_resuming_what_never_began_begins_it(plan: Plans, stage: Callable[..., Stage]) -> None:
    begun = stage()
    ablate(recipes_named(["simple"]), plan(), resume=True)
    assert [(job.trained, job.trial.options.resume) for job in begun.jobs] == [(False, False)]


@pytest.mark.parametrize(
    ("change", "named"),
    [({"seed": 4}, r"seed \(it was 3, now 4\)"), ({"hidden_layers": (8,)}, "hidden_layers"), ({"train": DEV}, "data")],
)
def test_an_ablation_of_something_else_is_not_resumed(
    change: dict[str, Any], named: str, plan: Plans, stage: Callable[..., Stage]
) -> None:
    stage()
    ablate(recipes_named(["simple"]), plan())
    with pytest.raises(UsageError, match=f"other settings: {named}"):
        ablate(recipes_named(["simple"]), plan(**change), resume=True)


def test_a_state_that_is_damaged_is_named(plan: Plans, stage: Callable[..., Stage]) -> None:
    stage()
    ablate(recipes_named(["simple"]), plan())
    (plan().output / "ablation-state.json").write_text('{"request":')
    with pytest.raises(OutputError, match=r"ablation-state\.json"):
        ablate(recipes_named(["simple"]), plan(), resume=True)


def test_models_are_only_replaced_on_request_and_never_gone_on_with_later(
    plan: Plans, stage: Callable[..., Stage]
) -> None:
    stage()
    ablate(recipes_named(["simple", "crf"]), plan())
    with pytest.raises(OutputError, match="already holds crf, simple"):
        ablate(recipes_named(["simple"]), plan())
    left = plan().output / "crf" / "checkpoints" / "checkpoint-1"
    left.mkdir(parents=True)
    afresh = stage(simple=Problem("killed", 6), crf=Problem("killed", 6))
    ablate(recipes_named(["simple", "crf"]), plan(), overwrite=True)
    assert [(job.trained, job.trial.options.resume, job.trial.options.overwrite) for job in afresh.jobs] == [
        (False, False, True)
    ] * 2
    assert not left.exists()
    again = stage()
    ablate(recipes_named(["simple", "crf"]), plan(), resume=True)
    assert [job.trained for job in again.jobs] == [False, False]


def test_resuming_and_beginning_afresh_exclude_each_other(plan: Plans) -> None:
    with pytest.raises(UsageError, match="one of them"):
        ablate(recipes_named(["simple"]), plan(), resume=True, overwrite=True)


def test_held_out_types_that_nothing_was_learned_of_are_refused_before_anything_is_trained(plan: Plans) -> None:
    with pytest.raises(DataError, match="FINDING"):
        ablate(recipes_named(["simple"]), plan(test=[note(8, "FINDING")]))
    assert not plan().output.exists()


# Processes -----------------------------------------------------------------------------------------------------------


def job_that_first(plan: Plans, prepare: Any) -> Job:
    """A job whose process never comes to its model."""
    return Job(
        trial=plan().trial(RECIPES["simple"]),
        folder=plan().output,
        held_out=TEST,
        decoders=(ARGMAX,),
        trained=True,
        prepare=prepare,
    )


def problem_of(job: Job) -> Problem:
    told: list[Message] = []
    run_apart(job, told.append)
    (problem,) = told
    assert isinstance(problem, Problem)
    return problem


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (functools.partial(os._exit, 3), "its process ended with code 3"),
        (functools.partial(signal.raise_signal, signal.SIGKILL), "its process was ended by SIGKILL: is there enough"),
        (functools.partial(int, SECRET), "ValueError at process.py:"),
    ],
    ids=["exit", "kill", "error"],
)
def test_whatever_ends_a_process_is_told_without_a_word_of_a_note(prepare: Any, said: str, plan: Plans) -> None:
    problem = problem_of(job_that_first(plan, prepare))
    assert problem.reason.startswith(said)
    assert problem.exit_code == 6
    assert SECRET not in problem.reason


def test_a_model_that_is_not_there_is_the_users_error(plan: Plans) -> None:
    problem = problem_of(job_that_first(plan, None))
    assert problem.exit_code == 4
    assert "simple" in problem.reason


def test_ctrl_c_ends_the_process_too(plan: Plans) -> None:
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    of_interrupts = signal.getsignal(signal.SIGINT)  # a shell ignores them in what it starts in the background
    began = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 2)
        with pytest.raises(KeyboardInterrupt):
            run_apart(job_that_first(plan, functools.partial(time.sleep, 300)), lambda _: None)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert multiprocessing.active_children() == []
    assert time.monotonic() - began < 100
    assert signal.getsignal(signal.SIGINT) is of_interrupts


ORPHAN = """
import functools, os, signal, sys, threading, time
from pathlib import Path
from cardioner.training.sweep.process import Job, run_apart
from cardioner.training.sweep.trial import Parts, Trial
from cardioner.data.documents import Document
from cardioner.data.labels import LabelSet

if __name__ == "__main__":
    notes = [Document("a", "text")]
    trial = Trial(name="simple", labels=LabelSet.from_types(["X"]), parts=Parts(notes))
    sleep = functools.partial(time.sleep, 300)
    job = Job(trial=trial, folder=Path("nowhere"), held_out=notes, decoders=(), trained=True, prepare=sleep)
    threading.Timer(2, os.kill, (os.getpid(), signal.SIGKILL)).start()
    run_apart(job, print)
"""


def test_a_process_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    (tmp_path / "orphan.py").write_text(ORPHAN)
    # Both processes hold the other end of this pipe: it is closed when the last one is gone.
    ended = subprocess.run([sys.executable, tmp_path / "orphan.py"], capture_output=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, b"")


MARK = "from cardioner.training.sweep.process import peak_memory; {}; print(peak_memory())"


def mark_after(statement: str) -> int:
    """The peak memory that a new process tells after a statement."""
    command = [sys.executable, "-c", MARK.format(statement)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_peak_memory_is_of_the_process_alone_and_counts_what_was_given_back() -> None:
    held = bytearray(b"x") * (200 << 20)  # what a process inherits from its parent must not count
    plain = mark_after("pass")
    assert plain < len(held)
    assert mark_after("bytearray(b'x') * (100 << 20)") - plain > 90 << 20


def test_where_the_kernel_keeps_no_mark_the_c_library_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    known = peak_memory()
    monkeypatch.setattr(processes, "_STATUS", Path("/nowhere"))
    asked = peak_memory()
    assert known is not None
    assert asked is not None
    assert 0.5 < asked / known < 2
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory() is None
