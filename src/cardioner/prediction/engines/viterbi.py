"""What follows the emissions, in numpy: the best legal tags of a CRF (Viterbi), and the probability of a span.

The light engine and every ONNX export run this file, which imports numpy alone. Sums are taken in double precision.
Batches are `(batch, length, tags)`, padded behind each row's end with anything. Each tag group has a field of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_FORBIDDEN = -1e30
"""The score of an illegal transition: no sum of real scores reaches it, and no sum of it overflows."""


class CRF(NamedTuple):
    """A linear-chain conditional random field, or one for each type; illegal transitions have a score no sum reaches.

    Attributes:
        start: The score of each tag in the first place, `(fields, tags)`.
        transitions: The score of each tag followed by each other, `(fields, tags, tags)`.
        end: The score of each tag in the last place, `(fields, tags)`.
        continues: Per tag and next tag, whether the second goes on with the span of the first, `(fields, tags, tags)`.
    """

    start: Floats
    transitions: Floats
    end: Floats
    continues: NDArray[np.bool_]

    @classmethod
    def from_settings(cls, fields: Sequence[Mapping[str, Any]]) -> CRF:
        """As `onnx.json` writes it: scores, and which of them are legal, for each tag group.

        Raises:
            FloatingPointError: If a score is not a finite number.
        """

        def stacked(parts: Iterable[Any], kind: type) -> NDArray[Any]:
            return np.stack([np.asarray(part, dtype=kind) for part in parts])

        def scores(name: str) -> Floats:
            given = stacked((field[name] for field in fields), np.float64)
            if not np.isfinite(given).all():
                raise FloatingPointError("the scores of the CRF in onnx.json are not finite numbers")
            return np.where(stacked((field["legal"][name] for field in fields), np.bool_), given, _FORBIDDEN)

        continues = stacked((field["legal"]["continues"] for field in fields), np.bool_)
        return cls(scores("start"), scores("transitions"), scores("end"), continues)

    @classmethod
    def mean(cls, fields: Sequence[CRF]) -> CRF:
        """The mean of fields in which the same transitions are legal, rounded as their scores are: to float32."""

        def mean(name: str) -> Floats:
            values: Floats = np.mean([getattr(one, name) for one in fields], axis=0)
            return values.astype(np.float32).astype(np.float64)

        return cls(mean("start"), mean("transitions"), mean("end"), fields[0].continues)

    def score(self, tags: Sequence[int]) -> float:
        """The score of a sequence for each field, one after the other, without that of its emissions."""
        rows = np.asarray(tags).reshape(len(self.start), -1)  # (fields, length)
        field, rows = np.arange(len(rows)), rows - np.arange(len(rows))[:, None] * self.start.shape[1]
        steps = self.transitions[field[:, None], rows[:, :-1], rows[:, 1:]]
        return float((self.start[field, rows[:, 0]] + steps.sum(1) + self.end[field, rows[:, -1]]).sum())

    def divided(self, temperature: float) -> CRF:
        """The same with every score divided."""
        return CRF(self.start / temperature, self.transitions / temperature, self.end / temperature, self.continues)


def best_tags(emissions: Floats, lengths: Sequence[int], crf: CRF) -> list[list[list[int]]]:
    """The best legal sequences of each row, one a field (Viterbi).

    Args:
        emissions: `(batch, length, fields * tags)`.
        lengths: How many positions each row has, at least 1.
        crf: The scores of transitions.
    """
    fields, tags = crf.start.shape
    scores = _recursion(_by_field(emissions, fields), crf.start[:, None], crf.transitions[:, None], _maximum)
    last = np.asarray(lengths) - 1
    found = np.empty(scores.shape[:3], dtype=np.int64)  # (fields, batch, length)
    following, field = np.zeros_like(scores[:, :, 0]), np.arange(fields)[:, None]  # (fields, batch, tags), (fields, 1)
    for position in range(scores.shape[2] - 1, -1, -1):
        following = np.where((last == position)[:, None], crf.end[:, None], following)
        found[:, :, position] = (scores[:, :, position] + following).argmax(2)
        following = crf.transitions.swapaxes(1, 2)[field, found[:, :, position]]
    found += tags * field[:, :, None]
    return [[rows[:length].tolist() for rows in found[:, row]] for row, length in enumerate(lengths)]


def span_probabilities(
    emissions: Floats, lengths: Sequence[int], spans: Sequence[tuple[int, int, Sequence[int]]], crf: CRF
) -> list[float]:
    """The probability of exactly each span: of its tags, and of none behind them that would go on with it.

    Args:
        emissions: `(batch, length, fields * tags)`; already divided by the temperature, as `crf` is.
        lengths: How many positions each row has, at least 1.
        spans: Per span its row, its first position and its tag ids.
        crf: The scores of transitions.
    """
    fields, size = crf.start.shape
    given = _by_field(emissions, fields)  # (fields, batch, length, tags), as alpha, ahead and beta
    alpha, ahead = _both_ways(given, lengths, crf)
    beta = ahead - given
    found = []
    for row, first, ids in spans:
        field = ids[0] // size
        transitions, continues = crf.transitions[field], crf.continues[field]
        before, after, onward = alpha[field, row], ahead[field, row], beta[field, row]  # (length, tags), each
        tags = [tag - field * size for tag in ids]
        joint = before[first] + onward[first]
        value = joint[tags[0]] - _log_sum(joint)
        places = range(first, first + len(tags) - 1)
        for place, tag, following in zip(places, tags, tags[1:], strict=False):
            value += min(transitions[tag, following] + after[place + 1, following] - onward[place, tag], 0.0)
        behind, tag = first + len(tags), tags[-1]
        if behind < lengths[row]:
            moved = np.where(continues[tag], _FORBIDDEN, transitions[tag] + after[behind])
            value += min(_log_sum(moved) - onward[behind - 1, tag], 0.0)
        found.append(float(np.exp(min(value, 0.0))))  # in this order: of NaN and a number, `min` gives the first
    return found


def _by_field(emissions: Floats, fields: int) -> Floats:
    """`(batch, length, fields * tags)` as `(fields, batch, length, tags)`."""
    return np.moveaxis(emissions.reshape(*emissions.shape[:2], fields, -1), 2, 0)


def product_probabilities(
    emissions: Floats, spans: Sequence[tuple[int, Sequence[int]]], sizes: Sequence[int]
) -> list[float]:
    """What a model without a CRF gives as the probability of a span: the product of its tags'.

    Args:
        emissions: Of one note, `(length, tags)`; already divided by the temperature.
        spans: Per span its first position and its tag ids.
        sizes: How many tags each group has, of which a position has one.
    """
    parts = np.split(emissions, np.cumsum(sizes)[:-1], axis=1)
    values = np.concatenate([part - _log_sum(part)[:, None] for part in parts], axis=1)
    return [float(np.exp(values[range(first, first + len(tags)), tags].sum())) for first, tags in spans]


def _both_ways(emissions: Floats, lengths: Sequence[int], crf: CRF) -> tuple[Floats, Floats]:
    """Log sums over all beginnings that end in a tag, and over all ends that begin with one, its emission included.

    The way back runs forward over each row's mirror image.
    """
    positions = np.arange(emissions.shape[2])
    mirror = np.maximum(np.asarray(lengths)[:, None] - 1 - positions, 0)[:, :, None]  # (batch, length, 1)
    both = np.stack([emissions, np.take_along_axis(emissions, mirror[None], 2)])  # (2, fields, batch, length, tags)
    edges = np.stack([crf.transitions, crf.transitions.swapaxes(1, 2)])[:, :, None]
    states = _recursion(both, np.stack([crf.start, crf.end])[:, :, None], edges, _log_sum)
    return states[0], np.take_along_axis(states[1], mirror[None], 2)


def _recursion(emissions: Floats, first: Floats, transitions: Floats, join: Callable[[Floats], Floats]) -> Floats:
    """The scores of each position's tags, shaped as the emissions: the joined scores of the ways there."""
    states = np.empty_like(emissions)
    state = states[..., 0, :] = first + emissions[..., 0, :]
    for position in range(1, emissions.shape[-2]):
        moved = state[..., :, None] + transitions  # (batch, tags, tags)
        state = states[..., position, :] = join(np.swapaxes(moved, -1, -2)) + emissions[..., position, :]
    return states


def _maximum(values: Floats) -> Floats:
    """The greatest of the last axis."""
    found: Floats = values.max(-1)
    return found


def _log_sum(values: Floats) -> Floats:
    """The logarithm of the sum of exponentials over the last axis."""
    peak = values.max(-1, keepdims=True)
    found: Floats = np.log(np.exp(values - peak).sum(-1)) + peak[..., 0]
    return found
