"""The conditional random field over tags.

This file is copied into every saved model directory and imports nothing but the standard library, torch and files
beside it that do the same.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - the name every torch reader knows
from torch import Tensor, nn

from .checks import IGNORED, check_labels, check_scores, check_spans
from .crf_cuda import fits_kernel, illegal_scores, log_likelihood
from .crf_recursions import (
    both_ways,
    by_row,
    last_positions,
    log_messages,
    log_partition,
    marginals,
    rows_last,
    widened,
)
from .crf_scan import MAXIMA, scan, trace
from .tagging import Legality, legal_transitions

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CRF", "Legality", "legal_transitions"]

_FORBIDDEN = -1e30
"""The score of an illegal transition: in float32 no sum of real scores reaches it, and no sum of it overflows."""


class CRF(nn.Module):
    """A linear-chain conditional random field over tags (Lafferty, McCallum and Pereira 2001).

    Drop-in for the class of the same name in pytorch-crf: the same parameters and calls. Masks may be of any dtype and
    have holes: masked positions are left out and their neighbours joined. Sums are computed in float32 or wider, and
    the best sequences in double precision, so that small differences still count at the end of a long note.

    With `types`, as many fields with parameters of their own read the same positions, independently of each other and
    as one batch. Emissions are `(batch, length, types * tags)`, a type's tags side by side. Tag ids are indices of that
    axis, so those of the second type begin at `num_tags`. Sequences of tags have an axis `types` behind the two others,
    or are one list a type; scores of sequences are the sums over all types.

    Args:
        num_tags: Number of tags, of each type where there are `types`.
        batch_first: Whether tensors are `(batch, length, ...)` and not `(length, batch, ...)`, here and below.
        legal: Which transitions exist; all of them by default. Illegal ones have probability 0 everywhere and are never
            written into the parameters.
        types: Number of fields; `None` for one alone, whose tensors have no axis for it.
    """

    def __init__(
        self, num_tags: int, batch_first: bool = False, *, legal: Legality | None = None, types: int | None = None
    ) -> None:
        if num_tags <= 0:
            raise ValueError(f"a CRF needs at least one tag, found {num_tags}")
        if legal is not None and len(legal.start) != num_tags:
            raise ValueError(f"expected the legality of {num_tags} tags, found that of {len(legal.start)}")
        super().__init__()
        self.num_tags = num_tags
        self.batch_first = batch_first
        self.legal = legal
        self.types = types
        fields = () if types is None else (types,)
        self.start_transitions = nn.Parameter(torch.empty(*fields, num_tags))
        self.end_transitions = nn.Parameter(torch.empty(*fields, num_tags))
        self.transitions = nn.Parameter(torch.empty(*fields, num_tags, num_tags))
        self.reset_parameters()

    def extra_repr(self) -> str:
        """What `print` shows."""
        types = "" if self.types is None else f", types={self.types}"
        return f"num_tags={self.num_tags}, batch_first={self.batch_first}, constrained={self.legal is not None}{types}"

    def reset_parameters(self) -> None:
        """Set all parameters to 0: an untrained CRF then decodes as the head alone would."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, emissions: Tensor, tags: Tensor, mask: Tensor | None = None, reduction: str = "sum") -> Tensor:
        """The log-likelihood of tag sequences; of the best sequences where `tags` is a boolean mask.

        Args:
            emissions: `(batch, length, tags)`.
            tags: `(batch, length)` tag ids, with `IGNORED` counting as masked; or a boolean mask of that shape.
            mask: `(batch, length)`; positions that are 0 are left out. With `types` they may differ from type to type,
                `(batch, length, types)`, here and in all that follows.
            reduction: `none` gives `(batch)`; `sum`; `mean` over sequences; or `token_mean` over kept positions.

        Raises:
            ValueError: For another reduction, or a tag id that the CRF does not have.
        """
        if tags.dtype == torch.bool:
            emissions, kept, _, _ = self.arrange(emissions, tags if mask is None else tags & mask.bool())
            score = self._score(emissions, self._viterbi(emissions, kept).clamp(min=0), kept)
        elif fits_kernel(emissions, self.num_tags) and (found := self._in_one_kernel(emissions, tags, mask)):
            values, positions = found
            return _reduce(self.by_sequence(values), positions, reduction)
        else:
            check_labels(tags, self.num_tags, self.types)
            emissions, kept, _, tags = self.arrange(emissions, mask, tags.long())
            score = self._score(emissions, tags, kept)
        values = score - log_partition(emissions, kept, *self.parameters_for(emissions))
        return _reduce(self.by_sequence(values), kept.sum(), reduction)

    def log_partition(self, emissions: Tensor, mask: Tensor | None = None) -> Tensor:
        """The logarithm of the sum over all legal sequences of their exponentiated scores, `(batch)`."""
        emissions, kept, _, _ = self.arrange(emissions, mask)
        return self.by_sequence(log_partition(emissions, kept, *self.parameters_for(emissions)))

    def marginals(self, emissions: Tensor, mask: Tensor | None = None) -> Tensor:
        """The probability of each tag at each position, 0 at masked ones; shaped as the emissions."""
        emissions, kept, order, _ = self.arrange(emissions, mask)
        found = marginals(emissions, kept, *self.parameters_for(emissions))  # (batch, length, tags)
        return self.restore(found, order.unsqueeze(2).expand_as(found))

    def best(self, emissions: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The best legal sequences (Viterbi): tag ids, `IGNORED` at masked positions, and log scores, `(batch)`."""
        emissions, kept, order, _ = self.arrange(emissions, mask)
        tags = self._viterbi(emissions, kept)
        return self.named(self.restore(tags, order)), self.by_sequence(self._score(emissions, tags.clamp(min=0), kept))

    def decode(self, emissions: Tensor, mask: Tensor | None = None) -> list[Any]:
        """The most probable legal sequences, one tag id per kept position; with `types` a list of one each per row."""
        emissions, kept, _, _ = self.arrange(emissions, mask)
        tags = self._viterbi(emissions, kept) + by_row(self._first_ids(kept.device), len(kept)).unsqueeze(1)
        rows = [row[:count] for row, count in zip(tags.tolist(), kept.sum(1).tolist(), strict=True)]
        batch = len(rows) // (self.types or 1)
        return rows if self.types is None else [rows[row::batch] for row in range(batch)]

    def k_best(self, emissions: Tensor, k: int, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The `k` best legal sequences of each row, best first (list Viterbi, Seshadri and Sundberg 1994).

        Returns:
            Tag ids `(k, batch, length)`, or `(k, length, batch)` without `batch_first`, `IGNORED` at masked positions;
            and log scores `(k, batch)`. A row with fewer than `k` legal sequences is filled up with `IGNORED` and
            `-inf`. With `types` both have an axis for these at their end: the best of each type for itself.

        Raises:
            ValueError: If `k` is not positive.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, found {k}")
        emissions, kept, order, _ = self.arrange(emissions, mask)
        tags = self._list_viterbi(emissions, kept, k)  # (k, batch, length)
        scores = [self._score(emissions, row.clamp(min=0), kept) for row in tags]
        missing = tags[:, :, 0].eq(IGNORED) & kept[:, 0]  # (k, batch)
        missing[1:] |= ~kept[:, 0]  # an empty row has one sequence, the empty one
        tags = torch.stack([self.named(self.restore(row, order)) for row in tags])
        best = torch.stack(scores).masked_fill(missing, -torch.inf)
        return tags, best if self.types is None else best.view(k, self.types, -1).transpose(1, 2)

    @torch.no_grad()
    def span_log_probabilities(
        self,
        emissions: Tensor,
        spans: list[tuple[int, int, list[int]]],
        mask: Tensor | None = None,
        *,
        temperature: float = 1.0,
    ) -> Tensor:
        """The log-probabilities of exactly these spans, `(spans)`, in double precision.

        A span's probability is that of its first tag, times that of each further tag given the one before it, times
        that of no tag behind them that would continue the span (see `Legality.continues`). For a type without an
        opening tag the span may still have begun earlier: tags before its first position may belong to it.

        Args:
            emissions: `(batch, length, tags)`.
            spans: Per span its row, its first position as `decode` counts them, and its tag ids.
            mask: `(batch, length)`; positions that are 0 are left out. With `types` perhaps `(batch, length, types)`:
                positions of a span are then counted among those of its type.
            temperature: Divides emissions and parameters.

        Raises:
            ValueError: If a span lies outside of its row or has tags of several types, or the temperature is not
                positive.
        """
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, found {temperature}")
        emissions, kept, _, _ = self.arrange(emissions, mask)
        wide = widened(emissions) / temperature
        if not spans:
            return wide.new_empty(0)
        check_spans(spans, kept.sum(1).view(self.types or 1, -1).tolist(), self.num_tags)
        batch = len(kept) // (self.types or 1)
        kinds = [tags[0] // self.num_tags for _, _, tags in spans]
        spans = [
            (kind * batch + row, first, [tag - kind * self.num_tags for tag in tags])
            for kind, (row, first, tags) in zip(kinds, spans, strict=True)
        ]
        parameters = (parameter / temperature for parameter in self.parameters_for(wide))
        alpha, beta, ahead, transitions = log_messages(wide, kept, *parameters)  # the first three as the emissions
        at = entries(spans, wide.device)
        # log p(tag | tag before) = transition + ahead of the tag - beta of the tag before: a share of what may follow.
        entering, leaving = (part[at.row, at.position, at.tag] for part in (ahead, beta))  # (entries)
        kind = at.row // batch  # (entries)
        moves = transitions[kind[:-1], at.tag[:-1], at.tag[1:]] + entering[1:] - leaving[:-1]  # (entries - 1)
        moves = moves.nan_to_num(nan=-torch.inf, neginf=-torch.inf)  # out of a tag that nothing may follow
        # log p(first tag), plus the moves that do not lead from one span into the next.
        shares = (alpha + beta)[at.row, at.position].log_softmax(1)  # (entries, tags)
        found = shares.gather(1, at.tag.unsqueeze(1)).squeeze(1)[at.first]  # (spans)
        inside = torch.where(at.span[1:] == at.span[:-1], moves, 0.0)
        found = found.index_add(0, at.span[1:], inside).clamp(max=0.0)
        if self.legal is None:
            return found
        # log p(no continuation | last tag): the share of what may follow that does not continue the span.
        ends = (at.row, kind, at.position, at.tag, leaving)
        row, kind, position, tag, leaving = (part[at.last] for part in ends)  # (spans)
        following = transitions[kind, tag] + ahead[row, (position + 1).clamp(max=ahead.size(1) - 1)]  # (spans, tags)
        goes_on = torch.tensor(self.legal.continues, device=wide.device)[tag]  # (spans, tags)
        stops = following.masked_fill(goes_on, -torch.inf).logsumexp(1) - leaving  # (spans)
        stops = torch.where(position + 1 < kept.sum(1)[row], stops, 0.0)  # nothing follows the end of a row
        return found + stops.nan_to_num(nan=-torch.inf, neginf=-torch.inf).clamp(max=0.0)

    def arrange(
        self, emissions: Tensor, mask: Tensor | None = None, tags: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Any]:
        """Make compact sequences: batch first, and the kept positions of each row at its front.

        With `types`, the rows of each type follow those of the one before, and tag ids begin at 0.

        Returns:
            Emissions in float32 or wider, 0 at masked positions; which positions are kept; the original positions; and
            the tags, if they were given.

        Raises:
            ValueError: If the shapes do not fit.
        """
        fields = self.types or 1
        if emissions.dim() != 3 or emissions.size(2) != self.num_tags * fields:
            raise ValueError(
                f"expected three axes of emissions with {self.num_tags * fields} tags, found {emissions.shape}"
            )
        if not emissions.size(1 if self.batch_first else 0):
            raise ValueError("expected emissions of at least one position, found none; an empty row is a masked one")
        places = tuple(emissions.shape[:2])
        wanted = {"mask": places, "tags": places if self.types is None else (*places, fields)}
        for name, given in (("mask", mask), ("tags", tags)):
            if given is not None and given.shape not in {wanted[name], wanted["tags"]}:
                raise ValueError(f"expected {name} of shape {wanted[name]}, found {tuple(given.shape)}")
        kept = emissions.new_ones(places).bool() if mask is None else mask.bool()
        kept = (kept if kept.dim() == 3 else kept.unsqueeze(2)).expand(*places, fields)
        emissions = emissions.reshape(*places, fields, self.num_tags)
        if tags is not None:
            tags = tags.view(*places, fields)
            kept = kept & tags.ne(IGNORED)
            tags = tags.clamp(min=0) - self._first_ids(tags.device)
        emissions, kept = self._by_type(emissions), self._by_type(kept)  # batch: from here on the rows of all types
        tags = None if tags is None else self._by_type(tags)
        order = torch.argsort(~kept, dim=1, stable=True)  # (batch, length): kept positions first, in their order
        emissions = emissions.to(torch.promote_types(emissions.dtype, torch.float32))
        flat = order + torch.arange(len(order), device=order.device).unsqueeze(1) * order.size(1)  # into batch * length
        emissions = emissions.flatten(0, 1).index_select(0, flat.flatten()).view_as(emissions)
        kept = kept.gather(1, order)
        emissions = emissions.masked_fill(~kept.unsqueeze(2), 0.0)  # padding may hold anything, NaN too
        return emissions, kept, order, None if tags is None else tags.clamp(min=0).gather(1, order)

    def restore(self, values: Tensor, order: Tensor) -> Tensor:
        """Undo `arrange`: move values to their original positions, and the axes to the caller's order."""
        restored = torch.empty_like(values).scatter(1, order, values)
        if self.types is not None:  # (batch, length, types * ...)
            restored = restored.view(self.types, -1, *restored.shape[1:]).movedim(0, 2).flatten(2)
        return restored if self.batch_first else restored.transpose(0, 1)

    def named(self, tags: Tensor) -> Tensor:
        """Restored tags of each type as ids of the emissions' last axis."""
        return tags if self.types is None else torch.where(tags == IGNORED, tags, tags + self._first_ids(tags.device))

    def by_sequence(self, values: Tensor) -> Tensor:
        """What belongs to the rows of all types, as the sum over these, `(batch)`."""
        return values if self.types is None else values.view(self.types, -1).sum(0)

    def _by_type(self, values: Tensor) -> Tensor:
        """The caller's `(batch, length, types, ...)` as rows, `(batch, length, ...)`, those of a type together."""
        return values.movedim((2, 0, 1) if self.batch_first else (2, 1, 0), (0, 1, 2)).flatten(0, 1)

    def _first_ids(self, device: torch.device) -> Tensor:
        """The id of each type's first tag, `(types)`."""
        return self.num_tags * torch.arange(self.types or 1, device=device)

    def parameters_for(self, emissions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Start `(fields, tags)`, transition `(fields, tags, tags)` and end `(fields, tags)` scores.

        Illegal ones are all but impossible.
        """
        given = (self.start_transitions, self.transitions, self.end_transitions)
        start, transitions, end = (parameter.to(emissions.dtype) for parameter in given)
        if self.types is None:
            start, transitions, end = start.unsqueeze(0), transitions.unsqueeze(0), end.unsqueeze(0)
        if self.legal is None:
            return start, transitions, end
        opens, follows, closes = (torch.tensor(part, device=emissions.device) for part in self.legal[:3])
        return (
            start.masked_fill(~opens, _FORBIDDEN),
            transitions.masked_fill(~follows, _FORBIDDEN),
            end.masked_fill(~closes, _FORBIDDEN),
        )

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _in_one_kernel(self, emissions: Tensor, tags: Tensor, mask: Tensor | None) -> tuple[Tensor, int] | None:
        """The log-likelihoods of all rows and the number of kept positions, where the GPU's kernel gives them."""
        fields, places = self.types or 1, emissions.shape[:2]
        fit = tags.shape == (places if self.types is None else (*places, fields)) and not tags.is_floating_point()
        if not fit or emissions.size(2) != self.num_tags * fields or (mask is not None and mask.shape != places):
            return None  # what is wrong with these is said where the other way checks them
        tags = tags.view(*places, fields)
        if fields > 1:
            tags = torch.where(tags == IGNORED, tags, (tags - self._first_ids(tags.device)).clamp(min=-1))
        tags = tags if mask is None else tags.masked_fill(~mask.bool().unsqueeze(2), IGNORED)
        given = (self.transitions, self.start_transitions, self.end_transitions)
        scores = torch.cat([parameter.view(fields, -1) for parameter in given], dim=1)  # (fields, scores)
        if self.legal is not None:
            start, transitions, end, _ = self.legal
            scores = scores.masked_fill(illegal_scores(scores.device, *transitions, start, end), _FORBIDDEN)
        emissions = emissions.view(*places, fields, self.num_tags)
        return log_likelihood(self._by_type(emissions), self._by_type(tags), scores, IGNORED)

    def _score(self, emissions: Tensor, tags: Tensor, kept: Tensor) -> Tensor:
        """The unnormalised log scores of given sequences, `(batch)`."""
        start, transitions, end = self.parameters_for(emissions)
        kind = torch.arange(len(tags), device=tags.device) // max(1, len(tags) // len(start))  # (batch)
        emitted = emissions.gather(2, tags.unsqueeze(2)).squeeze(2)  # (batch, length)
        moved = transitions[kind.unsqueeze(1), tags[:, :-1], tags[:, 1:]]  # (batch, length - 1)
        last = tags.gather(1, last_positions(kept).unsqueeze(1)).squeeze(1)  # (batch)
        score = start[kind, tags[:, 0]] + end[kind, last] + emitted.sum(1)
        return (score + moved.masked_fill(~kept[:, 1:], 0.0).sum(1)).masked_fill(~kept[:, 0], 0.0)

    @torch.no_grad()
    def _viterbi(self, emissions: Tensor, kept: Tensor) -> Tensor:
        """Best tags `(batch, length)` of compact sequences, `IGNORED` behind a row's end.

        One recursion runs from each end, side by side, and they meet in the middle: half as many steps. They keep the
        scores alone; walking back computes again which tag gave each score.
        """
        wide = widened(emissions)
        start, transitions, end = self.parameters_for(wide)
        check_scores(wide, start, transitions, end)
        fields = len(start)
        last = last_positions(kept).view(fields, 1, -1)  # (fields, 1, rows)
        both = both_ways(rows_last(wide, fields), last)  # (length, 2 * fields, tags, rows)
        half, edges = (len(both) + 1) // 2, torch.cat([transitions, transitions.mT])
        first = both[0] + torch.cat([start, end]).unsqueeze(2)  # (2 * fields, tags, rows)
        scores = scan(MAXIMA, first, both[1:half], edges)  # (half, 2 * fields, tags, rows)
        # Where the two meet, (fields, 1, rows), each counted from its own end; below 0 in a row that the first covers.
        entry = torch.cat([last.clamp(max=half - 1), last - half])
        met = scores.gather(0, entry.clamp(min=0).expand(scores.shape[1:]).unsqueeze(0))[0]  # (2 * fields, tags, rows)
        left, right = met[:fields], met[fields:]
        # The best pair of tags on either side of the middle, as tag * tags + next tag, (fields, rows).
        pair = (left.unsqueeze(2) + transitions.unsqueeze(3) + right.unsqueeze(1)).flatten(1, 2).argmax(1)
        alone = (left + end.unsqueeze(2)).argmax(1)
        before = torch.where(entry[fields:, 0] < 0, alone, pair // self.num_tags)
        ends = torch.cat([before, pair % self.num_tags])  # (2 * fields, rows)
        path = trace(ends, entry[:, 0], scores, edges)  # (half, 2 * fields, rows)
        # The second half of each row stands mirrored in the other recursion.
        mirrored = last[:, 0] - torch.arange(half, len(both), device=kept.device).view(-1, 1, 1)
        path = torch.cat([path[:, :fields], path[:, fields:].gather(0, mirrored.clamp(min=0))])
        path = path.flatten(1).t()  # (batch, length)
        return path.masked_fill(~kept, IGNORED)

    @torch.no_grad()
    def _list_viterbi(self, emissions: Tensor, kept: Tensor, k: int) -> Tensor:
        """The `k` best sequences `(k, batch, length)`; `IGNORED` behind a row's end, and where there are fewer."""
        wide = widened(emissions)
        start, transitions, end = (by_row(part, len(wide)) for part in self.parameters_for(wide))
        check_scores(wide, start, transitions, end)
        # Per tag the k best scores of the sequences that end in it, (batch, tags, k); at first there is one.
        state = F.pad((start + wide[:, 0]).unsqueeze(2), (0, k - 1), value=-torch.inf)
        own = torch.arange(state.size(1) * k, device=wide.device).view(-1, k)
        pointers = []  # per tag and rank, where its sequence came from, as tag before * k + rank before
        for emitted, here in zip(wide.unbind(1)[1:], kept.unbind(1)[1:], strict=True):
            moved = (state.unsqueeze(3) + transitions.unsqueeze(2)).flatten(1, 2)  # (batch, tags * k, tags)
            top, chosen = (found.transpose(1, 2) for found in moved.topk(k, dim=1))  # (batch, tags, k)
            state = torch.where(here.view(-1, 1, 1), top + emitted.unsqueeze(2), state)
            pointers.append(torch.where(here.view(-1, 1, 1), chosen, own))
        scores, index = (state + end.unsqueeze(2)).flatten(1).topk(k)  # (batch, k)
        path = [index]
        for pointer in reversed(pointers):
            path.append(pointer.flatten(1).gather(1, path[-1]))  # (batch, k)
        tags = torch.stack(path[::-1], dim=2) // k  # (batch, k, length)
        # With fewer than k legal sequences the rest hold forbidden transitions, or nothing.
        return tags.masked_fill((scores < _FORBIDDEN / 2).unsqueeze(2) | ~kept.unsqueeze(1), IGNORED).transpose(0, 1)


class Entries(NamedTuple):
    """The tags of all spans, one span after another.

    Attributes:
        span: Which span each belongs to, `(entries)`.
        row: Its row in the batch, `(entries)`.
        position: Its position in that row, `(entries)`.
        tag: Its tag id, `(entries)`.
        first: The first entry of each span, `(spans)`.
        last: The last entry of each span, `(spans)`.
    """

    span: Tensor
    row: Tensor
    position: Tensor
    tag: Tensor
    first: Tensor
    last: Tensor


def entries(spans: list[tuple[int, int, list[int]]], device: torch.device) -> Entries:
    """Lay the spans out as columns, so that all of them are looked up at once."""

    def column(values: Iterable[int]) -> Tensor:
        return torch.tensor(list(values), dtype=torch.long, device=device)

    sizes = column(len(tags) for _, _, tags in spans)  # (spans)
    ends = sizes.cumsum(0)
    first = ends - sizes
    span = torch.arange(len(spans), device=device).repeat_interleave(sizes)  # (entries)
    row, start = column(row for row, _, _ in spans)[span], column(start for _, start, _ in spans)[span]
    tag = column(chain.from_iterable(tags for _, _, tags in spans))
    position = start + torch.arange(len(tag), device=device) - first[span]
    return Entries(span, row, position, tag, first, ends - 1)


def _reduce(values: Tensor, positions: Tensor | int, reduction: str) -> Tensor:
    """Reduce the values `(batch)` of so many kept positions; the names are those of pytorch-crf."""
    if reduction not in {"none", "sum", "mean", "token_mean"}:
        raise ValueError(f"reduction must be none, sum, mean or token_mean; found {reduction!r}")
    if reduction == "token_mean":
        return values.sum() / (positions.clamp(min=1) if isinstance(positions, Tensor) else max(positions, 1))
    return values if reduction == "none" else values.sum() if reduction == "sum" else values.mean()
