"""How good predicted spans are: integer counts first, shares of them second."""

from cardioner.evaluation.attributes import AttributeCounts, AttributeScores, score_attributes
from cardioner.evaluation.calibration import Calibration, calibrate
from cardioner.evaluation.error_analysis import Analysis, analyse
from cardioner.evaluation.evaluate import Evaluation, evaluate
from cardioner.evaluation.matching import CRITERIA
from cardioner.evaluation.pairing import Pair, Pairing, pair_documents
from cardioner.evaluation.scores import Averages, Counts, Scores, TypeCounts, score, score_pairs

__all__ = [
    "CRITERIA",
    "Analysis",
    "AttributeCounts",
    "AttributeScores",
    "Averages",
    "Calibration",
    "Counts",
    "Evaluation",
    "Pair",
    "Pairing",
    "Scores",
    "TypeCounts",
    "analyse",
    "calibrate",
    "evaluate",
    "pair_documents",
    "score",
    "score_attributes",
    "score_pairs",
]
