"""Flat tags and tags per type on the same folds of a corpus whose types overlap, compared note by note.

    CARDIONER_DATA=... python benchmarks/overlap.py [--seeds 3] [--folds 5] [--workers 1] [--results FILE]

Each layout trains on the same notes with the same seed, and tags the fold that neither has seen. The folds together are
the whole corpus, so that each seed gives one prediction of every note a layout. Their difference in strict F1 comes
with the interval of `cardioner compare`, over resampled notes. Finished trainings are kept in the results.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Annotated, Any

import typer

CORPUS = "cardioccc-es-sample"
LAYOUTS = ("flat", "per-type")


def documents(*, tiny: bool) -> list[Any]:
    """The notes of the corpus, in the order of their ids; the first few where all of it only has to run."""
    from cardioner import read_corpus  # noqa: PLC0415 - torch belongs into the workers alone

    found = read_corpus(Path(os.environ["CARDIONER_DATA"]) / CORPUS).documents
    return sorted(found, key=lambda document: document.id)[: 4 if tiny else None]


def train(key: dict[str, Any], encoder: str, device: str, threads: int) -> dict[str, Any]:
    """Train on all folds but one, and tag that one: spans by note."""
    import torch  # noqa: PLC0415

    from cardioner import LabelSet, ModelTrainer, Predictor, TrainingOptions  # noqa: PLC0415

    torch.set_num_threads(threads)
    notes = documents(tiny=key["tiny"])
    held_out = notes[key["fold"] :: key["folds"]]
    learned = [note for note in notes if note not in held_out]
    labels = LabelSet.from_types({span.label for note in notes for span in note.spans}, overlap=key["overlap"])
    with tempfile.TemporaryDirectory() as folder:
        trainer = ModelTrainer(
            label2id=labels.label2id,
            model=encoder or None,
            use_crf=True,
            num_train_epochs=key["epochs"],
            output_dir=folder,
            options=TrainingOptions(seed=key["seed"], device=device, overwrite=True),
        )
        result = trainer.train(learned)
        tagged = Predictor(trainer.model, trainer.tokenizer).predict(held_out)
        spans = {note.id: [[span.start, span.end, span.label] for span in note.spans] for note in tagged}
    return {**key, "spans": spans, "lost": sum(result.losses.values()), "seconds": round(result.seconds, 1)}


def report(rows: Sequence[dict[str, Any]], folds: int, *, tiny: bool) -> None:
    """Strict F1 of both layouts with each seed, and of all seeds' predictions together."""
    from cardioner import Document, Span  # noqa: PLC0415
    from cardioner.evaluation.comparison import compare  # noqa: PLC0415

    gold, every = documents(tiny=tiny), {layout: [] for layout in (*LAYOUTS, "gold")}

    def show(name: str, predictions: dict[str, list[Any]], truth: list[Any]) -> None:
        found = compare(predictions["per-type"], predictions["flat"], gold=truth).to_dict()
        print(name, json.dumps({key: value for key, value in found["strict"]["micro"].items() if key == "f1"}))

    for seed in sorted({row["seed"] for row in rows}):
        predictions: dict[str, list[Any]] = {}
        for layout in LAYOUTS:
            own = [row for row in rows if row["seed"] == seed and row["overlap"] == layout]
            if len(own) != folds:
                break
            spans = {name: found for row in own for name, found in row["spans"].items()}
            predictions[layout] = [
                note.with_spans(Span(start, end, label) for start, end, label in spans[note.id]) for note in gold
            ]
        else:
            show(f"seed {seed}:", predictions, gold)
            for layout, notes in (*predictions.items(), ("gold", gold)):
                every[layout] += [Document(f"{note.id}/{seed}", note.text, note.spans) for note in notes]
    if every["gold"]:
        show("all seeds:", every, every["gold"])


def main(
    seeds: Annotated[int, typer.Option(help="Seeds, from 0 on.")] = 3,
    folds: Annotated[int, typer.Option(help="Folds.")] = 5,
    epochs: Annotated[int, typer.Option(help="Passes over the training notes.")] = 20,
    workers: Annotated[int, typer.Option(help="Trainings at a time.")] = 1,
    encoder: Annotated[str, typer.Option(help="The encoder's folder; the bundled one by default.")] = "",
    device: Annotated[str, typer.Option(help="Where to train: auto, cpu or cuda.")] = "auto",
    tiny: Annotated[
        bool, typer.Option("--tiny", help="A few notes and one epoch, to see that all of it runs.")
    ] = False,
    results: Annotated[Path | None, typer.Option(help="A file of finished trainings, read and added to.")] = None,
) -> None:
    """Train both layouts on all folds, and compare."""
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results and results.is_file() else []
    keys = [
        {"seed": seed, "fold": fold, "folds": folds, "epochs": 1 if tiny else epochs, "overlap": overlap, "tiny": tiny}
        for seed in range(seeds)
        for fold in range(folds)
        for overlap in LAYOUTS
    ]
    rows = [row for row in rows if any(key.items() <= row.items() for key in keys)]
    missing = [key for key in keys if not any(key.items() <= row.items() for row in rows)]
    threads = max(1, (os.cpu_count() or 1) // workers)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(train, key, encoder, device, threads) for key in missing]):
            rows.append(done.result())
            print(json.dumps({name: value for name, value in rows[-1].items() if name != "spans"}), flush=True)
            if results:
                with results.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    report(rows, folds, tiny=tiny)


if __name__ == "__main__":
    typer.run(main)
