"""`cardioner train`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cardioner.cli.console import INTERRUPTED, notices, open_log, print_json, quieten, show, showing_progress, tell
from cardioner.cli.merge import show_merged
from cardioner.cli.option_groups import grouped
from cardioner.cli.outputs import check_model_folder, check_page, publish_page
from cardioner.cli.train_config import ConfigOption, combine_sources
from cardioner.cli.train_options import NotesOptions, OutcomeOptions, RunOptions, attributes_of, read_notes
from cardioner.cli.train_outcome import member_table, show_curve, show_losses, show_result
from cardioner.errors import OutputError, UsageError, listed, many
from cardioner.model_dir.layout import MANIFEST, MEMBERS
from cardioner.training.options import BEST, TrainerArguments, TrainingOptions

if TYPE_CHECKING:
    from cardioner.data.labels import LabelSet
    from cardioner.training.initialization import Start
    from cardioner.training.merging import Method
    from cardioner.training.run_metadata import TrainingResult
    from cardioner.training.sweep.curve import Point
    from cardioner.training.sweep.members import Member
    from cardioner.training.sweep.repeated import State
    from cardioner.training.sweep.trial import Parts


@grouped(combine_sources)
def train(
    notes: NotesOptions,
    arguments: TrainerArguments,
    options: TrainingOptions,
    run: RunOptions,
    config: ConfigOption = None,  # noqa: ARG001 - its content is in the others by now
) -> None:
    """Train a tagger and save it as one directory that loads anywhere.

    The evaluation notes (--eval) pick the best epoch; without them, the last epoch is saved.

    With --recipe best it trains three models, then one of the same size that learns from them. Only this one is kept:
    it is better, for five times the steps.

    With --folds or --seeds it trains several models, which cardioner predict DIR uses as one; their scores are in
    DIR/summary.json. With --curve it trains on growing parts of the notes, and estimates what
    more notes would bring: DIR/curve.json.

    With --attributes it also learns attributes of entities, such as negation; with --attributes-only nothing else, for
    the tagger of --backbone, which stays as it is.

    Example: cardioner train --train notes/train --eval notes/dev --output model --crf --hidden-layers 256

    Example: cardioner train --train notes --folds 5 --output folds (and --resume after an interruption)

    Example: cardioner train --config train.yaml --seed 7
    """
    _check_run(notes, arguments, options, run)

    def work(options: TrainingOptions) -> dict[str, Any]:
        parts, labels = read_notes(notes)
        settings = {**vars(arguments), **attributes_of(notes, parts)}
        if run.curve:
            return _train_curve(parts, labels, settings, options, run)
        if run.repeated:
            return _train_several(parts, labels, settings, options, run)
        if run.recipe == BEST:
            return _train_best(parts, labels, settings, options, run)
        return train_one(parts, {**settings, "label2id": labels.label2id}, options, run)

    run_training(notes, arguments, options, run, work)


def _check_run(notes: NotesOptions, arguments: TrainerArguments, options: TrainingOptions, run: RunOptions) -> None:
    """Refuse options that exclude each other.

    Raises:
        UsageError: Naming them.
    """
    if run.html is not None and (run.repeated or run.curve):
        raise UsageError("--html is a page about one training: leave it out with --folds, --seeds and --curve")
    if run.curve and run.folds is not None:
        raise UsageError("--curve and --folds divide the notes in different ways: ask for one of them")
    if run.recipe == BEST and (run.repeated or run.curve or run.merge is not None):
        raise UsageError(
            "--recipe best trains several models itself: leave out --folds, --seeds, --merge and --curve, or turn it "
            "off with --recipe default"
        )
    if options.attributes_only and (notes.scheme, notes.overlap) != ("BIO", "auto"):
        raise UsageError("--attributes-only leaves the tags as they are: leave out --scheme and --overlap")
    if run.merge is not None:
        _check_merge(run, notes, arguments)


def _check_merge(run: RunOptions, notes: NotesOptions, arguments: TrainerArguments) -> None:
    """Refuse, before anything is trained, models that could not be merged afterwards.

    Raises:
        UsageError: Saying what is missing.
    """
    from cardioner.training.merging import check_count  # noqa: PLC0415 - imports torch

    if run.curve or not run.repeated:
        raise UsageError("--merge makes one model of several: give --folds or --seeds")
    check_count((run.folds or 1) * (run.seeds or 1), str(run.merge))
    if notes.evaluation is None and notes.splits is None:
        raise UsageError("--merge shows on annotated notes what it gains: give --eval PATH, which no model learns from")
    if (run.seeds or 1) > 1 and not Path(str(arguments.model), MANIFEST).is_file():
        raise UsageError(
            "--merge needs heads that begin alike, and each seed draws its own: leave --seeds out, or begin from a "
            "model (--backbone MODEL)"
        )


def run_training(
    notes: NotesOptions,
    arguments: TrainerArguments,
    options: TrainingOptions,
    run: OutcomeOptions,
    work: Callable[[TrainingOptions], dict[str, Any]],
) -> None:
    """Check, before anything is read, what could fail afterwards; train, and show what is asked for.

    Args:
        notes: Where the notes are.
        arguments: Where the model is to be.
        options: How to train.
        run: What to show.
        work: Reads the notes, trains with the options that it gets, and returns the record.
    """
    inputs = (*(notes.train or ()), notes.evaluation, notes.test, notes.corpus, notes.splits, notes.texts)
    check_page(run.html, inputs, overwrite=options.overwrite)
    if run.onnx:
        from cardioner.interop.onnx_packages import check_packages  # noqa: PLC0415 - starts fast

        check_packages("train --onnx")
    open_log(run.log_file)
    check_model_folder(arguments.output_dir, replace=options.overwrite or options.resume)
    quieten()
    options = replace(options, data_key=options.data_key or _own_key())
    with _only_first_prints() as prints:
        try:
            record = work(options)
        except KeyboardInterrupt:
            _show_interruption(arguments.output_dir)
            raise typer.Exit(INTERRUPTED) from None
        if run.onnx and prints:
            _add_graphs(arguments.output_dir)
        if run.json and prints:
            print_json(record)


@contextmanager
def _only_first_prints() -> Iterator[bool]:
    """Silence all processes but the first of those that torchrun started; whether this is the first."""
    before, first = notices.quiet, os.environ.get("RANK", "0") == "0"
    notices.quiet = before or not first
    try:
        yield first
    finally:
        notices.quiet = before


def _own_key() -> Path | None:
    """The user's own key for digests of notes; `None` where none can be kept."""
    from cardioner.training.document_digests import make_key  # noqa: PLC0415 - imports pydantic

    place = Path(typer.get_app_dir("cardioner")) / "data.key"
    try:
        new = not place.exists()
        make_key(place)
    except (OSError, OutputError) as error:
        tell(f"The manifest will have no digests of the notes: {error}. Name a place with --data-key FILE")
        return None
    if new:
        tell(f"Created {place}: whoever has this key can prove from a manifest which notes a model was made of")
    return place


def train_one(parts: Parts, settings: dict[str, Any], options: TrainingOptions, run: OutcomeOptions) -> dict[str, Any]:
    """Train, with progress, and show the results; the record that is saved with the model."""
    from cardioner.model_dir.json_files import read_json  # noqa: PLC0415 - imports torch
    from cardioner.model_dir.layout import TRAINING_ARGS  # noqa: PLC0415
    from cardioner.training.checkpoints import is_finished, remove_leftovers  # noqa: PLC0415
    from cardioner.training.trainer import ModelTrainer  # noqa: PLC0415

    if options.resume and is_finished(settings["output_dir"]):
        remove_leftovers(settings["output_dir"])
        tell(f"The training in {settings['output_dir']} is finished: there is nothing left to do")
        return read_json(settings["output_dir"] / TRAINING_ARGS)
    with showing_progress() as stages:
        with stages.busy("loading the encoder"):
            trainer = ModelTrainer(options=replace(options, progress=stages), **settings)
            trainer.check_output()
        _show_start(trainer.start, trainer.labels)
        result = trainer.train(parts.train, parts.test, parts.evaluation)
    show_result(result)
    record = read_json(result.output_dir / TRAINING_ARGS)
    if run.html is not None and not notices.quiet:
        from cardioner.reports.training.report import render  # noqa: PLC0415 - draws plots

        publish_page(render(record), run.html, overwrite=options.overwrite, private=False)
    return record


def _train_several(
    parts: Parts, labels: LabelSet, settings: dict[str, Any], options: TrainingOptions, run: RunOptions
) -> dict[str, Any]:
    """Train each member, with progress, and show the results; the summary that is saved beside them."""
    from cardioner.training.sweep.repeated import RepeatedTraining  # noqa: PLC0415 - imports torch

    output = settings.pop("output_dir")
    with showing_progress() as stages:
        repeated = RepeatedTraining(
            labels=labels,
            output_dir=output,
            folds=run.folds,
            seeds=run.seeds,
            arguments=settings,
            options=replace(options, progress=stages),
        )
        summary = repeated.train(parts, watch=_show_member)
    show(member_table(summary))
    tell(f"{many(len(summary.members), 'model')}, which predict uses as one: {output}")
    if run.merge is None:
        return summary.to_dict()
    return {**summary.to_dict(), "merged": _merge(output, parts, run.merge)}


def _train_best(
    parts: Parts, labels: LabelSet, settings: dict[str, Any], options: TrainingOptions, run: RunOptions
) -> dict[str, Any]:
    """Train the members and the model that learns from them, with progress; the record that is saved with the model."""
    from cardioner.training.sweep.distilled import DistilledTraining  # noqa: PLC0415 - imports torch

    arguments = {name: value for name, value in settings.items() if name != "output_dir"}
    training = DistilledTraining(labels=labels, output_dir=settings["output_dir"], arguments=arguments, options=options)
    if training.finished:
        training.drop_members()
        return train_one(parts, {**settings, "label2id": labels.label2id}, options, run)
    with showing_progress() as stages:
        showing = replace(training, options=replace(options, progress=stages))
        summary = showing.train_members(parts, watch=lambda member, state, _: _show_member(member, state, None))
    show(member_table(summary))
    tell(f"Learning from {many(len(summary.members), 'model')} and from the annotations")
    student = training.student()
    record = train_one(parts, student, student.pop("options"), run)
    training.drop_members()
    return record


def _merge(output: Path, parts: Parts, method: Method) -> dict[str, Any]:
    """Merge the models in a folder, and show what that gained; the record of it."""
    from cardioner.training.merging import merge  # noqa: PLC0415 - imports torch

    with showing_progress() as stages:
        made = merge(
            output, output / "merged", evaluation=parts.evaluation, method=method, overwrite=True, progress=stages
        )
    show_merged(made)
    return made.to_dict()


def _add_graphs(output: Path) -> None:
    """Add a graph to each model that was trained; those that have one keep it."""
    from cardioner.interop.onnx import add_onnx  # noqa: PLC0415 - imports torch
    from cardioner.model_dir.layout import GRAPH  # noqa: PLC0415
    from cardioner.model_dir.manifest import read_manifest  # noqa: PLC0415
    from cardioner.prediction.directories import model_directories  # noqa: PLC0415

    for directory in model_directories(output):
        if GRAPH in getattr(read_manifest(directory), "files", ()):
            continue
        with notices.status("adding the graph and comparing"):
            done = add_onnx(directory, overwrite=True)
        tell(f"Graph for the onnx engine: {directory / GRAPH}; {done.figures[0]}")


def _train_curve(
    parts: Parts, labels: LabelSet, settings: dict[str, Any], options: TrainingOptions, run: RunOptions
) -> dict[str, Any]:
    """Train on growing parts of the notes, with progress, and show the curve; what is saved of it."""
    from cardioner.training.sweep.curve import REPORT, SEEDS, CurveTraining  # noqa: PLC0415 - imports torch

    output = settings.pop("output_dir")
    with showing_progress() as stages:
        training = CurveTraining(
            labels=labels,
            output_dir=output,
            seeds=run.seeds or SEEDS,
            arguments=settings,
            options=replace(options, progress=stages),
        )
        curve = training.train(parts, watch=_show_point)
    show_curve(curve)
    tell(f"Models and {REPORT}: {output}")
    return curve.to_dict()


def _show_point(name: str, point: Point | None) -> None:
    """Show the start or the result of a training of a curve."""
    tell(f"{name}: training" if point is None else f"{name}: strict F1 {point.f1:.3f}")


def _show_member(member: Member, state: State, result: TrainingResult | None) -> None:
    """Show the start or the result of one of several trainings."""
    if state == "started":
        tell(f"{member.name}: training on {many(member.learned, 'note')}")
    elif state == "kept":
        tell(f"{member.name}: finished before")
    if result is not None:
        show_losses(result)
    if member.scores is not None:
        tell(f"{member.name}: strict F1 {member.scores.strict.micro.f1:.3f}")
    if result is not None and result.warning:
        tell(f"warning: {member.name}: {result.warning}")


def _show_start(start: Start, labels: LabelSet) -> None:
    """Show what the model starts from."""
    tell(f"Training a tagger for {', '.join(labels.types)} from {start.source}")
    kept = [name for name in start.taken if not name.startswith("backbone.")]
    if kept:
        tell(f"Reused besides the encoder: {', '.join(kept)}")
    tell(f"Newly initialised: {', '.join(start.fresh) or 'nothing'}")
    if start.unsaid:
        tell(f"warning: {start.source} knows {listed(start.unsaid)}, which the new model will not: see --attributes")


def _show_interruption(output: Path) -> None:
    """Say where the last whole checkpoint is, and how to resume."""
    from cardioner.training.checkpoints import last_checkpoint  # noqa: PLC0415 - imports torch

    members = output / MEMBERS
    found = [last_checkpoint(place) for place in (output, *output.glob("*/"), *members.glob("*/"))]
    whole = sorted((one for one in found if one is not None), key=lambda one: one.folder.stat().st_mtime)
    place = f"the last whole checkpoint is {whole[-1].folder}" if whole else "no checkpoint was finished"
    tell(f"Interrupted: {place}")
    if whole or any((place / "summary.json").exists() for place in (output, members)):
        tell("The same command with --resume continues from there")
