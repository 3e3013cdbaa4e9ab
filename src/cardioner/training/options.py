"""What `ModelTrainer` can be told beyond its documented arguments: one validated, frozen dataclass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from cardioner.errors import UsageError

if TYPE_CHECKING:
    from cardioner.multiclass.windows import Coverage

Progress = Callable[[str, int, int], None]
"""Called with the stage (`training`, `scoring`), what is done and what there is in all (steps; characters)."""

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


def counted(progress: Progress | None, stage: str, total: int) -> Callable[[Coverage], None] | None:
    """A function that takes what is covered so far, and reports its characters of the total."""
    if progress is None:
        return None

    def advance(coverage: Coverage) -> None:
        progress(stage, coverage.characters, total)

    return advance


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Checked:
    """Base of what is validated: a value that does not fit is a `UsageError` which names it."""

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, values: Any, validate: Callable[[Any], Any]) -> Any:
        """Validate, and say what is wrong in the project's own words."""
        try:
            return validate(values)
        except ValidationError as error:
            wrong = "; ".join(f"{_place(found)}: {_problem(found)}" for found in error.errors())
        raise UsageError(wrong)


def _place(found: Any) -> str:
    """The argument that is wrong."""
    return ".".join(str(part) for part in found["loc"])


def _problem(found: Any) -> str:
    """What was expected of it, and what was found."""
    if found["type"] == "unexpected_keyword_argument":
        return "there is no such argument"
    return f"{found['msg'].removeprefix('Input ')}; found {found['input']!r}"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainingOptions(Checked):
    """How to train.

    Attributes:
        seed: Of fresh weights, dropout and the order of the data.
        window_context: Sub-tokens that neighbouring windows share on either side of their border when notes are tagged;
            stored with the model.
        training_context: The same for the windows that are learned from, which may share more: see ADR 9.
        warmup: Share of all steps over which the learning rate rises.
        schedule: How it goes on from there: `linear` or `cosine` down to 0, or `constant`.
        head_learning_rate: Of the classifier head; by default that of the encoder.
        crf_learning_rate: Of the CRF's transitions, which are few and start at 0.
        layer_decay: Each layer of the encoder learns at this share of the rate of the layer above it.
        unfreeze_per_epoch: Gradual unfreezing: the encoder starts frozen, and every epoch but the first lets this many
            more of its layers learn, from the top, the embeddings last. By default all learn from the start.
        attention_dropout: Share of the encoder's attention that is dropped while it learns, whatever it came with.
        early_stopping: Epochs without a better F1 on the evaluation data after which training ends.
        label_smoothing: Share of each label that is spread over all labels; for models without a CRF.
        max_gradient_norm: Longer gradients are scaled down to this norm.
        precision: `auto` computes in bfloat16 where the device does so natively, else in float32.
        checkpoint_steps: A checkpoint is written after every epoch, and after this many steps within one.
        resume: Whether to go on from the last whole checkpoint of an interrupted training, if there is one.
        tracking: Where figures go beside the record: `tensorboard` (to `logs` in the output directory), `mlflow` (to
            `MLFLOW_TRACKING_URI`, or `mlruns` in the output directory), or `none`.
        also_bin: Whether to write `pytorch_model.bin` beside `model.safetensors`.
        overwrite: Whether an output directory that holds a model, or checkpoints of one, may be replaced.
        device: `auto`, `cpu` or `cuda`.
        language: Of the notes, as a code such as `nl`; for the model card, as the next three.
        license: Of the model, as the Hugging Face hub writes it, such as `apache-2.0`.
        data_name: What the notes are called.
        data_license: Under what terms they may be used.
        data_key: A file with a secret key, made if it is missing: the manifest then has a digest of each part of the
            data, by which who has the key can prove which notes were used.
        list_documents: Whether the manifest names the notes of each part.
        progress: Told how far training is.

    Raises:
        UsageError: Naming every option that does not fit.
    """

    seed: int = Field(default=0, ge=0, lt=2**32)
    window_context: int = Field(default=4, ge=0)
    training_context: int = Field(default=16, ge=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    head_learning_rate: float | None = Field(default=None, gt=0, le=1)
    crf_learning_rate: float = Field(default=1e-2, gt=0, le=1)
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    unfreeze_per_epoch: int | None = Field(default=None, ge=1)
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)
    early_stopping: int | None = Field(default=None, ge=1)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    max_gradient_norm: float = Field(default=1.0, gt=0)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint_steps: int = Field(default=500, ge=1)
    resume: bool = False
    tracking: Literal["none", "tensorboard", "mlflow"] = "none"
    also_bin: bool = False
    overwrite: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    language: str | None = None
    license: str | None = None
    data_name: str | None = None
    data_license: str | None = None
    data_key: Path | None = None
    list_documents: bool = False
    progress: Progress | None = None
