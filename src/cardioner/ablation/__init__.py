"""Several recipes trained on the same notes: what each costs, and what it gives."""

from cardioner.ablation.outcomes import Ablation, Decoding, Failure, Outcome
from cardioner.ablation.process import Training
from cardioner.ablation.recipes import ARGMAX, RECIPES, VITERBI, Plan, Recipe, recipes_named
from cardioner.ablation.runs import REPORT, ablate

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
