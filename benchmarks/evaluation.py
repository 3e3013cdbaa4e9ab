"""How fast spans are scored, beside nervaluate and seqeval, and how the time grows with their number.

    python benchmarks/evaluation.py [--rounds 5] [--most 1000000]

500 made-up notes with 27,000 gold and about 27,000 predicted spans (some shifted, some of another type, some missing,
some spurious; none overlap, as tags could not hold them). nervaluate gets the spans, seqeval one tag for each of the
words; both score what we score by their own rules, so only times are compared.
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Annotated, Any

import typer
from nervaluate import Evaluator
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2

from cardioner.data.documents import Document, Span
from cardioner.evaluation import CRITERIA, Pair, score_pairs
from cardioner.evaluation.error_analysis import analyse
from cardioner.evaluation.intervals import bootstrap
from cardioner.evaluation.scores import count
from pairs import in_turn, seconds

TYPES = ("DISEASE", "SYMPTOM", "MEDICATION", "PROCEDURE")
WORD = 6
"""Characters of a word and the space behind it."""


def made_up(documents: int, spans: int, seed: int = 0) -> list[Pair]:
    """Notes with so many gold spans each, and a prediction that is right in about four of five cases."""
    random = Random(seed)
    pairs = []
    for number in range(documents):
        gold, predicted = [], []
        for slot in range(spans):
            first = slot * 8 + random.randrange(2)
            words = random.randint(1, 4)
            label = random.choice(TYPES)
            gold.append(span(first, words, label))
            kind = random.random()
            if kind < 0.8:
                predicted.append(span(first, words, label, random.random()))
            elif kind < 0.87:
                predicted.append(span(first, words + 1, label, random.random()))
            elif kind < 0.94:
                predicted.append(span(first, words, random.choice(TYPES), random.random()))
            if kind > 0.94 or kind < 0.02:
                predicted.append(span(slot * 8 + 6, 1, random.choice(TYPES), random.random()))
        text = "words " * (spans * 8)
        pairs.append(
            Pair(Document(f"note{number}", text, tuple(gold)), Document(f"note{number}", text, tuple(predicted)))
        )
    return pairs


def span(first: int, words: int, label: str, score: float | None = None) -> Span:
    """A span of whole words."""
    return Span(first * WORD, (first + words) * WORD - 1, label, score)


def as_dicts(spans: tuple[Span, ...]) -> list[dict[str, Any]]:
    """Spans as nervaluate takes them; its ends are those of the last character."""
    return [{"label": span.label, "start": span.start, "end": span.end - 1} for span in spans]


def as_tags(document: Document) -> list[str]:
    """Spans as seqeval takes them."""
    tags = ["O"] * (len(document.text) // WORD)
    for span in document.spans:
        first, last = span.start // WORD, span.end // WORD
        tags[first] = f"B-{span.label}"
        tags[first + 1 : last + 1] = [f"I-{span.label}"] * (last - first)
    return tags


def strict(pairs: list[Pair]) -> None:
    """The headline alone."""
    for pair in pairs:
        count(pair, ["strict"])


def four(pairs: list[Pair]) -> None:
    """What nervaluate counts."""
    for pair in pairs:
        count(pair, ["strict", "exact", "partial", "type"])


def main(rounds: Annotated[int, typer.Option(help="Runs that count.")] = 5, most: int = 1_000_000) -> None:
    """Compare with the peers, then let the number of spans grow."""
    pairs = made_up(500, 54)
    sides = [[side.spans for side in (pair.gold, pair.predicted)] for pair in pairs]
    totals = [sum(map(len, column)) for column in zip(*sides, strict=True)]
    print(f"{len(pairs)} notes, {totals[0]} gold and {totals[1]} predicted spans")
    gold, predicted = ([as_dicts(spans) for spans in column] for column in zip(*sides, strict=True))
    tags = [[as_tags(side) for side in (pair.gold, pair.predicted)] for pair in pairs]
    wanted, found = (list(column) for column in zip(*tags, strict=True))
    nervaluate = partial(lambda: Evaluator(gold, predicted, tags=list(TYPES)).evaluate())
    report(
        f"all {len(CRITERIA)} criteria, nervaluate its four", in_turn(lambda: score_pairs(pairs), nervaluate, rounds)
    )
    report("four criteria, nervaluate the same", in_turn(lambda: four(pairs), nervaluate, rounds))
    seqeval = partial(classification_report, wanted, found, mode="strict", scheme=IOB2, zero_division=0)
    report("strict, seqeval strict", in_turn(lambda: strict(pairs), seqeval, rounds))
    print(f"errors sorted {seconds(lambda: analyse(pairs)) * 1e3:8.0f} ms")
    print(f"1,000 samples for every interval {seconds(lambda: bootstrap(pairs, samples=1000)) * 1e3:8.0f} ms")
    spans = 10_000
    while spans <= most:
        grown = made_up(spans // 100, 50)
        total = sum(len(pair.gold.spans) + len(pair.predicted.spans) for pair in grown)
        taken = min(seconds(lambda grown=grown: score_pairs(grown)) for _ in range(3))
        print(f"{total:9,} spans {taken * 1e3:8.0f} ms {taken / total * 1e6:6.1f} microseconds a span")
        spans *= 10
    one = made_up(1, 250_000)
    taken = seconds(lambda: score_pairs(one))
    total = sum(len(pair.gold.spans) + len(pair.predicted.spans) for pair in one)
    print(f"{total:9,} spans {taken * 1e3:8.0f} ms {taken / total * 1e6:6.1f} microseconds a span, all in one note")


def report(what: str, pair: Any) -> None:
    """A line."""
    print(f"{what:42} {pair.first:8.0f} ms, peer {pair.second:8.0f} ms: {pair.ratio:6.1f} times as fast")


if __name__ == "__main__":
    typer.run(main)
