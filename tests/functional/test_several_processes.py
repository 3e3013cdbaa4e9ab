"""`torchrun ... -m cardioner train`: two processes learn what one would, and one of them writes and speaks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file

from cardioner.training.checkpoints import last_checkpoint

pytestmark = pytest.mark.slow

LIMIT = 180
"""Seconds within which a training of two processes must end."""

TOGETHER = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "cardioner")


@pytest.fixture(scope="module")
def asked(
    encoder_dir: Callable[[str], Path], corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, ...]:
    """The arguments of a training without dropout, which every process would draw for itself."""
    encoder = tmp_path_factory.mktemp("still") / "bert"
    shutil.copytree(encoder_dir("bert"), encoder)
    config = json.loads((encoder / "config.json").read_text())
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (encoder / "config.json").write_text(json.dumps({**config, **still}))
    given = (
        *("train", "--train", corpus / "train", "--eval", corpus / "dev", "--test", corpus / "dev"),
        *("--backbone", encoder, "--crf", "--classifier-dropout", "0", "--epochs", "4", "--batch-size", "4"),
        *("--max-length", "48", "--training-context", "8", "--device", "cpu", "--precision", "float32"),
        *("--learning-rate", "0.005", "--checkpoint-steps", "1"),
    )
    return tuple(map(str, given))


def begin(*arguments: Any, alone: bool = False) -> subprocess.Popen[str]:
    """Start the command, in two processes or in one."""
    start = ("-m", "cardioner") if alone else TOGETHER
    return subprocess.Popen(
        [sys.executable, *start, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def begin_and_kill(place: Path, *arguments: Any, finished: bool) -> None:
    """Start the command and kill all its processes once there is a checkpoint, or the last one."""
    running, deadline = begin(*arguments, "--output", place), time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        found = last_checkpoint(place)
        if found is not None and (found.finished or not finished):
            break
        time.sleep(0.002)
    first = psutil.Process(running.pid)
    for process in [first, *first.children(recursive=True)]:
        process.kill()
    running.communicate(timeout=LIMIT)
    assert (place / "checkpoints").is_dir(), "it was cut off in the middle"


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Its exit code and both streams."""
    out, err = process.communicate(timeout=LIMIT)
    return process.returncode, out, err


def difference(one: Path, other: Path) -> float:
    """The largest difference of any two weights."""
    weights, others = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert weights.keys() == others.keys()
    return max(float((value - others[name]).abs().max()) for name, value in weights.items())


def test_two_processes_learn_what_one_does(asked: tuple[str, ...], tmp_path: Path) -> None:
    given = ("--gradient-accumulation", "2", "--unfreeze-per-epoch", "1")
    one, two = tmp_path / "one", tmp_path / "two"
    code, _, told = finish(begin(*asked, *given, "--output", one, alone=True))
    assert code == 0, told
    code, out, told = finish(begin(*asked, *given, "--json", "--output", two))
    assert code == 0, told
    assert difference(one, two) < 1e-4
    together, alone = json.loads(out), json.loads((one / "training_args.json").read_text())
    assert together["scores"] == alone["scores"]
    for row, expected in zip(together["history"], alone["history"], strict=True):
        assert row == pytest.approx(expected, rel=1e-3), "the loss and the gradients too, which the optimiser forgives"
    assert told.count("Model: ") == 1, "one of them speaks"
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}, "one of them writes"


def test_two_processes_make_the_model_of_the_recipe_best(asked: tuple[str, ...], tmp_path: Path) -> None:
    given, one, two = ("--recipe", "best", "--epochs", "1"), tmp_path / "one", tmp_path / "two"
    code, _, told = finish(begin(*asked, *given, "--output", one, alone=True))
    assert code == 0, told
    code, _, told = finish(begin(*asked, *given, "--output", two))
    assert code == 0, told
    assert difference(one, two) < 1e-4
    assert told.count("Model: ") == 1, "one of them speaks"
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}, "no member is left"


@pytest.fixture(scope="module")
def quiet(asked: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes come to that nobody disturbs."""
    place = tmp_path_factory.mktemp("quiet") / "model"
    code, _, told = finish(begin(*asked, "--output", place))
    assert code == 0, told
    return place


@pytest.mark.parametrize("finished", [False, True], ids=["in the middle", "behind the last step"])
def test_killed_together_they_go_on_together(
    finished: bool, asked: tuple[str, ...], quiet: Path, tmp_path: Path
) -> None:
    begin_and_kill(tmp_path, *asked, finished=finished)
    if not finished:
        code, _, told = finish(begin(*asked, "--resume", "--output", tmp_path, alone=True))
        assert code == 2, "one of them alone does not go on with what both began"
        assert "processes (it was 2, now 1)" in told
    code, _, told = finish(begin(*asked, "--resume", "--output", tmp_path))
    assert code == 0, told
    assert difference(tmp_path, quiet) == 0


def test_a_batch_too_small_for_all_is_refused(asked: tuple[str, ...], tmp_path: Path) -> None:
    code, _, told = finish(begin(*asked, "--batch-size", "1", "--output", tmp_path))
    assert code != 0
    assert "fewer than the 2 processes: raise the batch size to 4 or more" in told
