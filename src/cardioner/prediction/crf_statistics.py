"""Samples and entropy of a CRF's distribution over tag sequences."""

from __future__ import annotations

import torch
from torch import Tensor

from cardioner.multiclass.checks import IGNORED
from cardioner.multiclass.crf import CRF
from cardioner.multiclass.crf_recursions import by_row, counts, forward_scores, last_positions, widened


@torch.no_grad()
def sample(
    crf: CRF,
    emissions: Tensor,
    count: int = 1,
    mask: Tensor | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw legal tag sequences according to their probability.

    The last tag is drawn first, then each tag given the one behind it.

    Args:
        crf: The CRF; its `batch_first` decides the order of the axes here too.
        emissions: `(batch, length, tags)`.
        count: How many sequences to draw for each row.
        mask: `(batch, length)`; positions that are 0 are left out.
        generator: Where the random numbers come from; torch's own by default.

    Returns:
        Tag ids, `(count, batch, length)`, or `(count, length, batch)` without `batch_first`; `IGNORED` at masked
        positions.

    Raises:
        ValueError: If `count` is not positive.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, found {count}")
    emissions, kept, order, _ = crf.arrange(emissions, mask)
    wide = widened(emissions)
    start, transitions, end = crf.parameters_for(wide)
    alpha = forward_scores(wide, kept, start, transitions).expand(count, -1, -1, -1)  # (count, batch, length, tags)
    into, end = by_row(transitions.mT, len(wide)), by_row(end, len(wide))  # of the first per tag: of moving into it
    rows = torch.arange(len(wide), device=wide.device)
    path = [_draw(alpha[:, :, -1] + end, generator)]  # (count, batch)
    for position in range(emissions.size(1) - 2, -1, -1):
        # p(tag | next tag) is proportional to exp(alpha + transition): what comes behind the next tag cancels.
        drawn = _draw(alpha[:, :, position] + into[rows, path[-1]], generator)
        path.append(torch.where(kept[:, position + 1], drawn, path[-1]))  # behind a row's end its last tag repeats
    tags = torch.stack(path[::-1], dim=2).masked_fill(~kept, IGNORED)  # (count, batch, length)
    return torch.stack([crf.named(crf.restore(row, order)) for row in tags])


@torch.no_grad()
def entropy(crf: CRF, emissions: Tensor, mask: Tensor | None = None) -> Tensor:
    """The entropy of the distribution over all legal tag sequences; without a gradient.

    Args:
        crf: The CRF; its `batch_first` decides the order of the axes.
        emissions: `(batch, length, tags)`.
        mask: `(batch, length)`; positions that are 0 are left out.

    Returns:
        The entropy of each row in nats, `(batch)`.
    """
    emissions, kept, _, _ = crf.arrange(emissions, mask)
    wide = widened(emissions)
    start, transitions, end = crf.parameters_for(wide)
    # H = log Z - E[score], in double precision, as the two are large and close.
    value, tags, pairs = counts(wide, kept, start, transitions, end)
    start, transitions, end = (by_row(part, len(wide)) for part in (start, transitions, end))
    last = tags[torch.arange(len(tags), device=tags.device), last_positions(kept)]  # (batch, tags)
    edges = (tags[:, 0] * start + last * end).sum(1)  # (batch)
    emitted = torch.where(tags > 0, tags * wide, 0.0).sum((1, 2))  # a tag at minus infinity has no share, not NaN
    expected = emitted + edges + (pairs * transitions).sum((1, 2))
    return crf.by_sequence((value - expected).clamp(min=0.0).to(emissions.dtype))


def _draw(scores: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw one index of the last axis each, by the probabilities whose logarithms the scores are up to a constant.

    Noise of Gumbel's distribution turns the draw into a maximum (Gumbel 1954).
    """
    waits = torch.empty_like(scores).exponential_(generator=generator)
    # Minus the logarithm of an exponential variable is Gumbel's; at least `tiny`, so that no noise is infinite.
    return (scores - waits.clamp(min=torch.finfo(scores.dtype).tiny).log()).argmax(-1)
