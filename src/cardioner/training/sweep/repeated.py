"""Train the same tagger several times: cross-validation over folds, several seeds, or both.

Each training is a member: a model directory of its own in one folder, beside `summary.json` with the settings and all
scores. `Predictor.from_pretrained` takes that folder for all its members.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from cardioner.data.documents import fingerprint
from cardioner.data.labels import LabelSet
from cardioner.data.splits import Splits, apply_splits, make_folds
from cardioner.errors import DataError, ModelError, UsageError
from cardioner.evaluation import Scores
from cardioner.model_dir.json_files import read_json
from cardioner.model_dir.layout import SUMMARY, TRAINING_ARGS
from cardioner.training.arguments import check_early_stopping
from cardioner.training.checkpoints import check_same
from cardioner.training.options import AUTO, TrainingOptions, current_names
from cardioner.training.run_metadata import WEIGHTLESS, TrainingResult
from cardioner.training.sweep.members import Member, Summary
from cardioner.training.sweep.runner import Sweep, settings_of
from cardioner.training.sweep.trial import Parts, Trial

EVALUATION = "evaluation notes"

_OTHERWISE = {"model", "class_weights", "tokenizer", "model_class", "folds", "data"}
"""Settings that the record of a member has in another form, or not at all."""

State: TypeAlias = Literal["started", "finished", "kept"]
Watch = Callable[[Member, State, TrainingResult | None], None]
"""Called when a member starts, when it is finished (with its result), and for one that was finished before."""


@dataclass(frozen=True, kw_only=True)
class RepeatedTraining:
    """Trainings that differ in their notes, in the seed, or both.

    Attributes:
        labels: The tags, the same for all members, so that they can be used as one model.
        output_dir: The folder for the members and `summary.json`.
        folds: Into how many folds the training notes are divided; each is scored by a member trained on all others.
        seeds: How many seeds, from that of the options on; with folds, that many members for each fold.
        arguments: Of `ModelTrainer`, but tags, output directory and options.
        options: Of every member, but for the seed; `resume` keeps members that are finished, and resumes others.
    """

    labels: LabelSet
    output_dir: Path
    folds: int | None = None
    seeds: int | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    options: TrainingOptions = field(default_factory=TrainingOptions)

    def train(self, parts: Parts, *, watch: Watch | None = None) -> Summary:
        """Train the members one after another, each scored once.

        With folds each member is scored on the fold that it has not seen, else on the test notes or, without any, on
        the evaluation notes.

        Args:
            parts: The notes.
            watch: Called with the members as they start and end.

        Raises:
            UsageError: If options exclude each other, or `resume` finds trainings with other settings or data.
            DataError: If the notes cannot be divided, or a fold would lack an entity type.
            OutputError: If the folder holds something else, or cannot be written.
        """
        by_fold = self._divide(parts)
        summary = Summary(self._request(parts), self._scored_on(parts), self._members(by_fold))
        sweep = self._open(summary)
        members = {member.name: self._kept(sweep, member, summary) for member in summary.members}
        show = watch or (lambda member, state, result: None)  # noqa: ARG005 - the contract
        for member in members.values():
            if member.scores is not None:
                show(member, "kept", None)
                continue
            show(member, "started", None)
            result = sweep.ready(self._trial(member, by_fold[member.fold])).train(self.output_dir)
            scores = result.evaluation if summary.scored_on == EVALUATION else result.test
            members[member.name] = finished = replace(member, epoch=result.best_epoch, scores=scores)
            sweep.write(SUMMARY, replace(summary, members=tuple(members.values())).to_dict())
            show(finished, "finished", result)
        summary = replace(summary, members=tuple(members.values()))
        sweep.write(SUMMARY, summary.to_dict())
        return summary

    # What is to be trained --------------------------------------------------------------------------------------------

    def _divide(self, parts: Parts) -> dict[int | None, Parts]:
        """The notes that each fold's members are trained and scored on."""
        if self.folds is None and self.seeds is None:
            raise UsageError("nothing is to be repeated: give folds, seeds, or both")
        if self.seeds is not None and self.seeds < 1:
            raise UsageError(f"expected 1 seed or more; found {self.seeds}")
        check_early_stopping(self.options, parts.evaluation)
        replace(self.options, seed=self.options.seed + (self.seeds or 1) - 1)  # which refuses a seed that is too large
        if self.folds is None:
            if not parts.evaluation and not parts.test:
                raise UsageError("several seeds are compared by their scores: give test or evaluation notes")
            return {None: parts}
        if parts.test:
            raise UsageError(
                "each fold tests the model that has not seen it: leave the test notes out, and score them with "
                "all models together when these are trained"
            )
        documents = list(parts.train)
        divided: dict[int | None, Parts] = {}
        for number, fold in enumerate(make_folds(documents, self.folds, seed=self.options.seed), 1):
            learned, held_out, _ = apply_splits(documents, Splits(fold.train, fold.validation))
            divided[number] = Parts(learned, parts.evaluation, held_out)
        self._check_types(divided)
        return divided

    def _check_types(self, divided: Mapping[int | None, Parts]) -> None:
        """Refuse folds without an entity type: it could not be scored, or not learned."""
        for number, part in divided.items():
            found = {span.label for document in part.test for span in document.spans}
            if lacking := sorted(set(self.labels.types) - found):
                raise DataError(
                    f"fold {number} of {self.folds} would have no entity of the type {', '.join(lacking)}: too few "
                    "documents have it. Take fewer folds, or leave the type out (--map TYPE=)"
                )

    def _members(self, by_fold: Mapping[int | None, Parts]) -> tuple[Member, ...]:
        """The members in the order of their training."""
        first = self.options.seed
        members = []
        for seed in range(first, first + (self.seeds or 1)):
            for fold, part in by_fold.items():
                names = [f"fold-{fold}"] * (fold is not None) + [f"seed-{seed}"] * (self.seeds is not None)
                members.append(Member("-".join(names), seed, fold, len(part.train)))
        return tuple(members)

    def _trial(self, member: Member, parts: Parts) -> Trial:
        options = replace(self.options, seed=member.seed, resume=False, overwrite=False)  # the sweep decides these two
        return Trial(name=member.name, labels=self.labels, parts=parts, arguments=self.arguments, options=options)

    def _scored_on(self, parts: Parts) -> str:
        if self.folds is not None:
            return "held-out folds"
        return "test notes" if parts.test else EVALUATION

    # What is there ----------------------------------------------------------------------------------------------------

    def _request(self, parts: Parts) -> dict[str, Any]:
        """The settings and a fingerprint of the data, as they are kept; how many seeds there are may change."""
        known = {"labels": self.labels.tags, "folds": self.folds, "data": fingerprint(parts)}
        return settings_of(self.arguments, self.options, without=WEIGHTLESS, **known)

    def _open(self, summary: Summary) -> Sweep:
        """Claim the folder, or refuse it."""
        asked = {name: getattr(self.options, name) for name in ("resume", "overwrite")}
        sweep = Sweep(folder=self.output_dir, state=SUMMARY, request=summary.request, **asked)
        before = sweep.read()
        sweep.claim([one.name for one in summary.members], known=[one["name"] for one in before.get("members", ())])
        if not before:
            sweep.write(SUMMARY, summary.to_dict())
        return sweep

    def _kept(self, sweep: Sweep, member: Member, summary: Summary) -> Member:
        """A member with its scores, if an earlier run finished it.

        Raises:
            ModelError: If its record lacks the scores.
            UsageError: If it was trained with other settings.
        """
        if not sweep.is_finished(member.name):
            return member
        place = self.output_dir / member.name
        record = read_json(place / TRAINING_ARGS)
        found = {**record, **current_names(record.get("options", {}))}
        wanted = {**_recorded(summary.request), "seed": member.seed}
        check_same({name: found.get(name) for name in wanted}, wanted, place)
        try:
            scores = Scores.from_dict(record["scores"]["evaluation" if summary.scored_on == EVALUATION else "test"])
        except (KeyError, TypeError):
            raise ModelError(f"{place / TRAINING_ARGS} lacks the scores: delete {place} to train it again") from None
        return replace(member, epoch=record.get("best_epoch", 0), scores=scores)


def _recorded(request: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a request that the record of each member has in the same form."""
    by_default = {name for name in ("learning_rate", "max_length") if request.get(name) is None}
    by_default |= {name for name in ("num_train_epochs",) if request.get(name) == AUTO}
    return {name: value for name, value in request.items() if name not in _OTHERWISE | by_default}
