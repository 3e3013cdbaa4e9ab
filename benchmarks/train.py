"""Training against the stock recipe: the same encoder, data and epochs, in turn, each run a process of its own.

    CARDIONER_DATA=... python benchmarks/train.py [--corpus ncbi-disease] [--rounds 1] [--epochs 3]

Prints, for each run, the strict F1 on held-out documents, the seconds of the training loop (ours with the scoring after
each epoch in it, the stock recipe without any), and the peak memory.
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
from pathlib import Path
from typing import Annotated, Any

import typer

CORPORA = {
    "ncbi-disease": ("ncbi-disease/train", "ncbi-disease/devel", "DISEASE"),
    "cardioccc-en-med": ("cardioccc-en-med/train", "cardioccc-en-med/dev", "MEDICATION"),
}


def run(name: str, corpus: str, *, epochs: int, seed: int, output: Path) -> dict[str, Any]:
    """One training and its score."""
    from cardioner.evaluation import score  # noqa: PLC0415 - torch belongs into the measured process alone
    from cardioner.formats import read_corpus  # noqa: PLC0415
    from cardioner.labels import LabelSet  # noqa: PLC0415
    from cardioner.multiclass.encoder import default_encoder  # noqa: PLC0415

    train_folder, held_out_folder, label = CORPORA[corpus]
    data = Path(os.environ["CARDIONER_DATA"])
    train, held_out = (_one_type(read_corpus(data / part).documents, label) for part in (train_folder, held_out_folder))
    labels = LabelSet.from_types([label])
    if name == "stock":
        from stock import tag_stock, train_stock  # noqa: PLC0415

        encoder = default_encoder()
        model, tokenizer, seconds = train_stock(
            train, labels.tags, encoder=encoder, output=output, epochs=epochs, seed=seed
        )
        scores = score(held_out, tag_stock(model, tokenizer, held_out))
    else:
        scores, seconds = _train_ours(
            train, held_out, labels, epochs=epochs, seed=seed, output=output, crf=name == "crf"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    micro = scores.strict.micro
    figures = {
        "precision": micro.precision,
        "recall": micro.recall,
        "f1": micro.f1,
        "seconds": seconds,
        "peak_mib": peak,
    }
    return {"run": name, "seed": seed, **{key: round(value, 4) for key, value in figures.items()}}


def _train_ours(
    train: list[Any], held_out: list[Any], labels: Any, *, epochs: int, seed: int, output: Path, crf: bool
) -> tuple[Any, float]:
    """Train with `ModelTrainer` at its defaults."""
    from cardioner.multiclass.options import TrainingOptions  # noqa: PLC0415
    from cardioner.multiclass.trainer import ModelTrainer  # noqa: PLC0415

    trainer = ModelTrainer(
        label2id=labels.label2id,
        use_crf=crf,
        num_train_epochs=epochs,
        output_dir=output,
        options=TrainingOptions(seed=seed, overwrite=True),
    )
    result = trainer.train(train, None, held_out)
    return result.evaluation, result.seconds


def _one_type(documents: Any, label: str) -> list[Any]:
    """The documents with every span under one label."""
    from cardioner.documents import rename_labels  # noqa: PLC0415

    types = {span.label for document in documents for span in document.spans}
    return rename_labels(documents, dict.fromkeys(types, label))


def main(
    corpus: Annotated[str, typer.Option(help=f"One of {', '.join(CORPORA)}.")] = "ncbi-disease",
    rounds: Annotated[int, typer.Option(help="Times that every run is repeated, with another seed.")] = 1,
    epochs: Annotated[int, typer.Option(help="Passes over the training documents.")] = 3,
    runs: Annotated[str, typer.Option(help="What to compare, in turn: stock, crf, linear.")] = "stock,crf",
    child: Annotated[str, typer.Option(hidden=True)] = "",
    seed: Annotated[int, typer.Option(hidden=True)] = 0,
) -> None:
    """Compare trainings."""
    if child:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(run(child, corpus, epochs=epochs, seed=seed, output=Path(folder) / "model")))
        return
    if "CARDIONER_DATA" not in os.environ:
        raise typer.BadParameter("set CARDIONER_DATA to the folder with the corpora")
    names, found = runs.split(","), []
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {corpus}, {epochs} epochs"
    )
    for turn in range(rounds):
        for name in names:
            command = [sys.executable, __file__, "--child", name, "--seed", str(turn)]
            command += ["--corpus", corpus, "--epochs", str(epochs)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
            print(json.dumps(found[-1]), flush=True)
    for name in names:
        rows = [row for row in found if row["run"] == name]
        median = {key: statistics.median(row[key] for row in rows) for key in ("f1", "seconds", "peak_mib")}
        print(f"{name}: median of {len(rows)}: {json.dumps(median)}")


if __name__ == "__main__":
    typer.run(main)
