"""The recursions of the CRF over a sequence: forward and backward sums, Viterbi's maxima, and their gradients.

Everything here works on compact sequences: batch first, the kept positions of each row at its front. A row belongs to
one of several fields (one an entity type, or one alone), whose parameters have that axis first: start and end scores
`(fields, tags)`, transitions `(fields, tags, tags)`. The rows of a field follow each other.

This file is copied into every saved model directory and imports nothing but the standard library and torch. Why each
recursion is computed this way, and what else was tried, is in decision 6 of CardioNER's documentation.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - the name every torch reader knows
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

_PIECES_PAY = 16384
"""Up to how many sums a step, `kinds * batch * tags ** 3`, `scan` on a CPU is faster in pieces."""


class _LogPartition(torch.autograd.Function):
    """The log partition function of compact sequences; its gradient is the expected counts."""

    @staticmethod
    def forward(ctx: Any, emissions: Tensor, kept: Tensor, *parameters: Tensor) -> Tensor:
        """`(batch)`, 0 for empty rows, from `(batch, length, tags)`, `(batch, length)` and the parameters."""
        value, tags, pairs = counts(emissions, kept, *parameters)
        ctx.save_for_backward(tags, pairs, last_positions(kept))
        ctx.fields = len(parameters[0])
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The expected counts, each row's multiplied by its incoming gradient."""
        refuse_second_derivative()
        tags, pairs, last = ctx.saved_tensors  # (batch, length, tags), (batch, tags, tags), (batch)
        weight = gradients[0].view(-1, 1, 1)  # (batch, 1, 1)
        return _gradients(tags * weight, pairs * weight, last, ctx.fields)


class _Marginals(torch.autograd.Function):
    """The tag marginals of compact sequences.

    They are the gradient of the log partition function, whose matrix of second derivatives is symmetric. So backward
    asks how all expected counts change as the emissions move along the incoming gradient. That change is read off the
    imaginary part of the counts after a tiny imaginary step of the emissions (Squire and Trapp 1998): exact, and
    without an autograd graph over the positions.
    """

    @staticmethod
    def forward(ctx: Any, emissions: Tensor, kept: Tensor, *parameters: Tensor) -> Tensor:
        """`(batch, length, tags)`, 0 at masked positions."""
        ctx.save_for_backward(emissions, kept, *parameters)
        return counts(emissions, kept, *parameters)[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The change of the counts along the incoming gradient."""
        refuse_second_derivative()
        emissions, kept, *parameters = ctx.saved_tensors
        wide = widened(emissions)
        step = _imaginary_step(wide.dtype)
        # f(x + i * step * g) = f(x) + i * step * (f'(x) g), up to step ** 2: no difference is taken, nothing cancels.
        stepped = torch.complex(wide, step * gradients[0].to(wide.dtype))  # (batch, length, tags)
        _, tags, pairs = (part.imag / step for part in counts(stepped, kept, *map(widened, parameters)))
        changes = tags.to(emissions.dtype), pairs.to(emissions.dtype)
        return _gradients(*changes, last_positions(kept), len(parameters[0]))


def refuse_second_derivative() -> None:
    """Raise rather than return a wrong number: nothing here records a graph for a second derivative."""
    if torch.is_grad_enabled():
        raise RuntimeError("the CRF has first derivatives only: call backward without create_graph=True")


def _gradients(tags: Tensor, pairs: Tensor, last: Tensor, fields: int) -> tuple[Tensor | None, ...]:
    """The gradients of emissions, mask, start, transition and end scores, from weighted counts of tags and pairs."""
    final = tags.gather(1, last.view(-1, 1, 1).expand(-1, 1, tags.size(2))).squeeze(1)  # (batch, tags)
    parts = (tags[:, 0], pairs, final)  # (batch, tags), (batch, tags, tags), (batch, tags)
    first, moves, final = (part.view(fields, len(last) // fields, *part.shape[1:]).sum(1) for part in parts)
    return tags, None, first, moves, final


log_partition: Callable[..., Tensor] = torch.compiler.disable(_LogPartition.apply)  # type: ignore[no-untyped-call]
marginals: Callable[..., Tensor] = torch.compiler.disable(_Marginals.apply)  # type: ignore[no-untyped-call]


class _Messages(NamedTuple):
    """The results of both recursions over compact sequences; the numbers of each position are scaled.

    Attributes:
        value: The log partition function, `(batch)`.
        alpha: The sum over all beginnings that end in a tag, `(length, batch, tags)`.
        beta: The sum over all that can follow a tag: `ahead` of the next position, moved by `edges`.
        ahead: `beta`, the position's own emission included.
        edges: The exponentiated transitions, `(fields, tags, tags)`.
        total: The sum of `alpha * beta`, `(length, batch, 1)`.
        kept: Which positions there are, `(length, batch, 1)`.
        margin: The least share of a scaled sum that a position's result came from, `(length, batch, 1)`.
    """

    value: Tensor
    alpha: Tensor
    beta: Tensor
    ahead: Tensor
    edges: Tensor
    total: Tensor
    kept: Tensor
    margin: Tensor

    def trusted(self) -> bool:
        """Whether no number that matters, nor its imaginary part, can have underflowed."""
        info = torch.finfo(self.total.dtype)
        # Above tiny / eps, what underflows is less than the rounding error of the rest; an imaginary part, `step` times
        # smaller than the real one, underflows that much earlier.
        floor = info.tiny / info.eps / (_imaginary_step(self.total.dtype) if self.total.is_complex() else 1.0)
        return bool((self.margin > floor).logical_or(~self.kept).all())


def _imaginary_step(dtype: torch.dtype) -> float:
    """A step whose square vanishes beside 1, and far enough above the smallest number to be multiplied by shares."""
    return float(torch.finfo(dtype).tiny ** (1 / 3))


def _linear_messages(emissions: Tensor, kept: Tensor, start: Tensor, transitions: Tensor, end: Tensor) -> _Messages:
    """Both recursions side by side in linear space, each step scaled to sum 1 (Rabiner 1989, section V.A).

    The backward recursion runs forward over the mirror image. Where scores that are some 80 apart (in double precision,
    some 700) contradict each other, a path that decides the result may underflow on the way: see `margin`.
    """
    last, kept = last_positions(kept), kept.t().unsqueeze(2)  # (batch), (length, batch, 1); length first from here on
    fields, batch = len(start), len(last)
    rows, positions = torch.arange(batch, device=last.device), torch.arange(len(kept), device=last.device)
    steps = emissions.transpose(0, 1).contiguous()  # (length, batch, tags)
    peak = steps.real.amax(2, keepdim=True)  # (length, batch, 1)
    weights = (steps - peak).exp()  # at most 1: no overflow
    both = both_ways(weights, last)  # (length, 2, batch, tags)
    tops = start.amax(1), transitions.amax((1, 2)), end.amax(1)  # (fields), each
    given = (start - tops[0][:, None], transitions - tops[1][:, None, None], end - tops[2][:, None])
    opens, edges, closes = (
        part.exp().to(weights.dtype) for part in given
    )  # (fields, tags), twice (fields, tags, tags)
    opens, closes = by_row(opens, batch), by_row(closes, batch)  # (batch, tags)
    # The mirror image opens with the end scores and moves by the transposed transitions.
    first = both[0] * torch.stack([opens, closes])  # (2, batch, tags)
    first, rest = (kinds_of(part, fields) for part in (first / first.sum(2, keepdim=True), both[1:]))
    states = scan(_SUMS, first, rest, torch.cat([edges, edges.mT]))  # (length, 2 * fields, batch / fields, tags)
    states = states.view(both.shape)
    alpha, ahead = states[:, 0].contiguous(), _mirrored(states[:, 1], last)  # (length, batch, tags), both
    # What follows a tag is one transition away from the next position; behind a row's last one, only its end score.
    beta = torch.cat([_moved(ahead[1:], edges.mT), closes.expand_as(ahead[:1])])
    beta = torch.where((positions.unsqueeze(1) == last).unsqueeze(2), closes, beta)  # (length, batch, tags)
    total = (alpha * beta).sum(2, keepdim=True)  # (length, batch, 1)
    # The factors that the forward recursion was divided by: their logarithms add up to the partition function.
    scales = [
        (opens * weights[:1]).sum(2, keepdim=True),
        (_moved(alpha[:-1], edges) * weights[1:]).sum(2, keepdim=True),
    ]
    scale = torch.cat(scales)  # (length, batch, 1)
    behind = (weights * beta).sum(2, keepdim=True)[1:]  # the same of the backward recursion, (length - 1, batch, 1)
    behind = torch.where(positions.view(-1, 1, 1) < last.unsqueeze(1), F.pad(behind.real, (0, 0, 0, 0, 0, 1)), 1.0)
    margin = total.real * torch.minimum(scale.real, behind)
    # Undo every subtraction: the peaks of the emissions, and those of start, end and `last` transitions.
    value = torch.where(kept, scale.log() + peak, 0.0).sum(0).squeeze(1)  # (batch)
    opened, moved, closed = (by_row(top, batch) for top in tops)  # (batch)
    value = value + total[last, rows, 0].log() + opened + closed + moved * last
    return _Messages(torch.where(kept[0, :, 0], value, 0.0), alpha, beta, ahead, edges, total, kept, margin)


def by_row(scores: Tensor, rows: int) -> Tensor:
    """The scores of each row's field, `(rows, ...)`, from `(fields, ...)`."""
    return scores.unsqueeze(1).expand(-1, rows // len(scores), *scores.shape[1:]).flatten(0, 1)


def kinds_of(both: Tensor, fields: int) -> Tensor:
    """`(..., 2, batch, tags)`, both directions of all fields, with an axis for `scan`: every field and direction."""
    return both.reshape(*both.shape[:-3], 2 * fields, both.size(-2) // fields, both.size(-1))


def _moved(states: Tensor, edges: Tensor) -> Tensor:
    """States `(length, batch, tags)` times the edges of each row's field, in one matrix product a field."""
    length, batch, tags = states.shape
    fields = len(edges)
    apart = states.view(length, fields, batch // fields, tags).transpose(0, 1)
    moved = torch.bmm(apart.reshape(fields, length * batch // fields, tags), edges)
    return moved.view(apart.shape).transpose(0, 1).reshape(states.shape)


def both_ways(steps: Tensor, last: Tensor) -> Tensor:
    """`(length, batch, tags)` and beside it each row's mirror image: `(length, 2, batch, tags)`."""
    return torch.stack([steps, _mirrored(steps, last)], dim=1)


def _mirrored(steps: Tensor, last: Tensor) -> Tensor:
    """Each row of `(length, batch, tags)` read from its own end; beyond its beginning, the first position repeats."""
    length, batch, tags = steps.shape
    rows, positions = (torch.arange(size, device=steps.device) for size in (batch, length))
    index = (last - positions.unsqueeze(1)).clamp(min=0) * batch + rows  # (length, batch)
    return steps.reshape(length * batch, tags).index_select(0, index.flatten()).view_as(steps)


def log_messages(
    emissions: Tensor, kept: Tensor, start: Tensor, transitions: Tensor, end: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The logarithms of `alpha`, `beta`, `ahead`, `(batch, length, tags)`, and `edges`: right for any emissions."""
    found = _linear_messages(emissions, kept, start, transitions, end)
    if found.trusted():
        alpha, beta, ahead = (part.log().transpose(0, 1) for part in (found.alpha, found.beta, found.ahead))
        return alpha, beta, ahead, found.edges.log()
    beta = _backward_scores(emissions, kept, transitions, end)
    return forward_scores(emissions, kept, start, transitions), beta, emissions + beta, transitions


def counts(emissions: Tensor, kept: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log partition `(batch)`, tag marginals `(batch, length, tags)` and expected transitions `(batch, tags, tags)`.

    In linear space; where that underflows, in double precision; where that underflows too, in log space. In full
    precision under autocast.
    """
    with torch.autocast(emissions.device.type, enabled=False):
        found = _linear_messages(emissions, kept, *parameters)
        if found.trusted():
            # p(tag) = alpha * beta / total, in which the scales of alpha and beta cancel.
            share = torch.where(found.kept, found.alpha / found.total, 0.0)  # (length, batch, tags)
            marginals = (share * found.beta).transpose(0, 1)  # (batch, length, tags)
            # p(tag, next) = alpha * edge * ahead / total; summing over the positions is one matrix product a row.
            before = torch.where(found.kept[1:], share[:-1], 0.0).permute(1, 2, 0)  # (batch, tags, length - 1)
            pairs = torch.bmm(before, found.ahead[1:].transpose(0, 1)) * by_row(found.edges, len(before))
            return found.value, marginals, pairs
        if emissions.dtype == torch.float32 and widened(emissions).dtype != emissions.dtype:
            value, marginals, pairs = counts(widened(emissions), kept, *map(widened, parameters))
            return value.float(), marginals.float(), pairs.float()
        return _log_counts(emissions, kept, *parameters)


def _log_counts(
    emissions: Tensor, kept: Tensor, start: Tensor, transitions: Tensor, end: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The same in log space: slower, and right for any emissions."""
    alpha = forward_scores(emissions, kept, start, transitions)  # (batch, length, tags), as beta and joint
    beta = _backward_scores(emissions, kept, transitions, end)
    joint, transitions = alpha + beta, by_row(transitions, len(alpha))
    value = _log_sum(alpha[:, -1] + by_row(end, len(alpha)), 1)  # (batch); behind a row's end its last position repeats
    marginals = torch.where(kept.unsqueeze(2), (joint - _log_sum(joint, 2).unsqueeze(2)).exp(), 0.0)
    pairs = torch.zeros_like(joint[:, 0]).unsqueeze(2).repeat(1, 1, joint.size(2))  # (batch, tags, tags)
    for position in range(1, emissions.size(1)):
        ahead = (emissions[:, position] + beta[:, position]).unsqueeze(1)  # (batch, 1, tags)
        moved = alpha[:, position - 1].unsqueeze(2) + transitions + ahead  # (batch, tags, tags)
        # Normalised at each position, not by `value`: rounding errors of a long sequence do not add up.
        share = (moved - _log_sum(moved, (1, 2)).view(-1, 1, 1)).exp()
        pairs += torch.where(kept[:, position].view(-1, 1, 1), share, 0.0)
    return torch.where(kept[:, 0], value, 0.0), marginals, pairs


def forward_scores(emissions: Tensor, kept: Tensor, start: Tensor, transitions: Tensor) -> Tensor:
    """Log sums over all prefixes that end in a tag, `(batch, length, tags)`; behind its end a row repeats."""
    start, transitions = (by_row(part, len(emissions)) for part in (start, transitions))
    alphas = [start + emissions[:, 0]]  # (batch, tags)
    for position in range(1, emissions.size(1)):
        moved = _log_sum(alphas[-1].unsqueeze(2) + transitions, 1)  # (batch, tags)
        alphas.append(torch.where(kept[:, position, None], moved + emissions[:, position], alphas[-1]))
    return torch.stack(alphas, dim=1)


def _backward_scores(emissions: Tensor, kept: Tensor, transitions: Tensor, end: Tensor) -> Tensor:
    """Log sums over all suffixes that follow a tag, `(batch, length, tags)`."""
    end, transitions = (by_row(part, len(emissions)) for part in (end, transitions))
    betas = [end.to(emissions.dtype)]  # (batch, tags)
    for position in range(emissions.size(1) - 1, 0, -1):
        moved = _log_sum(transitions + (emissions[:, position] + betas[-1]).unsqueeze(1), 2)  # (batch, tags)
        betas.append(torch.where(kept[:, position, None], moved, betas[-1]))
    return torch.stack(betas[::-1], dim=1)


def _log_sum(values: Tensor, dims: int | tuple[int, ...]) -> Tensor:
    """`logsumexp`, also of complex numbers with a small imaginary part."""
    peak = values.real.amax(dims, keepdim=True)  # real, so that subtracting it leaves the imaginary parts alone
    sums: Tensor = (values - peak).exp().sum(dims, keepdim=True).log() + peak
    return sums.squeeze(dims)


class _Semiring(NamedTuple):
    """The operations of a recursion over a sequence: sums of products, or maxima of sums.

    Attributes:
        product: Of states `(kinds, rows, tags)` and edges `(kinds, tags, tags)`.
        weigh: Applies the emissions of a position, and keeps the numbers of each row in range.
        cross: The same for rows that belong together, one for each tag that a piece can be entered with. Gives the
            weighted rows and the logarithm of what each was divided by.
        enter: How much each of these rows counts, from the state `(rows, 1, tags)` before a piece and those logarithms
            `(rows, tags, 1)`.
        identity: Turns a unit matrix into the edges that change nothing.
        neutral: The emission that changes nothing.
    """

    product: Callable[[Tensor, Tensor], Tensor]
    weigh: Callable[[Tensor, Tensor | float], Tensor]
    cross: Callable[[Tensor, Tensor], tuple[Tensor, Tensor | float]]
    enter: Callable[[Tensor, Tensor], Tensor]
    identity: Callable[[Tensor], Tensor]
    neutral: float


def _weigh_sums(moved: Tensor, weight: Tensor | float) -> Tensor:
    """Multiply, and scale each row to sum 1."""
    weighed = moved * weight
    return weighed / weighed.sum(2, keepdim=True)


def _cross_sums(moved: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Multiply, and scale each entering tag's row on its own: a row that is tiny beside another may be the one used."""
    weighed = moved * weight  # (kinds, batch, tags to enter with, tags)
    total = weighed.sum(3, keepdim=True)
    return weighed / torch.where(total == 0, 1.0, total), total.log()  # a row of zeros stays one, at minus infinity


def _enter_sums(state: Tensor, logs: Tensor) -> Tensor:
    """The state times the scales that `_cross_sums` divided by, scaled so that the largest is 1."""
    weights = state.transpose(1, 2).log() + logs  # (rows, tags, 1); in logs, as the scales of a long piece overflow
    return (weights - weights.real.amax(1, keepdim=True)).exp().transpose(1, 2)  # (rows, 1, tags)


def _best_products(states: Tensor, edges: Tensor) -> Tensor:
    """The matrix product with addition in place of multiplication, and the maximum in place of the sum."""
    return (states.unsqueeze(3) + edges.unsqueeze(1)).amax(2)  # (kinds, rows, tags, tags) -> (kinds, rows, tags)


def _cross_maxima(moved: Tensor, weight: Tensor) -> tuple[Tensor, float]:
    """Add: log scores need no scale."""
    return moved + weight, 0.0


def _enter_maxima(state: Tensor, _: Tensor) -> Tensor:
    """The state itself: there is no scale to undo."""
    return state


_SUMS = _Semiring(torch.bmm, _weigh_sums, _cross_sums, _enter_sums, torch.clone, 1.0)
MAXIMA = _Semiring(_best_products, torch.add, _cross_maxima, _enter_maxima, torch.log, 0.0)
"""The semiring of Viterbi's recursion, over log scores."""


@torch.compiler.disable  # type: ignore[untyped-decorator]
def scan(semiring: _Semiring, first: Tensor, inputs: Tensor, edges: Tensor) -> Tensor:
    """All states of a recursion, `(steps + 1, kinds, batch, tags)`.

    A short batch of long sequences is cut into pieces that are computed side by side. Each piece runs twice: from every
    tag that it can be entered with, which tells which state enters the next piece; then from the state that enters it.

    Args:
        semiring: How states, edges and inputs are combined.
        first: `(kinds, batch, tags)`.
        inputs: `(steps, kinds, batch, tags)`.
        edges: `(kinds, tags, tags)`.
    """
    kinds, batch, tags = first.shape

    def run(state: Tensor, rows: Tensor, edges: Tensor) -> list[Tensor]:
        return [state := semiring.weigh(semiring.product(state, edges), row) for row in rows]

    count = _piece_count(len(inputs), kinds * batch * tags**3, first.device)
    if count == 1:
        return torch.stack([first, *run(first, inputs, edges)])
    pieces = _cut(inputs, count, semiring.neutral).flatten(1, 2)  # (size, count * kinds, batch, tags)
    edges = edges.repeat(count, 1, 1)  # (count * kinds, tags, tags)
    # First run: a unit matrix for a state, so that row i holds what follows from entering with tag i alone.
    crossing = semiring.identity(torch.eye(tags, dtype=first.dtype, device=first.device))
    crossing = crossing.expand(count * kinds, batch, tags, tags)
    logs = crossing.new_zeros(count * kinds, batch, tags, 1)
    for row in pieces.unsqueeze(3):  # (count * kinds, batch, 1, tags)
        moved = semiring.product(crossing.flatten(1, 2), edges).view(crossing.shape)
        crossing, scale = semiring.cross(moved, row)
        logs = logs + scale
    # Then piece after piece: the state that enters it, times its crossing, is the state that enters the next.
    entered = [first.reshape(kinds * batch, 1, tags)]
    moves, logs = (part.view(count, kinds * batch, tags, -1)[:-1] for part in (crossing, logs))
    for move, scale in zip(moves, logs, strict=True):  # (kinds * batch, tags, tags), (kinds * batch, tags, 1)
        state = semiring.product(semiring.enter(entered[-1], scale), move)
        entered.append(semiring.weigh(state, semiring.neutral))
    # Second run: all pieces at once, each from the state that enters it.
    states = torch.stack(run(torch.stack(entered).view(count * kinds, batch, tags), pieces, edges))
    return torch.cat([first.unsqueeze(0), _join(states.view(-1, count, *first.shape), len(inputs))])


@torch.compiler.disable  # type: ignore[untyped-decorator]
def trace(ends: Tensor, entry: Tensor, scores: Tensor, edges: Tensor) -> Tensor:
    """Walk back along the best scores: tags `(length, kinds, batch)`.

    Cut into pieces where `scan` is: each is walked from every tag at once, then the walks that join up are picked.

    Args:
        ends: The tags to begin with, `(kinds, batch)`.
        entry: Their positions, `(kinds, batch)`; behind these the tags repeat.
        scores: `(length, kinds, batch, tags)`.
        edges: `(kinds, tags, tags)`.
    """
    length, kinds, batch, tags = scores.shape
    into = edges.transpose(1, 2).flatten(0, 1)  # (kinds * tags, tags): per tag, the scores of moving into it
    offset = tags * torch.arange(kinds, device=scores.device).view(-1, 1, 1)
    ended = torch.where(F.one_hot(ends, tags).bool(), 0.0, -torch.inf).to(scores.dtype)  # (kinds, batch, tags)
    positions = torch.arange(length - 1, device=scores.device).view(-1, 1, 1)
    # At and behind the entry only the tag to begin with has a finite score, so every walk stays on it until there.
    before = torch.where((positions < entry).unsqueeze(3), scores[:-1], ended).flip(0)  # (steps, kinds, batch, tags)

    def walk(tags: Tensor, before: Tensor) -> list[Tensor]:
        path = [tags]
        for row in before.unsqueeze(-2):
            path.append((row + F.embedding(path[-1] + offset, into)).argmax(-1))
        return path

    count = _piece_count(length - 1, kinds * batch * tags**3, scores.device)
    if count == 1:
        return torch.stack(walk(ends.unsqueeze(2), before)[::-1]).squeeze(3)
    every = torch.arange(tags, device=ends.device).expand(count, kinds, batch, tags)
    walked = torch.stack(walk(every, _cut(before, count, 0.0))[1:])  # (size, count, kinds, batch, tags)
    entered = [ends.unsqueeze(2)]  # the tag that each piece is entered with, (kinds, batch, 1)
    for row in walked[-1, :-1]:  # (kinds, batch, tags)
        entered.append(row.gather(2, entered[-1]))
    path = walked.gather(4, torch.stack(entered).expand(len(walked), -1, -1, -1, -1))  # (size, count, kinds, batch, 1)
    return torch.cat([ends.unsqueeze(0), _join(path, length - 1).squeeze(3)]).flip(0)


def _piece_count(steps: int, work: int, device: torch.device) -> int:
    """Into how many pieces to cut a recursion: 1 where the extra work of a step costs more than the steps saved."""
    limit = _PIECES_PAY if device.type == "cpu" else 64 * _PIECES_PAY
    return math.isqrt(steps) if steps >= 64 and work <= limit else 1  # as many pieces as each has steps


def _cut(rows: Tensor, count: int, filler: float) -> Tensor:
    """Cut `(steps, ...)` into pieces side by side, `(size, count, ...)`, the last one filled up."""
    size = -(-len(rows) // count)  # rounded up
    missing = rows.new_full((size * count - len(rows), *rows.shape[1:]), filler)
    return torch.cat([rows, missing]).view(count, size, *rows.shape[1:]).transpose(0, 1)


def _join(pieces: Tensor, steps: int) -> Tensor:
    """The inverse of `_cut`."""
    return pieces.transpose(0, 1).flatten(0, 1)[:steps]


def last_positions(kept: Tensor) -> Tensor:
    """The last position of each compact row, `(batch)`; 0 for an empty one."""
    return (kept.sum(1) - 1).clamp(min=0)


def widened(values: Tensor) -> Tensor:
    """In double precision, where the device has it."""
    return values if values.device.type == "mps" else values.double()
