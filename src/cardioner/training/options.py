"""The settings of a training, each declared once: checked here, and the source of the command line's options.

The text below a field is its documentation in Python and its help on the command line.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PlainValidator, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs

from cardioner._progress import Progress, accepting_detail
from cardioner.errors import UsageError

if TYPE_CHECKING:
    from cardioner.data.documents import Document
    from cardioner.multiclass.windows import Coverage

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

AUTO: Literal["auto"] = "auto"
"""The number of epochs that depends on how much there is to train on."""

BEST: Literal["best"] = "best"
"""The recipe that trains several models and one that learns from them."""

RENAMED = {"thawed_per_epoch": "unfreeze_per_epoch"}
"""Earlier names of options, which are still accepted."""


def by_characters(progress: Progress, stage: str, documents: Iterable[Document]) -> Callable[[Coverage], None]:
    """A function that takes what is covered so far, and reports its characters, of all those of documents."""
    total = sum(len(document.text) for document in documents)
    return lambda coverage: progress(stage, coverage.characters, total)


# Checking ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Checked:
    """Base of checked settings: a value that does not fit is a `UsageError` that names it."""

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, values: Any, validate: Callable[[Any], Any]) -> Any:
        """Validate, and say in plain words what is wrong."""
        given = values.kwargs if isinstance(values, ArgsKwargs) else None
        if given and RENAMED.keys() & given.keys():
            for old in RENAMED.keys() & given.keys():
                warnings.warn(deprecation(old), DeprecationWarning, stacklevel=3)
            values = ArgsKwargs(values.args, current_names(given))
        try:
            return validate(values)
        except ValidationError as error:
            wrong = "; ".join(_problem(found) for found in error.errors())
        raise UsageError(wrong)


def current_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings under their current names."""
    return {RENAMED.get(name, name): value for name, value in settings.items()}


def deprecation(old: str) -> str:
    """What to say of an earlier name."""
    return f"{old} is deprecated and will be removed: use {RENAMED[old]}"


def _problem(found: Any) -> str:
    name = ".".join(str(part) for part in found["loc"])
    if found["type"] == "unexpected_keyword_argument":
        return f"{name}: there is no such argument"
    return f"{name}: expected {expected(found)}; found {found['input']!r}"


def expected(error: Any) -> str:
    """What a failed check expected, in plain words and without the value that it found.

    Args:
        error: One of the errors of a `pydantic.ValidationError`.
    """
    kind, limits = error["type"], error.get("ctx", {})
    words = {
        "int": "a whole number",
        "float": "a number",
        "finite": "a finite number",
        "bool": "true or false",
        "string": "text",
        "path": "a path",
        "greater_than": "more than {gt}",
        "greater_than_equal": "{ge} or more",
        "less_than": "less than {lt}",
        "less_than_equal": "{le} or less",
        "literal_error": "one of {expected}",
        "enum": "one of {expected}",
        "value_error": "{error}",
    }
    text = words.get(kind) or words.get(kind.partition("_")[0]) or error["msg"].removeprefix("Input should be ")
    return text.format(**limits).replace("'", "")


def _widths(value: Any) -> Any:
    """`512,256`, a width or several, as a tuple of numbers."""
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, Sequence) else [value]
    try:
        widths = None if value is None else tuple(int(part) if isinstance(part, str) else part for part in parts)
    except ValueError:
        widths = (0,)
    if widths is not None and not all(type(width) is int and width > 0 for width in widths):
        raise ValueError("widths such as 512,256")
    return widths


def _epochs(value: Any) -> Any:
    """`auto`, or a number that may come as text."""
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if number != AUTO and not (type(number) is int and number >= 1):
        raise ValueError("auto, or a whole number, 1 or more")
    return number


def _weights(value: Any) -> Any:
    """`balanced`, weights in the order of the tags, or weights by tag, which may be written `TAG=W,TAG=W`."""
    try:
        if isinstance(value, str) and value != "balanced":
            value = dict(pair.rsplit("=", 1) for pair in value.split(","))
        if isinstance(value, Mapping):
            return {tag: float(weight) for tag, weight in value.items()}
        if value is None or isinstance(value, str):
            return value
        return [float(weight) for weight in value]
    except (TypeError, ValueError):
        raise ValueError("balanced, or weights of tags such as B-X=2,I-X=2") from None


def _progress(value: Any) -> Any:
    """`True`, or a function to call."""
    if value is None or isinstance(value, bool):
        return value
    if callable(value):
        return accepting_detail(value)
    raise ValueError("true, or a function of the stage, how much is done and how much there is")


def _places(value: Any) -> tuple[str | Path, ...]:
    """A path or several."""
    places = (value,) if isinstance(value, (str, Path)) else tuple(value) if isinstance(value, Sequence) else ()
    if places and all(isinstance(place, (str, Path)) for place in places):
        return places
    raise ValueError("a model directory, or several")


# Settings ------------------------------------------------------------------------------------------------------------


Epochs = int | Literal["auto"]
Widths = Annotated[Sequence[int] | None, BeforeValidator(_widths)]


def setting(
    default: Any, *, panel: str = "Training", option: str | None = None, metavar: str | None = None, **limits: Any
) -> Any:
    """A field and how the command line shows it.

    Args:
        default: Its default.
        panel: The group of options in the help.
        option: The name on the command line, where it is not the field's own.
        metavar: What stands for the value in the help, where it is not the type's own.
        **limits: For `pydantic.Field`.
    """
    shown: Any = {"panel": panel, "option": option, "metavar": metavar}
    return Field(default=default, json_schema_extra=shown, **limits)


model_setting = partial(setting, panel="Model")
card_setting = partial(setting, panel="Manifest and model card")
running_setting = partial(setting, panel="Running")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainerArguments(Checked):
    """The documented arguments of `ModelTrainer` that are plain values.

    Raises:
        UsageError: Naming every argument that does not fit.
    """

    model: str | Path | None = model_setting(None, option="--backbone", metavar="NAME_OR_DIR")
    """Encoder: a folder or Hugging Face name, or an earlier model directory. Default: the bundled MiniLM-L6."""
    use_crf: bool = model_setting(False, option="--crf")
    """Put a conditional random field (CRF) on the head."""
    classifier_hidden_layers: Widths = model_setting(None, option="--hidden-layers", metavar="N,N,...")
    """Widths of an MLP head, such as 512,256. Default: one linear layer."""
    classifier_dropout: float = model_setting(0.1, ge=0, lt=1)
    """Dropout before and inside the head."""
    max_length: int | None = model_setting(None, ge=1)
    """Maximum number of sub-tokens in a window; longer notes take several windows. Default: 128."""
    num_train_epochs: Annotated[Epochs, BeforeValidator(_epochs)] = setting(AUTO, option="--epochs", metavar="N|auto")
    """Passes over the training notes; auto: 5, and more for few notes, which would give too few steps."""
    batch_size: int = setting(16, ge=1)
    """Windows in a batch, over all processes."""
    gradient_accumulation_steps: int = setting(1, option="--gradient-accumulation", ge=1)
    """Batches per optimizer step."""
    learning_rate: float | None = setting(None, gt=0, le=1)
    """Learning rate. Default: 2e-4 for encoders with up to 512 hidden units, else 5e-5."""
    weight_decay: float = setting(0.01, ge=0)
    """Weight decay of the matrices of encoder and head."""
    class_weights: Annotated[Any, BeforeValidator(_weights)] = setting(None, metavar="WEIGHTS")
    """Weights in the loss: balanced, or TAG=W,TAG=W,... (other tags weigh 1)."""
    freeze_backbone: bool = setting(False)
    """Train the head alone."""
    output_dir: Path = Field(json_schema_extra={"panel": "Running", "option": "--output", "metavar": "DIR"})
    """The model directory to write."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainingOptions(Checked):
    """How to train, beyond the documented arguments of `ModelTrainer`.

    Raises:
        UsageError: Naming every option that does not fit.
    """

    layers: int | None = model_setting(None, ge=1)
    """Keep N layers of the encoder, evenly spaced, the last one among them. Default: all."""
    window_context: int = model_setting(4, ge=0)
    """Sub-tokens that neighbouring windows share on either side when notes are tagged; stored with the model."""
    training_context: int = model_setting(16, ge=0)
    """The same for the windows of the training notes."""
    seed: int = setting(0, ge=0, lt=2**32)
    """Seed of new weights, dropout and the order of the data."""
    warmup: float = setting(0.1, ge=0, lt=1)
    """Share of all steps during which the learning rate rises."""
    schedule: Literal["linear", "cosine", "constant"] = setting("linear")
    """Learning rate after that: linear or cosine falls to 0, constant stays."""
    head_learning_rate: float | None = setting(None, gt=0, le=1)
    """Learning rate of the head. Default: that of the encoder."""
    crf_learning_rate: float = setting(1e-2, gt=0, le=1)
    """Learning rate of the CRF's transitions, which are few and start at 0."""
    layer_decay: float = setting(1.0, gt=0, le=1)
    """Each encoder layer learns at this share of the rate of the layer above it."""
    unfreeze_per_epoch: int | None = setting(None, ge=1)
    """Start with a frozen encoder and, from the second epoch on, unfreeze N more layers each epoch, top first."""
    early_stopping: int | None = setting(None, ge=1)
    """Stop after N epochs without a better F1 on the evaluation notes."""
    attention_dropout: float = setting(0.0, ge=0, lt=1)
    """Dropout of the encoder's attention during training."""
    label_smoothing: float = setting(0.0, ge=0, lt=1)
    """Share of each tag that is spread over all tags; not with a CRF."""
    max_gradient_norm: float = setting(1.0, gt=0)
    """Scale longer gradients down to this norm."""
    attribute_weight: float = setting(1.0, gt=0)
    """Weight of the attributes of entities in the loss, beside the tags."""
    attributes_only: bool = setting(False)
    """Train the head of attributes alone, on the tagger of --backbone: 20 epochs at 2e-3 unless you say otherwise."""
    precision: Literal["auto", "float32", "bfloat16"] = running_setting("auto")
    """float32 or bfloat16; auto takes bfloat16 where the device has instructions for it."""
    device: Literal["auto", "cpu", "cuda"] = running_setting("auto")
    """cpu or cuda; auto takes the GPU if there is one."""
    checkpoint_steps: int = running_setting(500, ge=1)
    """Write a checkpoint after every epoch, and every N steps within one."""
    resume: bool = running_setting(False)
    """Resume from the last whole checkpoint, if there is one."""
    overwrite: bool = running_setting(False)
    """Replace a model in the output; other files stay."""
    tracking: Literal["none", "tensorboard", "mlflow"] = running_setting("none")
    """none, tensorboard (writes to DIR/logs) or mlflow (to MLFLOW_TRACKING_URI, else to DIR/mlruns)."""
    also_bin: bool = running_setting(False)
    """Write pytorch_model.bin too."""
    language: str | None = card_setting(None, metavar="CODE")
    """Language of the notes, such as nl; for the model card."""
    license: str | None = card_setting(None, metavar="NAME")
    """License of the model, such as apache-2.0; for the model card."""
    data_name: str | None = card_setting(None, metavar="NAME")
    """Name of the data; for the model card."""
    data_license: str | None = card_setting(None, metavar="NAME")
    """License of the data; for the model card."""
    data_key: Path | None = card_setting(None, metavar="FILE")
    """Secret key for the manifest's digests of notes; made if missing. The command's default: that in your settings."""
    list_documents: bool = card_setting(False)
    """List the ids of the notes in the manifest."""
    progress: Annotated[bool | Callable[..., None] | None, PlainValidator(_progress)] = Field(
        default=None, exclude=True
    )
    """True shows bars, or without a terminal a line every half minute, on standard error. Or a function, which is
    called with the stage (`training`, `scoring`), how much is done and how much there is (steps; characters) and, if
    it takes the keyword `detail`, with what else there is to say, such as `loss 0.2130`."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DistillationOptions(Checked):
    """How a student learns from its teachers.

    Raises:
        UsageError: Naming every option that does not fit.
    """

    teacher_weight: float = setting(0.5, panel="Distillation", gt=0, le=1)
    """Share of the teachers in the loss on annotated notes; the annotations have the rest."""
    teacher_temperature: float = setting(1.0, panel="Distillation", ge=0.1, le=100)
    """Divides all scores of teachers and student before they are compared: above 1, improbable tags count more."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Distillation(DistillationOptions):
    """What a student learns from, beside annotated notes: the `distillation` of `ModelTrainer`.

    Args:
        teachers: A model directory, or several with the same tags, which teach the mean of what they compute; a folder
            of repeated trainings stands for all its models.
        unlabelled: Documents, whose spans are ignored, or texts, on which the student learns only from its teachers.
        teacher_weight: Share of the teachers in the loss on annotated notes.
        teacher_temperature: Divides all scores of teachers and student before they are compared.
        recipe: The recipe that these teachers were trained for, if there is one; for the record.

    Raises:
        UsageError: Naming every argument that does not fit.
    """

    teachers: Annotated[Any, PlainValidator(_places)]
    unlabelled: Any = ()
    recipe: Literal["best"] | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AdaptationOptions(Checked):
    """How an encoder is adapted to notes without annotations.

    Raises:
        UsageError: Naming every option that does not fit.
    """

    epochs: int = setting(10, ge=1)
    """Passes over the notes; each hides other sub-tokens."""
    batch_size: int = setting(32, ge=1)
    """Windows in a batch."""
    learning_rate: float | None = setting(None, gt=0, le=1)
    """Learning rate. Default: 2e-4 for encoders with up to 512 hidden units, else 5e-5."""
    max_length: int | None = setting(None, ge=1)
    """Maximum number of sub-tokens in a window. Default: 128."""
    held_out: float = setting(0.05, gt=0, lt=1)
    """Share of the notes that the encoder does not learn from, but is measured on."""
    seed: int = setting(0, ge=0, lt=2**32 - 1)
    """Seed for which sub-tokens are hidden, and for the order of the notes."""
    precision: Literal["auto", "float32", "bfloat16"] = running_setting("auto")
    """float32 or bfloat16; auto takes bfloat16 where the device has instructions for it."""
    device: Literal["auto", "cpu", "cuda"] = running_setting("auto")
    """cpu or cuda; auto takes the GPU if there is one."""
    overwrite: bool = running_setting(False)
    """Replace an encoder that was adapted before."""
