"""Several recipes trained on the same notes: what each costs, and what it gives."""

from cardioner.training.sweep.outcomes import Ablation, Decoding, Failure, Outcome
from cardioner.training.sweep.process import Training
from cardioner.training.sweep.recipes import ARGMAX, RECIPES, VITERBI, Plan, Recipe, recipes_named
from cardioner.training.sweep.runs import REPORT, ablate

__all__ = [
    "ARGMAX",
    "RECIPES",
    "REPORT",
    "VITERBI",
    "Ablation",
    "Decoding",
    "Failure",
    "Outcome",
    "Plan",
    "Recipe",
    "Training",
    "ablate",
    "recipes_named",
]
