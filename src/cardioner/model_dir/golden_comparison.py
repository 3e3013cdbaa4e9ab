"""Whether a loaded model computes what the golden outputs of its manifest say, whatever engine runs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cardioner.errors import many
from cardioner.model_dir.manifest import GoldenOutputs, GoldenText
from cardioner.multiclass.encoding import EncodedNote, character_offsets

TOLERANCE = 1e-3
"""How far an emission in float32 may be from what it was."""

_MOST_CHARACTERS = 10_000
_LEGAL = -1e29
"""What the score of a legal sequence is above; where all are illegal, no difference between two of them shows."""

Floats: TypeAlias = NDArray[Any]
Integers: TypeAlias = NDArray[np.int64]


class Computer(Protocol):
    """What computes emissions and tags.

    Attributes:
        tags: How many tags there are.
        columns: How many numbers it computes for each position: of tags, and of values of attributes.
        sequences: How many tags each position has: one, or one for each type.
        window_length: Most positions of a row.
        vocabulary: How many sub-tokens the encoder has vectors for.
        tolerance: How far an emission may be from what it was.
    """

    tags: int
    columns: int
    sequences: int
    window_length: int
    vocabulary: int
    tolerance: float

    def read(self, texts: Sequence[str]) -> list[EncodedNote]:
        """The sub-tokens of texts."""

    def emissions(self, ids: Integers, mask: Integers) -> Floats:
        """Emissions `(rows, positions, columns)` of ids and mask `(rows, positions)`, 0 where nothing is attended."""

    def decode(self, emissions: Floats, mask: Integers) -> list[list[int]]:
        """The best tags of each row's attended positions; with tags per type those of one type after the other."""

    def score(self, emissions: Floats, tags: Sequence[int]) -> float:
        """The log score of tags, up to a constant of the emissions `(length, columns)`; lowest for illegal ones."""


def compare_golden_outputs(golden: GoldenOutputs | None, computer: Computer) -> Iterator[str]:
    """Say what comes out otherwise than it did when the model was saved."""
    if golden is None:
        yield "its scores were no numbers already when it was saved"
        return
    if problem := next(_misfits(golden, computer), None):
        yield f"those of the manifest test nothing, or another model: {problem}"
        return
    try:
        yield from _differences(golden, computer)
    except FloatingPointError as error:
        yield str(error)


def _misfits(golden: GoldenOutputs, computer: Computer) -> Iterator[str]:
    """Why golden outputs cannot be those of a model; only the first reason is meant, as others rely on it."""
    rows, columns = len(golden.input_ids), computer.columns
    lengths = {len(row) for name in ("input_ids", "attention_mask", "emissions") for row in getattr(golden, name)}
    size = computer.vocabulary
    if not rows or any(len(part) != rows for part in (golden.attention_mask, golden.emissions, golden.tags)):
        yield f"expected as many rows of each kind, found {rows} of ids"
    if len(lengths) != 1 or not 0 < max(lengths) <= computer.window_length:
        yield f"expected rows of one length, at most a window of {computer.window_length}"
    if any(set(row) - {0, 1} or 1 not in row for row in golden.attention_mask):
        yield "expected a mask of 0 and 1 in which every row attends to something"
    if not all(0 <= index < size for row in golden.input_ids for index in row):
        yield f"expected ids below {size}"
    if any(len(scores) != columns for row in golden.emissions for scores in row):
        yield f"expected {columns} emissions a position"
    if [len(row) for row in golden.tags] != [sum(row) * computer.sequences for row in golden.attention_mask]:
        yield "expected a tag for each attended position"
    yield from _misfitting_texts(golden.texts)


def _misfitting_texts(texts: Sequence[GoldenText]) -> Iterator[str]:
    if not 0 < sum(len(one.text) for one in texts) <= _MOST_CHARACTERS:
        yield f"expected texts that the tokenizer cuts, of at most {_MOST_CHARACTERS:,} characters"
    if any(not 0 <= start <= end <= len(one.text) for one in texts for start, end in one.offsets):
        yield "expected sub-tokens inside their texts"


def _differences(golden: GoldenOutputs, computer: Computer) -> Iterator[str]:
    texts = [one.text for one in golden.texts]
    # Earlier versions let sub-tokens end before marks that none of them has.
    then = [(list(one.ids), character_offsets(one.text, one.offsets)) for one in golden.texts]
    now = [(list(note.ids), [(start, end) for start, end in note.offsets]) for note in computer.read(texts)]
    if changed := sum(one != other for one, other in zip(then, now, strict=True)):
        yield f"the tokenizer cuts {changed} of {many(len(texts), 'text')} otherwise than when the model was saved"
    ids, mask = np.array(golden.input_ids, np.int64), np.array(golden.attention_mask, np.int64)
    expected, found = np.array(golden.emissions, np.float32), computer.emissions(ids, mask)
    worst = float(np.nan_to_num(np.abs(expected - found), nan=np.inf).max())
    if worst > computer.tolerance:
        yield f"emissions differ by up to {worst:.2g} from what they were, and {computer.tolerance:g} is the most"
        return
    rows = zip(expected, mask.astype(bool), golden.tags, computer.decode(found, mask), strict=True)
    if wrong := sum(_differing(scores[kept], then, now, computer) for scores, kept, then, now in rows):
        yield f"{wrong} tags are others than they were"


def _differing(emissions: Floats, then: list[int], now: list[int], computer: Computer) -> int:
    """How many tags of a row differ, unless both sequences are as good.

    Each emission may be off by the tolerance, so that two sequences can change places where their scores are closer
    than twice the tolerance for each position at which they differ.
    """
    differing = sum(one != other for one, other in zip(then, now, strict=True))
    if not differing:
        return 0
    if not all(0 <= tag < computer.tags for tag in then):
        return differing
    before, here = computer.score(emissions, then), computer.score(emissions, now)
    as_good = abs(before - here) <= 2 * computer.tolerance * differing and before > _LEGAL
    return 0 if as_good else differing
