"""The scores of several trainings, and their summary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from cardioner.evaluation import Scores
from cardioner.model_dir.manifest import installed_versions

FIGURES = ("precision", "recall", "f1")


@dataclass(frozen=True, slots=True)
class Member:
    """One of the trainings.

    Attributes:
        name: Of its model directory in the common folder.
        seed: Its seed.
        fold: The fold that it is scored on, from 1; `None` without folds.
        learned: How many documents it learns from.
        epoch: The epoch that was saved, from 1; 0 before, and where no evaluation data picked one.
        scores: Its scores; `None` before it is finished.
    """

    name: str
    seed: int
    fold: int | None
    learned: int
    epoch: int = 0
    scores: Scores | None = None

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        plain = {name: getattr(self, name) for name in ("name", "seed", "fold", "learned", "epoch")}
        return {**plain, "scores": None if self.scores is None else self.scores.to_dict()}


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of the trainings.

    Attributes:
        request: What was asked for: by this, a later run knows whether it is the same.
        scored_on: What the members were scored on: `held-out folds`, `test notes` or `evaluation notes`.
        members: In the order in which they were trained.
    """

    request: Mapping[str, Any]
    scored_on: str
    members: tuple[Member, ...]

    @property
    def complete(self) -> bool:
        """Whether all members are finished."""
        return all(member.scores is not None for member in self.members)

    @property
    def mean(self) -> dict[str, float]:
        """The members' mean strict micro precision, recall and F1."""
        return {name: mean(self._figures(name)) for name in FIGURES}

    @property
    def deviation(self) -> dict[str, float] | None:
        """Their sample standard deviation (n - 1); `None` for a single member."""
        return {name: stdev(self._figures(name)) for name in FIGURES} if len(self.members) > 1 else None

    @property
    def pooled(self) -> dict[int, Scores]:
        """For each seed the summed counts of all folds: every document once; empty without folds."""
        found: dict[int, Scores] = {}
        for member in self.members:
            if member.fold is not None and member.scores is not None:
                before = found.get(member.seed)
                found[member.seed] = member.scores if before is None else before + member.scores
        return found

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON: no text of a document, and no id."""
        figures = {"mean": self.mean, "deviation": self.deviation} if self.complete else {}
        pooled = {str(seed): scores.to_dict() for seed, scores in self.pooled.items()} if self.complete else {}
        return {
            "complete": self.complete,
            "request": dict(self.request),
            "scored_on": self.scored_on,
            "members": [member.to_dict() for member in self.members],
            **figures,
            **({"pooled": pooled} if pooled else {}),
            "versions": installed_versions(),
        }

    def _figures(self, name: str) -> list[float]:
        return [getattr(member.scores.strict.micro, name) for member in self.members if member.scores is not None]
