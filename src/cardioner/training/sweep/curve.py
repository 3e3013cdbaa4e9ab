"""The learning curve of a corpus: how good a tagger of a growing part of the notes is, and what more notes would bring.

The error falls roughly as a power of the amount of data: Hestness et al. 2017, https://arxiv.org/abs/1712.00409.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cardioner.data.documents import Document, fingerprint
from cardioner.data.labels import LabelSet
from cardioner.errors import UsageError
from cardioner.evaluation import Scores
from cardioner.evaluation.intervals import Interval
from cardioner.model_dir.json_files import read_json
from cardioner.model_dir.layout import TRAINING_ARGS
from cardioner.training.options import TrainingOptions
from cardioner.training.run_metadata import WEIGHTLESS
from cardioner.training.sweep.runner import Sweep, settings_of
from cardioner.training.sweep.trial import Parts, Trial

REPORT = "curve.json"
SEEDS = 3
"""Trainings for each number of notes, where nothing else is asked for."""
LEAST = 5
"""The fewest notes to train on."""
MORE = 100
"""Notes that the forecast adds."""
_SHARES = (8, 4, 2, 1)
"""All notes are divided by these."""
_SAMPLES = 2000
_LEAST_ERROR = 1e-3
"""The least error that a logarithm is taken of."""


@dataclass(frozen=True, slots=True)
class Point:
    """One training.

    Attributes:
        notes: How many notes it had.
        mentions: How many spans these have.
        seed: Which notes they are, and the seed of the training.
        scores: Strict and other scores on the held-out notes.
    """

    notes: int
    mentions: int
    seed: int
    scores: Scores

    @property
    def f1(self) -> float:
        """Strict micro F1."""
        return self.scores.strict.micro.f1


@dataclass(frozen=True, slots=True)
class Forecast:
    """What `more` notes would bring if the error went on falling as it did; intervals are of resampled trainings.

    Attributes:
        more: Notes that are added to all.
        now: Strict F1 of the fitted curve with all notes.
        then: The same with the added ones.
        interval: Of `then`.
        gain: The interval of the difference.
        exponent: The error is proportional to the number of notes to the power of minus this.
    """

    more: int
    now: float
    then: float
    interval: Interval
    gain: Interval
    exponent: float

    @property
    def clear(self) -> bool:
        """Whether the resampled trainings agree that more notes help."""
        return self.gain.low > 0


@dataclass(frozen=True, slots=True)
class Curve:
    """The trainings by number of notes and seed, and the forecast; `None` where there are too few to fit one."""

    request: Mapping[str, Any]
    scored_on: str
    points: tuple[Point, ...]

    @property
    def sizes(self) -> list[int]:
        """The numbers of notes."""
        return sorted({point.notes for point in self.points})

    def of_size(self, notes: int) -> list[Point]:
        """The trainings on so many notes."""
        return [point for point in self.points if point.notes == notes]

    @property
    def forecast(self) -> Forecast | None:
        """What more notes would bring."""
        return forecast({size: [point.f1 for point in self.of_size(size)] for size in self.sizes})

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON: no text of a document, and no id."""
        seen = self.forecast
        plain = ("notes", "mentions", "seed", "f1")
        return {
            "request": dict(self.request),
            "scored_on": self.scored_on,
            "trainings": [
                {**{name: getattr(point, name) for name in plain}, "scores": point.scores.to_dict()}
                for point in self.points
            ],
            "forecast": None
            if seen is None
            else {name: getattr(seen, name) for name in ("more", "now", "then", "interval", "gain", "exponent")},
        }


def forecast(found: Mapping[int, Sequence[float]], *, more: int = MORE, seed: int = 0) -> Forecast | None:
    """Fit `1 - F1 = a * notes ** -b` and continue it.

    Args:
        found: Strict F1 of each training, by number of notes.
        more: Notes that are added to the largest number.
        seed: Of the resampling of trainings, within each number of notes.

    Returns:
        The forecast; `None` with fewer than three numbers of notes, or a single training for each.
    """
    if len(found) < 3 or min(map(len, found.values())) < 2:
        return None
    sizes = np.array(sorted(found), dtype=float)
    ends = np.log([sizes[-1], sizes[-1] + more])
    errors = [np.log(np.maximum(1 - np.array(found[int(size)]), _LEAST_ERROR)) for size in sizes]

    def fit(means: Any) -> tuple[float, Any]:
        slope, start = np.polyfit(np.log(sizes), means, 1)
        return -float(slope), 1 - np.exp(start + slope * ends)

    exponent, (now, then) = fit([group.mean() for group in errors])
    random_numbers = np.random.default_rng(seed)
    drawn = [fit([random_numbers.choice(group, len(group)).mean() for group in errors])[1] for _ in range(_SAMPLES)]
    ranges = np.quantile([[late, late - early] for early, late in drawn], (0.025, 0.975), axis=0)
    interval, gain = (Interval(float(low), float(high)) for low, high in ranges.T)
    return Forecast(more, float(now), float(then), interval, gain, exponent)


def sizes_of(notes: int) -> list[int]:
    """How many notes the trainings get: an eighth of all, a fourth, a half, all.

    Raises:
        UsageError: If they are too few for a curve.
    """
    sizes = sorted({size for share in _SHARES if (size := notes // share) >= LEAST})
    if len(sizes) < 3:
        raise UsageError(f"a curve needs {LEAST * 4} training notes or more; found {notes}")
    return sizes


Watch = Callable[[str, Point | None], None]
"""Called with the name of a training when it starts, and with its point when it is finished."""


@dataclass(frozen=True, kw_only=True)
class CurveTraining:
    """Trainings on growing parts of the notes; the smaller ones are inside the larger ones of the same seed.

    Attributes:
        labels: The tags, the same for all.
        output_dir: The folder for a model directory per training, and `curve.json`.
        seeds: Trainings for each number of notes, with seeds from that of the options on.
        arguments: Of `ModelTrainer`, but tags, output directory and options.
        options: Of every training, but for the seed; `resume` keeps what is finished, and resumes the others.
    """

    labels: LabelSet
    output_dir: Path
    seeds: int = SEEDS
    arguments: Mapping[str, Any] = field(default_factory=dict)
    options: TrainingOptions = field(default_factory=TrainingOptions)

    def train(self, parts: Parts, *, watch: Watch | None = None) -> Curve:
        """Train, each scored on the test notes or, without any, on the evaluation notes.

        Raises:
            UsageError: If no notes are held out, the notes are too few, or `resume` finds other settings or data.
            OutputError: If the folder holds something else, or cannot be written.
        """
        if not parts.evaluation and not parts.test:
            raise UsageError("a curve needs scores: give test or evaluation notes")
        part = "test" if parts.test else "evaluation"
        known = {"labels": self.labels.tags, "notes": fingerprint(parts)}
        request = settings_of(self.arguments, self.options, without=WEIGHTLESS, **known)
        asked = {name: getattr(self.options, name) for name in ("resume", "overwrite")}
        sweep = Sweep(folder=self.output_dir, state=REPORT, request=request, **asked)
        runs = [
            (f"notes-{size}-seed-{seed}", size, seed)
            for seed in range(self.options.seed, self.options.seed + self.seeds)
            for size in sizes_of(len(parts.train))
        ]
        names = [name for name, *_ in runs]
        before = sweep.read()
        sweep.claim(names, known=names if before else ())
        curve = Curve(request, f"{part} notes", ())
        sweep.write(REPORT, curve.to_dict())
        for name, size, seed in runs:
            point = self._point(sweep, name, self._drawn(parts.train, size, seed), parts, seed, part, watch)
            curve = replace(curve, points=(*curve.points, point))
            sweep.write(REPORT, curve.to_dict())
        return curve

    @staticmethod
    def _drawn(documents: Sequence[Document], size: int, seed: int) -> list[Document]:
        """So many notes; those of a smaller number come first in those of a larger one."""
        ordered = sorted(documents, key=lambda document: document.id)
        return [ordered[index] for index in np.random.default_rng(seed).permutation(len(ordered))[:size]]

    def _point(  # noqa: PLR0913 - what makes a training
        self,
        sweep: Sweep,
        name: str,
        documents: list[Document],
        parts: Parts,
        seed: int,
        part: str,
        watch: Watch | None,
    ) -> Point:
        """A training, if it was not finished before, and its scores."""
        show = watch or (lambda name, point: None)  # noqa: ARG005 - the contract
        show(name, None)
        if not sweep.is_finished(name):
            options = replace(self.options, seed=seed, resume=False, overwrite=False)  # the sweep decides these two
            trial = Trial(
                name=name,
                labels=self.labels,
                parts=parts._replace(train=documents),
                arguments=self.arguments,
                options=options,
            )
            sweep.ready(trial).train(self.output_dir)
        record = read_json(self.output_dir / name / TRAINING_ARGS)
        mentions = sum(len(document.spans) for document in documents)
        point = Point(len(documents), mentions, seed, Scores.from_dict(record["scores"][part]))
        show(name, point)
        return point
