"""One training of a sweep. Importing this is quick: a process that is started for a trial may never come to train."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cardioner.data.documents import Document
from cardioner.data.labels import LabelSet
from cardioner.training.options import TrainingOptions

if TYPE_CHECKING:
    from cardioner.training.run_metadata import TrainingResult


class Parts(NamedTuple):
    """The parts of a corpus.

    Attributes:
        train: Notes to train on.
        evaluation: Notes that pick the best epoch.
        test: Notes to score once, at the end.
    """

    train: Sequence[Document]
    evaluation: Sequence[Document] = ()
    test: Sequence[Document] = ()


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training of a sweep.

    Attributes:
        name: Of its model directory in the sweep's folder.
        labels: The tags.
        parts: The notes.
        arguments: Of `ModelTrainer`, but tags, output directory and options.
        options: Of this training.
    """

    name: str
    labels: LabelSet
    parts: Parts
    arguments: Mapping[str, Any] = field(default_factory=dict)
    options: TrainingOptions = field(default_factory=TrainingOptions)

    def train(self, folder: Path) -> TrainingResult:
        """Train to a model directory in a folder, and keep nothing but the result."""
        from cardioner.training.trainer import ModelTrainer  # noqa: PLC0415 - imports torch

        trainer = ModelTrainer(
            label2id=self.labels.label2id, output_dir=folder / self.name, options=self.options, **self.arguments
        )
        result = trainer.train(self.parts.train, self.parts.test, self.parts.evaluation)
        del trainer
        gc.collect()  # the model and the training loop refer to each other
        return result
