"""What few notes give: linear and MLP heads, with and without a CRF, at the defaults, beside the stock recipe.

    CARDIONER_DATA=... python benchmarks/few_notes.py --results FILE [--workers 12] [--encoder PATH] [--device auto]
    CARDIONER_DATA=... python benchmarks/few_notes.py --results FILE --tiny    # a few minutes on two cores
    python benchmarks/few_notes.py --results FILE --report                     # the tables of what FILE holds

Each run draws training notes by its seed, the same ones for every kind of model, and the smaller sets are part of the
larger ones. The epoch is picked on a third as many notes, and the model is scored on the whole held-out part. `stock`
makes as many epochs as `--epochs auto` would; `stock-3` makes 3, the default of transformers.

Runs are queued over processes that each run several; what matters most comes first. A finished run is appended to the
results at once, and runs that the file holds are not repeated. A run that fails is recorded, and the others go on.
"""

from __future__ import annotations

import math
import os
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs import Results, run_all, serve
from train import HELD_OUT, read_parts

KINDS = ("crf", "linear", "mlp-crf", "mlp", "stock", "stock-3")
SIZES = (40, 10, 160, 20, 80)
"""Training notes, those that matter most first."""
HIDDEN = (256,)
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""The 97.5 % quantile of Student's t for so many seeds."""


def sample(corpus: str, notes: int, seed: int, *, tiny: bool) -> tuple[list[Any], list[Any], list[Any]]:
    """Notes to train on, to pick the epoch with, and to score."""
    train, evaluation, held_out = (sorted(part, key=lambda one: one.id) for part in read_parts(corpus))
    for part in (train, evaluation):
        random.Random(seed).shuffle(part)
    return train[:notes], evaluation[: max(3, notes // 3)], held_out[: 3 if tiny else None]


def run(key: dict[str, Any], *, encoder: Path | None, device: str, tiny: bool) -> dict[str, Any]:
    """One training and its scores."""
    from cardioner.data.labels import LabelSet  # noqa: PLC0415
    from cardioner.model_dir.encoder import default_encoder  # noqa: PLC0415
    from cardioner.model_dir.findings import LEAST_STEPS  # noqa: PLC0415
    from cardioner.training import arguments  # noqa: PLC0415 - torch belongs into the workers alone

    arguments.LEAST_STEPS = key["steps"] or LEAST_STEPS  # type: ignore[attr-defined]
    arguments.DEFAULT_EPOCHS = 1 if tiny else arguments.DEFAULT_EPOCHS
    parts = sample(key["corpus"], key["notes"], key["seed"], tiny=tiny)
    labels = LabelSet.from_types([HELD_OUT[key["corpus"]][1]])
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        train = _train_stock if key["kind"].startswith("stock") else _train_ours
        began = time.perf_counter()
        found = train(key, parts, labels, encoder or default_encoder(), Path(folder) / "model", device)
    mentions = [sum(len(document.spans) for document in part) for part in parts]
    return {**found, "mentions": mentions, "seconds": round(time.perf_counter() - began, 1)}


def _train_ours(
    key: dict[str, Any], parts: Sequence[list[Any]], labels: Any, encoder: Path, output: Path, device: str
) -> dict[str, Any]:
    """Train with `ModelTrainer` at its defaults."""
    from cardioner.training.options import TrainingOptions  # noqa: PLC0415
    from cardioner.training.trainer import ModelTrainer  # noqa: PLC0415

    train, evaluation, held_out = parts
    result = ModelTrainer(
        label2id=labels.label2id,
        model=encoder,
        output_dir=output,
        use_crf="crf" in key["kind"],
        classifier_hidden_layers=HIDDEN if "mlp" in key["kind"] else None,
        options=TrainingOptions(seed=key["seed"], device=device),
    ).train(train, held_out, evaluation)
    assert result.test is not None
    return {
        "f1": result.test.strict.micro.f1,
        "epochs": result.planned_epochs,
        "steps_made": result.planned_epochs * result.steps,
        "curve": [round(scores.strict.micro.f1, 4) for scores in result.epochs],
        "losses": [round(row["loss"], 4) for row in result.history if "loss" in row],
    }


def _train_stock(
    key: dict[str, Any], parts: Sequence[list[Any]], labels: Any, encoder: Path, output: Path, device: str
) -> dict[str, Any]:
    """Train with the stock recipe."""
    del device  # it takes the GPU that it sees
    from cardioner.evaluation import score  # noqa: PLC0415
    from stock import tag_stock, train_stock  # noqa: PLC0415

    train, evaluation, held_out = parts

    def f1(model: Any, tokenizer: Any, documents: list[Any] = evaluation) -> float:
        return score(documents, tag_stock(model, tokenizer, documents)).strict.micro.f1

    epochs = 3 if key["kind"] == "stock-3" else _epochs(train, encoder)
    model, tokenizer, curve = train_stock(
        train, labels.tags, encoder=encoder, output=output, epochs=epochs, seed=key["seed"], score=f1
    )
    scored = f1(model, tokenizer, held_out)
    return {"f1": scored, "epochs": epochs, "curve": [round(epoch["f1"], 4) for epoch in curve]}


def _epochs(train: Sequence[Any], encoder: Path) -> int:
    """As many epochs as `--epochs auto` makes, nearly: windows are counted without where words end."""
    from transformers import AutoTokenizer  # noqa: PLC0415

    from cardioner.training.arguments import pick_epochs  # noqa: PLC0415

    tokenizer, context, inner = AutoTokenizer.from_pretrained(encoder), 16, 126
    read = [len(tokenizer(one.text, add_special_tokens=False, verbose=False)["input_ids"]) for one in train]
    windows = sum(max(1, math.ceil((size - 2 * context) / (inner - 2 * context))) for size in read)
    return pick_epochs("auto", math.ceil(windows / 16))


def main(
    results: Annotated[Path, typer.Option(help="A file of finished runs, read and added to.")],
    corpora: Annotated[str, typer.Option(help="Which corpora.")] = ",".join(reversed(HELD_OUT)),
    sizes: Annotated[str, typer.Option(help="Numbers of training notes, in the order to run.")] = ",".join(
        map(str, SIZES)
    ),
    kinds: Annotated[str, typer.Option(help="Kinds of models, in the order to run.")] = ",".join(KINDS),
    seeds: Annotated[int, typer.Option(help="Seeds, from 0 on.")] = 3,
    steps: Annotated[
        str, typer.Option(help="Floors of optimizer steps in place of the default, such as 200,400.")
    ] = "0",
    workers: Annotated[int, typer.Option(min=1, help="Processes that train side by side.")] = 1,
    encoder: Annotated[Path | None, typer.Option(help="An encoder's folder, in place of the default one.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    tiny: Annotated[
        bool, typer.Option("--tiny", help="A few steps on a few notes, to see that all of it runs.")
    ] = False,
    report: Annotated[bool, typer.Option("--report", help="Only show the tables of the results.")] = False,
    worker: Annotated[bool, typer.Option("--worker", hidden=True)] = False,
) -> None:
    """Train on few notes, and compare."""
    if worker:
        serve(partial(run, encoder=encoder, device=device, tiny=tiny))
        return
    found = Results(results)
    if not report:
        if "CARDIONER_DATA" not in os.environ:
            raise typer.BadParameter("set CARDIONER_DATA to the folder with the corpora")
        wanted = ("4", "1", "4") if tiny else (sizes, str(seeds), steps)
        runs = product(
            wanted[2].split(","), wanted[0].split(","), range(int(wanted[1])), kinds.split(","), corpora.split(",")
        )
        keys = [
            {"corpus": corpus, "notes": int(size), "seed": seed, "kind": kind, "steps": int(floor)}
            for floor, size, seed, kind, corpus in runs
        ]
        missing = [key for key in keys if found.find(key) is None]
        command = [__file__, "--worker", "--results", str(results), "--device", device]
        command += ["--encoder", str(encoder)] if encoder else []
        command += ["--tiny"] if tiny else []
        run_all(missing, found, command, workers=workers, device=device)
        for row in found.failed(keys):
            print(f"failed: {row}")
    show(found.finished)


# Tables --------------------------------------------------------------------------------------------------------------


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Tables of the mean held-out F1 and its 95 % interval over seeds, and what was to be shown."""
    for corpus, floor in sorted({(row["corpus"], row["steps"]) for row in rows}):
        own = [row for row in rows if (row["corpus"], row["steps"]) == (corpus, floor)]
        print(f"\n{corpus}" + (f", at least {floor} steps" if floor else ""))
        print(f"| notes | mentions | {' | '.join(KINDS)} |\n|{'---|' * (2 + len(KINDS))}")
        for size in sorted({row["notes"] for row in own}):
            of_size = [row for row in own if row["notes"] == size]
            mentions = statistics.mean(row["mentions"][0] for row in of_size)
            cells = [_cell([row["f1"] for row in of_size if row["kind"] == kind]) for kind in KINDS]
            print(f"| {size} | {mentions:.0f} | {' | '.join(cells)} |")
            _check(of_size, size)


def _cell(found: Sequence[float]) -> str:
    """A mean and its interval."""
    if not found:
        return ""
    half = T_95[len(found)] * statistics.stdev(found) / math.sqrt(len(found)) if len(found) in T_95 else None
    return f"{statistics.mean(found):.3f}" + ("" if half is None else f" ± {half:.3f}")


def _check(rows: Sequence[dict[str, Any]], size: int) -> None:
    """Say where a model is worse than the stock recipe, a CRF than none, or 40 notes give too little."""
    means = {
        kind: statistics.mean(found) for kind in KINDS if (found := [row["f1"] for row in rows if row["kind"] == kind])
    }
    for kind, without in {"linear": "stock", "mlp": "stock", "crf": "linear", "mlp-crf": "mlp"}.items():
        for other in dict.fromkeys(("stock", "stock-3", without)):
            if kind in means and other in means and means[kind] < means[other] - 0.01:
                print(f"  {size} notes: {kind} is {means[other] - means[kind]:.3f} below {other}")
        if size == 40 and means.get(kind, 1) <= 0.70:
            print(f"  40 notes: {kind} gives {means[kind]:.3f}, not above 0.70")


if __name__ == "__main__":
    typer.run(main)
