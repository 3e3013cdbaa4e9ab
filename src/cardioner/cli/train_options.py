"""The options of `cardioner train`, one type each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

_BACKBONE = "Encoder: a folder or Hugging Face name, or an earlier model directory. Default: the embedded MiniLM-L6."
_SPLITS = 'JSON with lists of note ids under "train", "validation" and "test", for --corpus.'

Output = Annotated[Path, Option(metavar="DIR", help="The model directory to write.")]
Train = Annotated[Path | None, Option("--train", metavar="PATH", help="Notes to learn from, in any format.")]
Eval = Annotated[Path | None, Option("--eval", metavar="PATH", help="Notes that pick the best epoch.")]
Test = Annotated[Path | None, Option("--test", metavar="PATH", help="Notes to score once, at the end.")]
Corpus = Annotated[Path | None, Option(metavar="PATH", help="All notes in one folder, with --splits.")]
SplitsFile = Annotated[Path | None, Option("--splits", metavar="FILE", help=_SPLITS)]
Backbone = Annotated[str | None, Option(metavar="NAME_OR_DIR", help=_BACKBONE)]
Scheme = Annotated[
    Literal["BIO", "BIOES"],
    Option(
        metavar="NAME", case_sensitive=False, help="Tags: BIO, or BIOES, which has tags for the end of an entity too."
    ),
]
Crf = Annotated[bool, Option("--crf", help="Put a conditional random field on the head.")]
HiddenLayers = Annotated[
    str | None, Option(metavar="N,N,...", help="Widths of an MLP head, such as 512,256. Default: one linear layer.")
]
ClassifierDropout = Annotated[float, Option(min=0, max=0.99, metavar="P", help="Dropout before and inside the head.")]
FreezeBackbone = Annotated[bool, Option("--freeze-backbone", help="Train the head alone.")]
ClassWeights = Annotated[
    str | None,
    Option(metavar="WEIGHTS", help="Weights in the loss: balanced, or TAG=W,TAG=W,... (tags not named weigh 1)."),
]
Epochs = Annotated[int, Option(min=1, metavar="N", help="Passes over the training notes.")]
BatchSize = Annotated[int, Option(min=1, metavar="N", help="Windows in a batch.")]
GradientAccumulation = Annotated[int, Option(min=1, metavar="N", help="Batches to a step.")]
LearningRate = Annotated[
    float | None,
    Option(min=0, max=1, metavar="X", help="Default: 2e-4 for encoders of up to 512 hidden units, else 5e-5."),
]
WeightDecay = Annotated[float, Option(min=0, metavar="X", help="Of the matrices of encoder and head.")]
MaxLength = Annotated[
    int | None,
    Option(min=40, metavar="N", help="Most sub-tokens in a window; longer notes take several. Default: 128."),
]
Seed = Annotated[int, Option(min=0, metavar="N", help="Of fresh weights, dropout and the order of the data.")]
AlsoBin = Annotated[bool, Option("--also-bin", help="Write pytorch_model.bin too.")]
Tensorboard = Annotated[bool, Option("--tensorboard", help="Write TensorBoard logs to DIR/logs.")]
Overwrite = Annotated[bool, Option("--overwrite", help="Replace a model that --output holds.")]
