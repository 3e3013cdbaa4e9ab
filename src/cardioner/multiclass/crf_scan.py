"""The scan that computes every recursion of the CRF, over sums of products or over maxima, and the walk back.

The axes are length, kinds, tags, rows; a kind is a direction of a field. Tags are few and rows are many, and a sum or a
maximum over an axis is fastest if what lies closest in memory is not that axis.

This file is copied into every saved model directory and imports nothing but the standard library and torch. What else
was tried is in decision 6 of CardioNER's documentation.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - the name every torch reader knows
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

_PIECES_PAY = 1 << 12
"""Up to how many sums a step, `kinds * rows * tags ** 3`, `scan` on a CPU is faster in pieces."""
_PIECES_PAY_GPU = 1 << 20
"""The same on another device, where a step costs as much for many sums as for few."""


class _Semiring(NamedTuple):
    """The operations of a recursion over a sequence: sums of products, or maxima of sums.

    Attributes:
        product: Of states `(kinds, tags, rows)` and edges `(kinds, tags, tags)`.
        weigh: Applies the emissions of a position, and keeps the numbers of each row in range.
        cross: The same for rows that belong together, one for each tag that a piece can be entered with. Gives the
            weighted rows and the logarithm of what each was divided by.
        enter: How much each of these rows counts, from the state before a piece and those logarithms; all three are
            `(kinds, tags to enter with, rows)`.
        join: The state behind a piece, from these and the crossing `(kinds, tags, tags to enter with, rows)`.
        identity: Turns a unit matrix into the edges that change nothing.
        neutral: The emission that changes nothing.
    """

    product: Callable[[Tensor, Tensor], Tensor]
    weigh: Callable[[Tensor, Tensor | float], Tensor]
    cross: Callable[[Tensor, Tensor], tuple[Tensor, Tensor | float]]
    enter: Callable[[Tensor, Tensor], Tensor]
    join: Callable[[Tensor, Tensor], Tensor]
    identity: Callable[[Tensor], Tensor]
    neutral: float


def _sums_of_products(states: Tensor, edges: Tensor) -> Tensor:
    """The matrix product of every kind."""
    return torch.bmm(edges.mT, states)


def _weigh_sums(moved: Tensor, weight: Tensor | float) -> Tensor:
    """Multiply, and scale each row to sum 1."""
    weighed = moved * weight
    return weighed / weighed.sum(1, keepdim=True)


def _cross_sums(moved: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Multiply, and scale each entering tag's row on its own: a row that is tiny beside another may be the one used."""
    weighed = moved * weight  # (kinds, tags, tags to enter with, rows)
    total = weighed.sum(1, keepdim=True)
    return weighed / torch.where(total == 0, 1.0, total), total.log()  # a row of zeros stays one, at minus infinity


def _enter_sums(state: Tensor, logs: Tensor) -> Tensor:
    """The state times the scales that `_cross_sums` divided by, scaled so that the largest is 1."""
    weights = state.log() + logs  # (kinds, tags, rows); in logs, as the scales of a long piece overflow
    return (weights - weights.real.amax(1, keepdim=True)).exp()


def _join_sums(entered: Tensor, crossing: Tensor) -> Tensor:
    """The rows of a piece, each as often as it counts, scaled to sum 1."""
    return _weigh_sums((crossing * entered.unsqueeze(1)).sum(2), 1.0)


def _maxima_of_sums(states: Tensor, edges: Tensor) -> Tensor:
    """The matrix product with addition in place of multiplication, and the maximum in place of the sum."""
    return (states.unsqueeze(2) + edges.unsqueeze(3)).amax(1)  # (kinds, tags, tags, rows) -> (kinds, tags, rows)


def _cross_maxima(moved: Tensor, weight: Tensor) -> tuple[Tensor, float]:
    """Add: log scores need no scale."""
    return moved + weight, 0.0


def _enter_maxima(state: Tensor, _: Tensor) -> Tensor:
    """The state itself: there is no scale to undo."""
    return state


def _join_maxima(entered: Tensor, crossing: Tensor) -> Tensor:
    """The best of a piece's rows."""
    return (crossing + entered.unsqueeze(1)).amax(2)


SUMS = _Semiring(_sums_of_products, _weigh_sums, _cross_sums, _enter_sums, _join_sums, torch.clone, 1.0)
"""The semiring of the likelihood, scaled."""
MAXIMA = _Semiring(_maxima_of_sums, torch.add, _cross_maxima, _enter_maxima, _join_maxima, torch.log, 0.0)
"""The semiring of Viterbi's recursion, over log scores."""


@torch.compiler.disable  # type: ignore[untyped-decorator]
def scan(semiring: _Semiring, first: Tensor, inputs: Tensor, edges: Tensor) -> Tensor:
    """All states of a recursion, `(steps + 1, kinds, tags, rows)`.

    A short batch of long sequences is cut into pieces that are computed side by side. Each piece runs twice: from every
    tag that it can be entered with, which tells which state enters the next piece; then from the state that enters it.

    Args:
        semiring: How states, edges and inputs are combined.
        first: `(kinds, tags, rows)`.
        inputs: `(steps, kinds, tags, rows)`.
        edges: `(kinds, tags, tags)`.
    """
    kinds, tags, rows = first.shape

    def run(state: Tensor, inputs: Tensor) -> list[Tensor]:
        return [state := semiring.weigh(semiring.product(state, edges), row) for row in inputs]

    count = _piece_count(len(inputs), first.numel() * tags**2, first.device)
    if count == 1:
        return torch.stack([first, *run(first, inputs)])
    pieces = _cut(inputs, count, semiring.neutral)  # (size, kinds, tags, count * rows)
    # First run: a unit matrix for a state, so that row i holds what follows from entering with tag i alone.
    unit = semiring.identity(torch.eye(tags, dtype=first.dtype, device=first.device)).view(tags, tags, 1)
    crossing = unit.expand(kinds, tags, tags, count * rows)  # (kinds, tags, tags to enter with, count * rows)
    logs = crossing.new_zeros(kinds, 1, tags, count * rows)
    for row in pieces.unsqueeze(3):
        moved = semiring.product(crossing.flatten(2), edges).view(crossing.shape)
        crossing, scale = semiring.cross(moved, row)
        logs = logs + scale
    # Then piece after piece: the state that enters it, times its crossing, is the state that enters the next.
    entered = [first]
    moves, scales = (part.view(*part.shape[:3], count, rows).unbind(3)[:-1] for part in (crossing, logs))
    for move, scale in zip(moves, scales, strict=True):  # (kinds, tags, tags, rows), (kinds, 1, tags, rows)
        entered.append(semiring.join(semiring.enter(entered[-1], scale.squeeze(1)), move))
    # Second run: all pieces at once, each from the state that enters it.
    states = torch.stack(run(torch.cat(entered, dim=2), pieces))
    return torch.cat([first.unsqueeze(0), _join(states, count, len(inputs))])


@torch.compiler.disable  # type: ignore[untyped-decorator]
def trace(ends: Tensor, entry: Tensor, scores: Tensor, edges: Tensor) -> Tensor:
    """Walk back along the best scores: tags `(length, kinds, rows)`.

    Cut into pieces where `scan` is: each is walked from every tag at once, then the walks that join up are picked.

    Args:
        ends: The tags to begin with, `(kinds, rows)`.
        entry: Their positions, `(kinds, rows)`; behind these the tags repeat.
        scores: `(length, kinds, tags, rows)`.
        edges: `(kinds, tags, tags)`.
    """
    length, kinds, tags, rows = scores.shape
    ended = torch.where(F.one_hot(ends, tags).bool().mT, 0.0, -torch.inf).to(scores.dtype)  # (kinds, tags, rows)
    positions = torch.arange(length - 1, device=scores.device).view(-1, 1, 1, 1)
    # At and behind the entry only the tag to begin with has a finite score, so every walk stays on it until there.
    before = torch.where(positions < entry.unsqueeze(1), scores[:-1], ended).flip(0)  # (steps, kinds, tags, rows)

    def walk(path: Tensor, before: Tensor) -> list[Tensor]:
        """From tags `(kinds, walks, rows)`, so many walks a row."""
        walked, shape = [path], (kinds, tags, *path.shape[1:])
        for row in before.unsqueeze(3):  # (kinds, tags, 1, rows); `argmax` takes several times as long here
            into = walked[-1].flatten(1).unsqueeze(1).expand(kinds, tags, -1)
            walked.append((row + edges.gather(2, into).view(shape)).max(1).indices)
        return walked

    count = _piece_count(length - 1, ends.numel() * tags**3, scores.device)
    if count == 1:
        return torch.stack(walk(ends.unsqueeze(1), before)[::-1]).squeeze(2)
    every = torch.arange(tags, device=ends.device).view(1, tags, 1).expand(kinds, tags, count * rows)
    walked = torch.stack(walk(every, _cut(before, count, 0.0))[1:])  # (size, kinds, tags, count * rows)
    entered = [ends.unsqueeze(1)]  # the tag that each piece is entered with, (kinds, 1, rows)
    for row in walked[-1].view(kinds, tags, count, rows).unbind(2)[:-1]:  # (kinds, tags, rows)
        entered.append(row.gather(1, entered[-1]))
    path = walked.gather(2, torch.cat(entered, dim=2).expand(len(walked), -1, -1, -1))  # (size, kinds, 1, count * rows)
    return torch.cat([ends.unsqueeze(0), _join(path, count, length - 1).squeeze(2)]).flip(0)


def _piece_count(steps: int, work: int, device: torch.device) -> int:
    """Into how many pieces to cut a recursion: 1 where the extra work of a step costs more than the steps saved."""
    limit = _PIECES_PAY if device.type == "cpu" else _PIECES_PAY_GPU
    return math.isqrt(steps) if steps >= 64 and work <= limit else 1  # as many pieces as each has steps


def _cut(inputs: Tensor, count: int, filler: float) -> Tensor:
    """Cut `(steps, kinds, tags, rows)` into pieces side by side, `(size, kinds, tags, count * rows)`.

    The last one is filled up.
    """
    size = -(-len(inputs) // count)  # rounded up
    missing = inputs.new_full((size * count - len(inputs), *inputs.shape[1:]), filler)
    pieces = torch.cat([inputs, missing]).view(count, size, *inputs.shape[1:])
    return pieces.permute(1, 2, 3, 0, 4).flatten(3)


def _join(pieces: Tensor, count: int, steps: int) -> Tensor:
    """The inverse of `_cut`."""
    return pieces.view(*pieces.shape[:3], count, -1).permute(3, 0, 1, 2, 4).flatten(0, 1)[:steps]
