"""Everything that one evaluation finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cardioner.errors import UsageError
from cardioner.evaluation.calibration import Calibration, calibrate
from cardioner.evaluation.error_analysis import Analysis, analyse, mention_key
from cardioner.evaluation.official import OFFICIAL, OfficialScores
from cardioner.evaluation.pairing import Annotated, Pair, Pairing, pair_documents
from cardioner.evaluation.scores import Scores, score_pairs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cardioner.data.documents import Document
    from cardioner.evaluation.intervals import Intervals
    from cardioner.evaluation.scores import JsonValue


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A prediction against gold.

    Attributes:
        pairing: The documents.
        scores: By every criterion.
        analysis: The errors, sorted.
        calibration: How scores and truth agree; `None` if no predicted span has a score.
        intervals: Of every figure; `None` if none were asked for.
        official: What a shared task's scorer prints; `None` if none was asked for.
    """

    pairing: Pairing
    scores: Scores
    analysis: Analysis
    calibration: Calibration | None = None
    intervals: Intervals | None = None
    official: OfficialScores | None = None

    def to_dict(self) -> dict[str, JsonValue]:
        """Ready for JSON: the scores, and beside them what else was found; never text of a note."""
        content: dict[str, Any] = {**self.scores.to_dict(), "errors": self.analysis.to_dict()}
        for name in ("calibration", "intervals", "official"):
            found = getattr(self, name)
            if found is not None:
                content[name] = found.to_dict()
        content["impossible"] = self.pairing.impossible
        for name in ("without_prediction", "without_gold", "set_aside"):
            content[name] = len(getattr(self.pairing, name))
        return content


def evaluate(
    gold: Iterable[Annotated],
    predicted: Iterable[Annotated],
    *,
    samples: int = 0,
    seed: int = 0,
    official: str | None = None,
    training: Iterable[Document] | None = None,
) -> Evaluation:
    """Compare predicted documents with gold ones.

    Args:
        gold: The annotated documents.
        predicted: The same documents, in any order, with predicted spans.
        samples: How many samples intervals are made of; 0 for no intervals.
        seed: Of the samples.
        official: A name in `OFFICIAL`.
        training: The notes that the model learned from, which tell mentions it has seen from others.

    Raises:
        DataError: If the two sides cannot be paired.
        UsageError: If there is no such official scorer, or it cannot score these documents.
    """
    if official is not None and official not in OFFICIAL:
        raise UsageError(f"there is no official scorer {official!r}: expected one of {', '.join(sorted(OFFICIAL))}")
    pairing = pair_documents(gold, predicted, set_unknown_aside=official is not None)
    pairs = pairing.pairs
    return Evaluation(
        pairing=pairing,
        scores=score_pairs(pairs),
        analysis=analyse(pairs, known=None if training is None else mentions_of(training)),
        calibration=calibrate(pairs),
        intervals=_intervals(pairs, samples=samples, seed=seed) if samples else None,
        official=OFFICIAL[official](pairs) if official else None,
    )


def _intervals(pairs: Sequence[Pair], *, samples: int, seed: int) -> Intervals:
    from cardioner.evaluation.intervals import bootstrap  # noqa: PLC0415 - numpy takes a moment to load

    return bootstrap(pairs, samples=samples, seed=seed)


def mentions_of(documents: Iterable[Document]) -> frozenset[str]:
    """What the spans of documents read, without regard to case and white space."""
    return frozenset(mention_key(document.text_of(span)) for document in documents for span in document.spans)
