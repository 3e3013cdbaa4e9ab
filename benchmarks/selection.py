"""Notes chosen by `cardioner select` against notes drawn at random: the held-out F1 after each round of annotation.

    CARDIONER_DATA=... python benchmarks/selection.py --results FILE [--seeds 3] [--rounds 4]
    python benchmarks/selection.py --results FILE --report

Each run starts with the same 20 notes for both ways. In each round a model is trained on what is annotated, at the
defaults with a CRF; then 10 more notes of the training part are annotated: chosen by that model, or at random. The
epoch is picked on notes that no run trains on, and the model is scored on the whole held-out part. Chosen notes hold
more mentions, which are counted, too.
"""

from __future__ import annotations

import random
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs import Results, run_all, serve
from train import HELD_OUT, read_parts

CORPUS, START, STEP = "cardioccc-en-med", 20, 10
EVALUATION = 10
WAYS = ("select", "random")
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}


def run(job: dict[str, Any]) -> dict[str, Any]:
    """All rounds of one way from one start."""
    train, evaluation, held_out = (sorted(part, key=lambda one: one.id) for part in read_parts(CORPUS))
    draw = random.Random(job["seed"])
    draw.shuffle(train)
    draw.shuffle(evaluation)
    own, rest = train[:START], train[START:]
    scores, mentions = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(job["rounds"] + 1):
            f1, model = _train(own, evaluation[:EVALUATION], held_out, Path(folder) / str(number), job["seed"])
            scores.append(f1)
            mentions.append(sum(len(note.spans) for note in own))
            added = _chosen(model, own, rest) if job["way"] == "select" else rest[:STEP]
            own, rest = [*own, *added], [note for note in rest if note not in added]
    return {"scores": scores, "mentions": mentions}


def _train(own: list[Any], evaluation: list[Any], held_out: list[Any], output: Path, seed: int) -> tuple[float, Path]:
    """The held-out F1 and the model."""
    from cardioner.data.labels import LabelSet  # noqa: PLC0415 - torch belongs into the worker alone
    from cardioner.model_dir.encoder import default_encoder  # noqa: PLC0415
    from cardioner.training.options import TrainingOptions  # noqa: PLC0415
    from cardioner.training.trainer import ModelTrainer  # noqa: PLC0415

    labels = LabelSet.from_types([HELD_OUT[CORPUS][1]])
    result = ModelTrainer(
        label2id=labels.label2id,
        model=default_encoder(),
        output_dir=output,
        use_crf=True,
        options=TrainingOptions(seed=seed),
    ).train(own, held_out, evaluation)
    assert result.test is not None
    return result.test.strict.micro.f1, output


def _chosen(model: Path, own: list[Any], rest: list[Any]) -> list[Any]:
    """The notes that the model would learn most from."""
    from cardioner.prediction.predictor import load  # noqa: PLC0415
    from cardioner.prediction.selection import select  # noqa: PLC0415

    by_id = {note.id: note for note in rest}
    return [by_id[choice.id] for choice in select(load(model).predict(rest), STEP, annotated=own)]


def main(
    results: Annotated[Path, typer.Option(help="A file of finished runs, read and added to.")],
    seeds: Annotated[int, typer.Option(help="Starts.")] = 3,
    rounds: Annotated[int, typer.Option(help="Rounds after the start.")] = 4,
    report: Annotated[bool, typer.Option("--report", help="Only show the table.")] = False,
    worker: Annotated[bool, typer.Option("--worker", hidden=True)] = False,
) -> None:
    """Train, choose, and compare."""
    if worker:
        serve(run)
        return
    found = Results(results)
    jobs = [{"seed": seed, "way": way, "rounds": rounds} for seed in range(seeds) for way in WAYS]
    if not report:
        run_all([job for job in jobs if found.find(job) is None], found, [__file__, "--worker", "--results", "-"])
    show([row for job in jobs if (row := found.find(job))])


def show(rows: Sequence[dict[str, Any]]) -> None:
    """The mean F1 and the mentions of both ways after each round, and the mean difference with its interval."""
    print("| notes | mentions: select, random | F1: select, random | difference |\n|---|---|---|---|")
    of = {way: {row["seed"]: row for row in rows if row["way"] == way} for way in WAYS}
    both = sorted(set.intersection(*(set(found) for found in of.values())))
    for number in range(min((len(row["scores"]) for row in rows), default=0)):
        cells = [
            [statistics.mean(of[way][seed][what][number] for seed in both) for way in WAYS]
            for what in ("mentions", "scores")
        ]
        differences = [of["select"][seed]["scores"][number] - of["random"][seed]["scores"][number] for seed in both]
        half = T_95[len(both)] * statistics.stdev(differences) / len(both) ** 0.5 if len(both) in T_95 else 0.0
        mentions, scores = cells
        print(
            f"| {START + number * STEP} | {mentions[0]:.0f}, {mentions[1]:.0f} | {scores[0]:.3f}, {scores[1]:.3f} "
            f"| {statistics.mean(differences):+.3f} ± {half:.3f} |"
        )


if __name__ == "__main__":
    typer.run(main)
