"""`cardioner train --resume`: killed at any moment, or out of disk, it ends with the weights of a quiet training."""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cardioner.training.checkpoints import is_finished, last_checkpoint

pytestmark = pytest.mark.slow

KILLS = 10
"""How often a training is killed, at random moments."""

Start = Callable[..., int | None]


@pytest.fixture
def asked(encoder_dir: Callable[[str], Path], corpus: Path) -> tuple[Any, ...]:
    """The arguments of a training of some seconds, its output still to come."""
    return (
        *("train", "--train", corpus / "train", "--eval", corpus / "dev", "--backbone", encoder_dir("bert"), "--crf"),
        *("--epochs", "8", "--batch-size", "2", "--max-length", "64", "--device", "cpu", "--checkpoint-steps", "3"),
        *("--learning-rate", "0.005", "--resume", "--output"),
    )


def weights(place: Path) -> dict[str, torch.Tensor]:
    """The weights of a saved model."""
    found: dict[str, torch.Tensor] = load_file(place / "model.safetensors")
    return found


def assert_same_weights(one: Path, other: Path) -> None:
    """Bit for bit."""
    expected = weights(other)
    assert weights(one).keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in weights(one).items())


def test_killed_at_random_moments_it_ends_with_the_same_weights(
    start: Start, asked: tuple[Any, ...], tmp_path: Path
) -> None:
    assert start(*asked, tmp_path / "warm") == 0
    began = time.perf_counter()
    assert start(*asked, tmp_path / "quiet") == 0
    seconds = time.perf_counter() - began
    dice, kills, resumed, number = random.Random(7), 0, 0, 0
    while kills < KILLS or (not resumed and kills < 5 * KILLS):  # slow machines are killed before the first checkpoint
        place, step = tmp_path / f"after-{number}", 0
        while (code := start(*asked, place, seconds=dice.uniform(0.1, 1) * seconds)) is None:
            kills += 1
            left = last_checkpoint(place)
            assert is_finished(place) or step <= (left.step if left else 0), "whole checkpoints are not lost"
            step = left.step if left else 0
            resumed += bool(step)
        assert code == 0
        assert_same_weights(place, tmp_path / "quiet")
        assert not list(place.glob(".*")), "nothing half-written is left"
        number += 1
    assert resumed, "some training was cut off behind its first checkpoint"


@pytest.mark.parametrize("least", [1_000, 60_000, 100_000])
def test_a_disk_that_is_full_is_one_clear_line_and_loses_nothing(
    least: int, asked: tuple[Any, ...], start: Start, tmp_path: Path
) -> None:
    """A limit on the size of a file stands for the end of the disk: the same writes fail."""
    told = subprocess.run(
        [sys.executable, "-m", "cardioner", *map(str, asked), str(tmp_path / "full")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (least, least)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert told.returncode == 5, told.stderr
    assert "cannot be written" in told.stderr
    assert "Traceback" not in told.stderr
    assert not is_finished(tmp_path / "full")
    assert start(*asked, tmp_path / "full") == 0
    assert start(*asked, tmp_path / "quiet") == 0
    assert_same_weights(tmp_path / "full", tmp_path / "quiet")
