"""Which notes to annotate next: those whose mentions a model is least sure of, and each mention once.

Uncertainty sampling (Lewis and Gale 1994) with a discount for what was chosen before. It makes what a set of notes is
worth a submodular function: the greedy choice reaches at least 1 - 1/e of the best one (Nemhauser et al. 1978).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from itertools import islice
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from cardioner._io import writing
from cardioner.data.documents import Document
from cardioner.errors import DataError

DISCOUNT = 0.5
"""What a mention is worth after one note with it was chosen, and again after each further one."""

Mention = tuple[str, str]
"""An entity type, and the words in lower case with single spaces."""


@dataclass(frozen=True, slots=True, repr=False)
class Doubts:
    """How unsure a model is of a note.

    Attributes:
        id: The note's.
        spans: How many spans the model finds in it.
        mentions: For each different mention, the entropy in bits (0 to 1) of whether its least certain span is right.
    """

    id: str
    spans: int
    mentions: Mapping[Mention, float]

    def __repr__(self) -> str:
        return f"Doubts({self.id!r}, spans={self.spans}, mentions={len(self.mentions)})"


@pydantic_dataclass(frozen=True, slots=True)
class Choice:
    """A note that was chosen.

    Attributes:
        id: The note's.
        gain: What it added when it was chosen: the bits of its mentions, with those that were chosen before discounted.
        spans: How many spans the model finds in it.
        mentions: How many different ones.
        new: How many of these no note before it has.
    """

    id: str
    gain: float
    spans: int
    mentions: int
    new: int


def mentions_of(document: Document) -> Iterator[tuple[Mention, float | None]]:
    """Each span as a mention, and its score."""
    for span in document.spans:
        yield (span.label, " ".join(document.text_of(span).lower().split())), span.score


def doubts_of(document: Document) -> Doubts:
    """How unsure a model is of a note that it tagged.

    Raises:
        DataError: If a span has no score.
    """
    bits: dict[Mention, float] = {}
    for mention, score in mentions_of(document):
        if score is None:
            raise DataError(f"document {document.id}: its spans have no scores: expected what a model found")
        bits[mention] = max(bits.get(mention, 0.0), entropy(score))
    return Doubts(document.id, len(document.spans), bits)


def entropy(probability: float) -> float:
    """The entropy of a yes or no, in bits."""
    return -sum(part * math.log2(part) for part in (probability, 1 - probability) if part > 0)


def choose(notes: Iterable[Doubts], *, annotated: Iterable[Document] = ()) -> Iterator[Choice]:
    """The notes in the order in which they should be annotated.

    Each is the one that adds most to those before it; of equal ones the note with more spans, then by id. Values only
    fall while notes are chosen, so that only the first of the queue is ever computed anew (Minoux 1978).

    Args:
        notes: What the model is unsure of in each note.
        annotated: Notes that are annotated already: their mentions count as chosen before, and they are not chosen.
    """
    seen, known = Counter[Mention](), set[str]()
    for document in annotated:
        known.add(document.id)
        seen.update({mention for mention, _ in mentions_of(document)})
    queue = [(*_rank(note, seen), note) for note in notes if note.id not in known]
    heapify(queue)
    while queue:
        *rank, note = queue[0]
        if (now := _rank(note, seen)) != tuple(rank):
            heapreplace(queue, (*now, note))
            continue
        heappop(queue)
        new = sum(not seen[mention] for mention in note.mentions)
        yield Choice(note.id, -now[0], note.spans, len(note.mentions), new)
        seen.update(note.mentions.keys())


def _rank(note: Doubts, seen: Counter[Mention]) -> tuple[float, int, str]:
    """What a heap sorts by: the smallest first."""
    gain = math.fsum(bits * DISCOUNT ** seen[mention] for mention, bits in note.mentions.items())
    return -gain, -note.spans, note.id


def select(tagged: Iterable[Document], count: int, *, annotated: Iterable[Document] = ()) -> list[Choice]:
    """The notes to annotate next.

    Args:
        tagged: Notes with the spans that a model found, and their scores; read once.
        count: Most notes to choose.
        annotated: As `choose` takes it.

    Raises:
        DataError: If a span has no score, or two notes have the same id.
    """
    notes: dict[str, Doubts] = {}
    for document in tagged:
        if document.id in notes:
            raise DataError(f"two notes have the id {document.id!r}: it must be unique")
        notes[document.id] = doubts_of(document)
    return list(islice(choose(notes.values(), annotated=annotated), count))


def write_order(chosen: Iterable[Choice], path: Path, *, overwrite: bool = False) -> None:
    """Write a choice as JSON lines, the first note first.

    Raises:
        OutputError: If the file exists, or cannot be written.
    """
    with writing(path, overwrite=overwrite) as file:
        file.writelines(_ROW.dump_json(choice) + b"\n" for choice in chosen)


def read_order(path: Path) -> tuple[Choice, ...]:
    """What `write_order` wrote.

    Raises:
        DataError: Naming the line that is none of a choice, or an id that occurs twice.
    """
    chosen: dict[str, Choice] = {}
    try:
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            choice = _ROW.validate_json(line)
            if choice.id in chosen:
                raise DataError(f"{path}, line {number}: the note {choice.id!r} has a place already")
            chosen[choice.id] = choice
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError:
        raise DataError(f"{path}, line {number}: expected what `cardioner select --output` writes") from None
    return tuple(chosen.values())


_ROW = TypeAdapter(Choice)
