"""The training loop: the Hugging Face Trainer, told to score spans of whole notes and to save whole directories."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from cardioner.errors import TrainingError, UsageError
from cardioner.evaluation import Scores
from cardioner.multiclass.inference import computes_bfloat16
from cardioner.multiclass.options import Progress, TrainingOptions

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""The numbers that malloc.h gives to these parameters."""


@dataclass(slots=True)
class Hooks:
    """What the loop calls: how to score and save, whether to learn in bfloat16, and the scores so far."""

    score: Callable[[], Scores] | None
    save: Callable[[Path], None]
    reduced: bool
    scores: list[Scores] = field(default_factory=list)


class SpanTrainer(Trainer):
    """The Hugging Face Trainer, scoring spans of whole notes and saving whole model directories."""

    def __init__(self, *, hooks: Hooks, **arguments: Any) -> None:
        self.hooks = hooks
        self.control: Any
        super().__init__(**arguments)
        self.remove_callback(PrinterCallback)

    def compute_loss(self, *arguments: Any, **keywords: Any) -> Any:
        """As inherited, in reduced precision where that was chosen.

        The `bf16` argument of the Hugging Face Trainer would do so for scoring too, and what is scored would not be
        what the saved model does.
        """
        with torch.autocast(self.args.device.type, dtype=torch.bfloat16, enabled=self.hooks.reduced):
            return super().compute_loss(*arguments, **keywords)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Strict span precision, recall and F1, as the saved model would reach them."""
        assert self.hooks.score is not None
        scores = self.hooks.score()
        self.hooks.scores.append(scores)
        micro = scores.strict.micro
        metrics = {"eval_precision": micro.precision, "eval_recall": micro.recall, "eval_f1": micro.f1}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:  # noqa: ARG002 - inherited
        """Save a checkpoint: a model directory that loads by itself, with no pickle in it."""
        self.hooks.save(Path(output_dir or self.args.output_dir))


class Watch(TrainerCallback):
    """Reports progress, and stops a training whose loss or weights are no numbers any more."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - inherited
        """Report the step."""
        if self.progress is not None:
            self.progress("training", state.global_step, state.max_steps)

    def on_epoch_end(self, args: Any, state: Any, control: Any, *, model: nn.Module, **_: Any) -> None:  # noqa: ARG002
        """Look at the weights before they are scored and saved; have the loss logged, however short the epoch."""
        control.should_log = True
        for name, value in model.named_parameters():
            if not value.isfinite().all():
                raise _diverged(f"{name} holds values that are no numbers", state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, *, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
        """Look at the loss."""
        loss = (logs or {}).get("loss", 0.0)
        if not -float("inf") < loss < float("inf"):
            raise _diverged(f"the loss is {loss}", state.global_step)


class TensorBoard(TrainerCallback):
    """Writes the figures of training for TensorBoard, and nothing about this machine."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise UsageError("TensorBoard logs need the package tensorboard: pip install tensorboard") from error
        self.writer = SummaryWriter(str(folder))

    def on_log(self, args: Any, state: Any, control: Any, *, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
        """Write every number."""
        for name, value in (logs or {}).items():
            if isinstance(value, (int, float)):
                place = f"eval/{name[5:]}" if name.startswith("eval_") else f"train/{name}"
                self.writer.add_scalar(place, value, state.global_step)
        self.writer.flush()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - inherited
        """Close the file."""
        self.writer.close()


def _diverged(what: str, step: int) -> TrainingError:
    """What to tell of a training that cannot go on."""
    return TrainingError(f"{what} at step {step}: try a lower learning rate, or precision float32 if it was bfloat16")


def trainer_arguments(
    place: Path, settings: Mapping[str, Any], options: TrainingOptions, *, scored: bool
) -> TrainingArguments:
    """What the Hugging Face Trainer is told; checkpoints go to `place`."""
    return TrainingArguments(
        output_dir=str(place),
        per_device_train_batch_size=settings["batch_size"],
        gradient_accumulation_steps=settings["gradient_accumulation_steps"],
        learning_rate=settings["learning_rate"],
        num_train_epochs=settings["num_train_epochs"],
        warmup_steps=options.warmup,
        max_grad_norm=options.max_gradient_norm,
        use_cpu=options.device == "cpu" or not torch.cuda.is_available(),
        seed=options.seed,
        data_seed=options.seed,
        train_sampling_strategy="group_by_length",
        eval_strategy="epoch" if scored else "no",
        save_strategy="epoch",
        save_total_limit=1,
        save_only_model=True,
        load_best_model_at_end=scored,
        metric_for_best_model="f1" if scored else None,
        greater_is_better=True if scored else None,
        logging_steps=10,
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,
        report_to="none",
    )


def optimizer(model: nn.Module, settings: Mapping[str, Any], options: TrainingOptions) -> torch.optim.Optimizer:
    """AdamW with weight decay for matrices, and a rate of its own for the CRF."""
    named = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    crf = [value for name, value in named if name.startswith("crf.")]
    decayed = [value for name, value in named if value.ndim >= 2 and not name.startswith("crf.")]
    plain = [value for name, value in named if value.ndim < 2 and not name.startswith("crf.")]
    groups = [
        {"params": decayed, "weight_decay": settings["weight_decay"]},
        {"params": plain, "weight_decay": 0.0},
        {"params": crf, "weight_decay": 0.0, "lr": options.crf_learning_rate},
    ]
    kept = [group for group in groups if group["params"]]
    return torch.optim.AdamW(kept, lr=settings["learning_rate"], fused=True)


def keep_freed_memory() -> None:
    """Have the C library keep large blocks that training frees: a step on the CPU asks for the same ones again.

    glibc maps each large block anew, and the kernel clears its pages at first touch, step after step: see ADR 5. Where
    the C library is another one nothing happens.
    """
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 2**30)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def reduced_precision(options: TrainingOptions) -> bool:
    """Whether to compute in bfloat16: where the device has instructions for it, unless told otherwise."""
    if options.precision != "auto":
        return options.precision == "bfloat16"
    on_gpu = torch.cuda.is_available() and options.device != "cpu"
    return computes_bfloat16(torch.device("cuda" if on_gpu else "cpu"))
