"""Distillation: a student learns from what its teachers compute, beside annotations or without any.

Teachers and student read the same windows. The loss is the Kullback-Leibler divergence between their distributions over
whole tag sequences, which needs nothing of a teacher but the expected number of each tag at each position and of each
transition (Wang et al. 2021, Structural Knowledge Distillation). Expectations of several teachers are averaged: what
the student learns is the mixture of their distributions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cardioner._progress import Progress
from cardioner.data.labels import LabelSet
from cardioner.errors import ModelError, UsageError
from cardioner.model_dir.json_files import read_object
from cardioner.model_dir.layout import MANIFEST
from cardioner.model_dir.load import read_model_dir
from cardioner.model_dir.positions import max_positions
from cardioner.multiclass.crf import CRF, legal_transitions
from cardioner.multiclass.crf_recursions import by_row, counts, last_positions, log_partition
from cardioner.multiclass.inference import batch_tokens_for, pad
from cardioner.multiclass.modeling import TokenClassificationModel
from cardioner.multiclass.windows import in_batches
from cardioner.prediction.directories import model_directories
from cardioner.prediction.engines.torch import TorchEngine
from cardioner.training.arguments import complete
from cardioner.training.features import Feature
from cardioner.training.hf_trainer import SpanTrainer
from cardioner.training.initialization import Start
from cardioner.training.options import Distillation, TrainerArguments


class Expectations(NamedTuple):
    """What a distribution over the tag sequences of windows says, as far as a student learns from it.

    Tags per type have a distribution each, which are independent: `labels` are the tags of all types side by side.

    Attributes:
        marginals: The probability of each tag at each position, `(batch, length, labels)`, 0 behind a row's end.
        pairs: How often each tag is expected to follow each of its type, `(batch, labels, tags)`, from row to column.
        entropy: Of the distribution, in nats, `(batch)`; of several distributions the mean.
    """

    marginals: Tensor
    pairs: Tensor
    entropy: Tensor


def sequence_layer(model: TokenClassificationModel, legal: Any = None) -> CRF:
    """What makes a distribution over tag sequences of a model's emissions: its CRF, or one whose parameters are 0.

    Args:
        model: A model of `modeling.py`.
        legal: The sequences that a model without a CRF is restricted to; by default all, so that tags are independent.
    """
    if model.uses_crf:
        return model.crf
    made = CRF(model.tags_of_each, batch_first=True, legal=legal, types=model.types)
    return made.to(model.device).requires_grad_(False)


@torch.no_grad()
def expectations(crf: CRF, emissions: Tensor, mask: Tensor, *, temperature: float) -> Expectations:
    """The expectations of a distribution.

    Args:
        crf: What makes a distribution of emissions.
        emissions: `(batch, length, labels)`.
        mask: `(batch, length)`: 1 on the positions of a window, 0 behind them.
        temperature: Divides emissions and parameters.
    """
    emissions, kept, parameters = _scaled(crf, emissions, mask, temperature)
    value, marginals, pairs = counts(emissions, kept, *parameters)
    entropy = crf.by_sequence(value - _expected_score(marginals, pairs, emissions, kept, parameters))
    fields = (crf.types or 1, -1)  # (types, batch) from the rows of all types
    marginals = marginals.reshape(*fields, *marginals.shape[1:]).movedim(0, 2).flatten(2)  # (batch, length, labels)
    pairs = pairs.reshape(*fields, *pairs.shape[1:]).movedim(0, 1).flatten(1, 2)  # (batch, labels, tags)
    return Expectations(marginals, pairs, entropy)


def mean(several: Sequence[Expectations]) -> Expectations:
    """The expectations of the mixture of distributions, and the mean of their entropies."""
    return Expectations(*(torch.stack(parts).mean(0) for parts in zip(*several, strict=True)))


def divergence(crf: CRF, emissions: Tensor, mask: Tensor, target: Expectations, *, temperature: float) -> Tensor:
    """The Kullback-Leibler divergence of a student's distribution from its teacher's, in nats, `(batch)`.

    Of several teachers it is the mean of the divergences from each; its gradient is that of the divergence from their
    mixture.

    Args:
        crf: The student's.
        emissions: The student's, `(batch, length, labels)`.
        mask: `(batch, length)`: 1 on the positions of a window, 0 behind them.
        target: What the teacher expects at this temperature.
        temperature: Divides emissions and parameters.
    """
    emissions, kept, parameters = _scaled(crf, emissions, mask, temperature)
    fields = (crf.types or 1, crf.num_tags)
    marginals, pairs = target.marginals, target.pairs
    marginals = marginals.view(*marginals.shape[:2], *fields).movedim(2, 0).flatten(0, 1)  # the rows of all types
    pairs = pairs.view(len(pairs), *fields, crf.num_tags).movedim(1, 0).flatten(0, 1)
    score = _expected_score(marginals, pairs, emissions, kept, parameters)
    return crf.by_sequence(log_partition(emissions, kept, *parameters) - score) - target.entropy


def _scaled(
    crf: CRF, emissions: Tensor, mask: Tensor, temperature: float
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Emissions, which positions are kept, and parameters, as the recursions take them."""
    emissions, kept, _, _ = crf.arrange(emissions, mask)
    start, transitions, end = crf.parameters_for(emissions)
    return emissions / temperature, kept, (start / temperature, transitions / temperature, end / temperature)


def _expected_score(
    marginals: Tensor, pairs: Tensor, emissions: Tensor, kept: Tensor, parameters: tuple[Tensor, Tensor, Tensor]
) -> Tensor:
    """The mean score of a tag sequence, `(batch)`; an illegal transition counts 0 times, whatever its score."""
    start, transitions, end = (by_row(scores, len(kept)) for scores in parameters)
    first, last = marginals[:, 0], last_positions(kept)
    final = marginals[torch.arange(len(last), device=last.device), last]  # (batch, tags)
    moves = (pairs * transitions).sum((1, 2))
    return (marginals * emissions).sum((1, 2)) + (first * start + final * end).sum(1) + moves


# Teachers ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a student is to learn.

    Attributes:
        targets: What the teachers expect in each window, on the CPU.
        weight: Share of the teachers in the loss on annotated notes.
        temperature: Divides all scores before they are compared.
    """

    targets: Sequence[Expectations]
    weight: float
    temperature: float

    def of(self, windows: Sequence[int], device: torch.device) -> Expectations:
        """What the teachers expect in some windows, padded to the longest."""
        chosen = [self.targets[index] for index in windows]
        marginals = pad_sequence([target.marginals for target in chosen], batch_first=True)
        pairs, entropy = (torch.stack([target[part] for target in chosen]) for part in (1, 2))
        return Expectations(marginals.to(device), pairs.to(device), entropy.to(device))


@dataclass(frozen=True, slots=True)
class Teachers:
    """Trained models with the same tags and the same tokenizer.

    Attributes:
        models: The models, on the CPU.
        directories: Where they were read.
        identity: What their tokenizers have in common.
        settings: How they teach.
    """

    models: tuple[TokenClassificationModel, ...]
    directories: tuple[Path, ...]
    identity: tuple[Any, ...]
    settings: Distillation

    @classmethod
    def read(cls, settings: Distillation) -> Teachers:
        """Load the teachers.

        Raises:
            ModelError: If one cannot be read, or they do not have the same tags and the same tokenizer.
        """
        places = model_directories(settings.teachers)
        loaded = [read_model_dir(place, device="cpu") for place in places]
        identities = [TorchEngine(model, tokenizer).identity for model, tokenizer, _ in loaded]
        for place, (_, _, config), identity in zip(places, loaded, identities, strict=True):
            if config.tags != loaded[0].config.tags:
                raise ModelError(
                    f"expected teachers with the same tags; {places[0]} has {', '.join(loaded[0].config.tags)}, and "
                    f"{place} has {', '.join(config.tags)}"
                )
            if identity != identities[0]:
                raise ModelError(f"expected teachers with the same tokenizer; {places[0]} and {place} have two")
        return cls(tuple(one.model for one in loaded), tuple(places), identities[0], settings)

    @property
    def labels(self) -> LabelSet:
        """Their tags."""
        return LabelSet(tuple(self.models[0].config.tags))

    def complete(self, given: TrainerArguments) -> TrainerArguments:
        """A student's arguments: what is not given is the first teacher's, or what all teachers read."""
        first = self.models[0].config
        shortest = min(model.config.window_length for model in self.models)
        return complete(given, first, model=self.directories[0], max_length=shortest)

    def check_student(self, start: Start, labels: LabelSet) -> None:
        """Refuse a student that cannot learn from these teachers.

        Raises:
            UsageError: If it has other tags, another tokenizer, or windows that a teacher cannot read.
        """
        if labels != self.labels:
            raise UsageError(
                f"a student has the tags of its teachers: {', '.join(self.labels.tags)}; found {', '.join(labels.tags)}"
            )
        if TorchEngine(start.model, start.tokenizer).identity != self.identity:
            raise UsageError(
                f"a student has the tokenizer of its teachers, whose probabilities are of sub-tokens; {start.source} "
                f"has another one than {self.directories[0]}: choose a backbone with the same, or keep layers of the "
                "teacher's own"
            )
        for place, model in zip(self.directories, self.models, strict=True):
            limit, length = max_positions(model.config.encoder_config), start.model.config.window_length
            if limit is not None and length > limit:
                raise UsageError(
                    f"max_length {length} is more than the {limit} sub-tokens that {place} reads at a time"
                )

    def record(self) -> dict[str, Any]:
        """What the model records of its teachers: the digest of each manifest, and no path."""
        return {
            "manifests": manifests_of(self.directories),
            "teacher_weight": self.settings.teacher_weight,
            "teacher_temperature": self.settings.teacher_temperature,
            **({} if self.settings.recipe is None else {"recipe": self.settings.recipe}),
        }

    def teach(self, features: Sequence[Feature], student: Start, *, device: torch.device, progress: Progress) -> Lesson:
        """Read each window once.

        Args:
            features: The windows.
            student: Who learns; one with a CRF gets only legal sequences from teachers without.
            device: Where the teachers compute.
            progress: Called with how many windows are done.
        """
        legal = legal_transitions(list(self.labels.groups[0].tags)) if student.model.uses_crf else None
        targets: dict[int, Expectations] = {}
        try:
            layers = [(model.to(device), sequence_layer(model, legal)) for model in self.models]
            padding = student.tokenizer.pad_token_id or 0
            for batch in in_batches(
                range(len(features)), lambda index: len(features[index]["input_ids"]), batch_tokens_for(device)
            ):
                rows = [features[index]["input_ids"] for index in batch]
                targets.update(zip(batch, self._expect(layers, rows, padding), strict=True))
                progress("reading with the teachers", len(targets), len(features), detail="")
        finally:
            for model in self.models:
                model.to("cpu")
        ordered = [targets[index] for index in range(len(features))]
        return Lesson(ordered, self.settings.teacher_weight, self.settings.teacher_temperature)

    @torch.no_grad()
    def _expect(
        self, layers: Sequence[tuple[TokenClassificationModel, CRF]], rows: Sequence[Sequence[int]], padding: int
    ) -> Iterator[Expectations]:
        """What the teachers expect in each of some windows, on the CPU."""
        device = layers[0][0].device
        ids, mask = pad(rows, padding).to(device), pad([[1] * len(row) for row in rows], 0).to(device)
        found = mean(
            [
                expectations(
                    crf,
                    model(input_ids=ids, attention_mask=mask).logits.float(),
                    mask,
                    temperature=self.settings.teacher_temperature,
                )
                for model, crf in layers
            ]
        )
        marginals, pairs, entropy = (part.cpu() for part in found)
        for index, row in enumerate(rows):  # copies, which do not keep the batch alive
            yield Expectations(marginals[index, : len(row)].clone(), pairs[index].clone(), entropy[index].clone())


def manifests_of(directories: Sequence[Path]) -> list[str | None]:
    """The digest of the manifest of each of some models; `None` for one without."""
    return [
        read_object(place / MANIFEST).get("digest") if (place / MANIFEST).is_file() else None for place in directories
    ]


class DistillingTrainer(SpanTrainer):
    """Learns from teachers in every window, and from the labels where there are any."""

    def __init__(self, *, lesson: Lesson, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.lesson = lesson
        self.crf = sequence_layer(self.model)

    def _loss(self, outputs: Any, inputs: Mapping[str, Tensor], windows: Sequence[int]) -> Tensor:
        """The mean over all positions of the divergence from the teachers and the loss of the labels, weighted.

        The divergence is multiplied by the square of the temperature, by which its gradients shrink (Hinton et al.
        2015, Distilling the Knowledge in a Neural Network).
        """
        lesson, mask = self.lesson, inputs["attention_mask"]
        target = lesson.of(windows, outputs.logits.device)
        taught = divergence(self.crf, outputs.logits, mask, target, temperature=lesson.temperature).sum()
        labelled = super()._loss(outputs, inputs, windows) * super()._weigh(inputs)
        total: Tensor = lesson.weight * lesson.temperature**2 * taught + (1 - lesson.weight) * labelled
        return total / self._weigh(inputs)

    def _weigh(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Every position weighs the same, labelled or not."""
        return batch["attention_mask"].sum()
