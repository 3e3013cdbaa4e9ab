"""Strict span scores of a model as it is now, on data of any accepted form."""

from __future__ import annotations

import operator
from functools import reduce
from typing import Any

import torch

from cardioner.documents import Document, Span
from cardioner.evaluation import Scores
from cardioner.evaluation import score as score_documents
from cardioner.multiclass.features import Collator, Dataset
from cardioner.multiclass.modeling import IGNORED
from cardioner.multiclass.options import Progress, counted
from cardioner.multiclass.processes import gather, process, processes
from cardioner.multiclass.tagging import to_runs
from cardioner.predictor import Predictor


def score(
    model: Any, tokenizer: Any, data: Dataset, *, batch_size: int = 16, progress: Progress | None = None
) -> Scores:
    """Tag the data as the saved model would, and count; several processes share the work.

    Args:
        model: A model of `modeling.py`.
        tokenizer: Its tokenizer.
        data: Notes, or ready features, which are compared over their labelled positions.
        batch_size: Ready features that are tagged at a time.
        progress: Told how many characters of the notes are done.
    """
    mine = _share(data)
    if mine.features is not None:
        scores = score_documents(mine.documents, _tag_features(model, tokenizer, mine, batch_size))
    else:
        advance = counted(progress, "scoring", sum(len(document.text) for document in mine.documents))
        scores = score_documents(mine.documents, Predictor(model, tokenizer).predict(mine.documents, advance=advance))
    return reduce(operator.add, gather(scores))


def _share(data: Dataset) -> Dataset:
    """What one of several processes scores; counts add up."""
    first, step = process(), processes()
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
