"""The learning curve: which notes each training gets, and what the forecast makes of known curves."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cardioner.data.documents import Document, Span
from cardioner.data.labels import LabelSet
from cardioner.errors import UsageError
from cardioner.evaluation import score
from cardioner.training.sweep.curve import REPORT, CurveTraining, forecast, sizes_of
from cardioner.training.sweep.trial import Parts, Trial

LABELS = LabelSet.from_types(["DRUG"])
NOTES = [Document(f"n{number:03}", "on bisoprolol", (Span(3, 13, "DRUG"),)) for number in range(40)]


def power(notes: int) -> float:
    return 1 - 0.9 * notes**-0.4


def test_a_power_law_is_found_again_and_continued() -> None:
    noise = np.random.default_rng(1).normal(0, 0.002, (4, 3))
    sizes = (10, 20, 40, 80)
    found = forecast({size: list(power(size) + row) for size, row in zip(sizes, noise, strict=True)})
    assert found is not None
    assert found.exponent == pytest.approx(0.4, abs=0.03)
    assert (found.now, found.then) == pytest.approx((power(80), power(180)), abs=0.005)
    assert found.interval.low <= found.then <= found.interval.high
    assert found.clear


def test_scores_that_do_not_rise_promise_nothing() -> None:
    noise = np.random.default_rng(2).normal(0, 0.05, (4, 3))
    found = forecast({size: list(0.6 + row) for size, row in zip((10, 20, 40, 80), noise, strict=True)})
    assert found is not None
    assert not found.clear
    assert forecast({10: [0.1], 20: [0.2], 40: [0.3]}) is None, "a single training of each says nothing of its spread"
    assert forecast({10: [0.1, 0.2], 20: [0.2, 0.3]}) is None
    assert forecast({10: [0.9, 1.0], 20: [1.0, 1.0], 40: [1.0, 1.0]}) is not None


@pytest.mark.parametrize(("notes", "sizes"), [(200, [25, 50, 100, 200]), (39, [9, 19, 39]), (20, [5, 10, 20])])
def test_sizes_are_halved_while_enough_is_left(notes: int, sizes: list[int]) -> None:
    assert sizes_of(notes) == sizes
    with pytest.raises(UsageError, match="20 training notes or more; found 19"):
        sizes_of(19)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    """The trainings that were asked for, of which none takes time: each model is as good as a power law says."""
    asked: list[Trial] = []

    def train(trial: Trial, folder: Path) -> None:
        asked.append(trial)
        (folder / trial.name).mkdir(parents=True)
        (folder / trial.name / "config.json").write_text("{}")

    def read(path: Path) -> dict[str, Any]:
        if path.name == REPORT:
            return json_of(path)
        size = len(next(one for one in asked if one.name == path.parent.name).parts.train)
        right = round(100 * power(size))
        gold = [Document(f"t{number}", "on bisoprolol", (Span(3, 13, "DRUG"),)) for number in range(100)]
        scores = score(gold, [one if number < right else one.with_spans(()) for number, one in enumerate(gold)])
        return {"scores": {"test": scores.to_dict()}}

    monkeypatch.setattr(Trial, "train", train)
    monkeypatch.setattr("cardioner.training.sweep.curve.read_json", read)
    return asked


def json_of(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def test_parts_grow_within_a_seed_and_are_finished_before_they_are_trained_again(
    trained: list[Trial], tmp_path: Path
) -> None:
    make: Callable[..., CurveTraining] = CurveTraining
    training, parts = make(labels=LABELS, output_dir=tmp_path / "c", seeds=2), Parts(NOTES, (), NOTES[:3])
    curve = training.train(parts)
    by_seed: dict[int, list[set[str]]] = {}
    for trial in trained:
        by_seed.setdefault(trial.options.seed, []).append({document.id for document in trial.parts.train})
    for drawn in by_seed.values():
        assert [len(ids) for ids in drawn] == [5, 10, 20, 40]
        assert all(small < large for small, large in pairwise(drawn))
    assert by_seed[0][0] != by_seed[1][0]
    assert curve.sizes == [5, 10, 20, 40]
    assert curve.forecast is not None
    report = json_of(tmp_path / "c" / REPORT)
    assert [row["notes"] for row in report["trainings"]] == [5, 10, 20, 40] * 2
    assert report["forecast"]["more"] == 100
    assert "bisoprolol" not in (tmp_path / "c" / REPORT).read_text()


def test_a_curve_needs_notes_to_score() -> None:
    with pytest.raises(UsageError, match="give test or evaluation notes"):
        CurveTraining(labels=LABELS, output_dir=Path("nowhere")).train(Parts(NOTES))
