"""Tag notes with the model in this folder: `python tag.py NOTE.txt FOLDER ... > spans.jsonl`.

It needs onnxruntime, numpy, tokenizers and the files beside it, and no network. A note may have any length: it is
tokenised whole and read in windows that overlap, and one decoding runs over all of it. Each line of the output is
`{"id": ..., "spans": [{"start", "end", "label", "score"}, ...]}`: code points, half-open, into the untouched text.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime asks when it is imported
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from cardioner.interop.onnx_files.viterbi import CRF, best_tags, span_probabilities
from cardioner.multiclass.tagging import Run, run_offsets, to_runs, trim_offsets
from cardioner.multiclass.windows import Window, cut, in_groups

BATCH_TOKENS = 2048
"""Sub-tokens that the encoder reads at a time, padding included."""

BATCH_SCORES = 1 << 20
"""Emissions, one a sub-token and tag, that are decoded at a time, padding included."""

Array = NDArray[Any]


class Note(NamedTuple):
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
    """A span: characters, half-open, into the note's text, its type, and the probability of exactly this span."""

    start: int
    end: int
    label: str
    score: float


class Tagger:
    """The model of a folder.

    Args:
        folder: What `cardioner export onnx` wrote.
        threads: How many processors to use; 0 for all.
    """

    def __init__(self, folder: Path, *, threads: int = 0) -> None:
        settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        self.tags: list[str] = settings["tags"]
        self.crf = CRF.from_settings(settings["crf"]) if settings["crf"] else None
        self.temperature: float = settings["temperature"]
        self.opening: list[int] = settings["special_ids"]["opening"]
        self.closing: list[int] = settings["special_ids"]["closing"]
        self.extra = len(self.opening) + len(self.closing)
        self.padding: int = settings["padding_id"]
        self.windows: dict[str, int] = {**settings["windows"], "special": self.extra}
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors alone
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def tag(self, texts: Sequence[str]) -> list[list[Entity]]:
        """The spans of each text, in the order of the text."""
        notes = self.encode(texts)
        emissions = self.emissions(notes)
        tags = self.decode(emissions)
        runs = [self._runs(note, row) for note, row in zip(notes, tags, strict=True)]
        opening = len(self.opening)
        spans = [
            [(run.first + opening, row[run.first + opening : run.stop + opening]) for run, _ in found]
            for found, row in zip(runs, tags, strict=True)
        ]
        scores = self._scores(emissions, spans)
        return [_entities(*note) for note in zip(notes, runs, scores, strict=True)]

    def encode(self, texts: Sequence[str]) -> list[Note]:
        """Tokenise whole texts: nothing is cut off, padded, or changed in the text."""
        encoded = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [Note(text, row.ids, trim_offsets(text, row.offsets)) for text, row in zip(texts, encoded, strict=True)]

    def emissions(self, notes: Sequence[Note]) -> list[Array]:
        """Per note `(opening + sub-tokens + closing, tags)`, float32; a sub-token's row from the window that owns it.

        Windows of similar length are read together.
        """
        jobs = [(index, window) for index, note in enumerate(notes) for window in cut(len(note.ids), **self.windows)]
        jobs = [job for job in jobs if self._size(job[1])]  # nothing to read in an empty note without special ids
        jobs.sort(key=lambda job: self._size(job[1]))
        stitched = [np.empty((len(note.ids) + self.extra, len(self.tags)), np.float32) for note in notes]
        for batch in _batches(jobs, [self._size(window) for _, window in jobs], BATCH_TOKENS):
            rows = [
                [*self.opening, *notes[index].ids[window.start : window.stop], *self.closing] for index, window in batch
            ]
            for (index, window), logits in zip(batch, self.logits(rows), strict=True):
                self._stitch(stitched[index], logits, window)
        return stitched

    def logits(self, rows: Sequence[Sequence[int]]) -> Array:
        """The emissions `(batch, length, tags)` of windows given by their ids, special ones included."""
        width = max(map(len, rows))
        ids = np.full((len(rows), width), self.padding, np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        found: Array = self.session.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0]
        return found

    def decode(self, emissions: Sequence[Array]) -> list[list[int]]:
        """The best tag ids of whole notes, special rows included: legal ones with a CRF, else each row's own best."""
        if self.crf is None:
            return [rows.argmax(1).tolist() for rows in emissions]
        decoded: list[list[int]] = [[] for _ in emissions]
        for indices, batch, lengths in _padded(emissions):
            for index, row in zip(indices, best_tags(batch, lengths, self.crf), strict=True):
                decoded[index] = row
        return decoded

    def _size(self, window: Window) -> int:
        return window.stop - window.start + self.extra

    def _stitch(self, note: Array, rows: Array, window: Window) -> None:
        """Copy the rows that a window owns to their place, the special rows at the note's ends included."""
        opening = len(self.opening)
        first, last = window.own_start == 0, window.own_stop == len(note) - self.extra
        start = 0 if first else window.own_start + opening
        stop = len(note) if last else window.own_stop + opening
        note[start:stop] = rows[start - window.start : stop - window.start]

    def _runs(self, note: Note, tags: Sequence[int]) -> list[tuple[Run, tuple[int, int]]]:
        """A note's entities in decoded tags: their sub-tokens, and the characters these cover, at least one."""
        names = [self.tags[tag] for tag in tags[len(self.opening) : len(self.opening) + len(note.ids)]]
        runs = [(run, run_offsets(run, note.offsets)) for run in to_runs(names)]
        return [(run, offsets) for run, offsets in runs if offsets[0] < offsets[1]]

    def _scores(
        self, emissions: Sequence[Array], spans: Sequence[Sequence[tuple[int, list[int]]]]
    ) -> list[list[float]]:
        """The probability of each span: with a CRF of exactly this span, without one the product of its tags'."""
        if self.crf is None:
            return [self._products(*note) for note in zip(emissions, spans, strict=True)]
        crf = self.crf.divided(self.temperature)
        scores: list[list[float]] = [[] for _ in emissions]
        for indices, batch, lengths in _padded(emissions):
            asked = [(row, *span) for row, index in enumerate(indices) for span in spans[index]]
            if not asked:
                continue
            found = span_probabilities(batch / self.temperature, lengths, asked, crf)
            for (row, *_), score in zip(asked, found, strict=True):
                scores[indices[row]].append(score)
        return scores

    def _products(self, emissions: Array, spans: Sequence[tuple[int, list[int]]]) -> list[float]:
        """The product of the probabilities of each span's tags."""
        values = emissions.astype(np.float64) / self.temperature
        values -= values.max(1, keepdims=True)
        values -= np.log(np.exp(values).sum(1, keepdims=True))
        return [float(np.exp(values[range(first, first + len(tags)), tags].sum())) for first, tags in spans]


def _entities(note: Note, runs: Sequence[tuple[Run, tuple[int, int]]], scores: Sequence[float]) -> list[Entity]:
    """Spans in the order of the text; where two sub-tokens share a character, the first span has it."""
    entities: list[Entity] = []
    for (run, (start, end)), score in zip(runs, scores, strict=True):
        free = max(start, entities[-1].end) if entities else start
        ((begin, stop),) = trim_offsets(note.text, [(free, max(free, end))])
        if begin < stop:
            entities.append(Entity(begin, stop, run.label, score))
    return entities


def _batches(items: Sequence[Any], sizes: Sequence[int], budget: int) -> Iterator[list[Any]]:
    """Group items that are sorted by size so that no batch exceeds the budget, each padded to the largest."""
    batch: list[Any] = []
    for item, size in zip(items, sizes, strict=True):
        if batch and (len(batch) + 1) * size > budget:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def _padded(emissions: Sequence[Array]) -> Iterator[tuple[list[int], Array, list[int]]]:
    """Notes of similar length together: their indices, emissions `(batch, length, tags)` in doubles, and lengths."""
    order = sorted((index for index, rows in enumerate(emissions) if len(rows)), key=lambda i: len(emissions[i]))
    for indices in _batches(order, [emissions[index].size for index in order], BATCH_SCORES):
        lengths = [len(emissions[index]) for index in indices]
        batch = np.zeros((len(indices), max(lengths), emissions[indices[0]].shape[1]))
        for row, index in enumerate(indices):
            batch[row, : lengths[row]] = emissions[index]
        yield indices, batch, lengths


def read_notes(paths: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """Ids and texts of `.txt` files and of folders of them, in sorted order; no character is changed.

    Raises:
        SystemExit: Naming what is no note in UTF-8.
    """
    for path in paths:
        files = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
        if not files:
            raise SystemExit(f"{path}: expected .txt files, found none")
        for file in files:
            name = (file.relative_to(path) if path.is_dir() else Path(file.name)).with_suffix("")
            try:
                yield name.as_posix(), file.read_bytes().decode("utf-8")
            except UnicodeDecodeError as error:
                raise SystemExit(f"{file}: expected UTF-8, found another byte at offset {error.start}") from None
            except OSError as error:
                raise SystemExit(f"{file}: cannot be read ({error.strerror})") from None


def main() -> None:
    """Tag what the command line names."""
    parser = argparse.ArgumentParser(description="Tag notes; a line of JSON for each on standard output.")
    parser.add_argument("notes", nargs="+", type=Path, help=".txt files in UTF-8, or folders of them")
    parser.add_argument("--text", action="store_true", help="put the text of each note into its line too")
    parser.add_argument("--threads", type=int, default=0, help="how many processors to use (default: all)")
    given = parser.parse_args()
    tagger = Tagger(Path(__file__).parent, threads=given.threads)
    for group in in_groups(read_notes(given.notes), lambda note: len(note[1])):
        for (name, text), found in zip(group, tagger.tag([text for _, text in group]), strict=True):
            line: dict[str, Any] = {"id": name, **({"text": text} if given.text else {})}
            line["spans"] = [entity._asdict() for entity in found]
            print(json.dumps(line))  # noqa: T201 - what it is for


if __name__ == "__main__":
    main()
