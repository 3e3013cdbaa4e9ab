"""Adapt an encoder to the language of notes that nobody has annotated: continued masked language modelling.

Some sub-tokens of each window are hidden, and the encoder learns to guess them from the others. It is saved without the
part that guesses, as a folder that a training can begin from.

Sources: Devlin et al. 2019, BERT (https://aclanthology.org/N19-1423/), for the masks; Gururangan et al. 2020, Don't
Stop Pretraining (https://aclanthology.org/2020.acl-main.740/), for adapting before a task.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import get_scheduler, set_seed

from cardioner._io import as_path, check_no_file, grant_default_permissions, publish, staging
from cardioner._progress import Progress, silent
from cardioner.data.documents import Document
from cardioner.errors import DataError, ModelError, OutputError, TrainingError
from cardioner.model_dir.encoder import MaskedLanguageModel, default_encoder, load_masked_language_model, load_tokenizer
from cardioner.model_dir.layout import CONFIG, WEIGHTS
from cardioner.model_dir.manifest import installed_versions
from cardioner.model_dir.positions import max_positions
from cardioner.multiclass.encoding import WindowPlan, plan_windows
from cardioner.multiclass.inference import pad
from cardioner.multiclass.modeling import IGNORED
from cardioner.multiclass.precision import attention_without_cudnn
from cardioner.training.arguments import pick_learning_rate, pick_window_length
from cardioner.training.batch_sampler import plan_batches
from cardioner.training.features import encode_documents
from cardioner.training.hf_trainer import reduced_precision, tuned_for_cpu
from cardioner.training.options import AdaptationOptions, TrainingOptions

RECORD = "adaptation.json"
_RECORDED = ("epochs", "batch_size", "learning_rate", "max_length", "held_out", "seed")
MASKED = 0.15
"""Share of the sub-tokens that are to be guessed."""
_HIDDEN, _REPLACED = 0.8, 0.1
"""Of these, the shares that the mask stands for, and that a random sub-token does; the others stay as they are."""
_LEAST_NOTES = 2
_WARMUP = 0.06
"""Share of all steps during which the learning rate rises; then it falls to 0."""


@dataclass(frozen=True, slots=True)
class Adaptation:
    """What adapting an encoder did.

    Attributes:
        output_dir: The encoder's folder.
        before: Perplexity on the held-out notes before: `exp` of the mean loss of a hidden sub-token.
        after: The same afterwards.
        fresh_head: Whether the part that guesses began with random weights, as the encoder came without; `before` then
            says nothing about the encoder.
        notes: How many notes were learned from.
        held_out: How many were not.
        windows: Windows of the notes learned from.
        sub_tokens: Their sub-tokens.
        steps: Steps of the optimizer.
        seconds: Time of all of it.
    """

    output_dir: Path
    before: float
    after: float
    fresh_head: bool
    notes: int
    held_out: int
    windows: int
    sub_tokens: int
    steps: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, without the place."""
        return {name: value for name, value in asdict(self).items() if name != "output_dir"}


class Masking(NamedTuple):
    """What `mask` has to know of a tokenizer.

    Attributes:
        mask_id: The id that stands for a hidden sub-token.
        special: Ids that are never hidden, nor put in another's place.
        size: Ids that there are.
    """

    mask_id: int
    special: frozenset[int]
    size: int

    @classmethod
    def of(cls, tokenizer: Any) -> Masking:
        """Of a tokenizer.

        Raises:
            ModelError: If it has no mask.
        """
        if tokenizer.mask_token_id in (None, tokenizer.unk_token_id):
            raise ModelError("the tokenizer of this encoder has no mask token: it cannot be adapted in this way")
        return cls(tokenizer.mask_token_id, frozenset(tokenizer.all_special_ids), len(tokenizer))


def mask(ids: Tensor, masking: Masking, chance: torch.Generator, *, share: float = MASKED) -> tuple[Tensor, Tensor]:
    """Hide a share of the sub-tokens at random.

    Args:
        ids: `(batch, length)`, special and padding ids among them.
        masking: The ids of the tokenizer.
        chance: Where random numbers come from; on the CPU.
        share: Of the sub-tokens that are no special ones.

    Returns:
        What the encoder reads, and what it has to guess, `IGNORED` elsewhere; both `(batch, length)`.
    """
    special = torch.isin(ids, torch.tensor(sorted(masking.special)))
    chosen = torch.rand(ids.shape, generator=chance).lt(share) & ~special
    kind = torch.rand(ids.shape, generator=chance)
    others = torch.tensor([index for index in range(masking.size) if index not in masking.special])
    random_ids = others[torch.randint(len(others), ids.shape, generator=chance)]
    shown = ids.where(~(chosen & kind.lt(_HIDDEN)), torch.tensor(masking.mask_id))
    shown = shown.where(~(chosen & kind.ge(_HIDDEN) & kind.lt(_HIDDEN + _REPLACED)), random_ids)
    return shown, ids.where(chosen, torch.tensor(IGNORED))


def adapt(
    notes: Iterable[Document],
    output_dir: str | Path,
    *,
    backbone: str | Path | None = None,
    options: AdaptationOptions | None = None,
    progress: Progress = silent,
) -> Adaptation:
    """Continue the pretraining of an encoder on notes, and save it.

    Nothing is written before the end. No text is saved beside the weights, which have learned from it: an adapted
    encoder is as confidential as the notes.

    Args:
        notes: Documents; their spans play no part.
        output_dir: The folder to write, which `ModelTrainer(model=...)` takes as an encoder.
        backbone: A folder or a Hugging Face name; by default the bundled MiniLM-L6.
        options: How to learn.
        progress: Called with how many steps are made, and how many there are.

    Raises:
        DataError: If there are too few notes.
        ModelError: If the encoder cannot be read, its tokenizer has no mask, or its family cannot guess sub-tokens.
        OutputError: If the folder holds something already, or cannot be written.
        TrainingError: If the loss is not a number.
        UsageError: If the windows are longer than the encoder reads.
    """
    began, place, options = time.perf_counter(), as_path(output_dir, "output_dir"), options or AdaptationOptions()
    check_place(place, overwrite=options.overwrite)
    name = default_encoder() if backbone is None else backbone
    set_seed(options.seed)  # of a head that starts at random
    encoder, tokenizer = load_masked_language_model(name), load_tokenizer(name)
    plan = _plan(encoder, tokenizer, options)
    learned, held_out = _divide(list(notes), options)
    windows, unseen = (_windows(part, tokenizer, plan) for part in (learned, held_out))
    if not windows or not unseen:
        raise DataError("the notes have no text to adapt an encoder to")
    lesson = Lesson(encoder.model, Masking.of(tokenizer), tokenizer.pad_token_id or 0, options)
    with tuned_for_cpu(encoder.model.base_model, plan.length) if lesson.device.type == "cpu" else nullcontext():
        before = lesson.perplexity(unseen)
        steps = lesson.learn(windows, progress=progress)
        after = lesson.perplexity(unseen)
    result = Adaptation(
        output_dir=place,
        before=before,
        after=after,
        fresh_head=encoder.fresh_head,
        notes=len(learned),
        held_out=len(held_out),
        windows=len(windows),
        sub_tokens=sum(map(len, windows)) - plan.extra * len(windows),
        steps=steps,
        seconds=round(time.perf_counter() - began, 1),
    )
    _save(encoder, tokenizer, result, options)
    return result


def check_place(place: Path, *, overwrite: bool) -> None:
    """Refuse a place that holds something already; what an earlier adaptation wrote may be replaced.

    Raises:
        OutputError: If it does, or is a file.
    """
    check_no_file(place)
    ours = (place / RECORD).is_file()
    if place.is_dir() and any(place.iterdir()) and not (ours and overwrite):
        way = ", or pass --overwrite" if ours else " (only what an adaptation wrote is replaced)"
        raise OutputError(f"{place} is not empty: choose another folder{way}")


def _plan(encoder: MaskedLanguageModel, tokenizer: Any, options: AdaptationOptions) -> WindowPlan:
    """How notes are cut: windows share nothing."""
    length = pick_window_length(options.max_length, max_positions(encoder.config), context=0)
    return plan_windows(SimpleNamespace(window_length=length, window_context=0), tokenizer)


def _divide(notes: Sequence[Document], options: AdaptationOptions) -> tuple[list[Document], list[Document]]:
    """The notes to learn from, and those held out."""
    if len(notes) < _LEAST_NOTES:
        raise DataError(f"expected {_LEAST_NOTES} notes or more, one of which is held out; found {len(notes)}")
    order = sorted(notes, key=lambda note: note.id)
    random.Random(options.seed).shuffle(order)  # noqa: S311 - an order, not a secret
    count = max(1, round(len(order) * options.held_out))
    return order[count:], order[:count]


def _windows(notes: Sequence[Document], tokenizer: Any, plan: WindowPlan) -> list[list[int]]:
    """The ids of all windows, special ones included."""
    return [
        plan.ids(note, window) for note in encode_documents(notes, tokenizer) if note.ids for window in plan.cut(note)
    ]


class Lesson:
    """Guessing hidden sub-tokens.

    Attributes:
        model: An encoder with the part that guesses.
        masking: How sub-tokens are hidden.
        padding: The tokenizer's padding id.
        options: How to learn.
        device: Where it computes.
    """

    def __init__(self, model: Any, masking: Masking, padding: int, options: AdaptationOptions) -> None:
        self.masking, self.padding, self.options = masking, padding, options
        self.device = torch.device("cuda" if torch.cuda.is_available() and options.device != "cpu" else "cpu")
        self.model: Any = model.to(self.device)
        self._as_training = TrainingOptions(device=options.device, precision=options.precision)

    def perplexity(self, windows: Sequence[Sequence[int]]) -> float:
        """`exp` of the mean loss of a hidden sub-token; the same ones are hidden each time."""
        self.model.eval()
        total, count, chance = 0.0, 0, torch.Generator().manual_seed(self.options.seed)
        size = self.options.batch_size
        with torch.inference_mode():
            for start in range(0, len(windows), size):
                loss, guessed = self._loss(windows[start : start + size], chance)
                total, count = total + loss.item() * guessed, count + guessed
        return math.exp(total / max(1, count))

    def learn(self, windows: Sequence[Sequence[int]], *, progress: Progress = silent) -> int:
        """Make all passes over the windows; every pass hides other sub-tokens. Returns the steps.

        Raises:
            TrainingError: If the loss is not a number.
        """
        options, lengths = self.options, [len(window) for window in windows]
        steps = math.ceil(len(windows) / options.batch_size) * options.epochs
        optimizer = self._optimizer()
        schedule = get_scheduler("linear", optimizer, num_warmup_steps=round(_WARMUP * steps), num_training_steps=steps)
        chance, done = torch.Generator().manual_seed(options.seed + 1), 0
        self.model.train()
        for epoch in range(options.epochs):
            for batch in plan_batches(lengths, options.batch_size, seed=options.seed, epoch=epoch):
                loss, _ = self._loss([windows[index] for index in batch], chance)
                if not loss.isfinite():
                    raise TrainingError(f"the loss is {loss.item()} at step {done + 1}: try a lower learning rate")
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                done += 1
                progress("adapting", done, steps, detail=f"loss {loss.item():.4f}")
        return done

    def _optimizer(self) -> torch.optim.Optimizer:
        """AdamW; biases and norms do not decay."""
        groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for value in self.model.parameters():
            groups[value.ndim >= 2].append(value)
        rate = pick_learning_rate(self.options.learning_rate, self.model.config.hidden_size)
        decays = [{"params": values, "weight_decay": 0.01 * decays} for decays, values in groups.items()]
        return torch.optim.AdamW(decays, lr=rate, fused=True)

    def _loss(self, windows: Sequence[Sequence[int]], chance: torch.Generator) -> tuple[Tensor, int]:
        """The mean loss of the hidden sub-tokens of some windows, and how many there are."""
        shown, wanted = mask(pad(windows, self.padding), self.masking, chance)
        attention = pad([[1] * len(window) for window in windows], 0)
        guessed = wanted.ne(IGNORED)
        with (
            attention_without_cudnn(self.device),
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=reduced_precision(self._as_training)),
            only_at(self.model.base_model, guessed.to(self.device)),
        ):
            logits = self.model(input_ids=shown.to(self.device), attention_mask=attention.to(self.device)).logits
        target = wanted[guessed].to(self.device)
        total = nn.functional.cross_entropy(logits.float().flatten(0, 1), target, reduction="sum")
        return total / max(1, len(target)), len(target)  # of a few short windows, nothing may be hidden


@contextmanager
def only_at(encoder: nn.Module, places: Tensor) -> Iterator[None]:
    """Have an encoder pass on its states at some places only, as a row `(1, places, hidden)`.

    What guesses computes a score for each sub-token of the vocabulary: at all places, it would cost as much as the
    encoder.
    """

    def select(_: nn.Module, __: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[places][None]
        return output

    hook = encoder.register_forward_hook(select)
    try:
        yield
    finally:
        hook.remove()


def _save(encoder: MaskedLanguageModel, tokenizer: Any, result: Adaptation, options: AdaptationOptions) -> None:
    """Write the encoder's folder, whole or not at all."""
    place = result.output_dir
    settings = {name: getattr(options, name) for name in _RECORDED}
    record = {**result.to_dict(), "options": settings, "versions": installed_versions()}
    with staging(place) as stage:
        tokenizer.save_pretrained(stage)
        weights = {name: value.contiguous().cpu() for name, value in encoder.model.base_model.state_dict().items()}
        save_file(weights, stage / WEIGHTS, metadata={"format": "pt"})
        (stage / CONFIG).write_text(json.dumps(encoder.config, indent=2, default=str), encoding="utf-8")
        (stage / RECORD).write_text(json.dumps(record, indent=2), encoding="utf-8")
        grant_default_permissions(stage)
        publish(stage, place, sorted(path.name for path in stage.iterdir()), key=CONFIG)
