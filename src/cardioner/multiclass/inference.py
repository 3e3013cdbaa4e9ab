"""From windows to emissions, one row per sub-token of a note, and from emissions to tags and scores of spans.

This file travels with every saved model and imports only the files that travel with it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from .attributes import NOTHING_SAID, AttributeGroup, Said, said_of
from .encoding import BATCH_TOKENS, EncodedNote, plan_windows, read_notes
from .precision import reader_of
from .tagging import TagGroup, tag_groups
from .windows import Coverage, in_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .encoding import Cache

T = TypeVar("T")

BATCH_TOKENS_GPU = 16_384
"""Sub-tokens that the encoder reads at a time on a GPU, which a few windows do not keep busy."""

BATCH_SCORES = 1 << 16
"""Emissions, one a sub-token and tag, that are decoded or scored at a time on a CPU, padding included.

Larger batches hold more padding, as the lengths of notes differ, and more than the processor's cache.
"""

BATCH_SCORES_GPU = 1 << 21
"""The same on a GPU, where each operation costs as much for many as for few."""

MOST_SHARES = 4
"""Shares of notes that a CPU works on at a time: Python runs one thread at a time, so that more would wait for it."""

SHARE_TOKENS = 1024
"""Sub-tokens that a share has at least: smaller ones fill no batch."""

UNEVEN = 1.2
"""How many times the mean the largest share may have, before one after the other is as fast."""


def side_by_side(
    work: Callable[[Sequence[EncodedNote]], Sequence[T]], notes: Sequence[EncodedNote], device: torch.device
) -> list[T]:
    """What a function gives for each note, with shares of the notes side by side on the cores of a CPU.

    Cutting, stitching, decoding and reading spans use one core each: meanwhile the other shares keep the others busy.
    The cores that torch may use are divided among the shares, so that threads do not wait for each other within a
    matrix product, which on a machine with other work costs most.

    Args:
        work: Gives one result a note; called in several threads at once.
        notes: The tokenised notes.
        device: Where the model is: on a GPU, and where there is too little to share, all notes are one share.
    """
    threads, sizes = torch.get_num_threads(), [len(note.ids) for note in notes]
    count = 1 if device.type != "cpu" else min(threads, MOST_SHARES, sum(sizes) // SHARE_TOKENS)
    shares = even_shares(sizes, max(1, count))
    loads = [sum(sizes[index] for index in share) for share in shares]
    if count < 2 or max(loads) * count > UNEVEN * sum(loads):
        return list(work(notes))
    given, results = [[notes[index] for index in share] for share in shares], dict[int, T]()
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(threads // count,)) as pool:
            for share, found in zip(shares, pool.map(work, given), strict=True):
                results |= zip(share, found, strict=True)
    finally:
        torch.set_num_threads(threads)  # for threads to come, which take over what was set last in any thread
    return [results[index] for index in range(len(notes))]


def one_at_a_time(call: Callable[[Coverage], None]) -> Callable[[Coverage], None]:
    """A function that several threads may call, and that one of them runs at a time."""
    lock = Lock()

    def guarded(coverage: Coverage) -> None:
        with lock:
            call(coverage)

    return guarded


def even_shares(sizes: Sequence[int], count: int) -> list[list[int]]:
    """Indices in so many shares of similar total size: the largest first, each to the share that has least yet."""
    shares: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    for index in sorted(range(len(sizes)), key=lambda index: sizes[index], reverse=True):
        least = loads.index(min(loads))
        shares[least].append(index)
        loads[least] += sizes[index]
    return [sorted(share) for share in shares]


def pad(rows: Sequence[Sequence[Any]], value: Any) -> Tensor:
    """Rows of different length as one tensor, padded on the right; of numbers, or of equally long lists of them."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows], dtype=torch.long)


def emissions_of(
    model: Any,
    tokenizer: Any,
    notes: Sequence[EncodedNote],
    *,
    batch_tokens: int | None = None,
    advance: Callable[[Coverage], None] | None = None,
    cache: Cache | None = None,
) -> list[Tensor]:
    """The stitched emissions of each note.

    Args:
        model: A model of `modeling.py`.
        tokenizer: Its tokenizer.
        notes: The tokenised notes.
        batch_tokens: Most sub-tokens the encoder reads at a time, padding included; by default what suits the device.
        advance: Called with what a batch covered beyond those before it; together that is all of the notes.
        cache: As `WindowPlan` has it.

    Returns:
        Per note `(opening + sub-tokens + closing, tags)`: the opening special rows of the first window, one row per
        sub-token, the closing special rows of the last window; float32, on the CPU. Of a model with attributes, the
        scores of their values stand behind those of the tags.
    """
    plan, config = plan_windows(model.config, tokenizer)._replace(cache=cache), model.config
    columns = columns_in(config)
    model.eval()
    reader, padding = reader_of(model), tokenizer.pad_token_id or 0
    with torch.inference_mode():
        return read_notes(
            plan,
            notes,
            lambda rows: _logits(reader, rows, padding),
            lambda length: torch.empty(length, columns),
            batch_tokens=batch_tokens_for(model.device) if batch_tokens is None else batch_tokens,
            advance=advance,
        )


def batch_tokens_for(device: torch.device) -> int:
    """How many sub-tokens the encoder reads at a time on a device, unless the caller says otherwise."""
    return BATCH_TOKENS if device.type == "cpu" else BATCH_TOKENS_GPU


def _logits(model: Any, rows: Sequence[Sequence[int]], padding: int) -> Tensor:
    """Emissions `(batch, length, columns)` of windows given by their ids, as float32 on the CPU."""
    input_ids = pad(rows, padding)
    attention_mask = pad([[1] * len(row) for row in rows], 0)
    output = model(input_ids=input_ids.to(model.device), attention_mask=attention_mask.to(model.device))
    return columns_of(output).float().cpu()


def columns_in(config: Any) -> int:
    """How many numbers a model computes for each position: one for each tag, and for each value of attributes."""
    return int(config.num_labels) + sum(len(group.values) for group in config.attribute_groups)


def columns_of(output: Any) -> Tensor:
    """All that a model computes for each position, side by side: emissions, and behind them scores of attributes."""
    logits: Tensor = output.logits
    said: Tensor | None = getattr(output, "attribute_logits", None)  # a class of the user's own may have another output
    return logits if said is None else torch.cat([logits, said], dim=-1)


def decode_notes(model: Any, emissions: Sequence[Tensor], *, viterbi: bool = True) -> list[list[list[int]]]:
    """The best tag ids of whole notes, special rows included: one decoding a note, many notes at a time.

    Per note and tag group one id per row; flat tags are one group.

    Args:
        model: A model of `modeling.py`.
        emissions: Per note `(length, tags)`.
        viterbi: Whether a model with a CRF uses it; else the most probable tag of each row is taken.
    """
    groups = tag_groups(model.config.tags)
    if not viterbi:
        return [[_most_probable(rows, group) for group in groups] for rows in emissions]
    decoded: list[list[list[int]]] = [[[] for _ in groups] for _ in emissions]
    for indices, logits, mask in _padded(model, emissions):
        for index, row in zip(indices, model.decode(logits, mask), strict=True):
            decoded[index] = [row] if groups[0].label is None else row
    return decoded


def _most_probable(rows: Tensor, group: TagGroup) -> list[int]:
    """The most probable tag of a group for each of the rows `(length, tags)`."""
    best: list[int] = (rows[:, group.first : group.first + len(group.tags)].argmax(1) + group.first).tolist()
    return best


def score_spans(
    model: Any, emissions: Sequence[Tensor], spans: Sequence[Sequence[tuple[int, list[int]]]]
) -> list[list[float]]:
    """The probability of each span, many notes at a time.

    Args:
        model: A model of `modeling.py`.
        emissions: Per note `(length, tags)`.
        spans: Per note and span its first row and its tag ids.
    """
    scores: list[list[float]] = [[] for _ in emissions]
    for indices, logits, mask in _padded(model, emissions):
        asked = [(row, *span) for row, index in enumerate(indices) for span in spans[index]]
        for (row, *_), score in zip(asked, model.span_scores(logits, asked, mask), strict=True):
            scores[indices[row]].append(score)
    return scores


def describe_spans(
    model: Any, emissions: Sequence[Tensor], spans: Sequence[Sequence[tuple[int, list[int]]]]
) -> list[list[Said]]:
    """What a model says of each span.

    Args:
        model: A model of `modeling.py`.
        emissions: Per note `(length, columns)`, as `emissions_of` gives them.
        spans: Per note and span its first row and its tag ids.
    """
    groups = model.config.attribute_groups
    if not groups:
        return [[NOTHING_SAID] * len(found) for found in spans]
    pooled = (attribute_scores(rows, found, groups) for rows, found in zip(emissions, spans, strict=True))
    return [[said_of(row, groups) for row in means] for means in pooled]


def attribute_scores(
    emissions: Tensor, spans: Sequence[tuple[int, list[int]]], groups: Sequence[AttributeGroup]
) -> list[list[float]]:
    """Per span of a note the mean scores of all values of all attributes: its first row and tag ids say where it is."""
    if not spans:
        return []
    scores = emissions[None, :, -groups[-1].stop :].double()  # which sums over a long note need
    edges = torch.tensor([[[first, first + len(tags)] for first, tags in spans]])
    means: list[list[float]] = span_means(scores, edges)[0].tolist()
    return means


def span_means(scores: Tensor, spans: Tensor) -> Tensor:
    """The mean of scores over the positions of spans: `(batch, spans, values)`.

    Args:
        scores: `(batch, length, values)`.
        spans: `(batch, spans, 2)`: the first position of each, and the one behind its last; equal ones of padding.
    """
    sums = torch.nn.functional.pad(scores.cumsum(1), (0, 0, 1, 0))  # (batch, 1 + length, values)
    edges = [sums.gather(1, spans[:, :, side, None].expand(-1, -1, scores.size(2))) for side in (0, 1)]
    lengths = (spans[:, :, 1] - spans[:, :, 0]).clamp(min=1).unsqueeze(2)
    return (edges[1] - edges[0]) / lengths


def _padded(model: Any, emissions: Sequence[Tensor]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Notes of similar length as batches: their indices, logits `(batch, length, tags)` and mask, on the device."""
    tags = model.config.num_labels
    filled = [index for index, rows in enumerate(emissions) if len(rows)]
    budget = BATCH_SCORES if model.device.type == "cpu" else BATCH_SCORES_GPU
    for indices in in_batches(filled, lambda index: len(emissions[index]) * tags, budget):
        logits = torch.nn.utils.rnn.pad_sequence([emissions[index][:, :tags] for index in indices], batch_first=True)
        mask = pad([[1] * len(emissions[index]) for index in indices], 0)
        yield indices, logits.to(model.device), mask.to(model.device)
