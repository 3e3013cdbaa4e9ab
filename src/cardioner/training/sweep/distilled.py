"""The recipe `best`: several trainings that differ in the seed, and one model that learns from all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cardioner.data.labels import LabelSet
from cardioner.errors import OutputError, UsageError
from cardioner.model_dir.encoder import default_encoder
from cardioner.model_dir.findings import STUDENT_EPOCHS
from cardioner.model_dir.json_files import object_under, read_json
from cardioner.model_dir.layout import MEMBERS, SUMMARY, TRAINING_ARGS
from cardioner.multiclass.modeling import TokenClassificationModel
from cardioner.training.checkpoints import CHECKPOINTS, check_output_dir, drop, drop_members, is_finished
from cardioner.training.distillation import manifests_of
from cardioner.training.distributed import barrier, rank
from cardioner.training.document_digests import check_key_place
from cardioner.training.options import BEST, Distillation, TrainingOptions
from cardioner.training.run_metadata import TrainingResult
from cardioner.training.sweep.members import Summary
from cardioner.training.sweep.repeated import RepeatedTraining, Watch
from cardioner.training.sweep.trial import Parts
from cardioner.training.trainer import ModelTrainer

SEEDS = 3
"""Members that the model learns from."""


@dataclass(frozen=True, kw_only=True)
class DistilledTraining:
    """Trainings with three seeds, and one of a model like them that learns from them and from the annotations.

    Until the model is written, the members are in a hidden folder of `output_dir`; then they are deleted.

    Attributes:
        labels: The tags.
        output_dir: The model directory to write.
        arguments: Of `ModelTrainer`, but tags, output directory and options; the same for all four trainings, but that
            the last one makes twice as many passes over the notes.
        options: Of all trainings; the seeds of the members count from the one here. `resume` continues an interrupted
            training.
    """

    labels: LabelSet
    output_dir: Path
    arguments: Mapping[str, Any] = field(default_factory=dict)
    options: TrainingOptions = field(default_factory=TrainingOptions)

    @property
    def finished(self) -> bool:
        """Whether `resume` finds the model there, though perhaps its members too."""
        if not (self.options.resume and is_finished(self.output_dir)):
            return False
        record = object_under(read_json(self.output_dir / TRAINING_ARGS), "distillation")
        learned_from = {"recipe": record.get("recipe"), "manifests": record.get("manifests")}
        return not self._begun or learned_from == {"recipe": BEST, "manifests": manifests_of(self._teachers)}

    @property
    def _members(self) -> Path:
        return self.output_dir / MEMBERS

    @property
    def _begun(self) -> bool:
        return (self._members / SUMMARY).is_file()

    @property
    def _teachers(self) -> list[Path]:
        """The members; none unless all are finished."""
        names = [member["name"] for member in read_json(self._members / SUMMARY).get("members", ())]
        places = [self._members / name for name in names]
        return places if all(map(is_finished, places)) else []

    def train(self, parts: Parts, *, watch: Watch | None = None) -> TrainingResult:
        """Train the members, scored on the evaluation notes, and the model, scored on the test notes.

        Args:
            parts: The notes.
            watch: Called with the members as they start and end.

        Raises:
            UsageError: If there are no evaluation notes, options exclude each other, or `resume` finds a training
                with other settings or data.
            OutputError: If the output directory holds something else, or cannot be written.
        """
        self.train_members(parts, watch=watch)
        result = ModelTrainer(**self.student()).train(parts.train, parts.test, parts.evaluation)
        self.drop_members()
        return result

    def train_members(self, parts: Parts, *, watch: Watch | None = None) -> Summary:
        """As `train`, the members alone; those that an interrupted training finished are kept."""
        self._claim(parts)
        barrier()  # before the first process makes what another would take for something to resume
        members = RepeatedTraining(
            labels=self.labels,
            output_dir=self._members,
            seeds=SEEDS,
            arguments=self.arguments,
            options=self.options,
        )
        return members.train(parts._replace(test=()), watch=watch)

    def student(self) -> dict[str, Any]:
        """The arguments of `ModelTrainer` for the model that learns from the members.

        Raises:
            UsageError: If they are not trained yet.
        """
        barrier()  # the first process says, in a file, which members there are
        if not self._teachers:
            raise UsageError("the model learns from members: train_members() comes first")
        epochs = read_json(self._teachers[0] / TRAINING_ARGS)["num_train_epochs"]
        resume = self.options.resume and (self.output_dir / CHECKPOINTS).is_dir()
        overwrite = not resume and (self.options.overwrite or self.options.resume)
        return {
            **self.arguments,
            "label2id": self.labels.label2id,
            "output_dir": self.output_dir,
            "model": self.arguments.get("model") or default_encoder(),  # a student would begin as its first teacher
            "num_train_epochs": STUDENT_EPOCHS * epochs,
            "options": replace(self.options, resume=resume, overwrite=overwrite),
            "distillation": Distillation(teachers=self._teachers, recipe=BEST),
        }

    def drop_members(self) -> None:
        """Delete the members, which the model no longer needs."""
        barrier()  # before the first process deletes what another still reads
        if rank() == 0:
            drop_members(self.output_dir)

    def _claim(self, parts: Parts) -> None:
        """Refuse, before hours of training, what would fail at the end of them, and leave nothing else to resume."""
        if not parts.evaluation:
            raise UsageError("the recipe best needs evaluation notes, which pick the epochs: give them (--eval)")
        if self.options.attributes_only or "distillation" in self.arguments:
            raise UsageError(
                "the recipe best takes neither attributes_only nor teachers: leave them out, or the recipe"
            )
        check_key_place(self.options.data_key, self.output_dir)
        if self.finished:
            self.drop_members()
            raise OutputError(f"the training in {self.output_dir} is finished: there is nothing to resume")
        resumed = self.options.resume and self._begun
        if self.options.resume and not resumed and (self.output_dir / CHECKPOINTS).is_dir():
            raise UsageError(
                f"the training in {self.output_dir} was started without the recipe best: resume it without, or choose "
                "another output directory"
            )
        if self._members.exists() and not self._begun:
            raise OutputError(f"{self._members} is not of a training: choose another output directory, or move it away")
        options = replace(self.options, resume=False, overwrite=resumed or self.options.overwrite)
        kind = self.arguments.get("model_class") or TokenClassificationModel
        check_output_dir(self.output_dir, options, model_class=kind, after_members=True)
        if resumed:
            return
        ModelTrainer(**self.arguments, label2id=self.labels.label2id, output_dir=self.output_dir, options=options)
        if rank() == 0:
            drop(self.output_dir / CHECKPOINTS)
