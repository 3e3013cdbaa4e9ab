"""Distillation: students of three layers and of an ensemble, beside their teachers and the same without teachers.

    CARDIONER_DATA=... python benchmarks/distill.py --workers 8 --results FILE --folder DIR   # minutes on a GPU
    CARDIONER_DATA=... python benchmarks/distill.py --tiny                                    # to see that it runs

For each corpus and seed, all scored once on held-out notes, each training a process of its own:

- teacher: the encoder with a CRF, at the defaults.
- bare: three layers of the encoder, for as many epochs as the students.
- distilled: three layers of the teacher, which learn from it, on the training notes and on unlabelled ones.
- ensemble: the whole encoder, which learns from the teachers of all seeds, on the same notes.
- again: as the teacher, for as many epochs as the students.

A finished run is added to the results at once, and not repeated. A run that fails is named, and the others go on.
`--speed` compares, after the trainings, how fast a teacher and its student tag on the CPU.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from jobs import Results, run_all, serve
from train import HELD_OUT, read_parts

TEACHER_EPOCHS = {"ncbi-disease": 3, "cardioccc-en-med": 2}
STUDENT_EPOCHS = {"ncbi-disease": 6, "cardioccc-en-med": 4}
LAYERS = 3
RUNS = ("teacher", "bare", "distilled", "ensemble", "again")
TAUGHT = ("distilled", "ensemble")
TIMED = 60_000
"""Characters of the notes whose tagging is timed, about."""
TINY = 2
"""Documents of each part, where all of it only has to run."""


class Plan(NamedTuple):
    """What is the same for all runs.

    Attributes:
        folder: Where models are kept.
        encoder: The folder of the encoder; empty for the bundled one.
        device: Where to train.
        unlabelled: Which notes students learn from besides: `other`, `evaluation`, `held-out` or `none`.
        start: What the student of the ensemble starts from: `encoder` or `teacher`.
        teaching: Options of the distillation.
        options: Options of all trainings.
        seeds: How many teachers there are.
        tiny: Whether all of it only has to run.
    """

    folder: str
    encoder: str
    device: str
    unlabelled: str
    start: str
    teaching: dict[str, float]
    options: dict[str, Any]
    seeds: int
    tiny: bool


def key_of(run: str, corpus: str, seed: int, plan: Plan, *, epochs: int) -> dict[str, Any]:
    """What tells a run from others in the results."""
    key: dict[str, Any] = {"run": run, "corpus": corpus, "seed": seed, "epochs": epochs, "options": plan.options}
    if run in TAUGHT:
        key |= {"unlabelled": plan.unlabelled, "teaching": plan.teaching}
    if run == "ensemble":
        key |= {"start": plan.start, "teachers": plan.seeds}
    return {**key, "tiny": plan.tiny}


def place_of(key: dict[str, Any], plan: Plan) -> Path:
    """Where the model of a run is kept."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:8]
    return Path(plan.folder) / key["corpus"] / f"{key['run']}-{key['seed']}-{digest}"


def teacher_of(corpus: str, seed: int, plan: Plan) -> Path:
    """Where a teacher is kept."""
    return place_of(key_of("teacher", corpus, seed, plan, epochs=epochs_of("teacher", corpus, plan)), plan)


def epochs_of(run: str, corpus: str, plan: Plan) -> int:
    """Passes over the notes."""
    return 1 if plan.tiny else (TEACHER_EPOCHS if run == "teacher" else STUDENT_EPOCHS)[corpus]


# One run -------------------------------------------------------------------------------------------------------------


def work(task: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """One training, or one comparison of speed."""
    return train(task, plan) if task["run"] in RUNS else speed(task["corpus"], plan, rounds=1 if plan.tiny else 5)


def train(key: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """One training and its scores."""
    from cardioner import LabelSet, ModelTrainer, TrainingOptions  # noqa: PLC0415 - in the process of the run

    corpus, run, output = key["corpus"], key["run"], place_of(key, plan)
    parts = read_parts(corpus)
    learned, evaluation, held_out = (part[:TINY] for part in parts) if plan.tiny else parts
    shutil.rmtree(output, ignore_errors=True)
    layers = LAYERS if run in ("bare", "distilled") else None
    given: dict[str, Any] = {"model": plan.encoder or None, "use_crf": True, "num_train_epochs": key["epochs"]}
    if run in TAUGHT:
        given |= _teaching(key, plan, parts)
    else:
        given["label2id"] = LabelSet.from_types([HELD_OUT[corpus][1]]).label2id
    options = TrainingOptions(seed=key["seed"], device=plan.device, overwrite=True, layers=layers, **plan.options)
    result = ModelTrainer(output_dir=output, options=options, **given).train(learned, held_out, evaluation)
    assert result.test is not None
    micro = result.test.strict.micro
    return {
        "f1": micro.f1,
        "precision": micro.precision,
        "recall": micro.recall,
        "curve": [scores.strict.micro.f1 for scores in result.epochs],
        "windows": result.windows,
        "seconds": round(result.seconds, 1),
    }


def _teaching(key: dict[str, Any], plan: Plan, parts: Sequence[list[Any]]) -> dict[str, Any]:
    """The arguments of a student."""
    from cardioner import Distillation  # noqa: PLC0415
    from cardioner.model_dir.encoder import default_encoder  # noqa: PLC0415

    corpus, whole = key["corpus"], key["run"] == "ensemble"
    seeds = range(plan.seeds) if whole else [key["seed"]]
    teachers = [teacher_of(corpus, seed, plan) for seed in seeds]
    if whole:  # each seed begins with another teacher
        teachers = teachers[key["seed"] :] + teachers[: key["seed"]]
    if plan.unlabelled == "other":
        chosen = read_parts(next(other for other in HELD_OUT if other != corpus))[0]
    else:
        chosen = {"evaluation": parts[1], "held-out": parts[2], "none": []}[plan.unlabelled]
    texts = [document.text for document in chosen][: TINY if plan.tiny else None]
    most = sum(len(document.text) for document in parts[0])  # no more text than the annotated notes have
    notes = [text for text, size in zip(texts, accumulate(map(len, texts)), strict=True) if size <= most]
    distillation = Distillation(teachers=teachers, unlabelled=notes, **plan.teaching)
    from_encoder = whole and plan.start == "encoder"
    return {"distillation": distillation, "model": (plan.encoder or default_encoder()) if from_encoder else None}


def speed(corpus: str, plan: Plan, *, rounds: int) -> dict[str, Any]:
    """How fast a teacher and its student of three layers tag the held-out notes, in turn, on the CPU."""
    from cardioner import Predictor  # noqa: PLC0415
    from pairs import in_turn  # noqa: PLC0415

    student = place_of(key_of("distilled", corpus, 0, plan, epochs=epochs_of("distilled", corpus, plan)), plan)
    texts = [document.text for document in read_parts(corpus)[2]]
    texts = texts[: TINY if plan.tiny else max(1, TIMED * len(texts) // sum(map(len, texts)))]
    found: dict[str, Any] = {}
    for dtype in ("float32", "bfloat16"):
        fast, slow = (
            Predictor.from_pretrained(place, engine="torch", device="cpu", dtype=dtype)
            for place in (student, teacher_of(corpus, 0, plan))
        )
        pair = in_turn(lambda: list(fast.predict(texts)), lambda: list(slow.predict(texts)), rounds)  # noqa: B023
        found[dtype] = {
            "student_ms": round(pair.first),
            "teacher_ms": round(pair.second),
            "ratio": round(pair.ratio, 3),
        }
    return found


# All runs ------------------------------------------------------------------------------------------------------------


def jobs(corpora: Sequence[str], runs: Sequence[str], plan: Plan) -> Iterator[dict[str, Any]]:
    """The runs, those that others need first."""
    for run in (run for run in RUNS if run in runs):
        for corpus in corpora:
            for seed in range(plan.seeds):
                yield key_of(run, corpus, seed, plan, epochs=epochs_of(run, corpus, plan))


def needs(job: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether a run needs the model of another one."""
    return job["run"] in TAUGHT and other["run"] == "teacher" and job["corpus"] == other["corpus"]


def is_missing(job: dict[str, Any], plan: Plan, results: Results) -> bool:
    """Whether a run is still to be done; a teacher whose model is gone is trained again."""
    kept = (place_of(job, plan) / "config.json").is_file()
    return results.find(job) is None or (job["run"] == "teacher" and not kept)


def _report(corpora: Sequence[str], keys: Sequence[dict[str, Any]], results: Results) -> None:
    """Means over the seeds, and what of the goals is reached."""
    for corpus in corpora:
        means: dict[str, float] = {}
        for run in RUNS:
            rows = [results.find(key) for key in keys if key["corpus"] == corpus and key["run"] == run]
            f1 = [row["f1"] for row in rows if row is not None]
            if f1:
                means[run] = statistics.mean(f1)
                spread = statistics.stdev(f1) if len(f1) > 1 else 0.0
                each = ", ".join(f"{value:.4f}" for value in f1)
                print(f"{corpus} {run}: strict F1 {means[run]:.4f} (deviation {spread:.4f}; {each})")
        for one, other in (
            ("distilled", "teacher"),
            ("distilled", "bare"),
            ("ensemble", "teacher"),
            ("ensemble", "again"),
        ):
            if {one, other} <= means.keys():
                print(f"{corpus} {one} less {other}: {means[one] - means[other]:+.4f}")


def main(
    corpora: Annotated[str, typer.Option(help=f"Some of {', '.join(HELD_OUT)}.")] = ",".join(HELD_OUT),
    runs: Annotated[str, typer.Option(help=f"Some of {', '.join(RUNS)}.")] = ",".join(RUNS),
    seeds: Annotated[int, typer.Option(help="Seeds, from 0 on: so many teachers.")] = 3,
    workers: Annotated[int, typer.Option(help="Trainings at a time.")] = 1,
    encoder: Annotated[str, typer.Option(help="The encoder's folder; the bundled one by default.")] = "",
    device: Annotated[str, typer.Option(help="Where to train: auto, cpu or cuda.")] = "auto",
    unlabelled: Annotated[str, typer.Option(help="Texts of: other (corpus), evaluation, held-out, none.")] = "other",
    start: Annotated[
        str, typer.Option(help="What the ensemble's student starts from: encoder or teacher.")
    ] = "encoder",
    teaching: Annotated[str, typer.Option(help="JSON of options of the distillation.")] = "{}",
    options: Annotated[str, typer.Option(help="JSON of options of all trainings.")] = "{}",
    folder: Annotated[Path | None, typer.Option(help="Where models are kept; a temporary folder by default.")] = None,
    results: Annotated[Path | None, typer.Option(help="A file of finished runs, read and added to.")] = None,
    with_speed: Annotated[bool, typer.Option("--speed", help="Compare tagging on the CPU, too.")] = False,
    tiny: Annotated[bool, typer.Option(help="A few documents and one epoch.")] = False,
    child: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Train teachers and students, and compare them."""
    if child:
        serve(partial(work, plan=Plan(**json.loads(child))))
        return
    if "CARDIONER_DATA" not in os.environ:
        raise typer.BadParameter("set CARDIONER_DATA to the folder with the corpora")
    cores, python = os.cpu_count(), platform.python_version()
    print(f"{platform.machine()}, {cores} cores, Python {python}, {workers} workers", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        place = str((folder or Path(temporary)).resolve())
        plan = Plan(place, encoder, device, unlabelled, start, json.loads(teaching), json.loads(options), seeds, tiny)
        chosen, found = corpora.split(","), Results(results)
        keys = list(jobs(chosen, runs.split(","), plan))
        command = [__file__, "--child", json.dumps(plan._asdict())]
        missing = [key for key in keys if is_missing(key, plan, found)]
        run_all(missing, found, command, workers=workers, device=device, needs=needs)
        if with_speed:
            run_all([{"run": "speed", "corpus": corpus} for corpus in chosen], found, command)
        _report(chosen, keys, found)
    failed = found.failed(keys)
    print(f"{len(failed)} of {len(keys)} runs failed" if failed else f"all {len(keys)} runs are finished")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    typer.run(main)
