"""Checkpoints are deleted so that a kill at any step loses none that is needed and leaves nothing for good."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cardioner.training.checkpoints import (
    Checkpoint,
    checkpoint_at,
    drop_checkpoints,
    is_finished,
    last_checkpoint,
    read_checkpoint,
    remove_leftovers,
    seal,
)


class Killed(BaseException):
    """Ends the process where a signal would have."""


def killed_at(step: int, work: Callable[[], None]) -> bool:
    """Do some work that is killed just before its nth change of the disk; whether it came so far."""
    changes = 0

    def counting(change: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            nonlocal changes
            changes += 1
            if changes == step:
                raise Killed
            return change(*arguments, **named)

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        for name in ("unlink", "rmdir", "rename", "replace"):
            patch.setattr(os, name, counting(getattr(os, name)))
        try:
            work()
        except Killed:
            return True
    return False


def write_checkpoint(place: Path, step: int, *, best: int) -> Checkpoint:
    """A checkpoint of some files, not sealed yet."""
    folder = checkpoint_at(place, step)
    (folder).mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "optimizer.pt"):
        (folder / name).write_text(f"{name} {step}")
    return Checkpoint(folder, step, finished=False, run={}, scores=(), best_step=best, seconds=1.0)


def test_a_kill_while_checkpoints_are_deleted_leaves_a_finished_training_or_all_of_them(tmp_path: Path) -> None:
    step, finished = 0, 0
    while True:
        step += 1
        place = tmp_path / f"{step}"
        for number in (1, 2):
            seal(write_checkpoint(place, number, best=1))
        (place / "config.json").write_text("{}")
        if not killed_at(step, lambda place=place: drop_checkpoints(place)):  # type: ignore[misc]
            break
        finished += is_finished(place)
        whole = [read_checkpoint(checkpoint_at(place, number)) is not None for number in (1, 2)]
        assert whole == [not is_finished(place)] * 2
        remove_leftovers(place)
        assert sorted(path.name for path in place.iterdir()) == (
            ["config.json"] if is_finished(place) else ["checkpoints", "config.json"]
        )
    assert step > 8, "each file and each folder is a step"
    assert finished == step - 2, "all but the first: checkpoints are renamed at once"
    assert [path.name for path in place.iterdir()] == ["config.json"]


def test_a_kill_while_checkpoints_are_thinned_loses_neither_the_last_nor_the_best(tmp_path: Path) -> None:
    step = 0
    while True:
        step += 1
        place = tmp_path / f"{step}"
        for number in (1, 2):
            seal(write_checkpoint(place, number, best=1))
        new = write_checkpoint(place, 3, best=1)
        killed = killed_at(step, lambda new=new: seal(new))  # type: ignore[misc]
        last = last_checkpoint(place)
        assert last is not None
        assert last.step == (3 if step > 1 or not killed else 2), "the seal is the first change"
        assert read_checkpoint(checkpoint_at(place, 1)) is not None
        remove_leftovers(place)
        assert all(read_checkpoint(folder) for folder in (place / "checkpoints").iterdir())
        if not killed:
            break
    assert step > 5
    assert sorted(folder.name for folder in (place / "checkpoints").iterdir()) == ["checkpoint-1", "checkpoint-3"]


@pytest.mark.parametrize("checkpoints", [False, True])
def test_leftovers_are_removed_and_whole_checkpoints_only_on_request(checkpoints: bool, tmp_path: Path) -> None:
    seal(write_checkpoint(tmp_path, 1, best=1))
    write_checkpoint(tmp_path, 2, best=1)
    for name in (".partial-x1", ".checkpoints-deleted"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"half")
    remove_leftovers(tmp_path, checkpoints=checkpoints)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ([] if checkpoints else ["checkpoint-1"])
