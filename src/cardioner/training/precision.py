"""Whether a trained model may run in bfloat16, measured on notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cardioner.data.documents import Document
from cardioner.evaluation import score
from cardioner.multiclass.precision import computes_bfloat16
from cardioner.prediction.predictor import Predictor
from cardioner.training.options import Progress, counted

MOST_LOSS = 0.002
"""How much strict F1 may drop."""

LEAST_AGREEMENT = 0.995
"""The share of spans that must be the same."""


@dataclass(frozen=True, slots=True)
class Precision:
    """What running a model in bfloat16 costs.

    Attributes:
        dtype: `bfloat16` if it costs next to nothing, else `float32`.
        float32: Strict F1 in float32.
        bfloat16: Strict F1 in bfloat16.
        agreement: The share of spans that both find, of those of the one that finds more; 1.0 if none finds any.
    """

    dtype: str
    float32: float
    bfloat16: float
    agreement: float


def choose_precision(
    model: Any, tokenizer: Any, documents: Sequence[Document], *, progress: Progress | None = None
) -> Precision | None:
    """Tag notes in both precisions and compare; the model is left as it was.

    Args:
        model: A model of `modeling.py`.
        tokenizer: Its tokenizer.
        documents: Annotated notes that it was not trained on.
        progress: Called with how many characters are done.

    Returns:
        The measurement; `None` where the device has no instructions for bfloat16: nothing would be gained.
    """
    if not computes_bfloat16(model.device):
        return None
    own = model.config.inference_dtype
    tagged: dict[str, list[Document]] = {}
    try:
        for dtype in ("float32", "bfloat16"):
            model.config.inference_dtype = dtype
            advance = counted(progress, f"scoring in {dtype}", sum(len(document.text) for document in documents))
            found = {one.id: one for one in Predictor(model, tokenizer).predict(documents, advance=advance)}
            # An encoder that cannot be run in bfloat16 tags nothing: that is no agreement, and no reason to stop.
            tagged[dtype] = [found.get(document.id, document.with_spans(())) for document in documents]
    finally:
        model.config.inference_dtype = own
    f1 = {dtype: score(documents, side).strict.micro.f1 for dtype, side in tagged.items()}
    agreement = _agreement(*tagged.values())
    allowed = f1["float32"] - f1["bfloat16"] <= MOST_LOSS and agreement >= LEAST_AGREEMENT
    return Precision("bfloat16" if allowed else "float32", f1["float32"], f1["bfloat16"], agreement)


def _agreement(first: Sequence[Document], second: Sequence[Document]) -> float:
    """The share of spans that two predictions have in common."""
    spans = [
        Counter((document.id, span.start, span.end, span.label) for document in side for span in document.spans)
        for side in (first, second)
    ]
    most = max(found.total() for found in spans)
    return (spans[0] & spans[1]).total() / most if most else 1.0
