"""How good predicted spans are: integer counts first, shares of them second."""

from cardioner.evaluation.matching import Counts, match_strict
from cardioner.evaluation.scores import Averages, Scores, score_strict

__all__ = ["Averages", "Counts", "Scores", "match_strict", "score_strict"]
