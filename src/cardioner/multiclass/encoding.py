"""From text to sub-tokens, from these to windows, and from what is computed for windows back to a row per sub-token.

This file travels with every saved model. It imports no torch: whatever reads ids and offsets can use it.
"""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from struct import pack
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from unicodedata import category, normalize
from zlib import crc32

from .tagging import trim_offsets
from .windows import Coverage, Window, cut, cut_at, in_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Compute = Callable[[list[list[int]]], Any]
    Allocate = Callable[[int], Any]
    Cache = Callable[[Compute, Allocate], Compute]

T = TypeVar("T")

BATCH_TOKENS = 2048
"""Sub-tokens that the encoder reads at a time on a CPU, padding included."""

ALIGNED = 32
"""Positions that windows of a long note have a multiple of when it is tagged."""

_JOINERS = "\u200c\u200d"
"""Zero-width characters that belong to the character before them, as marks do (Unicode annex 29, rule GB9)."""

_WITHIN_A_WORD, _BETWEEN_WORDS, _SENTENCE, _LINE, _PARAGRAPH = range(5)
"""Where a window may end, the best last."""

_SENTENCE_ENDS = (".", "!", "?", ";", ":")

_AROUND = 4
"""Sub-tokens on either side of a place that decide which of several places of the same kind is better."""

_STANDARD_ERROR = 2
"""Its file descriptor, which native code writes to."""


class TokenizerPanicError(RuntimeError):
    """The tokenizer's native code gave up on a note. The message holds no word of it."""


class EncodedNote(NamedTuple):
    """A tokenised note.

    Attributes:
        text: The untouched text.
        ids: One id per sub-token, special ones not among them.
        offsets: The characters of each sub-token, as `character_offsets` gives them.
    """

    text: str
    ids: list[int]
    offsets: list[tuple[int, int]]


class SpecialIds(NamedTuple):
    """The ids that a tokenizer puts before and behind every window."""

    opening: tuple[int, ...]
    closing: tuple[int, ...]


class WindowPlan(NamedTuple):
    """How notes are cut: the special ids, and what `cut` takes.

    Attributes:
        cache: Makes of what computes windows, and of what makes room for rows, something that computes only windows of
            new content (as `read_notes` takes both). Notes are then cut where their content says.
    """

    special: SpecialIds
    length: int
    context: int
    aligned: int = ALIGNED
    cache: Cache | None = None

    @property
    def extra(self) -> int:
        """How many special ids every window has."""
        return len(self.special.opening) + len(self.special.closing)

    def cut(self, note: EncodedNote) -> list[Window]:
        """The note's windows."""
        if self.cache is not None:
            return cut_at(len(note.ids), *borders_in(note), length=self.length, context=self.context)
        return cut(len(note.ids), length=self.length, context=self.context, special=self.extra, aligned=self.aligned)

    def ids(self, note: EncodedNote, window: Window) -> list[int]:
        """A window's input ids, special ones included."""
        return [*self.special.opening, *note.ids[window.start : window.stop], *self.special.closing]


def borders_in(note: EncodedNote) -> tuple[list[int], set[int]]:
    """Where a note may be cut, as `cut_at` takes it: each place decided by nothing but the few sub-tokens around it.

    Ends of paragraphs come first, then those of lines, of sentences and of words; among places of one kind, a checksum
    of the ids around them decides (content-defined chunking, Muthitacharoen et al. 2001). Paragraphs and lines are read
    without each other.
    """
    raw, size = pack(f"<{len(note.ids)}I", *note.ids), len(pack("<I", 0))
    kinds = [_kind_of_gap(note.text, before[1], behind[0]) for before, behind in pairwise(note.offsets)]
    merits = [
        kind << 32 | crc32(raw[max(0, place - _AROUND) * size : (place + _AROUND) * size])
        for place, kind in enumerate(kinds, start=1)
    ]
    places = sorted(range(1, len(note.ids)), key=lambda place: merits[place - 1], reverse=True)
    return places, {place for place, kind in enumerate(kinds, start=1) if kind >= _LINE}


def _kind_of_gap(text: str, before: int, behind: int) -> int:
    """What ends between two sub-tokens: a line does not if a small letter follows, where it was only wrapped."""
    gap = text[before:behind]
    if not gap:
        return _WITHIN_A_WORD
    if text[behind : behind + 1].islower():
        return _BETWEEN_WORDS
    if lines := gap.count("\n"):
        return _LINE if lines == 1 else _PARAGRAPH
    return _SENTENCE if text.endswith(_SENTENCE_ENDS, 0, before) else _BETWEEN_WORDS


def encode_notes(tokenizer: Any, texts: Sequence[str]) -> list[EncodedNote]:
    """Tokenise whole notes, whatever their length: nothing is truncated, padded or normalised in the text.

    Raises:
        ValueError: If the tokenizer cannot tell which characters a sub-token stands for.
        TokenizerPanicError: If its native code gives up.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"{type(tokenizer).__name__} cannot tell which characters a sub-token stands for: "
            "a fast tokenizer (tokenizer.json) is needed"
        )
    if not texts:
        return []

    def encode(texts: list[str]) -> Iterable[tuple[list[int], list[tuple[int, int]]]]:
        encoded = tokenizer(
            texts,
            add_special_tokens=False,
            truncation=False,
            padding=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        return zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)

    return encode_with(encode, texts)


def encode_with(
    encode: Callable[[list[str]], Iterable[tuple[list[int], list[tuple[int, int]]]]], texts: Sequence[str]
) -> list[EncodedNote]:
    """Tokenise whole notes with any tokenizer.

    Args:
        encode: Gives the ids of each text and their offsets: code points, half-open.
        texts: The notes.

    Raises:
        TokenizerPanicError: If the tokenizer's native code gives up.
    """
    rows = zip(texts, _without_panic(lambda: encode(list(texts))), strict=True)
    return [EncodedNote(text, ids, character_offsets(text, offsets)) for text, (ids, offsets) in rows]


def character_offsets(text: str, offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The characters of each sub-token: no white space at its edges, and all marks of its last letter.

    Normalisation may drop marks (accents, vowel signs, variation selectors), or compose them, and the letters of a
    Korean syllable, with the letter before. Then no sub-token has them, and a span would end before the last accent of
    a decomposed text. So the end moves behind what follows of that kind, and behind zero-width joiners there.

    Args:
        text: The untouched text.
        offsets: What the tokenizer gives: code points, half-open.
    """
    trimmed = trim_offsets(text, offsets)
    if text.isascii():  # no marks
        return trimmed
    read = bytearray(len(text))  # whether a sub-token has a character
    for start, end in trimmed:
        read[start:end] = b"\1" * (end - start)
    ends = {end: _end_of_marks(text, read, end) for start, end in trimmed if start < end}
    return [(start, ends[end] if start < end else end) for start, end in trimmed]


def _end_of_marks(text: str, read: bytearray, end: int) -> int:
    """Where the marks end that follow a sub-token and that none has, and the letters composed with its last one."""
    last = end - 1
    while end < len(text) and not read[end]:
        mark = category(text[end])[0] == "M" or text[end] in _JOINERS
        if not mark and len(normalize("NFKC", text[last : end + 1])) > 1:
            break
        end += 1
    return end


def _without_panic(call: Callable[[], T]) -> T:
    """The result of native code that may panic: neither the error nor standard error then quotes the note.

    Raises:
        TokenizerPanicError: If it panics.
    """
    with _holding_standard_error() as drop:
        try:
            return call()
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # it derives from BaseException and cannot be imported
                raise
            drop()
    raise TokenizerPanicError("the tokenizer's native code panicked")  # not from the panic, whose message may quote


@contextmanager
def _holding_standard_error() -> Iterator[Callable[[], object]]:
    """Hold back what is written to standard error in the block; it follows afterwards, unless the block drops it.

    A panic prints its message there from native code. Where standard error cannot be held back, nothing is.

    Yields:
        What drops all that was held back.
    """
    handler = logging.lastResort or logging.NullHandler()
    handler.acquire()  # the one lock of this process for standard error, whichever copy of this file runs
    try:
        with ExitStack() as stack:
            try:
                real = stack.enter_context(os.fdopen(os.dup(_STANDARD_ERROR), "wb"))
                held = stack.enter_context(os.fdopen(os.memfd_create("held"), "w+b"))
            except (OSError, AttributeError):  # there is none, or the system has no files in memory
                yield lambda: None
                return
            os.dup2(held.fileno(), _STANDARD_ERROR)
            try:
                yield lambda: held.truncate(0)
            finally:
                os.dup2(real.fileno(), _STANDARD_ERROR)
                held.seek(0)
                real.write(held.read())
    finally:
        handler.release()


def plan_windows(config: Any, tokenizer: Any) -> WindowPlan:
    """How a model's configuration wants notes cut.

    Raises:
        TokenizerPanicError: If the tokenizer's native code gives up on every text.
    """
    encoded = _without_panic(lambda: tokenizer("a", verbose=False, truncation=False, padding=False))
    own = [index for index, sequence in enumerate(encoded.sequence_ids(0)) if sequence is not None]
    ids = encoded["input_ids"]
    special = SpecialIds(tuple(ids[: own[0]]), tuple(ids[own[-1] + 1 :]))
    return WindowPlan(
        special, config.window_length - len(special.opening) - len(special.closing), config.window_context
    )


def read_notes(
    plan: WindowPlan,
    notes: Sequence[EncodedNote],
    compute: Compute,
    allocate: Allocate,
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

    Raises:
        FloatingPointError: If what is computed for a sub-token is not finite.

    Returns:
        Per note `(opening + sub-tokens + closing, ...)`: the opening special rows of the first window, one row per
        sub-token, the closing special rows of the last window.
    """
    if plan.cache is not None:
        compute = plan.cache(compute, allocate)
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
    if not all(math.isfinite(float(abs(rows).max())) for rows in stitched if len(rows)):  # NaN is the greatest
        raise FloatingPointError("the model computed scores that are not finite numbers")
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
