"""Train recipes one after the other on the same notes, and compare them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cardioner._io import writing
from cardioner.data.documents import Span, fingerprint
from cardioner.errors import OutputError, UsageError
from cardioner.evaluation.pairing import Pair
from cardioner.training.sweep.outcomes import Ablation, Decoding, Failure, Outcome
from cardioner.training.sweep.process import Job, Message, Problem, Step, Tagged, Training, run_apart
from cardioner.training.sweep.recipes import Plan, Recipe

if TYPE_CHECKING:
    from cardioner.evaluation.comparison import Comparison

REPORT = "ablation.json"
STATE = "ablation-state.json"
"""What it takes to go on: what was asked for, a digest of the notes, and what was trained."""

_Progress = Callable[[str, int, int], None]
_CHECKPOINTS, _CONFIG = "checkpoints", "config.json"
"""Parts of a model directory: the one goes, and the other comes, when its training is over."""
_VERSION = 1


def ablate(
    recipes: Sequence[Recipe],
    plan: Plan,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: _Progress | None = None,
    prepare: Callable[[], None] | None = None,
) -> Ablation:
    """Train every recipe, each in a process of its own, and measure it on the held-out notes.

    A recipe that fails does not stop the others. `ablation.json` in the output folder is written after each. The
    processes are spawned: a script that calls this does so under `if __name__ == "__main__":`.

    Args:
        recipes: What to train, each once; the others are compared with the first.
        plan: What is the same for all.
        resume: Go on with an ablation that was cut off: what was trained is only measured again, and a training that
            was interrupted goes on from its last whole checkpoint. Recipes may be added.
        overwrite: Whether models in the output folder may be replaced.
        progress: Told the stage, what is done and what there is in all.
        prepare: Called first in each process; a function of a module.

    Raises:
        UsageError: If the arguments contradict each other, or what is resumed was begun with other ones.
        OutputError: If the output folder holds models, or cannot be written.
    """
    if resume and overwrite:
        raise UsageError("resume goes on with what is there, overwrite begins afresh: ask for one of them")
    plan.labels.check([*plan.evaluation, *plan.test])
    record = _Record.open(recipes, plan, resume=resume, overwrite=overwrite)
    outcomes: list[Outcome] = []
    failures: list[Failure] = []
    first: list[Pair] = []
    report = progress or _ignore
    for number, recipe in enumerate(recipes):
        report("recipes", number, len(recipes))
        found = _run(record.job(recipe, plan, overwrite=overwrite, prepare=prepare), record, report)
        if isinstance(found, Problem):
            failures.append(Failure(recipe, *found))
        else:
            outcomes.append(_outcome(recipe, plan, record.trained[recipe.name], found, first=first))
            first = first or _pairs(plan, found.spans[recipe.decoders[0]])
        _write(plan.output / REPORT, _ablation(plan, outcomes, failures).to_dict())
    report("recipes", len(recipes), len(recipes))
    return _ablation(plan, outcomes, failures)


def _ablation(plan: Plan, outcomes: Sequence[Outcome], failures: Sequence[Failure]) -> Ablation:
    return Ablation(tuple(outcomes), tuple(failures), len(plan.held_out), plan.flatters, plan.described())


def _ignore(stage: str, done: int, total: int) -> None:
    """Tell nobody."""


def _run(job: Job, record: _Record, report: _Progress) -> Tagged | Problem:
    """Train and measure one recipe; what training came to is written down as soon as it is known."""
    ends: list[Tagged | Problem] = []

    def receive(message: Message) -> None:
        """Take what the process tells."""
        if isinstance(message, Step):
            report(f"{job.recipe.name}: {message.stage}", message.done, message.total)
        elif isinstance(message, Training):
            record.add(job.recipe, message)
        else:
            ends.append(message)

    run_apart(job, receive)
    return ends[0]  # a problem of the process that comes after what it was asked for is none


def _outcome(recipe: Recipe, plan: Plan, training: Training, found: Tagged, *, first: Sequence[Pair]) -> Outcome:
    """The figures of one recipe, and its difference to the first one if it is another."""
    samples, seed = plan.samples, int(plan.options.get("seed", 0))
    pairs = {name: _pairs(plan, spans) for name, spans in found.spans.items()}
    folder = plan.output / recipe.name
    return Outcome(
        recipe=recipe,
        training=training,
        decodings={
            name: Decoding.of(own, found.speeds[name], samples=samples, seed=seed) for name, own in pairs.items()
        },
        disk=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        untagged=found.untagged,
        difference=_compare(pairs[recipe.decoders[0]], first, samples=samples, seed=seed) if first else None,
    )


def _pairs(plan: Plan, spans: Mapping[str, tuple[Span, ...]]) -> list[Pair]:
    """The held-out notes, by id, beside what was found in them; nothing where a note could not be tagged."""
    notes = sorted(plan.held_out, key=lambda document: document.id)  # as other commands have them: equal samples
    return [Pair(document, document.with_spans(spans.get(document.id, ()))) for document in notes]


def _compare(here: Sequence[Pair], there: Sequence[Pair], *, samples: int, seed: int) -> Comparison:
    from cardioner.evaluation.comparison import compare_pairs  # noqa: PLC0415 - numpy takes a moment to load

    return compare_pairs(here, there, samples=samples, seed=seed)


def _write(path: Path, content: dict[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    with writing(path, overwrite=True) as file:
        file.write((json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode())


@dataclass(slots=True)
class _Record:
    """What was asked for, and what was trained so far; kept in the output folder.

    Attributes:
        output: The folder.
        request: Settings, and a digest of the notes.
        begun: Names of recipes that this ablation may have written models of.
        trained: What training came to, by recipe.
        resumed: Whether an earlier run is gone on with.
    """

    output: Path
    request: dict[str, Any]
    begun: frozenset[str]
    trained: dict[str, Training]
    resumed: bool

    @classmethod
    def open(cls, recipes: Sequence[Recipe], plan: Plan, *, resume: bool, overwrite: bool) -> _Record:
        """Take up what is in the output folder, or begin there afresh.

        Raises:
            UsageError: If what is there was begun with other settings or notes.
            OutputError: If there are models, and neither is asked for; or if the folder cannot be written.
        """
        request = {
            "version": _VERSION,
            "notes": fingerprint([plan.train, plan.evaluation, plan.test]),
            "settings": plan.described(),
        }
        record = cls(plan.output, request, frozenset(), {}, resumed=False)
        if resume and (plan.output / STATE).is_file():
            before = _read(plan.output / STATE)
            _check_same(before["request"], request, plan.output)
            trained = {name: Training(**training) for name, training in before["trained"].items()}
            record = cls(plan.output, request, frozenset(before["begun"]), trained, resumed=True)
        record._begin([recipe.name for recipe in recipes], overwrite=overwrite)
        return record

    def _begin(self, names: Sequence[str], *, overwrite: bool) -> None:
        """Take the places of recipes that were not begun yet.

        Raises:
            OutputError: If something is there that may not be replaced.
        """
        new = [name for name in names if name not in self.begun]
        standing = [
            name for name in (*(() if self.resumed else (REPORT, STATE)), *new) if (self.output / name).exists()
        ]
        if standing and not overwrite:
            ways = "choose another folder" if self.resumed else "choose another folder, go on with --resume"
            raise OutputError(f"{self.output} already holds {', '.join(standing)}: {ways}, or pass --overwrite")
        for name in new:  # a later --resume must not go on from these
            shutil.rmtree(self.output / name / _CHECKPOINTS, ignore_errors=True)
        self.begun |= set(new)
        self._save()
        if not self.resumed:
            (self.output / REPORT).unlink(missing_ok=True)

    def job(self, recipe: Recipe, plan: Plan, *, overwrite: bool, prepare: Callable[[], None] | None) -> Job:
        """What is left to do for a recipe: its own unfinished model is gone on with, or replaced."""
        folder = self.output / recipe.name
        trained = recipe.name in self.trained and (folder / _CONFIG).is_file()
        resume = self.resumed and (folder / _CHECKPOINTS).is_dir()
        replace = not resume and (overwrite or self.resumed)
        return Job(recipe, plan, trained=trained, resume=resume, overwrite=replace, prepare=prepare)

    def add(self, recipe: Recipe, training: Training) -> None:
        """Write down what training a recipe came to."""
        self.trained[recipe.name] = training
        self._save()

    def _save(self) -> None:
        trained = {name: asdict(training) for name, training in self.trained.items()}
        _write(self.output / STATE, {"begun": sorted(self.begun), "request": self.request, "trained": trained})


def _read(path: Path) -> dict[str, Any]:
    """The state of an earlier run."""
    with suppress(OSError, ValueError):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.get("request", {}).get("version") == _VERSION:
            return content
    raise OutputError(f"{path} was not written by this version of cardioner: begin afresh with --overwrite")


def _check_same(before: Mapping[str, Any], now: Mapping[str, Any], output: Path) -> None:
    """Refuse to go on with something else than what was begun, naming what differs."""
    known, wanted = before["settings"], now["settings"]
    different = [name for name in sorted({*known, *wanted}) if known.get(name) != wanted.get(name)]
    different += ["notes"] if before["notes"] != now["notes"] else []
    if different:
        raise UsageError(
            f"the ablation in {output} was begun with another {', '.join(different)}: ask for the same again, begin "
            "afresh with --overwrite, or choose another folder"
        )
