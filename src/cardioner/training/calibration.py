"""The temperature that makes a model's span scores mean what they say.

One number divides every score of the model before probabilities are taken, so that no span ever changes (Guo et al.,
On Calibration of Modern Neural Networks, https://arxiv.org/abs/1706.04599). It is fitted to what users see: the scores
of predicted spans, and whether these spans are right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from typing import Any

from torch import Tensor

from cardioner._progress import Progress, silent
from cardioner.data.documents import Document, Span
from cardioner.evaluation.matching import Sides
from cardioner.multiclass.attributes import AttributeGroup, probabilities
from cardioner.multiclass.encoding import encode_notes, plan_windows
from cardioner.multiclass.inference import attribute_scores, decode_notes, emissions_of
from cardioner.multiclass.inference import score_spans as score_notes
from cardioner.multiclass.pipeline import runs_of
from cardioner.training.attributes import places_of

LEAST_SPANS = 20
"""The least number of right spans, and of wrong ones, to fit a temperature to."""

LEAST_ATTRIBUTES = 5
"""The same of spans with the right value of an attribute, and of those with a wrong one."""

MOST_ROWS = 1_000_000
"""Sub-tokens whose emissions are kept; further notes are left out of the fit."""

_LOWEST, _HIGHEST = math.log(0.05), math.log(20.0)
_STEPS = 24
_GOLDEN = (math.sqrt(5) - 1) / 2
_EDGE = 1e-7
_GROUP = 64


@dataclass(frozen=True, slots=True)
class Temperature:
    """What a fit found.

    Attributes:
        value: The temperature; 1.0 if there was too little to fit it to.
        spans: Predicted spans that it was fitted to.
        before: Mean negative log-likelihood of spans being right or wrong, at temperature 1.
        after: The same at `value`.
    """

    value: float
    spans: int
    before: float
    after: float


def fit_temperature(
    model: Any, tokenizer: Any, documents: Sequence[Document], *, progress: Progress = silent
) -> Temperature:
    """Fit the temperature of a trained model, which is left as it was.

    Args:
        model: A model of `modeling.py`.
        tokenizer: Its tokenizer.
        documents: Annotated notes that it was not trained on.
        progress: Called with how many notes are read, and how many temperatures are tried.
    """
    notes = _predicted(model, tokenizer, documents, progress)
    right = [hit for note in notes for hit in note.right]
    own, tried = model.config.score_temperature, count(1)

    def loss(logarithm: float) -> float:
        model.config.score_temperature = math.exp(logarithm)
        scores = score_notes(model, [note.emissions for note in notes], [note.spans for note in notes])
        progress("calibrating (temperatures)", next(tried), _STEPS + 4)  # two to begin with, and before and after
        return _mean_loss([score for row in scores for score in row], right)

    try:
        before = loss(0.0) if right else 0.0
        found = Temperature(1.0, len(right), before, before)
        if min(sum(right), len(right) - sum(right)) < LEAST_SPANS:
            return found
        best = _least(loss)
        after = loss(best)
    finally:
        model.config.score_temperature = own
    return Temperature(math.exp(best), len(right), before, after) if after < before else found


def fit_attribute_temperatures(
    model: Any, tokenizer: Any, documents: Sequence[Document], *, progress: Progress = silent
) -> dict[str, float]:
    """The temperatures with which the probabilities of attributes fit annotated spans best; the model is left as it is.

    Args:
        model: A model of `modeling.py` that knows attributes.
        tokenizer: Its tokenizer.
        documents: Annotated notes that it was not trained on.
        progress: Called with how many notes are read.

    Returns:
        By attribute; one on whose values the model is too seldom right or wrong is left out.
    """
    groups = [group._replace(temperature=1.0) for group in model.config.attribute_groups]
    scored = _scored_attributes(model, tokenizer, documents, progress)
    found = {}
    for group, place in zip(groups, count(), strict=False):
        rows = [(row, values[place]) for row, values in scored]
        if not any(value for _, value in rows):  # notes that say nothing of it
            continue
        likeliest = [max(chances := probabilities(row, group)) == chances[value] for row, value in rows]
        if min(sum(likeliest), len(rows) - sum(likeliest)) >= LEAST_ATTRIBUTES:
            found[group.name] = math.exp(_least(partial(_attribute_loss, rows, group)))
    return found


def _attribute_loss(rows: Sequence[tuple[list[float], int]], group: AttributeGroup, logarithm: float) -> float:
    """The negative log-likelihood of the values of spans at a temperature, given by its logarithm."""
    cooled = group._replace(temperature=math.exp(logarithm))
    return -sum(math.log(max(_EDGE, probabilities(row, cooled)[value])) for row, value in rows)


def _scored_attributes(
    model: Any, tokenizer: Any, documents: Sequence[Document], progress: Progress
) -> list[tuple[list[float], list[int]]]:
    """Of every annotated span the mean scores of values, and the place of its own value in each attribute."""
    groups, opening = model.config.attribute_groups, len(plan_windows(model.config, tokenizer).special.opening)
    remaining, read = iter(documents), 0
    found: list[tuple[list[float], list[int]]] = []
    while group := list(islice(remaining, _GROUP)):
        notes = encode_notes(tokenizer, [document.text for document in group])
        for document, note, rows in zip(group, notes, emissions_of(model, tokenizer, notes), strict=True):
            places = places_of(document.spans, note, groups)
            spans = [(first + opening, [0] * (stop - first)) for first, stop in places.spans]
            found += zip(attribute_scores(rows, spans, groups), places.values, strict=True)
        read += len(group)
        progress("calibrating attributes (notes)", read, len(documents))
    return found


@dataclass(frozen=True, slots=True)
class _Predicted:
    """A note's emissions, its predicted spans as rows and tags, and which of them are right."""

    emissions: Tensor
    spans: list[tuple[int, list[int]]]
    right: list[bool]


def _predicted(model: Any, tokenizer: Any, documents: Sequence[Document], progress: Progress) -> list[_Predicted]:
    """Tag the notes, some at a time, until enough emissions are kept."""
    special = plan_windows(model.config, tokenizer).special
    opening = len(special.opening)
    remaining, found, rows = iter(documents), [], 0
    while rows < MOST_ROWS and (group := list(islice(remaining, _GROUP))):
        notes = encode_notes(tokenizer, [document.text for document in group])
        emissions = emissions_of(model, tokenizer, notes)
        for document, note, logits, rows_of_tags in zip(
            group, notes, emissions, decode_notes(model, emissions), strict=True
        ):
            runs = [(tags, *found) for tags in rows_of_tags for found in runs_of(model, note, tags, special)]
            predicted = [Span(*offsets, run.label) for _, run, offsets in runs]
            hits = {index for _, index in Sides(document.spans, predicted).strict}
            places = [(run.first + opening, tags[run.first + opening : run.stop + opening]) for tags, run, _ in runs]
            found.append(_Predicted(logits, places, [index in hits for index in range(len(runs))]))
            rows += len(logits)
        progress("calibrating (notes)", len(found), len(documents))
    return found


def _mean_loss(scores: Sequence[float], right: Sequence[bool]) -> float:
    """The mean negative log-likelihood of spans being right, each with its score as the probability."""
    kept = (min(1 - _EDGE, max(_EDGE, score)) for score in scores)
    losses = [-math.log(score if hit else 1 - score) for score, hit in zip(kept, right, strict=True)]
    return sum(losses) / len(losses)


def _least(loss: Callable[[float], float]) -> float:
    """Where a function of one valley is least, by golden sections."""
    low, high = _LOWEST, _HIGHEST
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(_STEPS):
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = loss(right)
    return (low + high) / 2
