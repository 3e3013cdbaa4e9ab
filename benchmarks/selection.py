"""Notes chosen by `cardioner select` against notes drawn at random: the held-out F1 after each round of annotation.

    CARDIONER_DATA=... python benchmarks/selection.py --results FILE [--seeds 3] [--rounds 4] [--workers 2]
    python benchmarks/selection.py --results FILE --report

Each seed starts with 20 notes, the same for both ways. In each round a model is trained on what is annotated, at the
defaults with a CRF; then 10 more notes of the training part are annotated: chosen by that model, or at random. The
epoch is picked on notes that no run trains on, and the model is scored on the whole held-out part. Chosen notes hold
more mentions, which are counted, too.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs import Job, Results, run_all, serve
from train import HELD_OUT, read_parts

CORPUS, BEGIN, STEP = "cardioccc-en-med", 20, 10
EVALUATION = 10
START, SELECT, RANDOM = "start", "select", "random"
"""The first training of a seed, which both ways share, and the ways."""
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""Student's t at 97.5 % for so many seeds."""


def jobs_of(seeds: int, rounds: int) -> list[Job]:
    """All trainings, each after the one that it follows."""
    starts = [{"seed": seed, "way": START, "round": 0} for seed in range(seeds)]
    turns = product(range(1, rounds + 1), range(seeds), (SELECT, RANDOM))
    return [*starts, *({"seed": seed, "way": way, "round": number} for number, seed, way in turns)]


def follows(job: Job, other: Job) -> bool:
    """Whether a training goes on from where another one ended."""
    before = job["seed"] == other["seed"] and job["round"] == other["round"] + 1
    return before and other["way"] in (START, job["way"])


def train(job: Job, results: Path) -> Job:
    """One training: its score, what was annotated, and the notes that its model would have annotated next."""
    learned, evaluation, held_out = (sorted(part, key=lambda one: one.id) for part in read_parts(CORPUS))
    draw = random.Random(job["seed"])
    draw.shuffle(learned)
    draw.shuffle(evaluation)
    own = learned[:BEGIN]
    if job["round"]:
        finished = Results(results).finished
        before = next(row for row in finished if follows(job, {name: row[name] for name in job}))
        left = [note.id for note in learned if note.id not in before["annotated"]]
        ids = before["annotated"] + (before["next"] if job["way"] == SELECT else left[:STEP])
        own = [note for note in learned if note.id in ids]
    rest = [note for note in learned if note not in own]
    with tempfile.TemporaryDirectory() as folder:
        f1 = _train(own, evaluation[:EVALUATION], held_out, Path(folder), job["seed"])
        chosen = [] if job["way"] == RANDOM else _chosen(Path(folder), own, rest)
    mentions = sum(len(note.spans) for note in own)
    return {"f1": f1, "mentions": mentions, "annotated": [note.id for note in own], "next": chosen}


def _train(own: list[Any], evaluation: list[Any], held_out: list[Any], output: Path, seed: int) -> float:
    """The held-out F1 of a model, which lies in `output` then."""
    from cardioner.data.labels import LabelSet  # noqa: PLC0415 - torch belongs into the worker alone
    from cardioner.model_dir.encoder import default_encoder  # noqa: PLC0415
    from cardioner.training.options import TrainingOptions  # noqa: PLC0415
    from cardioner.training.trainer import ModelTrainer  # noqa: PLC0415

    result = ModelTrainer(
        label2id=LabelSet.from_types([HELD_OUT[CORPUS][1]]).label2id,
        model=default_encoder(),
        output_dir=output,
        use_crf=True,
        options=TrainingOptions(seed=seed),
    ).train(own, held_out, evaluation)
    assert result.test is not None
    return result.test.strict.micro.f1


def _chosen(model: Path, own: list[Any], rest: list[Any]) -> list[str]:
    """The ids of the notes that a model would learn most from."""
    from cardioner.prediction.predictor import load  # noqa: PLC0415
    from cardioner.prediction.selection import select  # noqa: PLC0415

    return [choice.id for choice in select(load(model).predict(rest), STEP, annotated=own)]


def show(rows: Sequence[Job]) -> None:
    """The mean F1 and the mentions of both ways after each round, and the mean difference with its interval."""
    print("| notes | mentions: select, random | F1: select, random | difference |\n|---|---|---|---|")
    of = {(row["seed"], row["way"], row["round"]): row for row in rows}
    for number in range(1 + max((row["round"] for row in rows), default=-1)):
        ways = (SELECT, RANDOM) if number else (START, START)
        seeds = [seed for seed in range(len(rows)) if all((seed, way, number) in of for way in ways)]
        pairs = [[of[seed, way, number] for way in ways] for seed in seeds]
        if not pairs:
            continue
        cells = [
            [statistics.mean(pair[side][what] for pair in pairs) for side in (0, 1)] for what in ("mentions", "f1")
        ]
        differences = [pair[0]["f1"] - pair[1]["f1"] for pair in pairs]
        half = (
            f" ± {T_95[len(pairs)] * statistics.stdev(differences) / len(pairs) ** 0.5:.3f}"
            if len(pairs) in T_95
            else ""
        )
        mentions, scores = cells
        print(
            f"| {BEGIN + number * STEP} | {mentions[0]:.0f}, {mentions[1]:.0f} | {scores[0]:.3f}, {scores[1]:.3f} "
            f"| {statistics.mean(differences):+.3f}{half} ({len(pairs)} seeds) |"
        )


def main(
    results: Annotated[Path, typer.Option(help="A file of finished trainings, read and added to.")],
    seeds: Annotated[int, typer.Option(min=1, help="Starts.")] = 3,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds after the start.")] = 4,
    workers: Annotated[int, typer.Option(min=1, help="Trainings side by side.")] = 1,
    report: Annotated[bool, typer.Option("--report", help="Only show the table.")] = False,
    worker: Annotated[bool, typer.Option("--worker", hidden=True)] = False,
) -> None:
    """Train, choose, and compare."""
    if worker:
        serve(lambda job: train(job, results))
        return
    found, jobs = Results(results), jobs_of(seeds, rounds)
    if not report:
        if "CARDIONER_DATA" not in os.environ:
            raise typer.BadParameter("set CARDIONER_DATA to the folder with the corpora")
        missing = [job for job in jobs if found.find(job) is None]
        run_all(missing, found, [__file__, "--worker", "--results", str(results)], workers=workers, needs=follows)
    show([row for job in jobs if (row := found.find(job))])
    for row in [] if report else found.failed(jobs):
        print(f"failed: {row}")


if __name__ == "__main__":
    typer.run(main)
