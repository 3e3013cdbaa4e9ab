"""What follows the emissions, in numpy: the best legal tags of a CRF (Viterbi), and the probability of a span.

The light engine and every ONNX export run this file, which imports numpy alone. Sums are taken in double precision.
Batches are `(batch, length, tags)`, padded behind each row's end with anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_FORBIDDEN = -1e30
"""The score of an illegal transition: no sum of real scores reaches it, and no sum of it overflows."""


class CRF(NamedTuple):
    """A linear-chain conditional random field; illegal transitions have the score that no sum reaches.

    Attributes:
        start: The score of each tag in the first place, `(tags)`.
        transitions: The score of each tag followed by each other, `(tags, tags)`.
        end: The score of each tag in the last place, `(tags)`.
        continues: Per tag and next tag, whether the second goes on with the span of the first.
    """

    start: Floats
    transitions: Floats
    end: Floats
    continues: NDArray[np.bool_]

    @classmethod
    def from_settings(cls, crf: Mapping[str, Any]) -> CRF:
        """As `onnx.json` writes it: scores, and which of them are legal.

        Raises:
            FloatingPointError: If a score is not a finite number.
        """
        legal = crf["legal"]
        if not all(np.isfinite(np.asarray(crf[name], dtype=np.float64)).all() for name in cls._fields[:3]):
            raise FloatingPointError("the scores of the CRF in onnx.json are not finite numbers")

        def scores(name: str) -> Floats:
            return np.where(np.asarray(legal[name], dtype=bool), np.asarray(crf[name], dtype=np.float64), _FORBIDDEN)

        continues = np.asarray(legal["continues"], dtype=bool)
        return cls(scores("start"), scores("transitions"), scores("end"), continues)

    @classmethod
    def mean(cls, fields: Sequence[CRF]) -> CRF:
        """The mean of fields in which the same transitions are legal, rounded as their scores are: to float32."""

        def mean(name: str) -> Floats:
            values: Floats = np.mean([getattr(one, name) for one in fields], axis=0)
            return values.astype(np.float32).astype(np.float64)

        return cls(mean("start"), mean("transitions"), mean("end"), fields[0].continues)

    def score(self, tags: Sequence[int]) -> float:
        """The score of a sequence, without that of its emissions."""
        steps = self.transitions[list(tags[:-1]), list(tags[1:])]
        return float(self.start[tags[0]] + steps.sum() + self.end[tags[-1]])

    def divided(self, temperature: float) -> CRF:
        """The same with every score divided."""
        return CRF(self.start / temperature, self.transitions / temperature, self.end / temperature, self.continues)


def best_tags(emissions: Floats, lengths: Sequence[int], crf: CRF) -> list[list[int]]:
    """The best legal sequence of each row (Viterbi).

    Args:
        emissions: `(batch, length, tags)`.
        lengths: How many positions each row has, at least 1.
        crf: The scores of transitions.
    """
    scores = _recursion(emissions, crf.start, crf.transitions, _maximum)
    last = np.asarray(lengths) - 1
    found = np.empty(emissions.shape[:2], dtype=np.int64)
    following = np.zeros_like(scores[:, 0])
    for position in range(emissions.shape[1] - 1, -1, -1):
        following = np.where((last == position)[:, None], crf.end, following)
        found[:, position] = (scores[:, position] + following).argmax(1)
        following = crf.transitions.T[found[:, position]]
    return [row[:length].tolist() for row, length in zip(found, lengths, strict=True)]


def span_probabilities(
    emissions: Floats, lengths: Sequence[int], spans: Sequence[tuple[int, int, Sequence[int]]], crf: CRF
) -> list[float]:
    """The probability of exactly each span: of its tags, and of none behind them that would go on with it.

    Args:
        emissions: `(batch, length, tags)`; already divided by the temperature, as `crf` is.
        lengths: How many positions each row has, at least 1.
        spans: Per span its row, its first position and its tag ids.
        crf: The scores of transitions.
    """
    alpha, ahead = _both_ways(emissions, lengths, crf)
    beta = ahead - emissions
    found = []
    for row, first, tags in spans:
        joint = alpha[row, first] + beta[row, first]
        value = joint[tags[0]] - _log_sum(joint)
        places = range(first, first + len(tags) - 1)
        for place, tag, after in zip(places, tags, tags[1:], strict=False):
            value += min(crf.transitions[tag, after] + ahead[row, place + 1, after] - beta[row, place, tag], 0.0)
        behind, tag = first + len(tags), tags[-1]
        if behind < lengths[row]:
            moved = np.where(crf.continues[tag], _FORBIDDEN, crf.transitions[tag] + ahead[row, behind])
            value += min(_log_sum(moved) - beta[row, behind - 1, tag], 0.0)
        found.append(float(np.exp(min(value, 0.0))))  # in this order: of NaN and a number, `min` gives the first
    return found


def product_probabilities(emissions: Floats, spans: Sequence[tuple[int, Sequence[int]]]) -> list[float]:
    """What a model without a CRF gives as the probability of a span: the product of its tags'.

    Args:
        emissions: Of one note, `(length, tags)`; already divided by the temperature.
        spans: Per span its first position and its tag ids.
    """
    values = emissions - _log_sum(emissions)[:, None]
    return [float(np.exp(values[range(first, first + len(tags)), tags].sum())) for first, tags in spans]


def _both_ways(emissions: Floats, lengths: Sequence[int], crf: CRF) -> tuple[Floats, Floats]:
    """Log sums over all beginnings that end in a tag, and over all ends that begin with one, its emission included.

    The way back runs forward over each row's mirror image.
    """
    positions = np.arange(emissions.shape[1])
    mirror = np.maximum(np.asarray(lengths)[:, None] - 1 - positions, 0)[:, :, None]  # (batch, length, 1)
    both = np.stack([emissions, np.take_along_axis(emissions, mirror, 1)])
    edges = np.stack([crf.transitions, crf.transitions.T])[:, None]
    states = _recursion(both, np.stack([crf.start, crf.end])[:, None], edges, _log_sum)
    return states[0], np.take_along_axis(states[1], mirror, 1)


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
