"""The options of `cardioner train`, one field each: the help, the config file and the settings come from here.

Fields are named as what they become: notes to read, arguments of `ModelTrainer`, fields of `TrainingOptions`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from typer import Option

from cardioner.cli.inputs import EncodingOption, FormatOption, MapOption, OnErrorOption, TextsOption

_BACKBONE = "Encoder: a folder or Hugging Face name, or an earlier model directory. Default: the embedded MiniLM-L6."
_SPLITS = 'JSON with lists of note ids under "train", "validation" and "test", for --corpus.'
_SCHEME = "Tags: BIO, or BIOES, which has tags for the end of an entity too."
_WEIGHTS = "Weights in the loss: balanced, or TAG=W,TAG=W,... (tags not named weigh 1)."
_LEARNING_RATE = "Default: 2e-4 for encoders of up to 512 hidden units, else 5e-5."
_MAX_LENGTH = "Most sub-tokens in a window; longer notes take several. Default: 128."
_SEED = "Of fresh weights, dropout and the order of the data."
_UNANNOTATED = "Take notes without annotations as notes without entities."

_model = partial(Option, rich_help_panel="Model")
_card = partial(Option, rich_help_panel="Manifest and model card")
_running = partial(Option, rich_help_panel="Running")
_repeated = partial(Option, rich_help_panel="Repeated training")


@dataclass(frozen=True, kw_only=True)
class NotesOptions:
    """The notes: where they are, and how to read them."""

    panel: ClassVar = "Data"

    train: Annotated[Path | None, Option("--train", metavar="PATH", help="Notes to learn from, in any format.")] = None
    evaluation: Annotated[Path | None, Option("--eval", metavar="PATH", help="Notes that pick the best epoch.")] = None
    test: Annotated[Path | None, Option("--test", metavar="PATH", help="Notes to score once, at the end.")] = None
    corpus: Annotated[
        Path | None, Option("--corpus", metavar="PATH", help="All notes in one folder, with --splits.")
    ] = None
    splits: Annotated[Path | None, Option("--splits", metavar="FILE", help=_SPLITS)] = None
    mapping: MapOption = None
    format: FormatOption = None
    encoding: EncodingOption = "utf-8"
    texts: TextsOption = None
    on_error: OnErrorOption = "stop"
    allow_unannotated: Annotated[bool, Option("--allow-unannotated", help=_UNANNOTATED)] = False
    scheme: Annotated[
        Literal["BIO", "BIOES"], Option("--scheme", metavar="NAME", case_sensitive=False, help=_SCHEME)
    ] = "BIO"


@dataclass(frozen=True, kw_only=True)
class ArgumentOptions:
    """The arguments of `ModelTrainer`."""

    panel: ClassVar = "Training"

    model: Annotated[str | None, _model("--backbone", metavar="NAME_OR_DIR", help=_BACKBONE)] = None
    use_crf: Annotated[bool, _model("--crf", help="Put a conditional random field on the head.")] = False
    classifier_hidden_layers: Annotated[
        str | None,
        _model(
            "--hidden-layers",
            metavar="N,N,...",
            help="Widths of an MLP head, such as 512,256. Default: one linear layer.",
        ),
    ] = None
    classifier_dropout: Annotated[
        float, _model("--classifier-dropout", min=0, max=0.99, metavar="P", help="Dropout before and inside the head.")
    ] = 0.1
    max_length: Annotated[int | None, _model("--max-length", min=1, metavar="N", help=_MAX_LENGTH)] = None
    num_train_epochs: Annotated[int, Option("--epochs", min=1, metavar="N", help="Passes over the training notes.")] = 5
    batch_size: Annotated[int, Option("--batch-size", min=1, metavar="N", help="Windows in a batch.")] = 16
    gradient_accumulation_steps: Annotated[
        int, Option("--gradient-accumulation", min=1, metavar="N", help="Batches to a step.")
    ] = 1
    learning_rate: Annotated[
        float | None, Option("--learning-rate", min=0, max=1, metavar="X", help=_LEARNING_RATE)
    ] = None
    weight_decay: Annotated[
        float, Option("--weight-decay", min=0, metavar="X", help="Of the matrices of encoder and head.")
    ] = 0.01
    class_weights: Annotated[str | None, Option("--class-weights", metavar="WEIGHTS", help=_WEIGHTS)] = None
    freeze_backbone: Annotated[bool, Option("--freeze-backbone", help="Train the head alone.")] = False
    output_dir: Annotated[Path, _running("--output", metavar="DIR", help="The model directory to write.")]


@dataclass(frozen=True, kw_only=True)
class FurtherOptions:
    """The fields of `TrainingOptions`, but `progress`, which is no setting."""

    panel: ClassVar = "Training"

    window_context: Annotated[
        int,
        _model(
            "--window-context",
            min=0,
            metavar="N",
            help="Sub-tokens that neighbouring windows share on either side when notes are tagged.",
        ),
    ] = 4
    training_context: Annotated[
        int, _model("--training-context", min=0, metavar="N", help="The same for the windows that are learned from.")
    ] = 16
    seed: Annotated[int, Option("--seed", min=0, metavar="N", help=_SEED)] = 0
    warmup: Annotated[
        float, Option("--warmup", min=0, max=1, metavar="P", help="Share of all steps in which the rate rises.")
    ] = 0.1
    schedule: Annotated[
        Literal["linear", "cosine", "constant"],
        Option("--schedule", metavar="NAME", help="From there: linear or cosine, which go down to 0, or constant."),
    ] = "linear"
    head_learning_rate: Annotated[
        float | None,
        Option("--head-learning-rate", min=0, max=1, metavar="X", help="Of the head. Default: that of the encoder."),
    ] = None
    crf_learning_rate: Annotated[
        float, Option("--crf-learning-rate", min=0, max=1, metavar="X", help="Of the CRF's transitions.")
    ] = 1e-2
    layer_decay: Annotated[
        float,
        Option(
            "--layer-decay",
            min=0,
            max=1,
            metavar="P",
            help="Each layer of the encoder learns at this share of the rate of the layer above it.",
        ),
    ] = 1.0
    unfreeze_per_epoch: Annotated[
        int | None,
        Option(
            "--unfreeze-per-epoch",
            min=1,
            metavar="N",
            help="The encoder starts frozen; every epoch but the first lets N more layers learn, from the top.",
        ),
    ] = None
    early_stopping: Annotated[
        int | None,
        Option(
            "--early-stopping",
            min=1,
            metavar="N",
            help="End after N epochs without a better F1 on the evaluation notes.",
        ),
    ] = None
    attention_dropout: Annotated[
        float,
        Option(
            "--attention-dropout",
            min=0,
            max=1,
            metavar="P",
            help="Share of the encoder's attention dropped while it learns.",
        ),
    ] = 0.0
    label_smoothing: Annotated[
        float,
        Option(
            "--label-smoothing",
            min=0,
            max=1,
            metavar="P",
            help="Share of each label that is spread over all labels; not with --crf.",
        ),
    ] = 0.0
    max_gradient_norm: Annotated[
        float, Option("--max-gradient-norm", min=0, metavar="X", help="Longer gradients are scaled down to it.")
    ] = 1.0
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        _running(
            "--precision", metavar="NAME", help="float32 or bfloat16; auto takes bfloat16 where the device has it."
        ),
    ] = "auto"
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        _running("--device", metavar="NAME", help="auto takes the GPU where there is one; or cpu, cuda."),
    ] = "auto"
    checkpoint_steps: Annotated[
        int,
        _running(
            "--checkpoint-steps",
            min=1,
            metavar="N",
            help="A checkpoint is written after every epoch, and after N steps within one.",
        ),
    ] = 500
    resume: Annotated[bool, _running("--resume", help="Go on from the last whole checkpoint, if there is one.")] = False
    overwrite: Annotated[bool, _running("--overwrite", help="Replace what --output and --html hold.")] = False
    tracking: Annotated[
        Literal["none", "tensorboard", "mlflow"],
        _running(
            "--tracking",
            metavar="NAME",
            help="tensorboard writes to DIR/logs; mlflow to MLFLOW_TRACKING_URI, else DIR/mlruns.",
        ),
    ] = "none"
    also_bin: Annotated[bool, _running("--also-bin", help="Write pytorch_model.bin too.")] = False
    language: Annotated[
        str | None, _card("--language", metavar="CODE", help="Of the notes, such as nl; for the model card.")
    ] = None
    license: Annotated[
        str | None, _card("--license", metavar="NAME", help="Of the model, such as apache-2.0; for the model card.")
    ] = None
    data_name: Annotated[
        str | None, _card("--data-name", metavar="NAME", help="What the notes are called; for the model card.")
    ] = None
    data_license: Annotated[
        str | None, _card("--data-license", metavar="NAME", help="Under what terms the notes may be used; likewise.")
    ] = None
    data_key: Annotated[
        Path | None,
        _card(
            "--data-key",
            metavar="FILE",
            help="Secret key, made if it is missing, for the manifest's digests of the notes. Default: your own.",
        ),
    ] = None
    list_documents: Annotated[bool, _card("--list-documents", help="Name the notes in the manifest.")] = False


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How often to train, and what to tell in the end."""

    panel: ClassVar = "Running"

    html: Annotated[
        Path | None, Option("--html", metavar="FILE", help="Write a page with the curves of the training.")
    ] = None
    json: Annotated[bool, Option("--json", help="Print the record as JSON alone on standard output.")] = False
    folds: Annotated[
        int | None,
        _repeated(
            "--folds",
            min=2,
            metavar="K",
            help="Cross-validation: K models, each scored on a fold of the training notes that it has not seen.",
        ),
    ] = None
    seeds: Annotated[
        int | None,
        _repeated("--seeds", min=1, metavar="N", help="N models, from N seeds from --seed on; with --folds, of each."),
    ] = None
