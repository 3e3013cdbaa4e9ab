"""What differs between the models of an ablation, and what is the same for all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cardioner.data.documents import Document
from cardioner.errors import DataError, UsageError, listed

if TYPE_CHECKING:
    from cardioner.data.labels import LabelSet

ARGMAX, VITERBI = "argmax", "viterbi"


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to build the model.

    Attributes:
        name: Also the name of its folder.
        use_crf: Whether a CRF stands on the head.
        mlp: Whether the head is an MLP.
    """

    name: str
    use_crf: bool
    mlp: bool

    @property
    def decoders(self) -> tuple[str, ...]:
        """The ways to decode that make sense, the model's own first; without a CRF there is nothing to search."""
        return (VITERBI, ARGMAX) if self.use_crf else (ARGMAX,)


_ALL = (
    Recipe("simple", use_crf=False, mlp=False),
    Recipe("mlp", use_crf=False, mlp=True),
    Recipe("crf", use_crf=True, mlp=False),
    Recipe("mlp-crf", use_crf=True, mlp=True),
)
RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in _ALL}


def recipes_named(names: Sequence[str]) -> tuple[Recipe, ...]:
    """Recipes by their names, in this order.

    Raises:
        UsageError: If there is no such recipe, one is named twice, or none is named.
    """
    known = ", ".join(RECIPES)
    if unknown := [name for name in names if name not in RECIPES]:
        raise UsageError(f"the recipes are {known}; found {', '.join(map(repr, unknown))}")
    if not names or len(set(names)) != len(names):
        raise UsageError(f"expected some of the recipes {known}, each once; found {', '.join(names) or 'none'}")
    return tuple(RECIPES[name] for name in names)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is the same for all recipes.

    Attributes:
        output: The folder that gets a model directory for each recipe, and `ablation.json`.
        train: Notes to learn from.
        evaluation: Notes that pick the best epoch; without any, the last epoch is taken.
        test: Notes to score on; without any, those of `evaluation` are.
        labels: The tags.
        hidden_layers: Widths of the MLP heads.
        settings: Arguments of `ModelTrainer` that no recipe decides.
        options: Fields of `TrainingOptions`, but for `resume`, `overwrite` and `progress`.
        samples: Samples of documents, and swaps of predictions, for intervals and differences.

    Raises:
        UsageError: If no notes are held out, or there is no sample.
        DataError: If two of the notes that are scored have the same id.
    """

    output: Path
    train: Sequence[Document]
    evaluation: Sequence[Document] = ()
    test: Sequence[Document] = ()
    labels: LabelSet
    hidden_layers: tuple[int, ...] = (256,)
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    samples: int = 10_000

    def __post_init__(self) -> None:
        if not self.held_out:
            raise UsageError("recipes are compared on held-out notes: give test notes, evaluation notes, or both")
        if self.samples < 1:
            raise UsageError(f"expected at least one sample, found {self.samples}")
        counts = Counter(document.id for document in self.held_out)
        if repeated := [name for name, count in counts.items() if count > 1]:
            raise DataError(f"each note that is scored needs an id of its own; found more often: {listed(repeated)}")

    @property
    def held_out(self) -> Sequence[Document]:
        """The notes that are scored."""
        return self.test or self.evaluation

    @property
    def flatters(self) -> bool:
        """Whether the epochs are picked on the notes that are scored."""
        return not self.test

    def described(self) -> dict[str, Any]:
        """The settings, ready for JSON: of an encoder's folder the name, not the path."""
        settings = {**self.settings, **self.options}
        if settings.get("model") is not None:
            place = Path(settings["model"])
            settings["model"] = place.name if place.exists() else str(place)
        settings["hidden_layers"] = self.hidden_layers
        settings["labels"] = self.labels.tags
        content: dict[str, Any] = json.loads(json.dumps(settings))
        return content
