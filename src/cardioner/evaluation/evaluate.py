"""Everything that one evaluation finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cardioner.data.formats import notes_of
from cardioner.errors import UsageError, many
from cardioner.evaluation.attributes import AttributeScores, score_attributes
from cardioner.evaluation.calibration import Calibration, calibrate
from cardioner.evaluation.error_analysis import Analysis, analyse, mention_key
from cardioner.evaluation.matching import ATTRIBUTES, CRITERIA
from cardioner.evaluation.official import OFFICIAL, OfficialScores
from cardioner.evaluation.pairing import Annotated, Pairing, document_mentions, pair_documents
from cardioner.evaluation.scores import Scores, score_pairs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cardioner.data.formats import Notes
    from cardioner.evaluation.intervals import Intervals
    from cardioner.evaluation.scores import JsonValue, TypeCounts


@dataclass(frozen=True, slots=True, repr=False)
class Evaluation:
    """A prediction against gold.

    Attributes:
        pairing: The documents.
        scores: By every criterion.
        analysis: The errors, sorted.
        attributes: How often attributes of spans are right; `None` if neither side has any.
        calibration: How scores and truth agree; `None` if no predicted span has a score.
        intervals: Of every figure; `None` if none were asked for.
        official: What a shared task's scorer prints; `None` if none was asked for.
    """

    pairing: Pairing
    scores: Scores
    analysis: Analysis
    attributes: AttributeScores | None = None
    calibration: Calibration | None = None
    intervals: Intervals | None = None
    official: OfficialScores | None = None

    def __repr__(self) -> str:
        strict = self.scores.strict.micro
        return (
            f"Evaluation({many(self.scores.documents, 'document')}: strict precision {strict.precision:.3f}, "
            f"recall {strict.recall:.3f}, F1 {strict.f1:.3f})"
        )

    @property
    def by_criterion(self) -> dict[str, TypeCounts]:
        """The counts by every criterion; the attributes are one if gold spans have any."""
        found = {name: self.scores.by(name) for name in CRITERIA}
        if self.attributes is not None and self.attributes.per_attribute:
            found[ATTRIBUTES] = self.attributes.whole
        return found

    def to_dict(self) -> dict[str, JsonValue]:
        """Ready for JSON: the scores, and beside them what else was found; never text of a note."""
        extra = {name: getattr(self, name) for name in ("attributes", "calibration", "intervals", "official")}
        return {
            **self.scores.to_dict(),
            "errors": self.analysis.to_dict(),
            **{name: found.to_dict() for name, found in extra.items() if found is not None},
            "impossible": self.pairing.impossible,
            "misquoted": self.pairing.misquoted,
            **{name: len(getattr(self.pairing, name)) for name in ("without_prediction", "without_gold", "left_out")},
        }


def evaluate(
    gold: Notes,
    predicted: Notes,
    *,
    samples: int = 0,
    seed: int = 0,
    official: str | None = None,
    training: Notes | None = None,
) -> Evaluation:
    """Compare predicted spans with gold ones.

    Args:
        gold: The annotated documents: a corpus, documents, or the path of a corpus.
        predicted: The same documents, in any order, with predicted spans.
        samples: How many samples intervals are made of; 0 for no intervals.
        seed: Of the samples.
        official: A name in `OFFICIAL`.
        training: The notes that the model learned from, to score mentions it has seen and others apart.

    Raises:
        DataError: If the two sides cannot be paired.
        UsageError: If there is no such official scorer, or it cannot score these documents.
    """
    if official is not None and official not in OFFICIAL:
        raise UsageError(f"there is no official scorer {official!r}: expected one of {', '.join(sorted(OFFICIAL))}")
    sides = notes_of(gold, "gold"), notes_of(predicted, "predicted")
    pairing = pair_documents(*sides, leave_out_unknown=official == "multicardioner")
    pairs, intervals = pairing.pairs, None
    if samples:
        from cardioner.evaluation.intervals import bootstrap  # noqa: PLC0415 - numpy takes a moment to load

        intervals = bootstrap(pairs, samples=samples, seed=seed)
    known = None if training is None else mentions_of(notes_of(training, "training", require_annotations=False))
    return Evaluation(
        pairing=pairing,
        scores=score_pairs(pairs),
        analysis=analyse(pairs, known=known),
        attributes=score_attributes(pairs),
        calibration=calibrate(pairs),
        intervals=intervals,
        official=OFFICIAL[official](pairs) if official else None,
    )


def mentions_of(documents: Iterable[Annotated]) -> frozenset[str]:
    """The texts of the spans of documents, where they are known, without regard to case and white space."""
    mentions = (mention for document in documents for mention in document_mentions(document))
    return frozenset(mention_key(mention) for mention in mentions if mention is not None)
