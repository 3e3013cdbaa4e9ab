"""The training loop: the Hugging Face Trainer, scoring spans of whole notes and saving whole model directories."""

from __future__ import annotations

import ctypes
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from cardioner._io import reporting_failed_writes
from cardioner._progress import Progress
from cardioner.errors import TrainingError, listed
from cardioner.evaluation import Scores
from cardioner.multiclass.modeling import IGNORED
from cardioner.multiclass.precision import attention_without_cudnn, computes_bfloat16
from cardioner.training.attributes import SPANS, VALUES, attribute_loss
from cardioner.training.batch_sampler import Batches
from cardioner.training.checkpoints import Checkpoint, checkpoint_at, seal
from cardioner.training.distributed import barrier, rank, world_size
from cardioner.training.features import Feature
from cardioner.training.optimizer import unfreeze_top
from cardioner.training.options import TrainingOptions

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""The numbers that malloc.h gives to these parameters."""


_LOSSES = 10
"""Batches whose mean loss is shown."""

SHORT = 256
"""Longest windows, in sub-tokens, whose attention is computed by plain matrix products on the CPU."""


@dataclass(slots=True)
class Run:
    """What the training loop calls, and its state.

    Attributes:
        score: Scores the evaluation data, and gives the figure to pick the epoch by; `None` if there are none.
        save: Writes a model directory.
        output_dir: Where checkpoints are kept.
        request: The settings and the data of this training.
        names: What each window is called in a message.
        reduced: Whether to train in bfloat16.
        attribute_weight: Weight of attributes in the loss.
        scores: After each epoch so far.
        figures: What the best of these epochs is picked by, one each.
        best_step: The step of the best of them; 0 before the first.
        seconds: Time of training before it was interrupted.
        remarks: What went wrong beside training, counted.
        losses: Of the last batches.
    """

    score: Callable[[], tuple[Scores, float]] | None
    save: Callable[[Path], None]
    output_dir: Path
    request: Mapping[str, Any]
    names: Sequence[str]
    reduced: bool
    attribute_weight: float = 1.0
    scores: list[Scores] = field(default_factory=list)
    figures: list[float] = field(default_factory=list)
    best_step: int = 0
    seconds: float = 0.0
    remarks: Counter[str] = field(default_factory=Counter)
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=_LOSSES))
    began: float = field(default_factory=time.perf_counter)

    def resume_from(self, checkpoint: Checkpoint) -> None:
        """Take over the state of an interrupted training."""
        self.scores, self.best_step = list(checkpoint.scores), checkpoint.best_step
        self.figures = list(checkpoint.figures)
        self.seconds = checkpoint.seconds

    @property
    def elapsed(self) -> float:
        """Seconds of training so far."""
        return self.seconds + time.perf_counter() - self.began

    @property
    def best_epoch(self) -> int:
        """The epoch, counted from 1, with the best figure; the first of equals; 0 before the first."""
        return 1 + self.figures.index(max(self.figures)) if self.figures else 0


class SpanTrainer(Trainer):
    """The Hugging Face Trainer, scoring spans of whole notes and saving whole model directories."""

    def __init__(self, *, run: Run, batch_size: int, **arguments: Any) -> None:
        self.run = run
        self.batch_size = batch_size
        self.control: Any
        super().__init__(**arguments)
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = True  # compute_loss has weighed: nothing is to be divided any more

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches of similar length, the same ones for any number of processes, a share of each for this one."""
        windows: Sequence[Feature] = self.train_dataset
        batches = Batches(
            [len(window["input_ids"]) for window in windows],
            self.batch_size,
            self.args.seed,
            epoch=lambda: int(self.state.epoch or 0),
            process=rank(),
            processes=world_size(),
        )
        return DataLoader(
            windows,  # type: ignore[arg-type]
            batch_sampler=batches,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> Any:
        """The batches of a step, and what all their positions weigh together, in all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        weight = sum((self._weigh(batch) for batch in batches), torch.zeros(()))
        return batches, self.accelerator.gather(weight.to(device)).sum()

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of a batch, a mean, weighted by this batch's share of what the step's positions weigh.

        So accumulated batches and several processes learn what one batch would; with a CRF and class weights, which
        average in two ways, almost so. The loss of attributes is a mean over the same positions, so that the two
        together are the likelihood of tags and attributes. Reduced precision is set here: the `bf16` argument of the
        Hugging Face Trainer would affect scoring too, and the scores would not be those of the saved model.

        Raises:
            TrainingError: If the loss is not a number.
        """
        windows = inputs.pop("windows").tolist()
        said = [inputs.pop(name) for name in (SPANS, VALUES) if name in inputs]
        device = self.args.device
        with (
            attention_without_cudnn(device),
            torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.run.reduced),
        ):
            outputs = model(**inputs)
        loss = self._loss(outputs, inputs, windows)
        if said:
            loss = loss + self._attribute_loss(outputs, said) / self._weigh(inputs).clamp(min=1)
        if not loss.isfinite():
            named = listed(self.run.names[index] for index in windows)
            raise diverged(f"the loss is {loss.item()}", self.state.global_step + 1, f", in a batch of {named}")
        self.run.losses.append(loss.item())
        if num_items_in_batch is not None:
            share = self._weigh(inputs) / num_items_in_batch.clamp(min=torch.finfo(torch.float32).tiny)
            loss = loss * share * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def _loss(self, outputs: Any, inputs: Mapping[str, Tensor], windows: Sequence[int]) -> Tensor:  # noqa: ARG002
        """The mean loss of a batch: the model's own."""
        loss: Tensor = outputs.loss.mean()  # of one number a device, under DataParallel
        return loss

    def _attribute_loss(self, outputs: Any, said: Sequence[Tensor]) -> Tensor:
        """The summed loss of the attributes of the spans of a batch; its weight adds it to that of the tags."""
        sizes = [len(group.values) for group in self.model.config.attribute_groups]
        return self.run.attribute_weight * attribute_loss(outputs.attribute_logits, said[0], said[1], sizes)

    def _weigh(self, batch: Mapping[str, Tensor]) -> Tensor:
        """What the labelled positions of a batch weigh: one each or, without a CRF, their class weights."""
        labels = batch["labels"]
        weights = None if self.model.uses_crf else self.model.config.class_weights
        by_tag = torch.ones(self.model.num_labels) if weights is None else torch.tensor(weights)
        return by_tag.to(labels.device)[labels[labels.ne(IGNORED)]].sum()

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Strict span precision, recall and F1, as the saved model would reach them."""
        assert self.run.score is not None
        scores, figure = self.run.score()
        self.run.scores.append(scores)
        self.run.figures.append(figure)
        if self.run.best_epoch == len(self.run.scores):
            self.run.best_step = self.state.global_step
        micro = scores.strict.micro
        metrics = {"eval_precision": micro.precision, "eval_recall": micro.recall, "eval_f1": micro.f1}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:  # noqa: ARG002 - inherited
        """Save a model directory that loads by itself, with no pickle in it; called in every process."""
        if rank() == 0:
            self.run.save(Path(output_dir or self.args.output_dir))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """As inherited, and sealed once every process has written its part."""
        check_weights(self.model, self.state.global_step)
        with reporting_failed_writes(self.run.output_dir):
            super()._save_checkpoint(model, trial)
            barrier()
            if rank() == 0:
                seal(self._checkpoint())
            barrier()

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """As inherited, by way of the CPU: before 5.23 transformers asks torch for a `cpu:0`, which it cannot give."""
        if checkpoint is not None:
            for part, name in ((self.optimizer, "optimizer.pt"), (self.lr_scheduler, "scheduler.pt")):
                part.load_state_dict(torch.load(Path(checkpoint) / name, map_location="cpu", weights_only=True))

    def _checkpoint(self) -> Checkpoint:
        """What the seal of a checkpoint says."""
        step = self.state.global_step
        return Checkpoint(
            folder=checkpoint_at(self.run.output_dir, step),
            step=step,
            finished=step >= self.state.max_steps or self.control.should_training_stop,
            run=dict(self.run.request),
            scores=tuple(self.run.scores),
            figures=tuple(self.run.figures),
            best_step=self.run.best_step,
            seconds=self.run.elapsed,
        )


class LoopCallback(TrainerCallback):
    """Reports progress, unfreezes layers, asks for checkpoints, and stops early."""

    def __init__(self, run: Run, options: TrainingOptions, model: nn.Module, *, progress: Progress) -> None:
        self.run = run
        self.options = options
        self.progress = progress
        self.trainable = frozenset(name for name, value in model.named_parameters() if value.requires_grad)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, *, model: nn.Module, **_: Any) -> None:  # noqa: ARG002
        """Let more layers learn, where they unfreeze_top step by step."""
        if self.options.unfreeze_per_epoch is not None:
            # Not before the loop has begun: DistributedDataParallel knows only what was trainable when it was made.
            unfreeze_top(model, self.trainable, int(state.epoch or 0) * self.options.unfreeze_per_epoch)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Report the step, and ask for a checkpoint within an epoch."""
        self.progress("training", state.global_step, state.max_steps, detail=f"loss {mean(self.run.losses):.4f}")
        ends_epoch = state.global_step % (state.max_steps // int(args.num_train_epochs)) == 0
        if state.global_step % self.options.checkpoint_steps == 0 and not ends_epoch:
            control.should_save = True
            control.should_log = True  # what is logged later must not depend on whether training was interrupted here

    def on_epoch_end(self, args: Any, state: Any, control: Any, *, model: nn.Module, **_: Any) -> None:  # noqa: ARG002
        """Check the weights before they are scored; log the loss, however short the epoch."""
        control.should_log = True
        check_weights(model, state.global_step)

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - inherited
        """Stop early, if asked for."""
        patience = self.options.early_stopping
        if patience is not None and len(self.run.scores) - self.run.best_epoch >= patience:
            control.should_training_stop = True


def check_weights(model: nn.Module, step: int) -> None:
    """Refuse weights that are not finite: a gradient can make them so under a finite loss.

    Raises:
        TrainingError: Naming the first of them.
    """
    for name, value in model.named_parameters():
        if not value.isfinite().all():
            raise diverged(f"{name} holds values that are not finite", step)


def diverged(what: str, step: int, where: str = "") -> TrainingError:
    """The error of a training that cannot continue."""
    return TrainingError(
        f"{what} at step {step}{where}: try a lower learning rate, or precision float32 if it was bfloat16; "
        "the last checkpoint is kept"
    )


def trainer_arguments(
    place: Path, settings: Mapping[str, Any], options: TrainingOptions, *, scored: bool
) -> TrainingArguments:
    """The arguments of the Hugging Face Trainer; checkpoints go to `place`."""
    on_cpu = options.device == "cpu" or not torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(place),
        per_device_train_batch_size=settings["batch_size"],
        gradient_accumulation_steps=settings["gradient_accumulation_steps"],
        learning_rate=settings["learning_rate"],
        num_train_epochs=settings["num_train_epochs"],
        lr_scheduler_type={"constant": "constant_with_warmup"}.get(options.schedule, options.schedule),
        warmup_steps=options.warmup,
        max_grad_norm=options.max_gradient_norm,
        use_cpu=on_cpu,
        ddp_backend="gloo" if on_cpu and world_size() > 1 else None,
        ddp_timeout=24 * 3600,  # the others wait while the first process chooses precision and temperature
        seed=options.seed,
        eval_strategy="epoch" if scored else "no",
        save_strategy="epoch",
        logging_steps=10,
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        dataloader_pin_memory=not on_cpu,
        disable_tqdm=True,
        report_to="none",
    )


@contextmanager
def tuned_for_cpu(encoder: Any, length: int) -> Iterator[None]:
    """Train an encoder faster on the CPU: with windows of up to this length, in sub-tokens, by plain attention."""
    keep_freed_memory()
    with plain_attention(encoder) if length <= SHORT else nullcontext():
        yield


def keep_freed_memory() -> None:
    """Have the C library keep large blocks that training frees: the next step on the CPU needs the same ones.

    glibc maps each large block anew, and the kernel clears its pages at first touch, step after step: see ADR 5. Where
    the C library is another one nothing happens.
    """
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 2**30)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


@contextmanager
def plain_attention(encoder: Any) -> Iterator[None]:
    """Compute an encoder's attention by plain matrix products.

    Fused attention on the CPU has a slow backward pass, and none at all that drops out: see ADR 10.
    """
    own = encoder.config._attn_implementation
    encoder.set_attn_implementation("eager")
    try:
        yield
    finally:
        encoder.set_attn_implementation(own)


def reduced_precision(options: TrainingOptions) -> bool:
    """Whether to compute in bfloat16: where the device has instructions for it, unless the options say otherwise."""
    if options.precision != "auto":
        return options.precision == "bfloat16"
    on_gpu = torch.cuda.is_available() and options.device != "cpu"
    return computes_bfloat16(torch.device("cuda" if on_gpu else "cpu"))
