"""What the checks cost when a model is loaded: looking first, digests of all files, finite numbers, golden outputs.

    python benchmarks/loading.py [--rounds 9]

A model with the default encoder and a CRF, on the CPU; loading with all checks in turn with loading without any.
"""

from __future__ import annotations

import platform
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from unittest.mock import patch

import torch
import typer

from cardioner.data.labels import LabelSet
from cardioner.model_dir.golden_comparison import compare_golden_outputs
from cardioner.model_dir.golden_outputs import TorchComputer
from cardioner.model_dir.load import enter, load_unchecked, read_model_dir
from cardioner.model_dir.manifest import compare_files
from cardioner.model_dir.untrusted.structure import check_finite
from cardioner.training.trainer import ModelTrainer
from pairs import in_turn, seconds


def main(rounds: Annotated[int, typer.Option(help="Times that each step is run.")] = 9) -> None:
    """Measure."""
    labels = LabelSet.from_types(["DISEASE", "MEDICATION", "PROCEDURE", "SYMPTOM"])
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "model"
        ModelTrainer(label2id=labels.label2id, use_crf=True).save_model(directory)
        size = sum(path.stat().st_size for path in directory.iterdir())
        entered = enter(directory)
        config, manifest = entered.config, entered.manifest
        assert manifest is not None
        model, tokenizer, _ = load_unchecked(directory, config, "cpu")
        steps: dict[str, Callable[[], object]] = {
            "everything before loading": lambda: enter(directory),
            "of it the digests of all files": lambda: compare_files(directory, manifest),
            "a pass over all numbers": lambda: check_finite(directory, model.state_dict()),
            "the golden outputs": lambda: list(
                compare_golden_outputs(manifest.golden_outputs, TorchComputer(model, tokenizer))
            ),
        }
        print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {size >> 20} MiB")
        for name, step in steps.items():
            print(f"{name:36} {1e3 * statistics.median(seconds(step) for _ in range(rounds)):8.0f} ms")
        with patch("cardioner.model_dir.load.check_finite"):
            pair = in_turn(
                lambda: read_model_dir(directory, device="cpu"),
                lambda: check_finite(directory, read_model_dir(directory, device="cpu").model.state_dict()),
                rounds,
            )
        print(f"loaded without the pass over all numbers {pair.first:.0f} ms, with it {pair.ratio:.2f} times as long")
        pair = in_turn(
            lambda: load_unchecked(directory, config, "cpu"), lambda: read_model_dir(directory, device="cpu"), rounds
        )
        print(
            f"loaded without checks {pair.first:.0f} ms, with all {pair.second:.0f} ms: {pair.ratio:.2f} times as long"
        )


if __name__ == "__main__":
    typer.run(main)
