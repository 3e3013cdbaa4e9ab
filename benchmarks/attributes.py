"""What is said of findings: the trained head against the rules of medspaCy's ConText, on bundled notes held out.

    python -m venv context && context/bin/pip install medspacy==1.3.1
    python benchmarks/attributes.py --context context/bin/python [--seeds 3] [--more 200]

Both get the same findings (DISEASE and SYMPTOM spans) of the English test notes, which training never sees: the gold
ones, and for scores end to end those that the model found. A seed is a model that is trained. ConText has the
rules that medspaCy brings; context_rules.py maps its categories to attributes. `--more` adds as many further English
notes of the same program, with the terms and cues of test notes. "Rules, cues" is ConText with one more rule for each
cue of the training notes, which looks to the side on which its finding stood.

A sentence is unseen if one of its cues is in no training note: no cue of the same attribute that training notes have is
in it, as whole words. All findings of the sentence count as unseen, with those of which nothing is said; all others as
seen. F1 is of each value, over the findings of a group, and macro F1 is the mean of the five. Intervals resample notes.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
CORPUS = EXAMPLES / "corpus"
FINDINGS = ("DISEASE", "SYMPTOM")
VALUES: tuple[tuple[str, str | bool], ...] = (
    ("Negation", True),
    ("Uncertainty", True),
    ("Temporality", "history"),
    ("Temporality", "hypothetical"),
    ("Experiencer", "family"),
)
TRAINING = "--crf --hidden-layers 256 --epochs 5 --batch-size 8 --learning-rate 4e-4 --attributes all"
SAMPLES = 2000

Said = Mapping[str, "str | bool"]
Answers = dict[tuple[str, int, int], Said]
"""By note, start and end."""
Places = Mapping[str, Sequence[tuple[int, int]]]
"""Spans by note."""


class Finding(NamedTuple):
    """A gold finding: where it is, what is said of it, and whether a cue of its sentence is new."""

    note: str
    start: int
    end: int
    said: Said
    unseen: bool


class TestSet(NamedTuple):
    """Notes by id, and their findings."""

    texts: dict[str, str]
    findings: list[Finding]


# Notes ---------------------------------------------------------------------------------------------------------------


def generator() -> Any:
    """The program that writes the bundled notes: it knows the cue of every attribute."""
    sys.path.insert(0, str(EXAMPLES))
    import generate_corpus  # noqa: PLC0415 - it lies in another folder

    return generate_corpus


def test_sets(more: int) -> dict[str, TestSet]:
    """The English test notes, and more of the same kind."""
    program = generator()
    corpus = program.build_corpus()
    known = {
        (letter, cue_key(cue))
        for name, note in corpus["train"].items()
        if name.startswith("en")
        for span in note.spans
        for letter, cue in span.nearby
    }
    language = program.load_language("en")
    draw = random.Random(1)
    targets = [round(random.Random(f"{number}").uniform(120, 600)) for number in range(more)]
    further = {f"more-{n}": program.write_note(language, "test", words, "", draw) for n, words in enumerate(targets)}
    bundled = {name: note for name, note in corpus["test"].items() if name.startswith("en")}
    given = {"bundled": bundled} | ({"more": further} if more else {})
    return {name: as_test_set(notes, known) for name, notes in given.items()}


def rules_of_training() -> list[tuple[str, str, str]]:
    """Every cue of an English training note: its words, the letter of its attribute, and the direction it looks in."""
    found = set()
    for name, note in generator().build_corpus()["train"].items():
        for span in note.spans if name.startswith("en") else ():
            for said in span.attributes:
                letter = next(letter for letter, cue in span.nearby if cue == said.cue)
                before = note.text.rfind(said.cue, max(0, span.start - 150), span.start) >= 0
                found.add((said.cue.strip(" ,:;").lower(), letter, "FORWARD" if before else "BACKWARD"))
    return sorted(found)


def as_test_set(notes: Mapping[str, Any], known: set[tuple[str, str]]) -> TestSet:
    """The findings of notes, as the program wrote them."""
    findings = []
    for name, note in notes.items():
        for span in note.spans:
            if span.kind in FINDINGS:
                said = {one.name: one.value or True for one in span.attributes}
                unseen = any(is_new(letter, cue, known) for letter, cue in span.nearby)
                findings.append(Finding(name, span.start, span.end, said, unseen))
    return TestSet({name: note.text for name, note in notes.items()}, findings)


def cue_key(cue: str) -> str:
    """A cue without regard to case, white space and numbers."""
    return " ".join(re.sub(r"\d+", "#", cue.lower()).split())


def is_new(letter: str, cue: str, known: set[tuple[str, str]]) -> bool:
    """Whether no known cue of the attribute is in this one, as whole words."""
    words = cue_key(cue)
    return not any(
        re.search(rf"(?<!\w){re.escape(one)}(?!\w)", words) for other, one in known if other == letter and one
    )


# The rules -----------------------------------------------------------------------------------------------------------


def rules_say(
    python: Path,
    texts: Mapping[str, str],
    places: Places,
    own: Sequence[tuple[str, str, str]] = (),
) -> Answers:
    """What ConText says of spans, by note and place; with rules of one's own."""
    asked = [json.dumps(own)] + [json.dumps({"text": texts[name], "spans": places[name]}) for name in places]
    done = subprocess.run(
        [python, HERE / "context_rules.py"], input="\n".join(asked), text=True, stdout=subprocess.PIPE, check=True
    )
    versions, *answers = map(json.loads, done.stdout.splitlines())
    tell(f"ConText: {versions}")
    return {
        (name, *place): said
        for name, found in zip(places, answers, strict=True)
        for place, said in zip(places[name], found, strict=True)
    }


# The head ------------------------------------------------------------------------------------------------------------


def train(folder: Path, seed: int) -> Path:
    """A model of the bundled training notes, in a process of its own."""
    given = f"--train {CORPUS / 'train'} --eval {CORPUS / 'validation'} --output {folder} --seed {seed} {TRAINING}"
    subprocess.run([sys.executable, "-m", "cardioner", "train", *given.split()], check=True, stderr=subprocess.DEVNULL)
    return folder


def head_says(model: Path, texts: Mapping[str, str], places: Places) -> Answers:
    """What a model says of given spans, by note and place."""
    from cardioner import Span, load  # noqa: PLC0415 - torch, which the rules do without
    from cardioner.multiclass.encoding import encode_notes, plan_windows  # noqa: PLC0415
    from cardioner.multiclass.inference import describe_spans, emissions_of  # noqa: PLC0415
    from cardioner.training.attributes import places_of  # noqa: PLC0415

    engine: Any = load(model).engines[0]
    notes = encode_notes(engine.tokenizer, list(texts.values()))
    before = len(plan_windows(engine.model.config, engine.tokenizer).special.opening)
    rows = []
    for name, note in zip(texts, notes, strict=True):
        spans = [Span(start, end, "FINDING") for start, end in places[name]]
        found = places_of(spans, note, engine.attributes).spans
        rows.append([(before + first, [0] * (stop - first)) for first, stop in found])
    said = describe_spans(engine.model, emissions_of(engine.model, engine.tokenizer, notes), rows)
    return {
        (name, *place): dict(one.attributes)
        for name, found in zip(texts, said, strict=True)
        for place, one in zip(places[name], found, strict=True)
    }


def found_by(model: Path, texts: Mapping[str, str]) -> Places:
    """The findings that a model finds itself."""
    from cardioner import load  # noqa: PLC0415

    tagger = load(model)
    return {
        name: [(span.start, span.end) for span in tagger(text) if span.label in FINDINGS]
        for name, text in texts.items()
    }


# Scores --------------------------------------------------------------------------------------------------------------


def counts_of(findings: Iterable[Finding], answers: Answers) -> np.ndarray[Any, Any]:
    """Right, gold and predicted `(3, values)`."""
    counts = np.zeros((3, len(VALUES)))
    for one in findings:
        said = answers.get((one.note, one.start, one.end), {})
        for place, (name, value) in enumerate(VALUES):
            gold, predicted = one.said.get(name) == value, said.get(name) == value
            counts[:, place] += gold and predicted, gold, predicted
    return counts


def f1_of(counts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """F1 `(…, values)` of counts `(…, 3, values)`; 1 where there is nothing to find and nothing found."""
    right, both = counts[..., 0, :], counts[..., 1, :] + counts[..., 2, :]
    return np.where(both > 0, 2 * right / np.maximum(both, 1), 1.0)


def report(name: str, findings: Sequence[Finding], systems: Mapping[str, Sequence[Answers]]) -> None:
    """A row for each system: F1 of each value, the mean over its runs; and the last system less the first."""
    for unseen in (False, True):
        group = [one for one in findings if one.unseen is unseen]
        gold = counts_of(group, {})[1].astype(int)
        tell(f"\n{name}, {'unseen' if unseen else 'seen'} cues: {len(group)} findings, gold {gold.tolist()}")
        notes = sorted({one.note for one in group})
        tables = {
            system: np.array([[counts_of((o for o in group if o.note == n), run) for n in notes] for run in runs])
            for system, runs in systems.items()
        }
        for system, table in tables.items():  # (runs, notes, 3, values)
            f1 = f1_of(table.sum(1)).mean(0)
            tell(f"{system:>11} | " + " | ".join(f"{value:.3f}" for value in f1) + f" | macro {f1.mean():.3f}")
        for system, first in tables.items() if "head" in tables else ():
            last = tables["head"]
            if first is last:
                continue
            low, high = interval(first, last)
            gap = (f1_of(last.sum(1)).mean() - f1_of(first.sum(1)).mean()).item()
            tell(f"macro F1, head less {system}: {gap:+.3f} ({low:+.3f} to {high:+.3f})")


def report_whole(name: str, findings: Sequence[Finding], systems: Mapping[str, Sequence[Answers]]) -> None:
    """F1 of each value end to end: of findings that the model did not find it is missed, of wrong ones it is wrong."""
    tell(f"\n{name}, the findings of the model, end to end")
    there = {(one.note, one.start, one.end) for one in findings}
    for system, runs in systems.items():
        wrong = [[Finding(*place, {}, False) for place in run if place not in there] for run in runs]
        counts = np.array([counts_of([*findings, *more], run) for more, run in zip(wrong, runs, strict=True)])
        f1 = f1_of(counts).mean(0)
        tell(f"{system:>11} | " + " | ".join(f"{value:.3f}" for value in f1) + f" | macro {f1.mean():.3f}")


def interval(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> tuple[float, float]:
    """The 95 % interval of the difference in macro F1, over resampled notes."""
    notes = first.shape[1]
    weights = np.random.default_rng(0).multinomial(notes, np.full(notes, 1 / notes), SAMPLES)
    gaps = [
        f1_of(np.einsum("n,rnkv->rkv", row, second)).mean() - f1_of(np.einsum("n,rnkv->rkv", row, first)).mean()
        for row in weights
    ]
    low, high = np.quantile(gaps, [0.025, 0.975])
    return float(low), float(high)


def tell(line: str) -> None:
    """Print a line."""
    typer.echo(line)


def main(
    context: Annotated[Path, typer.Option(help="Python of an environment with medspaCy.")],
    seeds: Annotated[int, typer.Option(help="Models that are trained; 0 for the rules alone.")] = 1,
    model: Annotated[list[Path] | None, typer.Option(help="Models to use, instead of training any.")] = None,
    more: Annotated[int, typer.Option(help="Further notes of the same program.")] = 200,
) -> None:
    """Run everything."""
    tell("values: " + ", ".join(f"{name} {value}" for name, value in VALUES))
    with tempfile.TemporaryDirectory() as folder:
        models = model or [train(Path(folder) / str(seed), seed) for seed in range(seeds)]
        for name, (texts, findings) in test_sets(more).items():
            gold = {note: [(one.start, one.end) for one in findings if one.note == note] for note in texts}
            report(f"{name}, gold spans", findings, answers(context, models, texts, [gold]))
            if models:
                own = [found_by(one, texts) for one in models]
                report_whole(name, findings, answers(context, models, texts, own))


def answers(
    context: Path, models: Sequence[Path], texts: Mapping[str, str], given: Sequence[Places]
) -> dict[str, list[Answers]]:
    """What each system says of given spans: the same for all models, or those of each."""
    found = {
        "rules": [rules_say(context, texts, places) for places in given],
        "rules, cues": [rules_say(context, texts, places, rules_of_training()) for places in given],
    }
    if models:
        each = given if len(given) == len(models) else [given[0]] * len(models)
        found["head"] = [head_says(one, texts, places) for one, places in zip(models, each, strict=True)]
    return found


if __name__ == "__main__":
    typer.run(main)
