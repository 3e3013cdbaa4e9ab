"""Checkpoints: model directories with what it takes to resume, valid only once they are whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cardioner.errors import OutputError, UsageError
from cardioner.evaluation import Scores
from cardioner.model_dir.json_files import read_json
from cardioner.model_dir.layout import CONFIG, MEMBERS, PARTIAL, SUMMARY
from cardioner.model_dir.save import check_output
from cardioner.multiclass.modeling import TokenClassificationModel
from cardioner.training.options import TrainingOptions, current_names

CHECKPOINTS = "checkpoints"
SEAL = "checkpoint.json"
"""Written last, with the size of every other file: a folder without it, or with other sizes, is no checkpoint."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole checkpoint.

    Attributes:
        folder: Where it lies.
        step: Steps that were made.
        finished: Whether training ended there.
        run: The settings and the data of the training; another one is not resumed from here.
        scores: Of the evaluation data, after each epoch so far.
        figures: By which the best of these epochs is picked, one each.
        best_step: The step of the epoch with the best score so far; 0 before the first.
        seconds: Time of training so far.
    """

    folder: Path
    step: int
    finished: bool
    run: dict[str, Any]
    scores: tuple[Scores, ...]
    best_step: int
    seconds: float
    figures: tuple[float, ...] = ()


def seal(checkpoint: Checkpoint) -> None:
    """Declare a checkpoint whole once all of it is on the disk, and delete all others but that of the best epoch."""
    folder = checkpoint.folder
    for path in _files(folder):
        _flush_to_disk(path)
    content = {**asdict(checkpoint), "sizes": {path.name: path.stat().st_size for path in _files(folder)}}
    content["scores"] = [scores.to_dict() for scores in checkpoint.scores]
    del content["folder"]
    partial = folder / f".{SEAL}"
    partial.write_text(json.dumps(content, indent=2), encoding="utf-8")
    _flush_to_disk(partial)
    partial.replace(folder / SEAL)
    for other in folder.parent.iterdir():
        found = read_checkpoint(other)
        if found is None or found.step not in (checkpoint.step, checkpoint.best_step):
            shutil.rmtree(other, ignore_errors=True)


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """A checkpoint, if it is one and whole."""
    content = read_json(folder / SEAL)
    sizes = content.pop("sizes", None)
    try:
        found = {path.name: path.stat().st_size for path in _files(folder)}
    except FileNotFoundError:  # it is being deleted
        return None
    if not sizes or sizes != found:
        return None
    content["scores"] = tuple(Scores.from_dict(scores) for scores in content["scores"])
    content["figures"] = tuple(content.get("figures") or (scores.strict.micro.f1 for scores in content["scores"]))
    return Checkpoint(folder=folder, **content)


def last_checkpoint(output_dir: Path) -> Checkpoint | None:
    """The last whole checkpoint in a training's output directory."""
    place = output_dir / CHECKPOINTS
    found = [read_checkpoint(folder) for folder in place.iterdir()] if place.is_dir() else []
    return max((one for one in found if one is not None), key=lambda one: one.step, default=None)


def checkpoint_at(output_dir: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return output_dir / CHECKPOINTS / f"checkpoint-{step}"


def is_finished(output_dir: Path) -> bool:
    """Whether a directory holds a model whose training is over."""
    return (output_dir / CONFIG).is_file() and not (output_dir / CHECKPOINTS).exists()


def check_output_dir(
    output_dir: Path,
    options: TrainingOptions,
    *,
    model_class: type = TokenClassificationModel,
    made_from: Iterable[Path] = (),
    after_members: bool = False,
) -> None:
    """Refuse an output directory that holds a model, or what an interrupted training left and is not to be resumed.

    Args:
        output_dir: The output directory.
        options: Of the training: whether it resumes or replaces what is there.
        model_class: The class of the model.
        made_from: The models that it learns from.
        after_members: Whether these wait for it in the output directory.

    Raises:
        OutputError: If something would be lost without `overwrite` or `resume`, or if it cannot be written.
    """
    if options.resume and is_finished(output_dir):
        remove_leftovers(output_dir)
        raise OutputError(f"the training in {output_dir} is finished: there is nothing to resume")
    left = output_dir / CHECKPOINTS
    resumed = options.resume and left.is_dir()
    check_output(
        output_dir,
        overwrite=options.overwrite or resumed,
        model_class=model_class,
        made_from=made_from,
        after_members=after_members or options.overwrite,
    )
    if not (options.overwrite or resumed) and any(left.glob("*/config.json")):
        raise OutputError(
            f"{left} holds checkpoints of an interrupted training: resume it with --resume (resume=True), choose "
            "another directory, or pass --overwrite (overwrite=True)"
        )


def drop_checkpoints(output_dir: Path) -> None:
    """Delete all checkpoints of a finished training."""
    drop(output_dir / CHECKPOINTS)
    remove_leftovers(output_dir)


def drop_members(output_dir: Path) -> None:
    """Delete the models that one was to learn from, but no folder of that name that something else made."""
    if (output_dir / MEMBERS / SUMMARY).is_file():
        drop(output_dir / MEMBERS)


def drop(folder: Path) -> None:
    """Delete a folder of an output directory, if it is there.

    It is renamed first, so that a kill in the middle never leaves a part of it to resume from; what it does leave,
    `remove_leftovers` deletes.
    """
    deleted = _deleted(folder)
    if folder.is_dir():
        shutil.rmtree(deleted, ignore_errors=True)
        folder.rename(deleted)
    shutil.rmtree(deleted, ignore_errors=True)


def _deleted(folder: Path) -> Path:
    """The name of a folder while it is being deleted."""
    return folder.with_name(f".{folder.name.removeprefix('.')}-deleted")


def remove_leftovers(output_dir: Path, *, checkpoints: bool = False) -> None:
    """Delete what a killed process left half written or half deleted.

    Args:
        output_dir: The training's output directory.
        checkpoints: Whether to delete whole checkpoints too, as training starts afresh.
    """
    place = output_dir / CHECKPOINTS
    found = list(place.iterdir()) if place.is_dir() else []
    broken = found if checkpoints else [folder for folder in found if read_checkpoint(folder) is None]
    deleted = (_deleted(output_dir / name) for name in (CHECKPOINTS, MEMBERS))
    for leftover in (*broken, *deleted, *output_dir.glob(f"{PARTIAL}*")):
        shutil.rmtree(leftover, ignore_errors=True)


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], place: Path) -> None:
    """Refuse to resume with other settings or data.

    Args:
        before: Those that the training was started with, as read from JSON.
        now: Those of now.
        place: Where the training is.

    Raises:
        UsageError: Naming every setting that differs; of the data, only that they do.
    """
    before, now = current_names(before), json.loads(json.dumps(now))
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    if names:
        changes = (
            name if name == "data" else f"{name} (it was {before.get(name)!r}, now {now.get(name)!r})" for name in names
        )
        raise UsageError(
            f"the training in {place} was started with other settings: {', '.join(changes)}: "
            "resume it with the same ones, or choose another output directory"
        )


def _files(folder: Path) -> list[Path]:
    """The files that a seal lists."""
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if path.is_file() and path.name not in (SEAL, f".{SEAL}")]


def _flush_to_disk(path: Path) -> None:
    """Have a file's content on the disk, whatever happens to the machine."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
