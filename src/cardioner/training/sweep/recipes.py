"""The recipes of an ablation: heads with and without a CRF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cardioner.errors import UsageError

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

    def arguments(self, hidden_layers: Sequence[int]) -> dict[str, Any]:
        """The arguments of `ModelTrainer` that the recipe decides; `hidden_layers` are the widths of an MLP."""
        return {"use_crf": self.use_crf, "classifier_hidden_layers": hidden_layers if self.mlp else None}


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
