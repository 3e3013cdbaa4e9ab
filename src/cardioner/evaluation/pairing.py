"""Gold documents and their predictions, paired by id."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from cardioner.data.documents import Annotations, Document
from cardioner.errors import DataError, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cardioner.data.documents import ImpossibleSpan, Span

Annotated: TypeAlias = "Document | Annotations"


@dataclass(frozen=True, slots=True)
class Pair:
    """A document as people annotated it, and its prediction."""

    gold: Annotated
    predicted: Annotated

    @property
    def id(self) -> str:
        """The document's id."""
        return self.gold.id

    @property
    def impossible(self) -> tuple[ImpossibleSpan, ...]:
        """What the prediction marks although it cannot be a span: it matches nothing."""
        return _impossible(self.predicted)

    @property
    def marked(self) -> tuple[Span | ImpossibleSpan, ...]:
        """Everything that either side marks."""
        return (*self.gold.spans, *self.predicted.spans, *self.impossible)

    @property
    def text(self) -> str | None:
        """The text, where one of the sides has it."""
        texts = (side.text for side in (self.gold, self.predicted) if isinstance(side, Document))
        return next(texts, None)

    @property
    def mentions(self) -> tuple[tuple[str | None, ...], tuple[str | None, ...]]:
        """The texts of the gold and of the predicted spans, where they are known."""
        return document_mentions(self.gold, self.text), document_mentions(self.predicted, self.text)


def document_mentions(side: Annotated, text: str | None = None) -> tuple[str | None, ...]:
    """The text of each span; `None` where neither the document nor the given text of its note has it."""
    if isinstance(side, Document):
        return tuple(map(side.text_of, side.spans))
    if text is None:
        return side.mentions
    whole = Document(side.id, text)
    return tuple(
        whole.text_of(span) if mention is None else mention
        for span, mention in zip(side.spans, side.mentions, strict=True)
    )


@dataclass(frozen=True, slots=True)
class Pairing:
    """Every gold document with its prediction.

    Attributes:
        pairs: Sorted by id.
        without_prediction: Ids that a prediction without texts does not name: counted as nothing predicted.
        without_gold: Ids that gold spans without texts do not name: counted as nothing to find.
        left_out: Ids of predicted documents that the gold documents do not have, left out.
        by_text: Whether documents were paired by their texts, as no id was on both sides.
    """

    pairs: tuple[Pair, ...] = field(repr=False)
    without_prediction: tuple[str, ...] = ()
    without_gold: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    by_text: bool = False

    @property
    def impossible(self) -> int:
        """How many rows of the predictions cannot be a span."""
        return sum(len(pair.impossible) for pair in self.pairs)

    @property
    def misquoted(self) -> int:
        """How many predicted spans have another text in their file than the gold document has at their place."""
        return sum(map(_misquoted, self.pairs))


def _misquoted(pair: Pair) -> int:
    if not isinstance(pair.gold, Document) or not isinstance(pair.predicted, Annotations):
        return 0
    read = zip(pair.predicted.mentions, map(pair.gold.text_of, pair.predicted.spans), strict=True)
    return sum(said is not None and said.split() != held.split() for said, held in read)


def pair_documents(
    gold: Iterable[Annotated], predicted: Iterable[Annotated], *, leave_out_unknown: bool = False
) -> Pairing:
    """Pair documents by id; where no id is on both sides, but the same texts are in the same order, by text.

    Files without ids, such as token files, get ids from their names, which differ.
    Spans without texts name only documents that have spans. So a document that they do not name has
    none; everything else has to be on both sides.

    Args:
        gold: The annotated documents.
        predicted: The same documents, in any order, with predicted spans.
        leave_out_unknown: Leave predicted documents out that the gold documents do not have, and name them.

    Raises:
        DataError: If the two sides do not have the same ids, each once, or if the texts of an id differ.
    """
    gold, predicted = list(gold), list(predicted)
    by_text = _same_texts(gold, predicted)
    if by_text:
        predicted = [replace(side, id=other.id) for side, other in zip(predicted, gold, strict=True)]
    wanted, found = ({document.id: document for document in side} for side in (gold, predicted))
    unpredicted = sorted(wanted.keys() - found.keys())
    unknown = sorted(found.keys() - wanted.keys())
    gold_alone, predicted_alone = bool(gold) and _spans_alone(gold), _spans_alone(predicted)
    left_out = unknown if leave_out_unknown and not gold_alone else []
    common = sorted(wanted.keys() & found.keys())
    _refuse(
        {
            "gold documents that appear more than once": _repeated(gold),
            "predicted documents that appear more than once": _repeated(predicted),
            "gold documents without a prediction": [] if predicted_alone else unpredicted,
            "predicted documents without a gold document": [] if gold_alone or left_out else unknown,
            "documents with another text in the prediction, so that offsets cannot be compared": [
                name for name in common if _texts_differ(wanted[name], found[name])
            ],
            "documents with spans that end after the text": [
                name for name in common if _too_long(wanted[name], found[name])
            ],
            "gold documents that mark what cannot be a span": [side.id for side in gold if _impossible(side)],
        }
    )
    ids = sorted((wanted.keys() | found.keys()) - set(left_out))
    return Pairing(
        tuple(Pair(wanted.get(name, Annotations(name)), found.get(name, Annotations(name))) for name in ids),
        without_prediction=tuple(unpredicted),
        without_gold=() if left_out else tuple(unknown),
        left_out=tuple(left_out),
        by_text=by_text,
    )


def pair_with_each(gold: Iterable[Annotated], *predictions: Iterable[Annotated]) -> tuple[Pairing, ...]:
    """Pair gold documents with each of several predictions, so that all have the same documents in the same order.

    Raises:
        DataError: If one of them cannot be paired: see `pair_documents`.
    """
    gold = list(gold)
    found = [pair_documents(gold, predicted) for predicted in predictions]
    nothing = {pair.id: Annotations(pair.id) for pairing in found for pair in pairing.pairs}
    aligned = []
    for pairing in found:
        own = {pair.id: pair for pair in pairing.pairs}
        pairs = tuple(own.get(name, Pair(nothing[name], nothing[name])) for name in sorted(nothing))
        aligned.append(replace(pairing, pairs=pairs))
    return tuple(aligned)


def _refuse(problems: dict[str, Sequence[str]]) -> None:
    """Refuse documents that cannot be paired, naming all of them together."""
    named = [f"{problem} ({len(ids)}): {listed(ids)}" for problem, ids in problems.items() if ids]
    if named:
        found = "; ".join(named)
        raise DataError(f"expected each gold document once with one prediction of the same text; found {found}")


def _same_texts(gold: Sequence[Annotated], predicted: Sequence[Annotated]) -> bool:
    """Whether no id is on both sides, but all texts are, in the same order."""
    texts = [[document.text for document in side if isinstance(document, Document)] for side in (gold, predicted)]
    ids = [{document.id for document in side} for side in (gold, predicted)]
    return bool(texts[0]) and ids[0].isdisjoint(ids[1]) and texts[0] == texts[1] and len(texts[0]) == len(gold)


def _spans_alone(side: Sequence[Annotated]) -> bool:
    return all(isinstance(document, Annotations) for document in side)


def _impossible(side: Annotated) -> tuple[ImpossibleSpan, ...]:
    return side.impossible if isinstance(side, Annotations) else ()


def _repeated(side: Sequence[Annotated]) -> list[str]:
    return [name for name, count in Counter(document.id for document in side).items() if count > 1]


def _texts_differ(gold: Annotated, predicted: Annotated) -> bool:
    return isinstance(gold, Document) and isinstance(predicted, Document) and gold.text != predicted.text


def _too_long(*sides: Annotated) -> bool:
    """Whether spans alone do not fit the text that the other side has; a document's own spans fit its text."""
    lengths = [len(side.text) for side in sides if isinstance(side, Document)]
    if len(lengths) != 1:
        return False
    return any(span.end > lengths[0] for side in sides for span in side.spans)
