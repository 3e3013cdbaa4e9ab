"""From text to sub-tokens, and how the sub-tokens of a note are cut into windows.

This file travels with every saved model. It imports no torch: whatever reads ids and offsets can use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .tagging import trim_offsets
from .windows import Window, cut

if TYPE_CHECKING:
    from collections.abc import Sequence

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

    def cut(self, note: EncodedNote) -> list[Window]:
        """The note's windows."""
        special = len(self.special.opening) + len(self.special.closing)
        return cut(len(note.ids), length=self.length, context=self.context, special=special, aligned=self.aligned)

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
