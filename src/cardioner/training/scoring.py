"""Strict span scores of a model as it is now, on data of any accepted form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from accelerate.utils import gather_object

from cardioner._progress import Progress, silent
from cardioner.data.documents import Annotations, Document, Span
from cardioner.errors import TrainingError
from cardioner.evaluation import AttributeScores, Scores, pair_documents, score_attributes, score_pairs
from cardioner.evaluation.attributes import of_names
from cardioner.evaluation.intervals import Intervals, bootstrap
from cardioner.evaluation.pairing import Pair
from cardioner.multiclass.modeling import IGNORED
from cardioner.multiclass.tagging import to_runs
from cardioner.prediction.predictor import Predictor
from cardioner.training.distributed import rank, world_size
from cardioner.training.features import Collator, Dataset
from cardioner.training.options import by_characters


class HeldOut(NamedTuple):
    """How good a model is on held-out data, and how sure that is; `attributes` of a model that knows some."""

    scores: Scores
    intervals: Intervals
    attributes: AttributeScores | None = None

    @classmethod
    def of(cls, pairs: Sequence[Pair], model: Any) -> HeldOut:
        """Score pairs of gold notes and what a model found in them."""
        said = score_attributes(of_names(pairs, model.config.attributes))
        return cls(score_pairs(pairs), bootstrap(pairs), said)


def tag_dataset(
    model: Any, tokenizer: Any, data: Dataset, *, batch_size: int = 16, progress: Progress = silent
) -> Sequence[Pair]:
    """All documents and what the saved model would find in them, in every process; several share the work.

    Args:
        model: A model of `modeling.py`.
        tokenizer: Its tokenizer.
        data: Notes, or ready features, which are compared over their labelled positions.
        batch_size: Ready features that are tagged at a time.
        progress: Called with how many characters of the notes are done.
    """
    mine = _share(data)
    if mine.features is not None:
        tagged = _tag_features(model, tokenizer, mine, batch_size)
    else:
        advance = by_characters(progress, "scoring", mine.documents)
        predictions = Predictor(model, tokenizer).predict(mine.documents, advance=advance)
        tagged = list(predictions)
        for name, problem in predictions.problems:  # without spans, such a note would count as one with none
            raise TrainingError(f"the model cannot be scored on note {name!r}: {problem}")
    # Texts stay where they are: other processes get the spans alone.
    found = [Annotations(one.id, one.spans, (None,) * len(one.spans)) for one in tagged]
    return pair_documents(data.documents, gather_object(found)).pairs


def _share(data: Dataset) -> Dataset:
    """What one of several processes tags."""
    first, step = rank(), world_size()
    features = None if data.features is None else data.features[first::step]
    return Dataset(data.documents[first::step], features)


def _tag_features(model: Any, tokenizer: Any, data: Dataset, batch_size: int) -> list[Document]:
    """Predicted stand-ins of ready features: spans over their labelled positions."""
    assert data.features is not None
    model.eval()
    collate = Collator(tokenizer.pad_token_id or 0)
    tagged: list[Document] = []
    for start in range(0, len(data.features), batch_size):
        batch = collate(data.features[start : start + batch_size])
        labelled = batch.pop("labels").ne(IGNORED)
        with torch.inference_mode():
            logits = model(**{name: value.to(model.device) for name, value in batch.items()}).logits
            decoded = model.decode(logits, labelled.to(model.device))
        for document, tags in zip(data.documents[start : start + batch_size], decoded, strict=True):
            runs = to_runs([model.config.id2label[tag] for tag in tags])
            tagged.append(document.with_spans(Span(run.first, run.stop, run.label) for run in runs))
    return tagged
