"""Training against the stock recipe: the same encoder, data and epochs, in turn, each run a process of its own.

    CARDIONER_DATA=... python benchmarks/train.py [--corpus ncbi-disease] [--seeds 3] [--epochs 3] [--results FILE]

Both train on the same documents, keep the epoch with the best strict F1 on the same evaluation documents, and are
scored once on the held-out ones. The seconds are those of the training loop: ours with the scoring and saving after
each epoch in them, the stock recipe's without. With `--results` runs that the file holds are not repeated, so that an
interrupted benchmark goes on where it was.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

HELD_OUT = {"ncbi-disease": ("test", "DISEASE"), "cardioccc-en-med": ("dev", "MEDICATION")}
EVERY = 7
"""Where a corpus has two parts, one training document in this many is set aside for picking the epoch."""


def read_parts(corpus: str) -> tuple[list[Any], list[Any], list[Any]]:
    """Documents to learn from, to pick the epoch with, and to score."""
    from cardioner.data.formats import read_corpus  # noqa: PLC0415 - torch belongs into the measured process alone

    folder, (last, label) = Path(os.environ["CARDIONER_DATA"]) / corpus, HELD_OUT[corpus]
    read = {part: _one_type(read_corpus(folder / part).documents, label) for part in ("train", last)}
    if (folder / "devel").is_dir():
        return read["train"], _one_type(read_corpus(folder / "devel").documents, label), read[last]
    train = [document for number, document in enumerate(read["train"]) if number % EVERY]
    return train, read["train"][::EVERY], read[last]


def _one_type(documents: Any, label: str) -> list[Any]:
    """The documents with every span under one label."""
    from cardioner.data.documents import rename_labels  # noqa: PLC0415

    types = {span.label for document in documents for span in document.spans}
    return rename_labels(documents, dict.fromkeys(types, label))


def run(name: str, corpus: str, *, epochs: int, seed: int, output: Path, options: dict[str, Any]) -> dict[str, Any]:
    """One training and its scores."""
    from cardioner.data.labels import LabelSet  # noqa: PLC0415

    parts, labels = read_parts(corpus), LabelSet.from_types([HELD_OUT[corpus][1]])
    train = _train_stock if name == "stock" else _train_ours
    found = train(parts, labels, epochs=epochs, seed=seed, output=output, options={**options, "use_crf": name == "crf"})
    found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def _train_stock(
    parts: Sequence[list[Any]], labels: Any, *, epochs: int, seed: int, output: Path, options: dict[str, Any]
) -> dict[str, Any]:
    """Train with the stock recipe."""
    del options  # the recipe has none
    from cardioner.evaluation import score  # noqa: PLC0415
    from cardioner.model_dir.encoder import default_encoder  # noqa: PLC0415
    from stock import tag_stock, train_stock  # noqa: PLC0415

    train, evaluation, held_out = parts

    def f1(model: Any, tokenizer: Any, documents: list[Any] = evaluation) -> float:
        return score(documents, tag_stock(model, tokenizer, documents)).strict.micro.f1

    model, tokenizer, curve = train_stock(
        train, labels.tags, encoder=default_encoder(), output=output, epochs=epochs, seed=seed, score=f1
    )
    return {"curve": curve, "seconds": curve[-1]["seconds"], "f1": f1(model, tokenizer, held_out)}


def _train_ours(
    parts: Sequence[list[Any]], labels: Any, *, epochs: int, seed: int, output: Path, options: dict[str, Any]
) -> dict[str, Any]:
    """Train with `ModelTrainer`, at its defaults but for what `options` says."""
    import time  # noqa: PLC0415

    from cardioner.training.options import TrainingOptions  # noqa: PLC0415
    from cardioner.training.trainer import ModelTrainer  # noqa: PLC0415

    train, evaluation, held_out = parts
    known = set(TrainingOptions.__dataclass_fields__)
    trainer = ModelTrainer(
        label2id=labels.label2id,
        num_train_epochs=epochs,
        output_dir=output,
        options=TrainingOptions(seed=seed, overwrite=True, **{k: v for k, v in options.items() if k in known}),
        **{k: v for k, v in options.items() if k not in known},
    )
    ends: list[float] = []
    began = time.perf_counter()
    tag = trainer._tag
    trainer._tag = lambda data: (tag(data), ends.append(time.perf_counter() - began))[0]  # type: ignore[method-assign,func-returns-value]
    result = trainer.train(train, held_out, evaluation)
    curve = [{"f1": scores.strict.micro.f1, "seconds": end} for scores, end in zip(result.epochs, ends, strict=False)]
    return {"curve": curve, "seconds": result.seconds, "f1": result.test.strict.micro.f1 if result.test else 0.0}


def main(
    corpus: Annotated[str, typer.Option(help=f"One of {', '.join(HELD_OUT)}.")] = "ncbi-disease",
    seeds: Annotated[int, typer.Option(help="Seeds, from 0 on, that every run is repeated with.")] = 1,
    epochs: Annotated[int, typer.Option(help="Passes over the training documents.")] = 3,
    runs: Annotated[str, typer.Option(help="What to compare, in turn: stock, crf, linear.")] = "stock,crf",
    results: Annotated[Path | None, typer.Option(help="A file of finished runs, read and added to.")] = None,
    options: Annotated[str, typer.Option(help="JSON of arguments and options for our runs.")] = "{}",
    child: Annotated[str, typer.Option(hidden=True)] = "",
    seed: Annotated[int, typer.Option(hidden=True)] = 0,
) -> None:
    """Compare trainings."""
    if child:
        with tempfile.TemporaryDirectory() as folder:
            wanted = json.loads(options)
            found = run(child, corpus, epochs=epochs, seed=seed, output=Path(folder) / "model", options=wanted)
        print(json.dumps(found))
        return
    if "CARDIONER_DATA" not in os.environ:
        raise typer.BadParameter("set CARDIONER_DATA to the folder with the corpora")
    lines = results.read_text().splitlines() if results is not None and results.is_file() else []
    done = [json.loads(line) for line in lines]
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {corpus}, {epochs} epochs"
    )
    names, found = runs.split(","), []
    for turn in range(seeds):
        for name in names:
            key = {"run": name, "corpus": corpus, "epochs": epochs, "seed": turn}
            key["options"] = "{}" if name == "stock" else options
            row = next((row for row in done if key.items() <= row.items()), None)
            if row is None:
                row = {**key, **_run_apart(key)}
                if results is not None:
                    with results.open("a") as file:
                        file.write(json.dumps(row) + "\n")
            found.append(row)
            print(json.dumps(row), flush=True)
    _report(names, found)


def _run_apart(key: dict[str, Any]) -> dict[str, Any]:
    """One run in a process of its own."""
    command = [sys.executable, __file__, "--child", key["run"]]
    for name in ("corpus", "epochs", "seed", "options"):
        command += [f"--{name}", str(key[name])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def _report(names: Sequence[str], found: Sequence[dict[str, Any]]) -> None:
    """Means over the seeds, and how long each took to the stock recipe's best F1 on the evaluation documents."""
    for name in names:
        rows = [row for row in found if row["run"] == name]
        f1 = [row["f1"] for row in rows]
        reached = []
        for row in rows:
            stock = next((other for other in found if other["run"] == "stock" and other["seed"] == row["seed"]), row)
            goal = max(stock["curve"], key=lambda epoch: epoch["f1"])
            mine = next((epoch["seconds"] for epoch in row["curve"] if epoch["f1"] >= goal["f1"]), float("inf"))
            reached.append(mine / goal["seconds"])
        spread = statistics.stdev(f1) if len(f1) > 1 else 0.0
        print(
            f"{name}: held-out F1 {statistics.mean(f1):.4f} (deviation {spread:.4f}, {len(f1)} seeds), "
            f"{statistics.median(row['seconds'] for row in rows):.0f} s, "
            f"{statistics.median(row['peak_mib'] for row in rows):.0f} MiB, "
            f"to the stock recipe's best F1 in {statistics.median(reached):.2f} of its time"
        )


if __name__ == "__main__":
    typer.run(main)
