"""From the text of notes to spans: the one path that training, the library, the command line and `pipeline()` share.

A note is tokenised once, whole; cut into windows; the windows of many notes are batched by length; the emissions of
the sub-tokens that each window owns are stitched to one row per sub-token; one decoding runs over the whole note.
This file travels with every saved model and imports only the files that travel with it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from transformers import TokenClassificationPipeline

from .inference import reader_of, settle_precision
from .tagging import Run, run_offsets, to_runs, trim_offsets
from .windows import Coverage, Window, cut, in_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

T = TypeVar("T")

ALIGNED = 32
"""Positions that windows of a long note have a multiple of when it is tagged."""

BATCH_TOKENS = 2048
"""Sub-tokens that the encoder reads at a time, padding included."""

BATCH_SCORES = 1 << 21
"""Emissions, one a sub-token and tag, that are decoded or scored at a time, padding included."""


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


class Entity(NamedTuple):
    """A predicted span: characters, half-open, into the note's text, its type and its probability."""

    start: int
    end: int
    label: str
    score: float


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


def pad(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Rows of different length as one tensor, padded on the right."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows], dtype=torch.long)


def emissions_of(
    model: Any,
    tokenizer: Any,
    notes: Sequence[EncodedNote],
    *,
    batch_tokens: int = BATCH_TOKENS,
    advance: Callable[[Coverage], None] | None = None,
) -> list[Tensor]:
    """The stitched emissions of each note.

    Args:
        model: A model of `modeling.py`.
        tokenizer: Its tokenizer.
        notes: The tokenised notes.
        batch_tokens: Most sub-tokens the encoder reads at a time, padding included.
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
    with torch.inference_mode():
        for batch in _batches(jobs, lambda job: job[1].stop - job[1].start + extra, batch_tokens):
            logits = _logits(reader, tokenizer, [plan.ids(notes[index], window) for index, window in batch])
            for (index, window), rows in zip(batch, logits, strict=True):
                _stitch(stitched[index], rows, window, plan.special)
            if advance is not None:
                advance(_covered(batch, notes, left))
    return stitched


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


def runs_of(model: Any, note: EncodedNote, tags: list[int], special: SpecialIds) -> list[tuple[Run, tuple[int, int]]]:
    """A note's entities in decoded tags: their sub-tokens, and the characters these cover, at least one."""
    opening = len(special.opening)
    names_of = model.config.id2label  # looked up once: a configuration is slow to ask
    names = [names_of[tag] for tag in tags[opening : opening + len(note.ids)]]
    runs = [(run, run_offsets(run, note.offsets)) for run in to_runs(names)]
    return [(run, offsets) for run, offsets in runs if offsets[0] < offsets[1]]


def entities_of(
    note: EncodedNote, runs: Sequence[tuple[Run, tuple[int, int]]], scores: Sequence[float]
) -> list[Entity]:
    """Spans in the order of the text; where two sub-tokens share a character, the first span has it."""
    entities: list[Entity] = []
    for (run, (start, end)), score in zip(runs, scores, strict=True):
        free = max(start, entities[-1].end) if entities else start
        ((begin, stop),) = trim_offsets(note.text, [(free, max(free, end))])
        if begin < stop:
            entities.append(Entity(begin, stop, run.label, score))
    return entities


def tag_texts(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    viterbi: bool = True,
    batch_tokens: int = BATCH_TOKENS,
    advance: Callable[[Coverage], None] | None = None,
) -> list[list[Entity]]:
    """The spans of each text: see `emissions_of` and `decode_notes` for the arguments."""
    notes = encode_notes(tokenizer, texts)
    emissions = emissions_of(model, tokenizer, notes, batch_tokens=batch_tokens, advance=advance)
    tags = decode_notes(model, emissions, viterbi=viterbi)
    special = plan_windows(model.config, tokenizer).special
    opening = len(special.opening)
    runs = [runs_of(model, note, row, special) for note, row in zip(notes, tags, strict=True)]
    spans = [
        [(run.first + opening, row[run.first + opening : run.stop + opening]) for run, _ in found]
        for found, row in zip(runs, tags, strict=True)
    ]
    scores = score_spans(model, emissions, spans)
    return [entities_of(*note) for note in zip(notes, runs, scores, strict=True)]


class CardioNERPipeline(TokenClassificationPipeline):
    """`pipeline("token-classification")` for notes of any length, decoded as the model was trained.

    Takes a text, a list of texts, or an iterator of them (read as `in_groups` says). Spans are always grouped, and
    windows are those of the model, so the stock pipeline's `aggregation_strategy` and `stride` change nothing.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        settle_precision(self.model)

    def __call__(self, inputs: str | Iterable[str], **_: Any) -> Any:
        """Per text a list of `{"entity_group", "score", "word", "start", "end"}`; for one text that list alone."""
        if isinstance(inputs, str):
            return self._tag([inputs])[0]
        if isinstance(inputs, (list, tuple)):
            return list(self._stream(inputs))
        return self._stream(inputs)

    def _stream(self, texts: Iterable[str]) -> Iterator[list[dict[str, Any]]]:
        """Tag an iterator's texts in groups."""
        for group in in_groups(texts, len):
            yield from self._tag(group)

    def _tag(self, texts: Sequence[str]) -> list[list[dict[str, Any]]]:
        """The stock output form of each text's spans."""
        return [
            [
                {
                    "entity_group": entity.label,
                    "score": entity.score,
                    "word": text[entity.start : entity.end],
                    "start": entity.start,
                    "end": entity.end,
                }
                for entity in entities
            ]
            for text, entities in zip(texts, tag_texts(self.model, self.tokenizer, texts), strict=True)
        ]
