"""Checks of the arguments of `ModelTrainer` that depend on each other, on the labels or on the encoder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import torch

from cardioner.data.labels import LabelSet, Overlap
from cardioner.errors import UsageError, listed, many
from cardioner.model_dir.findings import LEAST_STEPS, MOST_EPOCHS
from cardioner.model_dir.json_files import read_object
from cardioner.model_dir.layout import CONFIG
from cardioner.multiclass.modeling import CardioNERConfig
from cardioner.training.options import AUTO, Epochs, TrainerArguments, TrainingOptions

DEFAULT_MAX_LENGTH = 128
DEFAULT_EPOCHS = 5
"""Passes over notes that are many."""
HEAD_ALONE_RATE, HEAD_ALONE_EPOCHS = 2e-3, 20
"""Learning rate and passes over the notes where a head learns alone and from nothing."""
BALANCED = "balanced"

ClassWeights = Sequence[float] | Mapping[int, float] | Mapping[str, float] | str


def label_set(label2id: Mapping[str, int] | None, id2label: Mapping[int, str] | None) -> LabelSet:
    """The label set that the caller's mappings agree on.

    Raises:
        UsageError: If both are missing, they contradict each other, or their tags are not BIO.
    """
    if label2id is None and id2label is None:
        raise UsageError("label2id or id2label is needed: the tags and their ids")
    pairs = list((id2label or {}).items())
    if len({tag for _, tag in pairs}) != len(pairs):
        raise UsageError("id2label gives two ids to one tag")
    from_ids = {tag: int(index) for index, tag in pairs}
    labels = LabelSet.from_mapping(from_ids if label2id is None else label2id)
    if id2label is not None and from_ids != labels.label2id:
        raise UsageError("label2id and id2label contradict each other: give one of them, or make them agree")
    labels.check_scheme()
    return labels


def check_overlap(overlap: str) -> Overlap:
    """Refuse another layout of tags than the two that there are.

    Raises:
        UsageError: Naming them.
    """
    if overlap not in get_args(Overlap):
        raise UsageError(
            f"overlap must be one of {', '.join(get_args(Overlap))}; found {overlap!r} (for a corpus, "
            "cardioner.data.quality.overlap.choose_overlap says which)"
        )
    return cast("Overlap", overlap)


def pick_window_length(wanted: int | None, limit: int | None, *, context: int) -> int:
    """The window length in sub-tokens, within what the encoder reads.

    Raises:
        UsageError: If the encoder cannot read it, or two contexts leave no room in it.
    """
    length = wanted if wanted is not None else min(DEFAULT_MAX_LENGTH, limit or DEFAULT_MAX_LENGTH)
    if limit is not None and length > limit:
        raise UsageError(f"max_length {length} is more than the {limit} sub-tokens that the encoder reads at a time")
    if length < 2 * context + 8:
        raise UsageError(
            f"max_length {length} is too short: windows share {context} sub-tokens on either side (the larger of "
            f"window_context and training_context), so the minimum is {2 * context + 8}"
        )
    return length


def pick_epochs(wanted: Epochs, steps: int) -> int:
    """How many passes to make.

    Args:
        wanted: What was asked for.
        steps: Of the optimizer, in one pass.
    """
    if wanted != AUTO:
        return wanted
    return min(max(DEFAULT_EPOCHS, math.ceil(LEAST_STEPS / steps)), MOST_EPOCHS)


def pick_learning_rate(wanted: float | None, hidden_size: int) -> float:
    """The learning rate: narrow encoders need a higher one."""
    if wanted is not None:
        return wanted
    return 2e-4 if hidden_size <= 512 else 5e-5


def class_weights_by_id(weights: ClassWeights | None, labels: LabelSet) -> list[float] | str | None:
    """Class weights in the order of ids, or `balanced`; a tag that a mapping lacks weighs 1.

    Raises:
        UsageError: If they are something else, or name a tag that the model does not have.
    """
    if weights is None or weights == BALANCED:
        return BALANCED if weights else None
    if isinstance(weights, str):
        raise UsageError(f"class_weights must be 'balanced', a weight per tag, or left out; found {weights!r}")
    known: dict[Any, int] = {**labels.label2id, **{index: index for index in labels.id2label}}
    given = weights if isinstance(weights, Mapping) else dict(enumerate(weights))
    if unknown := [key for key in given if key not in known]:
        raise UsageError(
            f"class_weights names {listed(map(str, unknown))}; the model's tags are {', '.join(labels.tags)}"
        )
    if not isinstance(weights, Mapping) and len(given) != len(labels.tags):
        raise UsageError(
            f"class_weights has {many(len(given), 'weight')}; the model has {many(len(labels.tags), 'tag')}"
        )
    by_id = {known[key]: float(value) for key, value in given.items()}
    if wrong := [value for value in by_id.values() if not (math.isfinite(value) and value >= 0)]:
        raise UsageError(f"class_weights must be finite and not negative; found {wrong}")
    return [by_id.get(index, 1.0) for index in range(len(labels.tags))]


def check_early_stopping(options: TrainingOptions, evaluation: Any) -> None:
    """Refuse to stop early without notes by which to see when.

    Raises:
        UsageError: If there are none.
    """
    if options.early_stopping is not None and not evaluation:
        raise UsageError("early_stopping needs evaluation data to see what is gained: give eval_data (--eval)")


def complete(given: TrainerArguments, config: Any, *, model: Path, max_length: int) -> TrainerArguments:
    """Arguments whose gaps are filled from an earlier model: encoder, head, CRF and the length of windows.

    Args:
        given: The arguments.
        config: The configuration of the earlier model.
        model: Its directory.
        max_length: Of its windows.
    """
    return replace(
        given,
        model=model if given.model is None else given.model,
        use_crf=given.use_crf or config.use_crf,
        classifier_hidden_layers=given.classifier_hidden_layers or config.classifier_hidden_layers,
        max_length=max_length if given.max_length is None else given.max_length,
    )


def complete_frozen(
    given: TrainerArguments, options: TrainingOptions, attributes: Mapping[str, Any]
) -> tuple[TrainerArguments, LabelSet]:
    """The arguments and the tags of a tagger that learns attributes and nothing else.

    Raises:
        UsageError: If there is no tagger to start from, no attribute to learn, or the arguments want another tagger.
        ModelError: If it cannot be read.
    """
    if given.model is None or not (Path(given.model) / CONFIG).is_file():
        found = "none was given" if given.model is None else f"{given.model} is none"
        raise UsageError(f"attributes_only needs a model directory to start from, and {found}: --backbone DIR (model=)")
    described = read_object(Path(given.model) / CONFIG)
    if described.get("model_type") != CardioNERConfig.model_type:
        raise UsageError(f"attributes_only needs a model directory to start from; {given.model} is an encoder alone")
    if not attributes:
        raise UsageError("attributes_only needs attributes to learn: name them with --attributes (attributes=)")
    config = CardioNERConfig.from_dict(described)
    done = complete(given, config, model=Path(given.model), max_length=config.window_length)
    changed = {
        "use_crf": (done.use_crf, config.use_crf),
        "classifier_hidden_layers": (list(done.classifier_hidden_layers or []), config.classifier_hidden_layers or []),
        "max_length": (done.max_length, config.window_length),
        "layers": (options.layers, None),
        "unfreeze_per_epoch": (options.unfreeze_per_epoch, None),
        "class_weights": (given.class_weights, None),
    }
    if others := [name for name, (asked, own) in changed.items() if asked != own]:
        raise UsageError(f"attributes_only leaves the tagger as it is: leave out {listed(others)}")
    rate = HEAD_ALONE_RATE if given.learning_rate is None else given.learning_rate
    epochs = HEAD_ALONE_EPOCHS if given.num_train_epochs == AUTO else given.num_train_epochs
    done = replace(done, freeze_backbone=True, learning_rate=rate, num_train_epochs=epochs)
    return done, LabelSet(tuple(config.tags))


def check_options(options: TrainingOptions, arguments: TrainerArguments) -> None:
    """Refuse what cannot work, or contradicts itself.

    Raises:
        UsageError: If `cuda` was asked for and torch has none, or two options exclude each other.
    """
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("the device 'cuda' is not available here: use auto or cpu")
    if options.resume and options.overwrite:
        raise UsageError("resume and overwrite exclude each other: resume what is there, or replace it")
    if options.label_smoothing and arguments.use_crf:
        raise UsageError(
            "label_smoothing is for models without a CRF, whose loss is of whole sequences: leave one of them out"
        )
    if options.unfreeze_per_epoch is not None and arguments.freeze_backbone:
        raise UsageError("freeze_backbone and unfreeze_per_epoch exclude each other: the encoder stays frozen or not")
