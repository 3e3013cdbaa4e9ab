"""The recursions of the CRF over a sequence: forward and backward sums, Viterbi's maxima, and their gradients.

Everything here takes compact sequences: batch first, the kept positions of each row at its front. A row belongs to one
of several fields (one an entity type, or one alone), whose parameters have that axis first: start and end scores
`(fields, tags)`, transitions `(fields, tags, tags)`. The rows of a field follow each other.

Inside, the axes are length, fields, tags, rows: see `rows_last`.

This file is copied into every saved model directory and imports nothing but torch and the files beside it. Why each
recursion is computed this way, and what else was tried, is in decision 6 of CardioNER's documentation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - the name every torch reader knows
from torch import Tensor

from .crf_scan import SUMS, scan

if TYPE_CHECKING:
    from collections.abc import Callable


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
        alpha: The sum over all beginnings that end in a tag, `(length, fields, tags, rows)`.
        beta: The sum over all that can follow a tag: `ahead` of the next position, moved by `edges`.
        ahead: `beta`, the position's own emission included.
        edges: The exponentiated transitions, `(fields, tags, tags)`.
        total: The sum of `alpha * beta`, `(length, fields, 1, rows)`.
        kept: Which positions there are, `(length, fields, 1, rows)`.
        margin: The least share of a scaled sum that a position's result came from, `(length, fields, 1, rows)`.
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
    fields, batch = len(start), len(kept)
    last = last_positions(kept).view(fields, 1, -1)  # (fields, 1, rows)
    steps, kept = rows_last(emissions, fields), rows_last(kept.unsqueeze(2), fields)
    peak = steps.real.amax(2, keepdim=True)  # (length, fields, 1, rows)
    weights = (steps - peak).exp()  # at most 1: no overflow
    both = both_ways(weights, last)  # (length, 2 * fields, tags, rows)
    tops = start.amax(1), transitions.amax((1, 2)), end.amax(1)  # (fields), each
    given = (start - tops[0][:, None], transitions - tops[1][:, None, None], end - tops[2][:, None])
    opens, edges, closes = (part.exp().to(weights.dtype) for part in given)
    opens, closes = opens.unsqueeze(2), closes.unsqueeze(2)  # (fields, tags, 1)
    # The mirror image opens with the end scores and moves by the transposed transitions.
    first = both[0] * torch.cat([opens, closes])  # (2 * fields, tags, rows)
    states = scan(SUMS, first / first.sum(1, keepdim=True), both[1:], torch.cat([edges, edges.mT]))
    alpha, ahead = states[:, :fields], mirrored(states[:, fields:], last)  # (length, fields, tags, rows), both
    # What follows a tag is one transition away from the next position; behind a row's last one, only its end score.
    beta = torch.cat([_moved(ahead[1:], edges.mT), closes.expand_as(ahead[:1])])
    positions = torch.arange(len(kept), device=kept.device).view(-1, 1, 1, 1)
    beta = torch.where(positions == last, closes, beta)  # (length, fields, tags, rows)
    total = (alpha * beta).sum(2, keepdim=True)  # (length, fields, 1, rows)
    # The factors that the forward recursion was divided by: their logarithms add up to the partition function.
    scales = [
        (opens * weights[:1]).sum(2, keepdim=True),
        (_moved(alpha[:-1], edges) * weights[1:]).sum(2, keepdim=True),
    ]
    scale = torch.cat(scales)  # (length, fields, 1, rows)
    behind = (weights * beta).sum(2, keepdim=True)[1:]  # the same of the backward recursion, of length - 1
    behind = torch.where(positions < last, F.pad(behind.real, (0, 0, 0, 0, 0, 0, 0, 1)), 1.0)
    margin = total.real * torch.minimum(scale.real, behind)
    # Undo every subtraction: the peaks of the emissions, and those of start, end and `last` transitions.
    value = torch.where(kept, scale.log() + peak, 0.0).sum(0) + total.gather(0, last.unsqueeze(0))[0].log()
    opened, moved, closed = (top.view(-1, 1, 1) for top in tops)  # (fields, 1, 1)
    value = torch.where(kept[0], value + opened + closed + moved * last, 0.0).view(batch)
    return _Messages(value, alpha, beta, ahead, edges, total, kept, margin)


def rows_last(values: Tensor, fields: int) -> Tensor:
    """`(batch, length, tags)` with the axes of the recursions: `(length, fields, tags, rows)`."""
    return values.view(fields, -1, *values.shape[1:]).permute(2, 0, 3, 1).contiguous()


def batch_first(values: Tensor) -> Tensor:
    """The inverse of `rows_last`: `(length, fields, tags, rows)` as `(batch, length, tags)`."""
    return values.permute(1, 3, 0, 2).flatten(0, 1)


def by_row(scores: Tensor, rows: int) -> Tensor:
    """The scores of each row's field, `(rows, ...)`, from `(fields, ...)`."""
    return scores.unsqueeze(1).expand(-1, rows // len(scores), *scores.shape[1:]).flatten(0, 1)


def _moved(states: Tensor, edges: Tensor) -> Tensor:
    """States `(length, fields, tags, rows)` times the edges of their field, in one matrix product a field."""
    length, fields, tags, rows = states.shape
    moved = torch.bmm(edges.mT, states.permute(1, 2, 0, 3).reshape(fields, tags, length * rows))
    return moved.view(fields, tags, length, rows).permute(2, 0, 1, 3)


def both_ways(steps: Tensor, last: Tensor) -> Tensor:
    """`(length, fields, tags, rows)`, and behind its fields the mirror image of each: `(length, 2 * fields, ...)`."""
    return torch.cat([steps, mirrored(steps, last)], dim=1)


def mirrored(steps: Tensor, last: Tensor) -> Tensor:
    """Each row of `(length, fields, tags, rows)` read from its own end; beyond its beginning, the first repeats.

    Args:
        steps: What is read.
        last: The last position of each row, `(fields, 1, rows)`.
    """
    positions = torch.arange(len(steps), device=steps.device).view(-1, 1, 1, 1)
    return steps.gather(0, (last - positions).clamp(min=0).expand(steps.shape))


def log_messages(
    emissions: Tensor, kept: Tensor, start: Tensor, transitions: Tensor, end: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The logarithms of `alpha`, `beta`, `ahead`, `(batch, length, tags)`, and `edges`: right for any emissions."""
    found = _linear_messages(emissions, kept, start, transitions, end)
    if found.trusted():
        alpha, beta, ahead = (batch_first(part.log()) for part in (found.alpha, found.beta, found.ahead))
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
            share = torch.where(found.kept, found.alpha / found.total, 0.0)  # (length, fields, tags, rows)
            marginals = batch_first(share * found.beta)  # (batch, length, tags)
            # p(tag, next) = alpha * edge * ahead / total; summing over the positions is one matrix product a row.
            before = batch_first(torch.where(found.kept[1:], share[:-1], 0.0))  # (batch, length - 1, tags)
            pairs = torch.bmm(before.mT, batch_first(found.ahead[1:])) * by_row(found.edges, len(before))
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


def last_positions(kept: Tensor) -> Tensor:
    """The last position of each compact row, `(batch)`; 0 for an empty one."""
    return (kept.sum(1) - 1).clamp(min=0)


def widened(values: Tensor) -> Tensor:
    """In double precision, where the device has it."""
    return values if values.device.type == "mps" else values.double()
