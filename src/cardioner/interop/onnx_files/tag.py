"""Tag notes with the model in this folder: `python tag.py NOTE.txt FOLDER ... > spans.jsonl`.

It needs onnxruntime, numpy, tokenizers and the files beside it, and no network. A note may have any length: it is
tokenised whole and read in overlapping windows, and one decoding runs over all of it. Each line of the output is
`{"id": ..., "spans": [{"start", "end", "label", "score"}, ...]}`: code points, half-open, into the untouched text.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime asks when it is imported
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from cardioner.interop.onnx_files.viterbi import CRF, best_tags, product_probabilities, span_probabilities
from cardioner.multiclass.encoding import EncodedNote, SpecialIds, WindowPlan, encode_with, read_notes
from cardioner.multiclass.tagging import Entity, entities_in
from cardioner.multiclass.windows import apart, in_batches, in_groups, reason_of

BATCH_SCORES = 1 << 20
"""Emissions, one a sub-token and tag, that are decoded at a time, padding included."""

Array = NDArray[Any]


class Tagger:
    """The model of a folder.

    Args:
        folder: What `cardioner export onnx` wrote.
        threads: How many processors to use; 0 for all.
    """

    def __init__(self, folder: str | Path, *, threads: int = 0) -> None:
        settings = json.loads((Path(folder) / "settings.json").read_text(encoding="utf-8"))
        self.tags: list[str] = settings["tags"]
        self.crf = CRF.from_settings(settings["crf"]) if settings["crf"] else None
        self.temperature: float = settings["temperature"]
        self.padding: int = settings["padding_id"]
        special = SpecialIds(**{name: tuple(ids) for name, ids in settings["special_ids"].items()})
        self.plan = WindowPlan(special, **settings["windows"])
        self.tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(
            str(Path(folder) / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def tag(self, texts: Sequence[str]) -> list[list[Entity]]:
        """The spans of each text, in the order of the text.

        Raises:
            FloatingPointError: If a score is not a finite number.
            TokenizerPanicError: If the tokenizer gives up on a text.
        """
        notes = self.encode(texts)
        emissions = self.emissions(notes)
        return entities_in(
            [(note.text, note.offsets) for note in notes],
            self.decode(emissions),
            dict(enumerate(self.tags)),
            partial(self.score, emissions),
            opening=len(self.plan.special.opening),
        )

    def encode(self, texts: Sequence[str]) -> list[EncodedNote]:
        """Tokenise whole texts: nothing is cut off, padded, or changed in the text."""

        def encode(texts: list[str]) -> Iterator[tuple[list[int], list[tuple[int, int]]]]:
            return ((row.ids, row.offsets) for row in self.tokenizer.encode_batch(texts, add_special_tokens=False))

        return encode_with(encode, texts)

    def emissions(self, notes: Sequence[EncodedNote]) -> list[Array]:
        """Per note `(opening + sub-tokens + closing, tags)`, float32."""
        return read_notes(self.plan, notes, self.logits, lambda rows: np.empty((rows, len(self.tags)), np.float32))

    def logits(self, rows: Sequence[Sequence[int]]) -> Array:
        """The emissions `(batch, length, tags)` of windows given by their ids, special ones included."""
        ids = np.full((len(rows), max(map(len, rows))), self.padding, np.int64)
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

    def score(self, emissions: Sequence[Array], spans: Sequence[Sequence[tuple[int, list[int]]]]) -> list[list[float]]:
        """The probability of each span: with a CRF of exactly this span, without one the product of its tags'."""
        if self.crf is None:
            rows = zip(emissions, spans, strict=True)
            return [product_probabilities(note.astype(np.float64) / self.temperature, found) for note, found in rows]
        crf = self.crf.divided(self.temperature)
        scores: list[list[float]] = [[] for _ in emissions]
        for indices, batch, lengths in _padded(emissions):
            asked = [(row, *span) for row, index in enumerate(indices) for span in spans[index]]
            found = span_probabilities(batch / self.temperature, lengths, asked, crf) if asked else []
            for (row, *_), score in zip(asked, found, strict=True):
                scores[indices[row]].append(score)
        return scores


def _padded(emissions: Sequence[Array]) -> Iterator[tuple[list[int], Array, list[int]]]:
    """Notes of similar length together: their indices, emissions `(batch, length, tags)` in doubles, and lengths."""
    filled = [index for index, rows in enumerate(emissions) if len(rows)]
    for indices in in_batches(filled, lambda index: emissions[index].size, BATCH_SCORES):
        lengths = [len(emissions[index]) for index in indices]
        batch = np.zeros((len(indices), max(lengths), emissions[indices[0]].shape[1]))
        for row, index in enumerate(indices):
            batch[row, : lengths[row]] = emissions[index]
        yield indices, batch, lengths


def read_texts(paths: Iterable[Path], problems: list[str]) -> Iterator[tuple[str, str]]:
    """Ids and texts of `.txt` files and of folders of them, in sorted order; no character is changed.

    Args:
        paths: The files and folders.
        problems: Gets a line about each that cannot be read as a note in UTF-8.
    """
    for path in paths:
        files = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
        if not files:
            problems.append(f"{path}: expected .txt files, found none")
        for file in files:
            name = (file.relative_to(path) if path.is_dir() else Path(file.name)).with_suffix("")
            try:
                yield name.as_posix(), file.read_bytes().decode("utf-8")
            except UnicodeDecodeError as error:
                problems.append(f"{file}: the byte at offset {error.start} is not valid UTF-8")
            except OSError as error:
                problems.append(f"{file}: cannot be read ({error.strerror})")


def main() -> None:
    """Tag the notes that the command line names; one that cannot be read or tagged is named, and the exit code is 3."""
    parser = argparse.ArgumentParser(description="Tag notes; writes one line of JSON per note to standard output.")
    parser.add_argument("notes", nargs="+", type=Path, help=".txt files in UTF-8, or folders of them")
    parser.add_argument("--text", action="store_true", help="put the text of each note into its line too")
    parser.add_argument("--threads", type=int, default=0, help="how many processors to use (default: all)")
    given = parser.parse_args()
    tagger = Tagger(Path(__file__).parent, threads=given.threads)
    problems: list[str] = []
    for group in in_groups(read_texts(given.notes, problems), lambda note: len(note[1])):
        tagged = apart(group, lambda notes: tagger.tag([text for _, text in notes]))
        for (name, text), found in zip(group, tagged, strict=True):
            if isinstance(found, Exception):
                problems.append(f"{name}: its {len(text)} characters could not be tagged ({reason_of(found)})")
                continue
            line: dict[str, Any] = {"id": name, **({"text": text} if given.text else {})}
            line["spans"] = [entity._asdict() for entity in found]
            print(json.dumps(line))  # noqa: T201 - what it is for
    if problems:
        print(*problems, sep="\n", file=sys.stderr)  # noqa: T201
        sys.exit(3)


if __name__ == "__main__":
    main()
