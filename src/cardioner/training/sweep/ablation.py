"""Train recipes one after the other on the same notes, each in a process of its own, and compare them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cardioner._progress import Progress, ProgressOption, showing
from cardioner.data.documents import Span, fingerprint
from cardioner.data.labels import LabelSet
from cardioner.errors import DataError, UsageError, listed
from cardioner.evaluation.comparison import compare_pairs
from cardioner.evaluation.pairing import Pair
from cardioner.training.arguments import check_early_stopping
from cardioner.training.options import TrainingOptions
from cardioner.training.run_metadata import LEFT_OUT
from cardioner.training.sweep.outcomes import Ablation, Decoding, Failure, Outcome
from cardioner.training.sweep.process import Cost, Job, Message, Problem, Step, Tagged, run_apart
from cardioner.training.sweep.recipes import Recipe
from cardioner.training.sweep.runner import Sweep, settings_of
from cardioner.training.sweep.trial import Parts, Trial

REPORT = "ablation.json"
STATE = "ablation-state.json"
"""What it takes to resume: the settings, a fingerprint of the notes, and what the trainings cost."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is the same for all recipes.

    Attributes:
        output: The folder that gets a model directory for each recipe, and `ablation.json`.
        parts: The notes. Without evaluation notes the last epoch is saved; without test notes those of the evaluation
            are scored.
        labels: The tags.
        hidden_layers: Widths of the MLP heads.
        arguments: Of `ModelTrainer`, but for what a recipe decides.
        options: Of each training; `resume`, `overwrite` and `progress` are those of `ablate`.
        samples: Samples of documents, and swaps of predictions, for intervals and differences.

    Raises:
        UsageError: If no notes are held out, none to stop early by, or there is no sample.
        DataError: If two of the notes that are scored have the same id.
    """

    output: Path
    parts: Parts
    labels: LabelSet
    hidden_layers: tuple[int, ...] = (256,)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    options: TrainingOptions = field(default_factory=TrainingOptions)
    samples: int = 10_000

    def __post_init__(self) -> None:
        if not self.held_out:
            raise UsageError("recipes are compared on held-out notes: give test notes, evaluation notes, or both")
        check_early_stopping(self.options, self.parts.evaluation)
        if self.samples < 1:
            raise UsageError(f"expected at least one sample, found {self.samples}")
        counts = Counter(document.id for document in self.held_out)
        if repeated := [name for name, count in counts.items() if count > 1]:
            raise DataError(f"each note that is scored needs an id of its own; found more often: {listed(repeated)}")

    @property
    def held_out(self) -> list[Any]:
        """The notes that are scored, by id: other commands have them so, and draw the same samples."""
        return sorted(self.parts.test or self.parts.evaluation, key=lambda document: document.id)

    @property
    def flatters(self) -> bool:
        """Whether the epochs are picked on the notes that are scored."""
        return not self.parts.test

    def settings(self) -> dict[str, Any]:
        """The settings, ready for JSON: of an encoder's folder the name, not the path."""
        shared = {"hidden_layers": self.hidden_layers, "labels": self.labels.tags}
        return settings_of(self.arguments, self.options, without=LEFT_OUT, **shared)

    def trial(self, recipe: Recipe) -> Trial:
        """The training of a recipe."""
        arguments = {**self.arguments, **recipe.arguments(self.hidden_layers)}
        parts = self.parts._replace(test=())  # scored here, with each decoder
        return Trial(name=recipe.name, labels=self.labels, parts=parts, arguments=arguments, options=self.options)


def ablate(
    recipes: Sequence[Recipe],
    plan: Plan,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: ProgressOption = None,
    prepare: Callable[[], None] | None = None,
) -> Ablation:
    """Train every recipe, each in a process of its own, and measure it on the held-out notes.

    A recipe that fails does not stop the others. `ablation.json` in the output folder is written after each. The
    processes are spawned: a script that calls this does so under `if __name__ == "__main__":`.

    Args:
        recipes: What to train, each once; the others are compared with the first.
        plan: What is the same for all.
        resume: Resume an interrupted ablation: what is trained is only measured again, and a training that was
            interrupted continues from its last whole checkpoint. Recipes may be added.
        overwrite: Whether models in the output folder may be replaced.
        progress: As in `TrainingOptions`.
        prepare: Called first in each process; a function of a module.

    Raises:
        UsageError: If the arguments contradict each other, or what is resumed was started with other ones.
        OutputError: If the output folder holds models, or cannot be written.
    """
    plan.labels.check([*plan.parts.evaluation, *plan.parts.test])
    request = {"settings": plan.settings(), "notes": fingerprint(plan.parts), "version": 1}
    sweep = Sweep(folder=plan.output, state=STATE, request=request, resume=resume, overwrite=overwrite)
    with showing(progress) as shown:
        run = _Run(plan, sweep, recipes, shown, prepare)
        run.open()
        run.report(0)
        for done, recipe in enumerate(recipes, 1):
            run.measure(recipe)
            run.report(done)
    return run.ablation()


@dataclass(slots=True)
class _Run:
    """An ablation while it runs.

    Attributes:
        costs: What the trainings cost, by recipe; of those of the interrupted ablation too.
        first: The scored notes of the first recipe.
    """

    plan: Plan
    sweep: Sweep
    recipes: Sequence[Recipe]
    progress: Progress
    prepare: Callable[[], None] | None
    known: set[str] = field(default_factory=set)
    costs: dict[str, Cost] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    first: list[Pair] = field(default_factory=list)

    def open(self) -> None:
        """Take up what an interrupted ablation came to, and claim the folder."""
        before = self.sweep.read()
        self.known = set(before.get("begun", ()))
        self.costs = {name: Cost(**cost) for name, cost in before.get("trained", {}).items()}
        names = [recipe.name for recipe in self.recipes]
        self.sweep.claim(names, known=self.known)
        self.known.update(names)
        self._save()
        if not before:
            (self.plan.output / REPORT).unlink(missing_ok=True)

    def measure(self, recipe: Recipe) -> None:
        """Train a recipe, if need be, and measure it."""
        ends = list[Tagged | Problem]()
        job = Job(
            trial=self.sweep.ready(self.plan.trial(recipe)),
            folder=self.plan.output,
            held_out=self.plan.held_out,
            decoders=recipe.decoders,
            trained=recipe.name in self.costs and self.sweep.is_finished(recipe.name),
            prepare=self.prepare,
        )

        def receive(message: Message) -> None:
            if isinstance(message, Step):
                stage, done, total, detail = message
                self.progress(f"{recipe.name}: {stage}", done, total, detail=detail)
            elif isinstance(message, Cost):
                self.costs[recipe.name] = message
                self._save()  # at once: measuring may fail
            else:
                ends.append(message)

        run_apart(job, receive)
        found = ends[0]  # a problem after what was asked for does not matter
        if isinstance(found, Problem):
            self.failures.append(Failure(recipe, *found))
        else:
            self.outcomes.append(self._outcome(recipe, found))

    def report(self, done: int) -> None:
        """Say how many recipes are done, and write the report so far."""
        self.progress("recipes", done, len(self.recipes))
        if done:
            self.sweep.write(REPORT, self.ablation().to_dict(), sort_keys=True)

    def ablation(self) -> Ablation:
        """The recipes so far."""
        plan = self.plan
        documents = len(plan.held_out)
        return Ablation(tuple(self.outcomes), tuple(self.failures), documents, plan.flatters, plan.settings())

    def _outcome(self, recipe: Recipe, found: Tagged) -> Outcome:
        """The figures of a recipe, and its difference to the first one."""
        samples, seed = self.plan.samples, self.plan.options.seed
        pairs = {name: self._pairs(spans) for name, spans in found.spans.items()}
        own = pairs[recipe.decoders[0]]
        difference = compare_pairs(own, self.first, samples=samples, seed=seed) if self.first else None
        self.first = self.first or own
        folder = self.plan.output / recipe.name
        return Outcome(
            recipe=recipe,
            training=self.costs[recipe.name],
            decodings={
                name: Decoding.of(scored, found.speeds[name], samples=samples, seed=seed)
                for name, scored in pairs.items()
            },
            disk=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
            untagged=found.untagged,
            difference=difference,
        )

    def _pairs(self, spans: Mapping[str, tuple[Span, ...]]) -> list[Pair]:
        """The held-out notes beside what was found in them; nothing where a note could not be tagged."""
        return [Pair(note, note.with_spans(spans.get(note.id, ()))) for note in self.plan.held_out]

    def _save(self) -> None:
        costs = {name: asdict(cost) for name, cost in self.costs.items()}
        state = {"begun": sorted(self.known), "request": self.sweep.request, "trained": costs}
        self.sweep.write(STATE, state, sort_keys=True)
