"""Train the same tagger several times: cross-validation over folds, several seeds, or both.

Each training is a member: a model directory of its own in one folder, beside `summary.json` with the settings and all
scores. `Predictor.from_pretrained` takes that folder for all its members.
"""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from cardioner._io import reporting_failed_writes, writing
from cardioner.data.documents import Document, fingerprint
from cardioner.data.labels import LabelSet
from cardioner.data.splits import Splits, apply_splits, make_folds
from cardioner.errors import DataError, ModelError, OutputError, UsageError
from cardioner.evaluation import Scores
from cardioner.model_dir.encoder import name_of
from cardioner.model_dir.json_files import read_json
from cardioner.model_dir.layout import CONFIG, TRAINING_ARGS
from cardioner.prediction.ensemble import SUMMARY
from cardioner.training.checkpoints import CHECKPOINTS, check_same, is_finished
from cardioner.training.distributed import rank
from cardioner.training.options import TrainingOptions
from cardioner.training.run_metadata import WEIGHTLESS, TrainingResult
from cardioner.training.sweep.members import Member, Summary
from cardioner.training.trainer import ModelTrainer

EVALUATION = "evaluation notes"

_BY_DEFAULT = {"learning_rate", "max_length"}
"""Arguments of which the record has the value that was found for them."""
_RESOLVED = {*_BY_DEFAULT, "model", "class_weights", "tokenizer", "hf_token", "model_class"}
"""Arguments that the record has in another form, or not at all."""

State: TypeAlias = Literal["begun", "finished", "kept"]


class Notes(NamedTuple):
    """Documents to learn from, to pick epochs with, and to score at the end."""

    train: Sequence[Document]
    evaluation: Sequence[Document] = ()
    test: Sequence[Document] = ()


Watch = Callable[[Member, State, TrainingResult | None], None]
"""Called when a member begins, when it is finished (with its result), and for one that was finished before."""


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """Trainings that differ in what they learn from, in the seed, or both.

    Attributes:
        labels: The tags, the same for all members, so that they can be used as one.
        output_dir: The folder for the members and `summary.json`.
        folds: Into how many folds the training documents are divided; a member each, which learns from all others.
        seeds: How many seeds, from that of the options on; with folds, that many members for each.
        arguments: Of `ModelTrainer`, but tags, output directory and options.
        options: Of every member, but for the seed; `resume` keeps members that are finished, and goes on with others.
    """

    labels: LabelSet
    output_dir: Path
    folds: int | None = None
    seeds: int | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    options: TrainingOptions = field(default_factory=TrainingOptions)

    def train(self, notes: Notes, *, watch: Watch | None = None) -> Summary:
        """Train the members one after another, each scored once.

        With folds the scores are those of the fold that the member has not seen, else those of the test documents or,
        without any, of the evaluation documents.

        Args:
            notes: The documents.
            watch: Told of the members.

        Raises:
            UsageError: If the wishes exclude each other, or `resume` finds trainings with other settings or data.
            DataError: If the documents cannot be divided, or a fold would lack an entity type.
            OutputError: If the folder holds something else, or cannot be written.
        """
        parts = self._parts(notes)
        summary = Summary(self._request(notes), self._scored_on(notes), self._members(parts))
        self._open(summary)
        members = [self._kept(member, summary.scored_on) for member in summary.members]
        for place, member in enumerate(members):
            if member.scores is not None:
                _tell(watch, member, "kept", None)
                continue
            _tell(watch, member, "begun", None)
            result = self._fit(member, parts[member.fold])
            scores = result.evaluation if summary.scored_on == EVALUATION else result.test
            members[place] = replace(member, epoch=result.best_epoch, scores=scores)
            self._write(replace(summary, members=tuple(members)))
            _tell(watch, members[place], "finished", result)
        summary = replace(summary, members=tuple(members))
        self._write(summary)
        return summary

    # What is to be trained --------------------------------------------------------------------------------------------

    def _parts(self, notes: Notes) -> dict[int | None, Notes]:
        """What each fold's members learn from and are scored on."""
        if self.folds is None and self.seeds is None:
            raise UsageError("nothing is to be repeated: give folds, seeds, or both")
        if self.seeds is not None and self.seeds < 1:
            raise UsageError(f"expected 1 seed or more; found {self.seeds}")
        replace(self.options, seed=self.options.seed + (self.seeds or 1) - 1)  # which refuses a seed that is too large
        if self.folds is None:
            if not notes.evaluation and not notes.test:
                raise UsageError("several seeds are compared by their scores: give test or evaluation notes")
            return {None: notes}
        if notes.test:
            raise UsageError(
                "each fold tests the model that has not seen it: leave the test notes out, and score them with "
                "all models together when these are trained"
            )
        documents = list(notes.train)
        divided: dict[int | None, Notes] = {}
        for number, fold in enumerate(make_folds(documents, self.folds, seed=self.options.seed), 1):
            learned, held_out, _ = apply_splits(documents, Splits(fold.train, fold.validation))
            divided[number] = Notes(learned, notes.evaluation, held_out)
        self._check_types(divided)
        return divided

    def _check_types(self, divided: Mapping[int | None, Notes]) -> None:
        """Refuse folds without an entity type: nothing could be said of it, or nothing learned."""
        for number, part in divided.items():
            found = {span.label for document in part.test for span in document.spans}
            if lacking := sorted(set(self.labels.types) - found):
                raise DataError(
                    f"fold {number} of {self.folds} would have no entity of the type {', '.join(lacking)}: too few "
                    "documents have it. Take fewer folds, or leave the type out (--map TYPE=)"
                )

    def _members(self, parts: Mapping[int | None, Notes]) -> tuple[Member, ...]:
        """The trainings in their order."""
        first = self.options.seed
        members = []
        for seed in range(first, first + (self.seeds or 1)):
            for fold, part in parts.items():
                names = [f"fold-{fold}"] * (fold is not None) + [f"seed-{seed}"] * (self.seeds is not None)
                members.append(Member("-".join(names), seed, fold, len(part.train)))
        return tuple(members)

    def _scored_on(self, notes: Notes) -> str:
        if self.folds is not None:
            return "held-out folds"
        return "test notes" if notes.test else EVALUATION

    def _request(self, notes: Notes) -> dict[str, Any]:
        """The settings and a digest of the data, as they are kept; how many seeds there are may change."""
        arguments = {name: value for name, value in self.arguments.items() if name != "hf_token"}
        if arguments.get("model") is not None:
            arguments["model"] = name_of(arguments["model"])
        data = {"labels": self.labels.tags, "folds": self.folds, "data": fingerprint(notes)}
        return _plain({**arguments, **self._decisive(), **data})

    # The folder -------------------------------------------------------------------------------------------------------

    def _open(self, summary: Summary) -> None:
        """Make the folder ready, or refuse it."""
        if rank() > 0:
            return
        if (self.output_dir / CONFIG).exists() or self.output_dir.is_file():
            raise OutputError(f"{self.output_dir} holds a model, or is a file: models need a folder of their own")
        before = read_json(self.output_dir / SUMMARY)
        if before and not isinstance(before.get("request"), dict):
            raise OutputError(f"{self.output_dir / SUMMARY} is no summary of trainings: choose another folder")
        if self.options.resume:
            check_same(before.get("request", summary.request), summary.request, self.output_dir)
        elif self.options.overwrite:
            self._clear(summary.members)
        elif any(any(self.output_dir.glob(f"*/{place}{CONFIG}")) for place in ("", f"{CHECKPOINTS}/*/")):
            raise OutputError(
                f"{self.output_dir} holds repeated trainings: go on with them with --resume (resume=True), choose "
                "another folder, or pass --overwrite (overwrite=True)"
            )
        if not before or not self.options.resume:
            self._write(summary)

    def _clear(self, members: Iterable[Member]) -> None:
        """Have nothing of an earlier run taken for this one's: a directory without its configuration is no model."""
        with reporting_failed_writes(self.output_dir):
            for member in members:
                (self.output_dir / member.name / CONFIG).unlink(missing_ok=True)
                shutil.rmtree(self.output_dir / member.name / CHECKPOINTS, ignore_errors=True)

    def _write(self, summary: Summary) -> None:
        if rank() == 0:
            content = json.dumps(summary.to_dict(), indent=2, ensure_ascii=False) + "\n"
            with writing(self.output_dir / SUMMARY, overwrite=True) as file:
                file.write(content.encode())

    def _kept(self, member: Member, scored_on: str) -> Member:
        """A member with its scores, if an earlier run finished it and this one goes on from there.

        Raises:
            ModelError: If its record lacks the scores.
            UsageError: If it was trained with other settings.
        """
        place = self.output_dir / member.name
        if not (self.options.resume and is_finished(place)):
            return member
        record = read_json(place / TRAINING_ARGS)
        self._check_record(record, member, place)
        try:
            scores = Scores.from_dict(record["scores"]["evaluation" if scored_on == EVALUATION else "test"])
        except (KeyError, TypeError):
            raise ModelError(f"{place / TRAINING_ARGS} lacks the scores: delete {place} to train it again") from None
        return replace(member, epoch=record.get("best_epoch", 0), scores=scores)

    def _check_record(self, record: Mapping[str, Any], member: Member, place: Path) -> None:
        """Refuse a model that was trained with other settings; those that are recorded otherwise are not compared."""
        arguments = {name: value for name, value in self.arguments.items() if name not in _RESOLVED}
        arguments |= {name: self.arguments[name] for name in _BY_DEFAULT if self.arguments.get(name) is not None}
        wanted = _plain({**arguments, **self._decisive(), "seed": member.seed, "labels": self.labels.tags})
        found = {**record, **record.get("options", {})}
        check_same({name: found.get(name) for name in wanted}, wanted, place)

    def _decisive(self) -> dict[str, Any]:
        """The options that decide what is learned."""
        options = ((part.name, getattr(self.options, part.name)) for part in fields(self.options))
        return {name: value for name, value in options if name not in WEIGHTLESS}

    # A training -------------------------------------------------------------------------------------------------------

    def _fit(self, member: Member, notes: Notes) -> TrainingResult:
        """Train one member, and keep nothing of it but the result."""
        place = self.output_dir / member.name
        begun = self.options.resume and (place / CHECKPOINTS).is_dir()
        # Where nothing was begun there may be files of a model that was to be replaced.
        overwrite = self.options.overwrite or (self.options.resume and not begun)
        trainer = ModelTrainer(
            label2id=self.labels.label2id,
            output_dir=place,
            options=replace(self.options, seed=member.seed, resume=begun, overwrite=overwrite),
            **self.arguments,
        )
        result = trainer.train(notes.train, notes.test, notes.evaluation)
        del trainer
        gc.collect()  # the model and the loop know each other
        return result


def _tell(watch: Watch | None, member: Member, state: State, result: TrainingResult | None) -> None:
    if watch is not None:
        watch(member, state, result)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as JSON has them."""
    plain: dict[str, Any] = json.loads(json.dumps(values, default=_named))
    return plain


def _named(value: Any) -> str:
    """What JSON cannot hold, such as a class, by its name."""
    return getattr(value, "__qualname__", type(value).__qualname__)
