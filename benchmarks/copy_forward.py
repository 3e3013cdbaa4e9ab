"""How much faster a record is tagged with a cache, half of whose text is pasted from its earlier notes; F1 too.

    python benchmarks/copy_forward.py MODEL [--notes 200] [--rounds 3] [--corpus FOLDER]

The record is made of the bundled notes: each line of them stands in one note as new text, and as much text again is
pasted from earlier notes, whole passages of several lines, a third of them with other numbers in one line. The three
ways to tag it take turns, slice by slice: with the usual borders, with borders on content, and with these and a cache,
which is empty when a round begins.
"""

from __future__ import annotations

import random
import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cardioner.data.documents import Document
from cardioner.data.formats import read_corpus
from cardioner.evaluation import score
from cardioner.multiclass.encoding import BATCH_TOKENS, WindowPlan, encode_notes, plan_windows
from cardioner.prediction.emission_cache import EmissionCache
from cardioner.prediction.predictor import Predictor
from pairs import seconds

CORPUS = Path(__file__).parents[1] / "examples" / "corpus"
SLICE = 20
"""Notes that are tagged before the next way has its turn."""


def record_of(lines: list[str], count: int, passage: tuple[int, int]) -> tuple[list[Document], float]:
    """The notes of a record, and the share of their characters that was pasted.

    Args:
        lines: The new text, cut into `count` parts of equally many lines.
        count: How many notes.
        passage: Fewest and most lines that are pasted at a time.
    """
    chance, texts, pasted, debt = random.Random(0), [], 0, 0
    size = len(lines) / count
    for number in range(count):
        new = lines[round(number * size) : round((number + 1) * size)]
        debt += sum(map(len, new))
        earlier = [text for text in texts if len(text) > passage[0]]
        while debt > 0 and earlier:
            source = chance.choice(earlier)
            length = min(chance.randint(*passage), len(source))
            start = chance.randint(0, len(source) - length)
            piece, place = source[start : start + length], chance.randint(0, len(new))
            if chance.random() < 1 / 3:
                changed = chance.randrange(length)
                piece[changed] = re.sub(r"\d", lambda _: str(chance.randrange(10)), piece[changed])
            new = [*new[:place], *piece, *new[place:]]
            pasted += sum(map(len, piece))
            debt -= sum(map(len, piece))
        texts.append(new)
    notes = [Document(str(number), "".join(text)) for number, text in enumerate(texts)]
    return notes, pasted / sum(len(note.text) for note in notes)


def only_borders(compute: Any, _: Any) -> Any:
    """Borders on content without a cache."""
    return compute


def positions(plan: WindowPlan, predictor: Predictor, notes: Sequence[Document], cache: Any) -> float:
    """How many positions are computed for each sub-token, padding left out."""
    plan, encoded = plan._replace(cache=cache), encode_notes(predictor.tokenizer, [note.text for note in notes])
    windows = [(*plan.ids(note, window),) for note in encoded for window in plan.cut(note)]
    if isinstance(cache, EmissionCache):
        windows = list(set(windows))
    return sum(map(len, windows)) / sum(len(note.ids) for note in encoded)


def strict_f1(predictor: Predictor, gold: Sequence[Document], cache: Any) -> float:
    """The strict F1 with one kind of borders."""
    predictor.engines[0].cache = cache
    return score(gold, list(predictor.predict(gold))).strict.micro.f1


def round_of(predictor: Predictor, notes: Sequence[Document], ways: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """The seconds that each way takes for the record; they take turns."""
    taken, caches = dict.fromkeys(ways, 0.0), {name: make() for name, make in ways.items()}
    for number, start in enumerate(range(0, len(notes), SLICE)):
        part = notes[start : start + SLICE]
        for name in [*ways, *ways][number % len(ways) :][: len(ways)]:
            predictor.engines[0].cache = caches[name]
            taken[name] += seconds(lambda part=part: list(predictor.predict(part)))
    return taken


def main(
    model: Annotated[Path, typer.Argument(help="A directory of ours.")],
    notes: Annotated[int, typer.Option(help="Notes of the record.")] = 200,
    rounds: Annotated[int, typer.Option(help="How often the record is tagged in each way.")] = 3,
    lines: Annotated[tuple[int, int], typer.Option(help="Fewest and most lines that are pasted at a time.")] = (10, 40),
    corpus: Annotated[Path, typer.Option(help="Notes with spans, for F1.")] = CORPUS / "test",
) -> None:
    """Compare, and print."""
    predictor = Predictor.from_pretrained(model, engine="torch", device="cpu")
    plan = plan_windows(predictor.model.config, predictor.tokenizer)
    given = [document for part in ("train", "validation", "test") for document in read_corpus(CORPUS / part).documents]
    record, share = record_of([line for note in given for line in note.text.splitlines(keepends=True)], notes, lines)
    encoded = encode_notes(predictor.tokenizer, [note.text for note in record])
    count = sum(len(note.ids) for note in encoded)
    print(
        f"{len(record)} notes, {count} sub-tokens, {share:.0%} of the text pasted, {lines[0]} to {lines[1]} lines each"
    )
    ways = {"usual borders": lambda: None, "on content": lambda: only_borders, "cache": lambda: EmissionCache(1 << 28)}
    for name, make in ways.items():
        cutter = plan._replace(cache=make())
        cost = statistics.median(seconds(lambda cut=cutter.cut: [cut(note) for note in encoded]) for _ in range(5))
        print(
            f"{name}: {positions(plan, predictor, record, make()):.3f} positions a sub-token, "
            f"cut in {cost / count * 1e6:.2f} microseconds a sub-token"
        )
    gold = list(read_corpus(corpus).documents)
    for name in ("usual borders", "on content"):
        print(f"{name}: strict F1 {strict_f1(predictor, gold, ways[name]()):.4f}")
    taken = []
    for _ in range(rounds):
        taken.append(round_of(predictor, record, ways))
        print(", ".join(f"{name} {spent:.1f} s" for name, spent in taken[-1].items()), flush=True)
    for name in ("usual borders", "on content"):
        ratio = statistics.median(spent[name] / spent["cache"] for spent in taken)
        print(f"with the cache {ratio:.2f} times as fast as with {name} (batches of {BATCH_TOKENS}, {rounds} rounds)")


if __name__ == "__main__":
    typer.run(main)
