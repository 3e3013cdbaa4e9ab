"""`cardioner ablate`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.text import Text

from cardioner.cli.console import (
    INTERRUPTED,
    complain,
    interval_text,
    open_log,
    print_json,
    quieten,
    showing_progress,
    table,
    tell,
)
from cardioner.cli.console import output as results
from cardioner.cli.inputs import JsonAloneOption, LogFileOption
from cardioner.cli.option_groups import grouped
from cardioner.cli.outputs import check_model_folder
from cardioner.cli.train_options import NotesOptions, attributes_of, read_notes
from cardioner.errors import UsageError, many
from cardioner.training.options import STRICT, TrainerArguments, TrainingOptions, Widths, model_setting, running_setting
from cardioner.training.sweep.recipes import ARGMAX, RECIPES, VITERBI, Recipe, recipes_named

if TYPE_CHECKING:
    from rich.table import Table

    from cardioner.training.sweep.ablation import Plan
    from cardioner.training.sweep.outcomes import Ablation, Outcome

_CAPTION = (
    "trained: time of the training loop; speed: sub-tokens a second, tagging these notes; memory: peak of the process "
    "that trained. Times depend on what else this machine does: compare those of one undisturbed run."
)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SharedArguments(TrainerArguments):
    """The arguments of `ModelTrainer` that are the same for all recipes, and the widths of the MLP heads."""

    use_crf: bool = Field(default=False, exclude=True)  # the recipes decide
    classifier_hidden_layers: Widths = model_setting("256", option="--hidden-layers", metavar="N,N,...")
    """Widths of the MLP heads."""
    output_dir: Path = Field(json_schema_extra={"panel": "Running", "option": "--output", "metavar": "DIR"})
    """The folder for a model directory per recipe."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SharedOptions(TrainingOptions):
    """The fields of `TrainingOptions`, two of them documented for an ablation."""

    resume: bool = running_setting(False)
    """Resume an interrupted ablation; what is trained is only measured again."""
    overwrite: bool = running_setting(False)
    """Replace the models that DIR holds."""


@grouped()
def ablate(  # noqa: PLR0913 - one parameter an option or a group of them
    notes: NotesOptions,
    arguments: SharedArguments,
    options: SharedOptions,
    recipes: Annotated[
        str,
        typer.Option(metavar="NAME,NAME,...", help="Some of simple, mlp, crf, mlp-crf; compared with the first."),
    ] = ",".join(RECIPES),
    bootstrap: Annotated[
        int,
        typer.Option(
            "--bootstrap", min=1, metavar="N", help="Number of samples of documents, and of swaps of predictions."
        ),
    ] = 10_000,
    log_file: LogFileOption = None,
    json: JsonAloneOption = False,
) -> None:
    """Train several recipes on the same notes, and compare their cost and quality.

    simple is a linear head, mlp an MLP; crf and mlp-crf have a CRF on top. Seed, notes and epochs are the same for all.
    Each is trained in a process of its own, and its model kept in DIR, beside ablation.json with all figures.

    Scores are those of the test notes, or of the evaluation notes where there are none. A recipe that fails is named,
    the others go on, and the exit code is that of the first failure.

    Example: cardioner ablate --corpus notes --splits splits.json --output recipes
    """
    open_log(log_file)
    check_model_folder(arguments.output_dir, replace=options.overwrite or options.resume)
    chosen = recipes_named([name.strip() for name in recipes.split(",")])
    plan = _plan(notes, arguments, options, samples=bootstrap)
    found = _run(chosen, plan, resume=options.resume, overwrite=options.overwrite)
    if json:
        print_json(found.to_dict())
    elif found.outcomes:
        for made in _tables(found):
            results.print(made)
    _tell(found, plan)


def _plan(notes: NotesOptions, arguments: SharedArguments, options: SharedOptions, *, samples: int) -> Plan:
    """Read the notes, and check what can be checked before anything is trained."""
    from cardioner.training.sweep.ablation import Plan  # noqa: PLC0415 - imports torch

    shared = vars(arguments).copy()
    output, widths = shared.pop("output_dir"), shared.pop("classifier_hidden_layers")
    del shared["use_crf"]
    parts, labels = read_notes(notes)
    shared |= attributes_of(notes, parts)
    if options.attributes_only:
        raise UsageError(
            "--attributes-only leaves the tagger as it is, so there are no recipes to compare: leave it out"
        )
    return Plan(
        output=output,
        parts=parts,
        labels=labels,
        hidden_layers=widths or (256,),
        arguments=shared,
        options=TrainingOptions(**{**vars(options), "resume": False, "overwrite": False}),
        samples=samples,
    )


def _run(recipes: tuple[Recipe, ...], plan: Plan, *, resume: bool, overwrite: bool) -> Ablation:
    """Train and measure, with progress."""
    from cardioner.training.sweep.ablation import ablate  # noqa: PLC0415 - imports torch

    try:
        with showing_progress() as stages:
            return ablate(recipes, plan, resume=resume, overwrite=overwrite, progress=stages, prepare=quieten)
    except KeyboardInterrupt:
        tell("Interrupted: the same command with --resume resumes from the last whole checkpoint")
        raise typer.Exit(INTERRUPTED) from None


def _tell(found: Ablation, plan: Plan) -> None:
    """What is to know about the figures, and what went wrong.

    Raises:
        Exit: If a recipe failed.
    """
    from cardioner.model_dir.findings import never_found  # noqa: PLC0415
    from cardioner.model_dir.json_files import read_json  # noqa: PLC0415
    from cardioner.model_dir.layout import TRAINING_ARGS  # noqa: PLC0415
    from cardioner.training.sweep.ablation import REPORT  # noqa: PLC0415 - imports torch

    if found.flatters:
        tell(
            "warning: the epoch of each recipe was picked on the same notes that are scored here, so all scores are "
            "too good: give --test notes, or a test part in --splits"
        )
    for outcome in found.outcomes:
        if outcome.untagged:
            tell(f"{many(outcome.untagged, 'note')} could not be tagged by {outcome.recipe.name}: nothing found there")
    tell(f"Models and {REPORT}: {plan.output}")
    for outcome in found.outcomes:
        record = read_json(plan.output / outcome.recipe.name / TRAINING_ARGS)
        if problem := never_found({**record, "scores": {found.scored_on: outcome.own.scores.to_dict()}}):
            tell(f"warning: {outcome.recipe.name}: {problem}")
    for failure in found.failures:
        tell(f"{failure.recipe.name} failed: {failure.reason}")
    if found.failures:
        recipes = many(len(found.failures) + len(found.outcomes), "recipe")
        complain(f"{len(found.failures)} of {recipes} failed, see above")
        raise typer.Exit(found.failures[0].exit_code)


# Tables --------------------------------------------------------------------------------------------------------------


def _tables(found: Ablation) -> Iterator[Table]:
    """The recipes side by side, and how the others differ from the first."""
    notes = many(found.documents, "evaluation note" if found.flatters else "test note")
    columns = ["recipe", "argmax", "Viterbi", "trained", "speed", "memory", "disk"]  # 80 characters are soon full
    rows = [_row(outcome) for outcome in found.outcomes]
    if any(outcome.training.device_memory is not None for outcome in found.outcomes):
        columns.insert(6, "GPU")
        for row, outcome in zip(rows, found.outcomes, strict=True):
            row.insert(6, _size(outcome.training.device_memory))
    made = table(f"Strict F1 of {notes}, and its 95 % interval", columns, rows)
    made.caption, made.caption_justify = Text(_CAPTION), "left"
    yield made
    first, *others = found.outcomes
    if others:
        name = first.recipe.name
        yield table(
            f"Strict F1 against {name}, each as its model decodes",
            ("recipe", f"less {name}", "95 %", "p"),
            [_difference(outcome) for outcome in others],
        )


def _row(outcome: Outcome) -> list[Any]:
    """A recipe's line."""
    return [
        outcome.recipe.name,
        *(_f1(outcome, decoder) for decoder in (ARGMAX, VITERBI)),
        f"{outcome.training.seconds:,.0f} s",
        f"{outcome.own.speed:,.0f}",
        _size(outcome.training.memory),
        _size(outcome.disk),
    ]


def _f1(outcome: Outcome, decoder: str) -> str:
    """F1 and its interval, or why there is none."""
    found = outcome.decodings.get(decoder)
    if found is None:
        return "no CRF"
    return f"{found.scores.strict.micro.f1:.3f}\n{interval_text(found.intervals.of('strict', 'micro', 'f1'))}"


def _size(count: int | None) -> str:
    """Bytes in MiB."""
    return "not known" if count is None else f"{count / 2**20:,.0f} MiB"


def _difference(outcome: Outcome) -> tuple[str, ...]:
    """How a recipe differs from the first."""
    assert outcome.difference is not None, "it is not the first"
    found = outcome.difference.of("strict", "micro", "f1")
    difference = f"{found.first - found.second:+.3f}"
    return outcome.recipe.name, difference, interval_text(found.interval), f"{found.p_value:.4f}"
