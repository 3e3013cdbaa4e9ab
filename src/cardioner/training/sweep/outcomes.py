"""The results of the recipes of an ablation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from cardioner.evaluation.comparison import Comparison
from cardioner.evaluation.intervals import Intervals, bootstrap
from cardioner.evaluation.pairing import Pair
from cardioner.evaluation.scores import Scores, score_pairs
from cardioner.training.sweep.process import Cost
from cardioner.training.sweep.recipes import Recipe


class Decoding(NamedTuple):
    """What one way to decode gives.

    Attributes:
        scores: Of the held-out notes.
        intervals: Of every figure.
        speed: Sub-tokens per second, tagging the held-out notes.
    """

    scores: Scores
    intervals: Intervals
    speed: float

    @classmethod
    def of(cls, pairs: Sequence[Pair], speed: float, *, samples: int, seed: int) -> Decoding:
        """Score pairs of gold and predicted notes."""
        return cls(score_pairs(pairs), bootstrap(pairs, samples=samples, seed=seed), speed)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        intervals, scores = self.intervals.to_dict(), self.scores.to_dict()
        return {"intervals": intervals, "scores": scores, "sub_tokens_per_second": self.speed}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a recipe came to.

    Attributes:
        recipe: The recipe.
        training: What it cost.
        decodings: By decoder; only those that make sense for the recipe, the model's own first.
        disk: Size of the model directory in bytes.
        untagged: Held-out notes that could not be tagged, and count as notes in which nothing was found.
        difference: This recipe less the first one, each decoded in its own way; `None` for the first one.
    """

    recipe: Recipe
    training: Cost
    decodings: Mapping[str, Decoding]
    disk: int
    untagged: int
    difference: Comparison | None

    @property
    def own(self) -> Decoding:
        """What the model gives when it is decoded in its own way."""
        return self.decodings[self.recipe.decoders[0]]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "use_crf": self.recipe.use_crf,
            "mlp": self.recipe.mlp,
            "training": asdict(self.training),
            "decodings": {name: found.to_dict() for name, found in self.decodings.items()},
            "disk": self.disk,
            "untagged": self.untagged,
            "difference": None if self.difference is None else self.difference.to_dict(),
        }


class Failure(NamedTuple):
    """A recipe that failed, why (never a word of a note), and the exit code of the kind of error."""

    recipe: Recipe
    reason: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class Ablation:
    """All recipes.

    Attributes:
        outcomes: Of the recipes that did not fail, in the order in which they were asked for.
        failures: The recipes that did.
        documents: How many notes were scored.
        flatters: Whether the epochs were picked on these very notes.
        settings: What was the same for all.
    """

    outcomes: tuple[Outcome, ...]
    failures: tuple[Failure, ...]
    documents: int
    flatters: bool
    settings: Mapping[str, Any]

    @property
    def scored_on(self) -> str:
        """The part of the data that was scored."""
        return "evaluation" if self.flatters else "test"

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON: no text, and no id of a note."""
        return {
            "documents": self.documents,
            "scored_on": self.scored_on,
            "settings": dict(self.settings),
            "order": [outcome.recipe.name for outcome in self.outcomes],
            "recipes": {outcome.recipe.name: outcome.to_dict() for outcome in self.outcomes},
            "failures": {failure.recipe.name: failure.reason for failure in self.failures},
        }
