"""What settings of a training bring: the same notes and seeds for each setting, compared note by note.

    CARDIONER_DATA=... python benchmarks/spans.py --results FILE '{}' '{"num_train_epochs": 10}'
    python benchmarks/spans.py --results FILE --report '{}' '{"num_train_epochs": 10}'   # the table of what FILE holds

Each setting is a JSON object of arguments of `ModelTrainer` and of `TrainingOptions`; all have a CRF unless they say
otherwise. `{"recipe": "best"}` trains with three seeds, and then one model that learns from them. The epoch is picked
on the evaluation notes, by which settings are compared while one is looked for. The test notes are scored once for each
model; `--test` shows them, for the comparison at the end. `--share` trains on a part of the notes, the same part for
all settings and seeds.

The table has the mean strict F1 over the seeds and, for every setting but the first, the difference from the first with
the interval that 95 of 100 samples of notes give, the counts of all seeds together.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs import Job, Results, run_all, serve
from train import HELD_OUT, read_parts

SAMPLES = 10_000
Counts = list[list[float]]
"""Of each note: spans found right, gold spans, spans found."""


def sample(corpus: str, share: float) -> tuple[list[Any], list[Any], list[Any]]:
    """Notes to learn from, to pick the epoch with, and to score."""
    train, evaluation, test = (sorted(part, key=lambda one: one.id) for part in read_parts(corpus))
    random.Random(7).shuffle(train)
    return train[: max(2, round(share * len(train)))], evaluation, test


def train(job: Job) -> Job:
    """One training, and what its model finds in each note."""
    from cardioner import LabelSet, Predictor, TrainingOptions  # noqa: PLC0415 - in the worker alone
    from cardioner.training.sweep.distilled import DistilledTraining  # noqa: PLC0415
    from cardioner.training.sweep.trial import Parts, Trial  # noqa: PLC0415

    learned, evaluation, test = sample(job["corpus"], job["share"])
    known, labels = TrainingOptions.__dataclass_fields__, LabelSet.from_types([HELD_OUT[job["corpus"]][1]])
    options = TrainingOptions(
        seed=job["seed"], **{name: value for name, value in job["setting"].items() if name in known}
    )
    arguments = {name: value for name, value in job["setting"].items() if name not in known}
    best = arguments.pop("recipe", "default") == "best"
    common: Any = {"labels": labels, "arguments": {"use_crf": True, **arguments}, "options": options}
    parts, began = Parts(learned, evaluation), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        if best:
            result = DistilledTraining(output_dir=Path(folder) / "model", **common).train(parts)
        else:
            result = Trial(name="model", parts=parts, **common).train(Path(folder))
        seconds = time.perf_counter() - began
        tagger = Predictor.from_pretrained(result.output_dir)
        parts = {"evaluation": evaluation, "test": test}
        counts = {name: counted(part, tagger.predict(part)) for name, part in parts.items()}
    curve = [round(scores.strict.micro.f1, 4) for scores in result.epochs]
    return {"seconds": round(seconds, 1), "epoch": result.best_epoch, "curve": curve, **counts}


def counted(gold: Sequence[Any], predicted: Any) -> Counts:
    """Strict counts, note by note."""
    from cardioner.evaluation import pair_documents  # noqa: PLC0415
    from cardioner.evaluation.scores import count  # noqa: PLC0415

    rows = []
    for pair in pair_documents(gold, list(predicted)).pairs:
        found = count(pair, ["strict"])["strict"].values()
        rows.append([sum(getattr(one, name) for one in found) for name in ("credit", "gold", "predicted")])
    return rows


# Tables --------------------------------------------------------------------------------------------------------------


def f1(sums: Any) -> Any:
    """Of sums `(..., 3)` of counts."""
    return 2 * sums[..., 0] / (sums[..., 1] + sums[..., 2])


def difference(first: Sequence[Counts], second: Sequence[Counts]) -> tuple[float, float, float]:
    """F1 of the second less that of the first, counts of all seeds together, and its 95 % interval over notes."""
    import numpy as np  # noqa: PLC0415

    from cardioner.evaluation.intervals import resampled  # noqa: PLC0415

    tables = [np.array(side, dtype=float).sum(0) for side in (first, second)]  # (notes, 3)
    found = f1(tables[1].sum(0)) - f1(tables[0].sum(0))
    drawn = np.concatenate(list(resampled(np.concatenate(tables, axis=1), samples=SAMPLES, seed=0)))
    low, high = np.percentile(f1(drawn[:, 3:]) - f1(drawn[:, :3]), [2.5, 97.5])
    return float(found), float(low), float(high)


def show(jobs: Sequence[Job], results: Results, part: str) -> None:
    """A table for each corpus."""
    import numpy as np  # noqa: PLC0415

    for corpus in dict.fromkeys(job["corpus"] for job in jobs):
        print(f"\n{corpus}, {part} notes")
        print(f"| setting | strict F1 | seeds | from the first, same seeds | seconds |\n|{'---|' * 5}")
        rows: dict[str, dict[int, Job]] = {}
        for job in (job for job in jobs if job["corpus"] == corpus):
            if (row := results.find(job)) is not None:
                rows.setdefault(json.dumps(job["setting"]), {})[job["seed"]] = row
        first = next(iter(rows.values()), {})
        for setting, of_seed in rows.items():
            figures = [float(f1(np.array(row[part], dtype=float).sum(0))) for row in of_seed.values()]
            seeds = sorted(of_seed.keys() & first.keys())
            cell = ""
            if of_seed is not first and seeds:
                sides = ([side[seed][part] for seed in seeds] for side in (first, of_seed))
                cell = "{:+.4f} ({:+.4f} to {:+.4f})".format(*difference(*sides))
            seconds = statistics.mean(row["seconds"] for row in of_seed.values())
            each = ", ".join(f"{figure:.4f}" for figure in figures)
            print(f"| `{setting}` | {statistics.mean(figures):.4f} | {each} | {cell} | {seconds:.0f} |")


def main(
    settings: Annotated[
        list[str] | None, typer.Argument(help="JSON objects; the others are compared with the first.")
    ] = None,
    results: Annotated[Path | None, typer.Option(help="A file of finished runs, read and added to.")] = None,
    corpora: Annotated[str, typer.Option(help=f"Some of {', '.join(HELD_OUT)}.")] = ",".join(HELD_OUT),
    seeds: Annotated[int, typer.Option(help="Seeds, from 0 on.")] = 1,
    share: Annotated[float, typer.Option(help="Share of the training notes.")] = 1.0,
    workers: Annotated[int, typer.Option(min=1, help="Trainings side by side.")] = 1,
    test: Annotated[bool, typer.Option("--test", help="Show the test notes in place of the evaluation notes.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Only show the table.")] = False,
    worker: Annotated[bool, typer.Option("--worker", hidden=True)] = False,
) -> None:
    """Train with several settings, and compare."""
    if worker:
        serve(train)
        return
    found = Results(results)
    jobs: list[Job] = [
        {"corpus": corpus, "share": share, "seed": seed, "setting": json.loads(setting)}
        for seed, setting, corpus in product(range(seeds), settings or ["{}"], corpora.split(","))
    ]
    if not report:
        if "CARDIONER_DATA" not in os.environ:
            raise typer.BadParameter("set CARDIONER_DATA to the folder with the corpora")
        missing = [job for job in jobs if found.find(job) is None]
        run_all(missing, found, [__file__, "--worker"], workers=workers)
    show(jobs, found, "test" if test else "evaluation")
    for row in [] if report else found.failed(jobs):
        print(f"failed: {row}")


if __name__ == "__main__":
    typer.run(main)
