"""How fast corpora are read and written, and whether a conversion's memory stays flat.

    python benchmarks/formats.py [--notes 2000] [--rounds 5]

Prints megabytes of notes and annotations a second for each reader and writer, for brat in turn with bratly (whose
`EntityAnnotation` parses and prints a line of an `.ann` file), and the peak memory of `cardioner convert` for a corpus
and for one four times as large.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Annotated

import typer
from bratly import EntityAnnotation

from cardioner.data.documents import Document
from cardioner.data.formats import FORMATS, read_corpus, write_corpus
from pairs import in_turn, peak_mib

NOTES = Path(__file__).parents[1] / "examples" / "corpus" / "train"
PLACES = {"brat": "brat", "tsv": "tsv", "jsonl": "notes.jsonl", "conll": "notes.conll", "datasets": "saved"}


def many_notes(number_of_notes: int) -> list[Document]:
    """The notes of the bundled corpus over and over, five of them joined to one of a case report's length."""
    notes = read_corpus(NOTES).documents
    joined = []
    for number in range(number_of_notes):
        five = [notes[(5 * number + index) % len(notes)] for index in range(5)]
        text, spans = "", []
        for note in five:
            spans += [type(span)(span.start + len(text), span.end + len(text), span.label) for span in note.spans]
            text += note.text + "\n"
        joined.append(Document(f"note-{number:06}", text, tuple(spans)))
    return joined


def megabytes(place: Path) -> float:
    """The size of a file, or of all files in a folder."""
    files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files) / 1e6


def read_with_bratly(folder: Path) -> list[tuple[str, list[EntityAnnotation]]]:
    """Notes and their entities, by the peer."""
    found = []
    for note in sorted(folder.glob("*.txt")):
        lines = note.with_suffix(".ann").read_text(encoding="utf-8").splitlines()
        entities = [EntityAnnotation.from_line(line) for line in lines if line.startswith("T")]
        found.append((note.read_text(encoding="utf-8"), entities))
    return found


def write_with_bratly(notes: list[tuple[str, list[EntityAnnotation]]], folder: Path) -> None:
    """Notes and their entities, by the peer."""
    folder.mkdir(parents=True)
    for number, (text, entities) in enumerate(notes):
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
        (folder / f"{number}.ann").write_text("".join(f"{entity}\n" for entity in entities), encoding="utf-8")


def write(documents: list[Document], place: Path, name: str) -> None:
    """Write a corpus over what is there."""
    write_corpus(documents, place, name, overwrite=True)


def afresh(write_to: Callable[[Path], object], home: Path) -> Callable[[], object]:
    """Writing to a new folder each time."""
    numbers = count()
    return lambda: write_to(home / f"new-{next(numbers)}")


def convert(source: Path, target: Path) -> Callable[[], object]:
    """A conversion in this process."""
    from cardioner.data.formats import stream_corpus  # noqa: PLC0415 - in the measured process

    return lambda: write_corpus(stream_corpus(source), target, "jsonl", overwrite=True)


def main(
    notes: Annotated[int, typer.Option(help="Notes of some 400 words.")] = 2000,
    rounds: Annotated[int, typer.Option(help="Runs of each.")] = 5,
) -> None:
    """Time every reader and writer."""
    documents = many_notes(notes)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for name in FORMATS:
            place = home / PLACES[name]
            write(documents, place, name)
            size, again = megabytes(place), home / "again" / PLACES[name]
            pair = in_turn(partial(read_corpus, place, name), partial(write, documents, again, name), rounds)
            print(
                f"{name:<9}{size:6.1f} MB   read {size / pair.first * 1e3:7.1f} MB/s   write "
                f"{size / pair.second * 1e3:7.1f} MB/s",
                flush=True,
            )
        brat, theirs = home / "brat", read_with_bratly(home / "brat")
        size = megabytes(brat)
        pair = in_turn(partial(read_corpus, brat, "brat"), partial(read_with_bratly, brat), rounds)
        print(f"brat, bratly in turn: read {size / pair.second * 1e3:.1f} MB/s, ours {pair.ratio:.2f} times as fast")
        ours = afresh(lambda place: write_corpus(documents, place, "brat"), home / "ours")
        peer = afresh(lambda place: write_with_bratly(theirs, place), home / "theirs")
        pair = in_turn(ours, peer, rounds)
        print(f"brat, bratly in turn: write {size / pair.second * 1e3:.1f} MB/s, ours {pair.ratio:.2f} times as fast")
        write(documents * 1, home / "one.jsonl", "jsonl")
        write(
            [Document(f"{k}-{d.id}", d.text, d.spans) for k in range(4) for d in documents],
            home / "four.jsonl",
            "jsonl",
        )
        peaks = [peak_mib(convert, home / f"{size}.jsonl", home / f"{size}-out.jsonl") for size in ("one", "four")]
        print(f"convert: {peaks[0]:.1f} MiB more at its peak, {peaks[1]:.1f} MiB for four times as many notes")


if __name__ == "__main__":
    typer.run(main)
