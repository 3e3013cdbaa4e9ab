"""What the record of a training says, in the form that a page shows; what an older record lacks is left out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, TypeGuard

from cardioner.evaluation.scores import Scores
from cardioner.model_dir.json_files import object_under
from cardioner.multiclass.tagging import types_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


PARTS = ("evaluation", "test")
_SHOWN_ELSEWHERE = (
    "best_epoch", "calibration", "documents", "epochs", "epochs_chosen", "history", "inference", "labels",
    "loss_of_quarters", "scores", "seconds", "training_data", "versions", "warning",
)  # fmt: skip
_SECRETS = ("hf_token", "token")


@dataclass(frozen=True, slots=True)
class Epoch:
    """An epoch whose model was scored.

    Attributes:
        number: Counted from 1.
        step: Its last step; `None` in a record without history.
        loss: Mean of what was logged in it; `None` likewise.
        scores: Of the evaluation notes after it.
        saved: Whether its model is the saved one.
    """

    number: int
    step: int | None
    loss: float | None
    scores: Scores
    saved: bool


@dataclass(frozen=True, slots=True)
class Content:
    """What the page shows.

    Attributes:
        record: All of the record.
        types: Entity types, sorted.
        parts: Scores of the saved model by part of the data.
        epochs: Those that were scored.
        history: Rows by step: of the loss (`loss`, `learning_rate`, `grad_norm`), and of scores (`f1`).
        unread: How many scores are in a form that this version cannot read.
    """

    record: Mapping[str, Any]
    types: tuple[str, ...]
    parts: Mapping[str, Scores]
    epochs: tuple[Epoch, ...]
    history: tuple[Mapping[str, Any], ...]
    unread: int

    @property
    def trained(self) -> bool:
        """Whether the model was trained at all."""
        return any(name in self.record for name in ("training_data", "epochs", "history"))

    @property
    def notes(self) -> dict[str, tuple[int | None, int]]:
        """How many notes and spans each part of the data had, as far as it is recorded."""
        return {
            name: (found.get("documents"), sum(object_under(found, "spans").values())) for name, found in self._data
        }

    @property
    def digests(self) -> dict[str, str]:
        """Of the notes of each part, where a key was given."""
        return {name: found["digest"] for name, found in self._data if found.get("digest")}

    @property
    def _data(self) -> list[tuple[str, Mapping[str, Any]]]:
        documents = object_under(self.record, "documents")
        return [(name, found) for name, found in documents.items() if isinstance(found, dict)]

    @property
    def head(self) -> str:
        """The head and how tags are decoded, in words."""
        widths = self.record.get("classifier_hidden_layers")
        layers = f"an MLP head of {', '.join(f'{width:,}' for width in widths)}" if widths else "a linear head"
        return f"{layers} and a CRF" if self.record.get("use_crf") else f"{layers}, no CRF"

    @property
    def settings(self) -> dict[str, str]:
        """What was asked for, by full name, the newer options after the documented arguments."""
        left_out = (*_SHOWN_ELSEWHERE, *_SECRETS, "options")
        given = {name: value for name, value in sorted(self.record.items()) if name not in left_out}
        given |= dict(sorted(object_under(self.record, "options").items()))
        return {name: _shown(value) for name, value in given.items()}

    def curve(self, name: str) -> list[tuple[float, float]]:
        """Steps and values of something logged, without values that are no numbers."""
        rows = [(row["step"], row.get(name)) for row in self.history]
        return [(step, value) for step, value in rows if _is_number(value)]

    @property
    def steps(self) -> float:
        """Steps of the optimizer, as far as they were logged."""
        return max((row["step"] for row in self.history), default=0)

    @property
    def gradient_limit(self) -> float | None:
        """The norm to which longer gradients were scaled down."""
        limit = object_under(self.record, "options").get("max_gradient_norm")
        return limit if _is_number(limit) else None

    @property
    def saved_epoch(self) -> Epoch | None:
        """The epoch whose model is saved, if it was scored."""
        return next((epoch for epoch in self.epochs if epoch.saved), None)


def read_record(record: Mapping[str, Any]) -> Content:
    """Take apart the content of a `training_args.json`, of any version."""
    given = object_under(record, "scores")
    parts = {name: _scores(given[name]) for name in PARTS if name in given}
    epochs = [_scores(found) for found in _list(record, "epochs")]
    history = [row for row in _list(record, "history") if isinstance(row, dict) and _is_number(row.get("step"))]
    return Content(
        record=record,
        types=tuple(types_of(_list(record, "labels"))),
        parts={name: found for name, found in parts.items() if found is not None},
        epochs=tuple(_epochs(epochs, history, record.get("best_epoch"))),
        history=tuple(history),
        unread=sum(found is None for found in [*parts.values(), *epochs]),
    )


def _list(record: Mapping[str, Any], name: str) -> list[Any]:
    """What a record has under a name, where that is a list."""
    found = record.get(name)
    return found if isinstance(found, list) else []


def _scores(found: Any) -> Scores | None:
    """Scores; `None` if another version wrote them."""
    try:
        return Scores.from_dict(found)
    except (KeyError, TypeError, AttributeError):
        return None


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _epochs(found: Sequence[Scores | None], history: Sequence[Mapping[str, Any]], best: int | None) -> Iterator[Epoch]:
    """Epochs with their steps, where the history has one row of scores for each."""
    ends = [int(row["step"]) for row in history if "f1" in row]
    steps: list[int | None] = [*ends] if len(ends) == len(found) else [None] * len(found)
    begin = 0
    for number, (scores, step) in enumerate(zip(found, steps, strict=True), start=1):
        own = [row.get("loss") for row in history if step and begin < row["step"] <= step]
        losses = list(filter(_is_number, own))
        if scores is not None:
            mean = sum(losses) / len(losses) if losses else None
            yield Epoch(number, step, mean, scores, saved=number == best)
        begin = step or begin


def _shown(value: Any) -> str:
    """A setting as people read it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_shown(one)}" for name, one in value.items()) or "–"
    if isinstance(value, (list, tuple)):
        return ", ".join(_shown(one) for one in value) or "–"
    return without_folders(str(value))


def without_folders(name: str) -> str:
    """The last step of an absolute path, which says something of this machine alone; anything else as it is."""
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute()
    return PureWindowsPath(name).name if absolute else name


def duration(seconds: float) -> str:
    """A time in seconds, as people say it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
