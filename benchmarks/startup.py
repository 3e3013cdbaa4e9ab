"""From the command to the first span: our two engines and the stock pipeline of transformers, and `--help`.

    python benchmarks/startup.py [--rounds 5]

A model with the default encoder, a CRF and a graph, and one short note; a new process each time, in turn. With
`--engine onnx` no torch is imported, though it is installed.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from pairs import in_turn

NOTE = "No chest pain. Atrial fibrillation, on bisoprolol 2.5 mg.\n"
STOCK = """
import sys
from transformers import pipeline
print(pipeline("token-classification", model=sys.argv[1])(sys.argv[2])[:1])
"""
PREDICT = ("-m", "cardioner", "predict")


def main(rounds: Annotated[int, typer.Option(help="Times that each command is run.")] = 5) -> None:
    """Print a line for each command against the engine without torch, and the peak memory of each."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        made = multiprocessing.get_context("spawn").Process(target=prepare, args=(place,))
        made.start()  # a process of its own: the peak memory of a process counts for those that it starts
        made.join()
        model, note = str(place / "model"), str(place / "note.txt")
        commands = {
            "onnx": (*PREDICT, model, note, "--output", "-", "--to", "jsonl", "--engine", "onnx"),
            "torch": (*PREDICT, model, note, "--output", "-", "--to", "jsonl", "--engine", "torch"),
            "stock pipeline": ("-c", STOCK, str(place / "stock"), NOTE),
            "--help": ("-m", "cardioner", "--help"),
        }
        print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors, {rounds} rounds")
        for other in ("torch", "stock pipeline", "--help"):
            pair = in_turn(process(commands["onnx"]), process(commands[other]), rounds)
            print(f"onnx {pair.first:,.0f} ms, {other} {pair.second:,.0f} ms: {pair.ratio:.2f} times")
        for what, command in commands.items():
            print(f"{what}: peak memory {statistics.median(peak_mib(command) for _ in range(3)):,.0f} MiB")


def prepare(place: Path) -> None:
    """Write the model, the same encoder as a stock model, and the note."""
    from transformers import AutoModelForTokenClassification, AutoTokenizer  # noqa: PLC0415

    from cardioner.data.labels import LabelSet  # noqa: PLC0415
    from cardioner.interop.onnx import add_onnx  # noqa: PLC0415
    from cardioner.model_dir.encoder import default_encoder  # noqa: PLC0415
    from cardioner.training.trainer import ModelTrainer  # noqa: PLC0415

    labels = LabelSet.from_types(["DISEASE", "MEDICATION", "SYMPTOM"])
    ModelTrainer(label2id=labels.label2id, use_crf=True).save_model(place / "model")
    add_onnx(place / "model")
    stock = AutoModelForTokenClassification.from_pretrained(default_encoder(), num_labels=len(labels.label2id))
    stock.save_pretrained(place / "stock")
    AutoTokenizer.from_pretrained(default_encoder()).save_pretrained(place / "stock")
    (place / "note.txt").write_text(NOTE, encoding="utf-8")


def process(arguments: Sequence[str]) -> Callable[[], object]:
    """Runs a new Python process to its end."""
    return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def peak_mib(arguments: Sequence[str]) -> float:
    """The peak resident memory of a new Python process; Linux counts it in KiB."""
    child = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, list(arguments))
    return usage.ru_maxrss / 1024


if __name__ == "__main__":
    typer.run(main)
