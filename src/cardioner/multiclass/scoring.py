"""Strict span scores of a model as it is now, on data of any accepted form."""

from __future__ import annotations

from typing import Any

import torch

from cardioner.documents import Document, Span
from cardioner.evaluation import Scores
from cardioner.evaluation import score as score_documents
from cardioner.multiclass.features import Collator, Dataset
from cardioner.multiclass.modeling import IGNORED
from cardioner.multiclass.options import Progress, counted
from cardioner.multiclass.tagging import to_runs
from cardioner.predictor import Predictor


def score(
    model: Any, tokenizer: Any, data: Dataset, *, batch_size: int = 16, progress: Progress | None = None
) -> Scores:
    """Tag the data as the saved model would, and count.

    Args:
        model: A model of `modeling.py`.
        tokenizer: Its tokenizer.
        data: Notes, or ready features, which are compared over their labelled positions.
        batch_size: Ready features that are tagged at a time.
        progress: Told how many characters of the notes are done.
    """
    if data.features is not None:
        return score_documents(data.documents, _tag_features(model, tokenizer, data, batch_size))
    advance = counted(progress, "scoring", sum(len(document.text) for document in data.documents))
    return score_documents(data.documents, Predictor(model, tokenizer).predict(data.documents, advance=advance))


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
