"""What `ModelTrainer` can be told beyond its documented arguments: one validated, frozen dataclass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

Progress = Callable[[str, int, int], None]
"""Called with the stage (`training`, `scoring`), what is done and what there is in all (steps; sub-tokens)."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Options of training.

    Attributes:
        seed: Of weights that start fresh, of dropout, and of the order of the data.
        window_context: Sub-tokens that neighbouring windows share on either side of their border.
        warmup: Share of all steps over which the learning rate rises; it falls linearly from there.
        crf_learning_rate: Of the CRF's transitions, which are few and start at 0.
        max_gradient_norm: Longer gradients are scaled down to this norm.
        precision: `auto` computes in bfloat16 where the device does so natively, else in float32.
        tensorboard: Whether to write TensorBoard logs to `logs` in the output directory.
        also_bin: Whether to write `pytorch_model.bin` beside `model.safetensors`.
        overwrite: Whether an output directory that holds a model may be replaced.
        device: `auto`, `cpu` or `cuda`.
        progress: Told how far training is.
    """

    seed: int = Field(default=0, ge=0)
    window_context: int = Field(default=16, ge=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    crf_learning_rate: float = Field(default=1e-2, gt=0)
    max_gradient_norm: float = Field(default=1.0, gt=0)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    tensorboard: bool = False
    also_bin: bool = False
    overwrite: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    progress: Progress | None = None
