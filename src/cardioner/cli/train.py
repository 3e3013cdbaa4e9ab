"""`cardioner train`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from cardioner.cli import train_options as option
from cardioner.cli.console import (
    INTERRUPTED,
    count_table,
    loss_table,
    notices,
    progress_bars,
    quieten,
    score_table,
    table,
    tell,
)
from cardioner.cli.inputs import (
    DeviceOption,
    EncodingOption,
    FormatOption,
    MapOption,
    OnError,
    OnErrorOption,
    TextsOption,
    UnannotatedOption,
    Wishes,
    parse_mapping,
    read_parts,
)
from cardioner.documents import Document
from cardioner.errors import DataError, UsageError
from cardioner.labels import LabelSet, Scheme
from cardioner.splits import apply_splits, read_splits

if TYPE_CHECKING:
    from cardioner.multiclass.initial import Start
    from cardioner.multiclass.record import TrainingResult
    from cardioner.multiclass.trainer import ModelTrainer


_Read = Callable[[Sequence[Path]], list[list[Document]]]


class _Parts(NamedTuple):
    """Notes to learn from, to pick the epoch with, and to score at the end."""

    train: list[Document]
    evaluation: list[Document]
    test: list[Document]


def train(  # noqa: PLR0913 - one parameter an option
    output: option.Output,
    train: option.Train = None,
    evaluation: option.Eval = None,
    test: option.Test = None,
    corpus: option.Corpus = None,
    splits: option.SplitsFile = None,
    backbone: option.Backbone = None,
    scheme: option.Scheme = "BIO",
    crf: option.Crf = False,
    hidden_layers: option.HiddenLayers = None,
    classifier_dropout: option.ClassifierDropout = 0.1,
    freeze_backbone: option.FreezeBackbone = False,
    class_weights: option.ClassWeights = None,
    mapping: MapOption = None,
    format: FormatOption = None,  # noqa: A002 - the name of the option
    encoding: EncodingOption = "utf-8",
    texts: TextsOption = None,
    on_error: OnErrorOption = OnError.stop,
    allow_unannotated: UnannotatedOption = False,
    epochs: option.Epochs = 5,
    batch_size: option.BatchSize = 16,
    gradient_accumulation: option.GradientAccumulation = 1,
    learning_rate: option.LearningRate = None,
    weight_decay: option.WeightDecay = 0.01,
    max_length: option.MaxLength = None,
    seed: option.Seed = 0,
    also_bin: option.AlsoBin = False,
    tensorboard: option.Tensorboard = False,
    device: DeviceOption = "auto",
    overwrite: option.Overwrite = False,
) -> None:
    """Train a tagger and save it as one directory that loads anywhere.

    Example: cardioner train --train notes/train --eval notes/dev --output model --crf --hidden-layers 256
    """
    names = parse_mapping(mapping)
    folders = {"--train": train, "--eval": evaluation, "--test": test}
    wishes = Wishes(format, encoding, texts, on_error, allow_unannotated)
    if corpus or splits:
        parts = _read_corpus(corpus, splits, folders, read=lambda paths: read_parts(paths, names, wishes))
    else:
        parts = _read_folders(folders, read=lambda paths: read_parts(paths, names, wishes))
    settings = {
        "model": backbone,
        "use_crf": crf,
        "classifier_hidden_layers": _widths(hidden_layers),
        "classifier_dropout": classifier_dropout,
        "freeze_backbone": freeze_backbone,
        "class_weights": _weights(class_weights),
        "num_train_epochs": epochs,
        "batch_size": batch_size,
        "gradient_accumulation_steps": gradient_accumulation,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "max_length": max_length,
        "output_dir": output,
    }
    options = {"seed": seed, "also_bin": also_bin, "tensorboard": tensorboard, "device": device, "overwrite": overwrite}
    _run(parts, _labels(parts.train, scheme), settings, options)


def _run(parts: _Parts, labels: LabelSet, settings: dict[str, Any], options: dict[str, Any]) -> None:
    """Train, with progress, and tell what came of it."""
    labels.check([*parts.evaluation, *parts.test])
    _warn_of_overlap(parts)
    with progress_bars() as stages:
        with stages.busy("loading the encoder"):
            trainer = _trainer(labels, settings, {**options, "progress": stages})
        _show_start(trainer.start, labels)
        try:
            result = trainer.train(parts.train, parts.test, parts.evaluation)
        except KeyboardInterrupt:
            _show_interruption(settings["output_dir"])
            raise typer.Exit(INTERRUPTED) from None
    _show_result(result)


def _trainer(labels: LabelSet, settings: dict[str, Any], options: dict[str, Any]) -> ModelTrainer:
    """A trainer whose output directory can be written."""
    quieten()
    from cardioner.model_dir import check_output  # noqa: PLC0415 - imports torch
    from cardioner.multiclass.options import TrainingOptions  # noqa: PLC0415
    from cardioner.multiclass.trainer import ModelTrainer  # noqa: PLC0415

    check_output(settings["output_dir"], overwrite=options["overwrite"])
    return ModelTrainer(label2id=labels.label2id, options=TrainingOptions(**options), **settings)


def _read_corpus(
    corpus: Path | None, splits: Path | None, folders: Mapping[str, Path | None], *, read: _Read
) -> _Parts:
    """The parts of one folder, by a splits file."""
    if corpus is None or splits is None:
        raise UsageError("--corpus PATH and --splits FILE, which says which notes to train on, need each other")
    if given := [name for name, path in folders.items() if path is not None]:
        raise UsageError(f"--corpus with --splits takes the place of {', '.join(given)}: give one or the other")
    division = read_splits(splits)
    (documents,) = read([corpus])
    if left_out := division.count_left_out(documents):
        tell(f"{left_out} of {len(documents)} notes are in no part of {splits} and are not used")
    return _Parts(*apply_splits(documents, division))


def _read_folders(folders: Mapping[str, Path | None], *, read: _Read) -> _Parts:
    """The parts given as folders of their own."""
    if folders["--train"] is None:
        raise UsageError("give the training notes: --train PATH, or --corpus PATH with --splits FILE")
    given = [path for path in folders.values() if path is not None]
    found = iter(read(given))
    return _Parts(*(next(found) if path is not None else [] for path in folders.values()))


def _labels(documents: Sequence[Document], scheme: Scheme) -> LabelSet:
    """The tags of the types in the training notes."""
    types = {span.label for document in documents for span in document.spans}
    if not types:
        raise DataError(
            f"the training set has {len(documents)} notes and no entity: expected annotated notes "
            "(does --map drop every type?)"
        )
    return LabelSet.from_types(types, scheme=scheme)


def _warn_of_overlap(parts: _Parts) -> None:
    """Tell of held-out notes that are also learned from: their scores would flatter."""
    learned = {document.text for document in parts.train}
    for name, part in (("evaluation", parts.evaluation), ("test", parts.test)):
        if seen := sum(document.text in learned for document in part):
            tell(f"warning: {seen} of {len(part)} {name} notes have the same text as a training note")


def _widths(text: str | None) -> tuple[int, ...] | None:
    """`512,256` as numbers."""
    try:
        widths = tuple(int(part) for part in text.split(",")) if text else None
        if min(widths or (1,)) < 1:
            raise ValueError
        return widths
    except ValueError:
        raise UsageError(f"--hidden-layers takes widths such as 512,256; found {text!r}") from None


def _weights(text: str | None) -> str | dict[str, float] | None:
    """`balanced`, or `TAG=WEIGHT,...` as a mapping."""
    if text is None or text == "balanced":
        return text
    try:
        return {tag: float(weight) for tag, weight in (pair.rsplit("=", 1) for pair in text.split(","))}
    except ValueError:
        raise UsageError(f"--class-weights takes balanced, or TAG=WEIGHT,...; found {text!r}") from None


def _show_start(start: Start, labels: LabelSet) -> None:
    """What the model starts from."""
    tell(f"Training a tagger for {', '.join(labels.types)} from {start.source}")
    kept = [name for name in start.taken if not name.startswith("backbone.")]
    if kept:
        tell(f"Taken over beside the encoder: {', '.join(kept)}")
    tell(f"Starting afresh: {', '.join(start.fresh) or 'nothing'}")


def _show_interruption(output: Path) -> None:
    """Where the last whole checkpoint lies."""
    whole = sorted(output.glob("checkpoints/*/config.json"), key=lambda path: path.stat().st_mtime)
    place = f"the last whole checkpoint is {whole[-1].parent}" if whole else "no checkpoint was finished"
    tell(f"Interrupted: {place}")


def _show_result(result: TrainingResult) -> None:
    """Scores, what was lost, and where the model lies."""
    if result.losses:
        notices.print(loss_table(result.losses))
    if remarks := Counter(result.remarks):
        notices.print(count_table("Repaired in the training data", remarks))
    if result.epochs:
        rows = [
            (f"{number}{' (saved)' if number == result.best_epoch else ''}", micro.precision, micro.recall, micro.f1)
            for number, micro in enumerate((scores.strict.micro for scores in result.epochs), 1)
        ]
        notices.print(
            table("Strict spans, per epoch, on the evaluation notes", ("epoch", "precision", "recall", "F1"), rows)
        )
    if result.evaluation is not None:
        notices.print(score_table("Evaluation notes", result.evaluation))
    if result.test is not None:
        notices.print(score_table("Test notes", result.test))
    if result.precision is not None:
        tell(
            f"Inference in {result.precision.dtype}: strict F1 {result.precision.float32:.4f} in float32, "
            f"{result.precision.bfloat16:.4f} in bfloat16, {result.precision.agreement:.1%} of the spans are the same"
        )
    if result.temperature is not None:
        tell(
            f"Scores of spans: temperature {result.temperature.value:.2f}, fitted to {result.temperature.spans} spans "
            f"(mean loss {result.temperature.before:.3f} before, {result.temperature.after:.3f} after)"
        )
    tell(f"{result.windows} windows, {result.sub_tokens} sub-tokens, trained in {result.seconds:.0f} s")
    tell(f"Model: {result.output_dir}")
