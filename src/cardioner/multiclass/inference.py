"""From windows to emissions, one row per sub-token of a note, and from emissions to tags and scores of spans.

This file travels with every saved model and imports only the files that travel with it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from .encoding import EncodedNote, SpecialIds, plan_windows
from .precision import reader_of
from .windows import Coverage, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")

BATCH_TOKENS = 2048
"""Sub-tokens that the encoder reads at a time on a CPU, padding included."""

BATCH_TOKENS_GPU = 16_384
"""The same on a GPU, which a few windows do not keep busy."""

BATCH_SCORES = 1 << 21
"""Emissions, one a sub-token and tag, that are decoded or scored at a time, padding included."""


def pad(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Rows of different length as one tensor, padded on the right."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows], dtype=torch.long)


def emissions_of(
    model: Any,
    tokenizer: Any,
    notes: Sequence[EncodedNote],
    *,
    batch_tokens: int | None = None,
    advance: Callable[[Coverage], None] | None = None,
) -> list[Tensor]:
    """The stitched emissions of each note.

    Args:
        model: A model of `modeling.py`.
        tokenizer: Its tokenizer.
        notes: The tokenised notes.
        batch_tokens: Most sub-tokens the encoder reads at a time, padding included; by default what suits the device.
        advance: Called with what a batch covered beyond those before it; together that is all of the notes.

    Returns:
        Per note `(opening + sub-tokens + closing, tags)`: the opening special rows of the first window, one row per
        sub-token, the closing special rows of the last window; float32, on the CPU.
    """
    plan = plan_windows(model.config, tokenizer)
    cuts = [plan.cut(note) for note in notes]
    jobs = [(index, window) for index, windows in enumerate(cuts) for window in windows]
    jobs = [job for job in jobs if plan.ids(notes[job[0]], job[1])]  # nothing to read in an empty note without specials
    left = Counter(index for index, _ in jobs)
    jobs.sort(key=lambda job: job[1].stop - job[1].start)
    extra = len(plan.special.opening) + len(plan.special.closing)
    stitched = [torch.empty(len(note.ids) + extra, model.config.num_labels) for note in notes]
    if advance is not None and len(left) < len(notes):
        unread = [len(note.text) for index, note in enumerate(notes) if index not in left]
        advance(Coverage(documents=len(unread), characters=sum(unread)))
    model.eval()
    reader = reader_of(model)
    budget = batch_tokens_for(model.device) if batch_tokens is None else batch_tokens
    with torch.inference_mode():
        for batch in _batches(jobs, lambda job: job[1].stop - job[1].start + extra, budget):
            logits = _logits(reader, tokenizer, [plan.ids(notes[index], window) for index, window in batch])
            for (index, window), rows in zip(batch, logits, strict=True):
                _stitch(stitched[index], rows, window, plan.special)
            if advance is not None:
                advance(_covered(batch, notes, left))
    return stitched


def batch_tokens_for(device: torch.device) -> int:
    """How many sub-tokens the encoder reads at a time on a device, unless the caller says otherwise."""
    return BATCH_TOKENS if device.type == "cpu" else BATCH_TOKENS_GPU


def _batches(items: Sequence[T], size: Callable[[T], int], budget: int) -> Iterator[list[T]]:
    """Group items that are sorted by size so that no batch exceeds the budget, each padded to the largest."""
    batch: list[T] = []
    for item in items:
        if batch and (len(batch) + 1) * size(item) > budget:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def _logits(model: Any, tokenizer: Any, rows: Sequence[Sequence[int]]) -> Tensor:
    """Emissions `(batch, length, tags)` of windows given by their ids, as float32 on the CPU."""
    input_ids = pad(rows, tokenizer.pad_token_id or 0)
    attention_mask = pad([[1] * len(row) for row in rows], 0)
    output = model(input_ids=input_ids.to(model.device), attention_mask=attention_mask.to(model.device))
    logits: Tensor = output.logits.float().cpu()
    return logits


def _covered(batch: Sequence[tuple[int, Window]], notes: Sequence[EncodedNote], left: Counter[int]) -> Coverage:
    """What a batch of windows covers; `left` holds how many windows each note still waits for."""
    left.subtract(index for index, _ in batch)
    return Coverage(
        documents=sum(left[index] == 0 for index in {index for index, _ in batch}),
        windows=len(batch),
        tokens=sum(window.own_stop - window.own_start for _, window in batch),
        characters=sum(_characters(notes[index], window) for index, window in batch),
    )


def _characters(note: EncodedNote, window: Window) -> int:
    """The characters from a window's first owned sub-token to the next window's; text at the note's ends included."""
    start = note.offsets[window.own_start][0] if window.own_start else 0
    stop = note.offsets[window.own_stop][0] if window.own_stop < len(note.ids) else len(note.text)
    return stop - start


def _stitch(note: Tensor, rows: Tensor, window: Window, special: SpecialIds) -> None:
    """Copy the rows that a window owns to their place in the note, the special rows at the note's ends included."""
    opening, closing = len(special.opening), len(special.closing)
    first, last = window.own_start == 0, window.own_stop == len(note) - opening - closing
    start = 0 if first else window.own_start + opening
    stop = len(note) if last else window.own_stop + opening
    note[start:stop] = rows[start - window.start : stop - window.start]


def decode_notes(model: Any, emissions: Sequence[Tensor], *, viterbi: bool = True) -> list[list[int]]:
    """The best tag ids of whole notes, special rows included: one decoding a note, many notes at a time.

    Args:
        model: A model of `modeling.py`.
        emissions: Per note `(length, tags)`.
        viterbi: Whether a model with a CRF uses it; else the most probable tag of each row is taken.
    """
    if not viterbi:
        return [rows.argmax(1).tolist() for rows in emissions]
    decoded: list[list[int]] = [[] for _ in emissions]
    for indices, logits, mask in _padded(model, emissions):
        for index, row in zip(indices, model.decode(logits, mask), strict=True):
            decoded[index] = row
    return decoded


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


def _padded(model: Any, emissions: Sequence[Tensor]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Notes of similar length as batches: their indices, logits `(batch, length, tags)` and mask, on the device."""
    order = sorted((i for i, rows in enumerate(emissions) if len(rows)), key=lambda index: len(emissions[index]))
    for indices in _batches(order, lambda index: emissions[index].numel(), BATCH_SCORES):
        logits = torch.nn.utils.rnn.pad_sequence([emissions[index] for index in indices], batch_first=True)
        mask = pad([[1] * len(emissions[index]) for index in indices], 0)
        yield indices, logits.to(model.device), mask.to(model.device)
