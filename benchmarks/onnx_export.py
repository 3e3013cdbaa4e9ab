"""How fast an ONNX export tags notes beside the torch `Predictor`, in float32 and with 8-bit weights, and how alike.

    CARDIONER_DATA=... python benchmarks/onnx_export.py MODEL [--notes 20] [--rounds 5]

MODEL is a directory of ours. Both tag the same notes in this process, in turn, from texts to spans with scores. The
`Predictor` computes in float32 and, where the processor has instructions for it, in bfloat16. Sub-tokens are counted
once, whatever overlaps.
"""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import onnxruntime
import torch
import typer

from cardioner.data.documents import Document
from cardioner.data.formats import read_corpus
from cardioner.errors import ModelError
from cardioner.interop.onnx import export_onnx
from cardioner.multiclass.precision import computes_bfloat16
from cardioner.multiclass.windows import in_groups
from cardioner.prediction.engines.tagger import Tagger
from cardioner.prediction.predictor import Predictor
from pairs import in_turn, seconds


def tagging(folder: Path, notes: list[Document]) -> Callable[[], object]:
    """The tagging of an export, as its `tag.py` does it."""
    tagger = Tagger.from_folder(folder)

    def work() -> int:
        return sum(len(tagger.tag([note.text for note in group])) for group in in_groups(notes, lambda n: len(n.text)))

    return work


def main(
    model: Annotated[Path, typer.Argument(help="A directory of ours.")],
    notes: Annotated[int, typer.Option(help="How many of the notes.")] = 20,
    rounds: Annotated[int, typer.Option(help="Pairs of runs.")] = 5,
) -> None:
    """Export, compare, and print."""
    corpus = list(read_corpus(Path(os.environ["CARDIONER_DATA"], "cardioccc-en-med", "dev")).documents)[:notes]
    predictor = Predictor.from_pretrained(model, device="cpu", dtype="float32")
    predictions = predictor.predict(corpus)
    list(predictions)
    count = predictions.coverage.tokens
    print(f"{platform.machine()}, torch {torch.__version__} with {torch.get_num_threads()} threads")
    print(f"onnxruntime {onnxruntime.__version__}; {len(corpus)} notes, {count} sub-tokens, {rounds} pairs of runs")
    dtypes = ["float32", *(["bfloat16"] if computes_bfloat16(torch.device("cpu")) else [])]
    with tempfile.TemporaryDirectory() as place:
        for name, int8 in (("float32", False), ("8-bit", True)):
            out = Path(place, name)
            try:
                taken = seconds(lambda out=out, int8=int8: print_figures(model, out, corpus, int8=int8))
            except ModelError as error:
                print(f"{name}: {error}")
                continue
            print(f"  export and checks: {taken:.0f} s")
            theirs = tagging(out, corpus)
            for dtype in dtypes:
                ours = Predictor.from_pretrained(model, device="cpu", dtype=dtype)
                pair = in_turn(lambda ours=ours: list(ours.predict(corpus)), theirs, rounds)
                speeds = count / pair.first * 1e3, count / pair.second * 1e3
                print(f"  sub-tokens a second: Predictor in {dtype} {speeds[0]:.0f}, ONNX {name} {speeds[1]:.0f}")
                print(f"  ONNX is {1 / pair.ratio:.2f} times as fast (median of pairs)")


def print_figures(model: Path, out: Path, notes: list[Document], *, int8: bool) -> None:
    """Export, and print what was measured."""
    done = export_onnx(model, out, check=notes, int8=int8)
    print(f"{out.name}:", *done.figures, sep="\n  ")


if __name__ == "__main__":
    typer.run(main)
