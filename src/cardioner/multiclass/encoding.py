"""From text to sub-tokens, from these to windows, and from what is computed for windows back to a row per sub-token.

This file travels with every saved model. It imports no torch: whatever reads ids and offsets can use it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from .tagging import trim_offsets
from .windows import Coverage, Window, cut, in_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BATCH_TOKENS = 2048
"""Sub-tokens that the encoder reads at a time on a CPU, padding included."""

ALIGNED = 32
"""Positions that windows of a long note have a multiple of when it is tagged."""


class EncodedNote(NamedTuple):
    """A tokenised note.

    Attributes:
        text: The untouched text.
        ids: One id per sub-token, special ones not among them.
        offsets: The characters of each sub-token, trimmed of white space.
    """

    text: str
    ids: list[int]
    offsets: list[tuple[int, int]]


class SpecialIds(NamedTuple):
    """The ids that a tokenizer puts before and behind every window."""

    opening: tuple[int, ...]
    closing: tuple[int, ...]


class WindowPlan(NamedTuple):
    """How notes are cut: the special ids, and what `cut` takes."""

    special: SpecialIds
    length: int
    context: int
    aligned: int = ALIGNED

    @property
    def extra(self) -> int:
        """How many special ids every window has."""
        return len(self.special.opening) + len(self.special.closing)

    def cut(self, note: EncodedNote) -> list[Window]:
        """The note's windows."""
        return cut(len(note.ids), length=self.length, context=self.context, special=self.extra, aligned=self.aligned)

    def ids(self, note: EncodedNote, window: Window) -> list[int]:
        """A window's input ids, special ones included."""
        return [*self.special.opening, *note.ids[window.start : window.stop], *self.special.closing]


def encode_notes(tokenizer: Any, texts: Sequence[str]) -> list[EncodedNote]:
    """Tokenise whole notes, whatever their length: nothing is truncated, padded or normalised in the text.

    Raises:
        ValueError: If the tokenizer cannot tell which characters a sub-token stands for.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"{type(tokenizer).__name__} cannot tell which characters a sub-token stands for: "
            "a fast tokenizer (tokenizer.json) is needed"
        )
    if not texts:
        return []
    encoded = tokenizer(
        list(texts),
        add_special_tokens=False,
        truncation=False,
        padding=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    rows = zip(texts, encoded["input_ids"], encoded["offset_mapping"], strict=True)
    return [EncodedNote(text, ids, trim_offsets(text, offsets)) for text, ids, offsets in rows]


def plan_windows(config: Any, tokenizer: Any) -> WindowPlan:
    """How a model's configuration wants notes cut."""
    encoded = tokenizer("a", verbose=False, truncation=False, padding=False)
    own = [index for index, sequence in enumerate(encoded.sequence_ids(0)) if sequence is not None]
    ids = encoded["input_ids"]
    special = SpecialIds(tuple(ids[: own[0]]), tuple(ids[own[-1] + 1 :]))
    return WindowPlan(
        special, config.window_length - len(special.opening) - len(special.closing), config.window_context
    )


def read_notes(
    plan: WindowPlan,
    notes: Sequence[EncodedNote],
    compute: Callable[[list[list[int]]], Any],
    allocate: Callable[[int], Any],
    *,
    batch_tokens: int = BATCH_TOKENS,
    advance: Callable[[Coverage], None] | None = None,
) -> list[Any]:
    """Read notes window by window, windows of similar length together, and give each sub-token the row of its owner.

    Args:
        plan: How notes are cut.
        notes: The tokenised notes.
        compute: Gives rows `(batch, length, ...)` for windows of ids, special ones included.
        allocate: Makes room for so many rows of a note: an array or a tensor.
        batch_tokens: Most sub-tokens that are computed at a time, padding included.
        advance: Called with what a batch covered beyond those before it; together that is all of the notes.

    Returns:
        Per note `(opening + sub-tokens + closing, ...)`: the opening special rows of the first window, one row per
        sub-token, the closing special rows of the last window.
    """
    jobs = [(index, window) for index, note in enumerate(notes) for window in plan.cut(note)]
    jobs = [job for job in jobs if plan.ids(notes[job[0]], job[1])]  # nothing to read in an empty note without specials
    left = Counter(index for index, _ in jobs)
    stitched = [allocate(len(note.ids) + plan.extra) for note in notes]
    if advance is not None and len(left) < len(notes):
        unread = [len(note.text) for index, note in enumerate(notes) if index not in left]
        advance(Coverage(documents=len(unread), characters=sum(unread)))
    for batch in in_batches(jobs, lambda job: job[1].stop - job[1].start + plan.extra, batch_tokens):
        computed = compute([plan.ids(notes[index], window) for index, window in batch])
        for (index, window), rows in zip(batch, computed, strict=True):
            _stitch(stitched[index], rows, window, plan)
        if advance is not None:
            advance(_covered(batch, notes, left))
    return stitched


def _stitch(note: Any, rows: Any, window: Window, plan: WindowPlan) -> None:
    """Copy the rows that a window owns to their place in the note, the special rows at the note's ends included."""
    opening = len(plan.special.opening)
    first, last = window.own_start == 0, window.own_stop == len(note) - plan.extra
    start = 0 if first else window.own_start + opening
    stop = len(note) if last else window.own_stop + opening
    note[start:stop] = rows[start - window.start : stop - window.start]


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
