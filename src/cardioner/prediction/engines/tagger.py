"""Tag notes with an ONNX graph: encoding, windows, stitching, decoding and scores of spans, without torch.

The light engine of the package and every ONNX export run this file. It needs onnxruntime, tokenizers and numpy.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime asks when it is imported
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from cardioner.multiclass.attributes import NOTHING_SAID, Said, attribute_groups, mean_groups, said_of
from cardioner.multiclass.encoding import EncodedNote, SpecialIds, WindowPlan, encode_with, read_notes
from cardioner.multiclass.tagging import Entity, TagGroup, entities_in, tag_groups, tag_names
from cardioner.multiclass.windows import Coverage, in_batches
from cardioner.prediction.engines.viterbi import CRF, best_tags, product_probabilities, span_probabilities

GRAPH, SETTINGS, TOKENIZER = "model.onnx", "onnx.json", "tokenizer.json"
"""The files of a folder that are read."""

BATCH_TOKENS = 1024
"""Sub-tokens that the graph reads at a time: twice as many take as long each, and 50 MB more with MiniLM."""

BATCH_SCORES = 1 << 20
"""Emissions, one a sub-token and tag, that are decoded at a time, padding included."""

Array = NDArray[Any]
Compute = Callable[[Array, Array], Array]
"""Gives logits `(batch, length, tags)` for ids and attention mask, both `(batch, length)`."""


class Tagger:
    """A graph with its tokenizer.

    Args:
        settings: The content of `onnx.json`.
        tokenizer: The tokenizer, without truncation and padding.
        compute: Runs the graph.
    """

    def __init__(self, settings: Mapping[str, Any], tokenizer: Tokenizer, compute: Compute) -> None:
        self.tags: list[str] = settings["tags"]
        self.groups = tag_groups(self.tags)
        self.attributes = attribute_groups(settings.get("attributes"), settings.get("attribute_temperatures"))
        self.crf = CRF.from_settings(settings["crf"]) if settings["crf"] else None
        self.temperature: float = settings["temperature"]
        self.padding: int = settings["padding_id"]
        special = SpecialIds(**{name: tuple(ids) for name, ids in settings["special_ids"].items()})
        self.plan = WindowPlan(special, **settings["windows"])
        self.tokenizer = tokenizer
        self.compute = compute

    @classmethod
    def from_folder(cls, folder: str | Path, *, threads: int = 0) -> Tagger:
        """The tagger of what `cardioner export onnx` wrote.

        Args:
            folder: Where the files are.
            threads: How many processors to use; 0 for all.
        """
        settings = json.loads((Path(folder) / SETTINGS).read_text(encoding="utf-8"))
        tokenizer = Tokenizer.from_file(str(Path(folder) / TOKENIZER))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        outputs = ["logits", *(["attribute_logits"] if settings.get("attributes") else [])]
        return cls(settings, tokenizer, open_graph(Path(folder) / GRAPH, outputs, threads=threads))

    def tag(
        self,
        texts: Sequence[str],
        *,
        viterbi: bool = True,
        batch_tokens: int = BATCH_TOKENS,
        advance: Callable[[Coverage], None] | None = None,
    ) -> list[list[Entity]]:
        """The spans of each text, in the order of the text.

        Args:
            texts: The notes.
            viterbi: Whether a model with a CRF uses it; else the most probable tag of each sub-token is taken.
            batch_tokens: Most sub-tokens that are computed at a time, padding included.
            advance: Called with what a batch covered beyond those before it.

        Raises:
            FloatingPointError: If a score is not a finite number.
            TokenizerPanicError: If the tokenizer gives up on a text.
        """
        notes = self.encode(texts)
        emissions = self.emissions(notes, batch_tokens=batch_tokens, advance=advance)
        return entities_in(
            [(note.text, note.offsets) for note in notes],
            self.decode(emissions, viterbi=viterbi),
            tag_names(self.tags),
            partial(self.score, emissions),
            partial(self.describe, emissions),
            opening=len(self.plan.special.opening),
        )

    def encode(self, texts: Sequence[str]) -> list[EncodedNote]:
        """Tokenise whole texts: nothing is cut off, padded, or changed in the text."""

        def encode(texts: list[str]) -> Iterator[tuple[list[int], list[tuple[int, int]]]]:
            return ((row.ids, row.offsets) for row in self.tokenizer.encode_batch(texts, add_special_tokens=False))

        return encode_with(encode, texts)

    def emissions(
        self,
        notes: Sequence[EncodedNote],
        *,
        batch_tokens: int = BATCH_TOKENS,
        advance: Callable[[Coverage], None] | None = None,
    ) -> list[Array]:
        """Per note `(opening + sub-tokens + closing, columns)`, float32: of tags, then of values of attributes."""
        return read_notes(
            self.plan,
            notes,
            self.logits,
            lambda rows: np.empty((rows, self.columns), np.float32),
            batch_tokens=batch_tokens,
            advance=advance,
        )

    def logits(self, rows: Sequence[Sequence[int]]) -> Array:
        """The emissions `(batch, length, columns)` of windows given by their ids, special ones included."""
        ids = np.full((len(rows), max(map(len, rows))), self.padding, np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        return self.compute(ids, mask)

    def decode(self, emissions: Sequence[Array], *, viterbi: bool = True) -> list[list[list[int]]]:
        """The best tag ids of whole notes, special rows included: legal ones with a CRF, else each row's own best.

        Per note and tag group one id per row; flat tags are one group.
        """
        if self.crf is None or not viterbi:
            return [[_most_probable(rows, group) for group in self.groups] for rows in emissions]
        decoded: list[list[list[int]]] = [[[] for _ in self.groups] for _ in emissions]
        for indices, batch, lengths in _padded(emissions, len(self.tags)):
            for index, row in zip(indices, best_tags(batch, lengths, self.crf), strict=True):
                decoded[index] = row
        return decoded

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")  # the result is then no number, which is refused
    def score(self, emissions: Sequence[Array], spans: Sequence[Sequence[tuple[int, list[int]]]]) -> list[list[float]]:
        """The probability of each span: with a CRF of exactly this span, without one the product of its tags'."""
        if self.crf is None:
            rows = zip(emissions, spans, strict=True)
            sizes = [len(group.tags) for group in self.groups]
            return [
                product_probabilities(note[:, : len(self.tags)].astype(np.float64) / self.temperature, found, sizes)
                for note, found in rows
            ]
        crf = self.crf.divided(self.temperature)
        scores: list[list[float]] = [[] for _ in emissions]
        for indices, batch, lengths in _padded(emissions, len(self.tags)):
            asked = [(row, *span) for row, index in enumerate(indices) for span in spans[index]]
            found = span_probabilities(batch / self.temperature, lengths, asked, crf) if asked else []
            for (row, *_), score in zip(asked, found, strict=True):
                scores[indices[row]].append(score)
        return scores

    def describe(
        self, emissions: Sequence[Array], spans: Sequence[Sequence[tuple[int, list[int]]]]
    ) -> list[list[Said]]:
        """What the model says of each span: by the mean over its rows of the scores of values."""
        if not self.attributes:
            return [[NOTHING_SAID] * len(found) for found in spans]
        described = []
        for rows, found in zip(emissions, spans, strict=True):
            sums = np.cumsum(rows[:, len(self.tags) :], axis=0, dtype=np.float64)
            sums = np.concatenate([np.zeros((1, sums.shape[1])), sums])
            means = [(sums[first + len(tags)] - sums[first]) / len(tags) for first, tags in found]
            described.append([said_of(row.tolist(), self.attributes) for row in means])
        return described

    @property
    def columns(self) -> int:
        """How many numbers there are for each position: of tags, and of values of attributes."""
        return len(self.tags) + sum(len(group.values) for group in self.attributes)


def _most_probable(rows: Array, group: TagGroup) -> list[int]:
    """The most probable tag of a group for each of the rows `(length, tags)`."""
    best: list[int] = (rows[:, group.first : group.first + len(group.tags)].argmax(1) + group.first).tolist()
    return best


def mean_of(taggers: Sequence[Tagger], plan: WindowPlan) -> Tagger:
    """A tagger that decodes the mean emissions of several with the same tags and the same tokenizer.

    Means are taken in double precision, so that equal models give exactly what one of them gives.

    Args:
        taggers: All with a CRF, or none.
        plan: How notes are cut.
    """
    first, crfs = taggers[0], [tagger.crf for tagger in taggers if tagger.crf is not None]
    made = copy(first)
    made.plan = plan
    made.crf = CRF.mean(crfs) if crfs else None
    made.temperature = sum(tagger.temperature for tagger in taggers) / len(taggers)
    made.attributes = mean_groups([tagger.attributes for tagger in taggers])

    def compute(ids: Array, mask: Array) -> Array:
        every = [tagger.compute(ids, mask).astype(np.float64) for tagger in taggers]
        mean: Array = np.mean(every, axis=0).astype(np.float32)
        return mean

    made.compute = compute
    return made


def open_graph(path: Path, outputs: Sequence[str] = ("logits",), *, threads: int = 0) -> Compute:
    """What runs a graph on the CPU.

    Args:
        path: The file.
        outputs: The names of what it computes, which come side by side.
        threads: How many processors to use; 0 for all.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # messages about an error may quote ids, and so a note; the exception comes anyway
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"], enable_fallback=False
    )

    def compute(ids: Array, mask: Array) -> Array:
        found: list[Array] = session.run(list(outputs), {"input_ids": ids, "attention_mask": mask})
        return found[0] if len(found) == 1 else np.concatenate(found, axis=2)

    return compute


def _padded(emissions: Sequence[Array], tags: int) -> Iterator[tuple[list[int], Array, list[int]]]:
    """Notes of similar length together: their indices, emissions `(batch, length, tags)` in doubles, and lengths."""
    filled = [index for index, rows in enumerate(emissions) if len(rows)]
    for indices in in_batches(filled, lambda index: len(emissions[index]) * tags, BATCH_SCORES):
        lengths = [len(emissions[index]) for index in indices]
        batch = np.zeros((len(indices), max(lengths), tags))
        for row, index in enumerate(indices):
            batch[row, : lengths[row]] = emissions[index][:, :tags]
        yield indices, batch, lengths
