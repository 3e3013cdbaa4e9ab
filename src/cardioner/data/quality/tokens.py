"""What gets one tag each: words, or the sub-tokens of an encoder's tokenizer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from cardioner.multiclass.tagging import Loss

WINDOW = 128
"""Most sub-tokens that a model reads at a time by default, special ones included."""

UNCOVERED = "edge in no sub-token"
"""The kind of loss, as `to_tags` names it, of a span with a character at an edge that is in no sub-token."""

_WORD = re.compile(r"\w+|[^\w\s]")


class Tokens(NamedTuple):
    """A way to cut texts into tokens.

    Attributes:
        unit: What the tokens are called.
        offsets: The tokens of a text in order: characters, half-open, without white space at the edges.
        window: Most tokens that a model reads at a time.
    """

    unit: str
    offsets: Callable[[str], list[tuple[int, int]]]
    window: int


def words() -> Tokens:
    """Runs of word characters, and every other character but white space by itself.

    Sub-tokens are usually shorter than words, so counting words estimates the losses, a little too high.
    """
    return Tokens("words", lambda text: [match.span() for match in _WORD.finditer(text)], WINDOW)


def kind_of(loss: Loss, text: str) -> str:
    """Why a span is lost or inexact, as people see it: an edge that no sub-token has may be white space."""
    mention = text[loss.start : loss.end]
    return "white space at an edge" if loss.kind == UNCOVERED and mention != mention.strip() else loss.kind
