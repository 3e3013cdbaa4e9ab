"""One training after another in a common folder: finished ones are kept, an interrupted one is resumed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from cardioner._io import reporting_failed_writes, writing
from cardioner.errors import OutputError, UsageError
from cardioner.model_dir.encoder import name_of
from cardioner.model_dir.json_files import read_json
from cardioner.model_dir.layout import CONFIG
from cardioner.model_dir.save import check_no_members
from cardioner.training.checkpoints import CHECKPOINTS, check_same, is_finished, remove_leftovers
from cardioner.training.distributed import rank
from cardioner.training.options import TrainingOptions
from cardioner.training.sweep.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The folder of several trainings.

    Attributes:
        folder: Where the model directories go.
        state: The file in it that says, under `request`, what was asked for.
        request: What is asked for now.
        resume: Whether to continue what is there.
        overwrite: Whether to replace it.
    """

    folder: Path
    state: str
    request: Mapping[str, Any]
    resume: bool = False
    overwrite: bool = False

    def read(self) -> dict[str, Any]:
        """The state of the interrupted sweep; empty where one starts.

        Raises:
            UsageError: If it was started with other settings or notes, or `resume` and `overwrite` are both asked for.
            OutputError: If the folder is a model, or its state is of something else.
        """
        if self.resume and self.overwrite:
            raise UsageError("resume continues what is there, overwrite replaces it: ask for one of them")
        if (self.folder / CONFIG).exists() or self.folder.is_file():
            raise OutputError(f"{self.folder} holds a model, or is a file: a sweep needs a folder of its own")
        check_no_members(self.folder)
        before = read_json(self.folder / self.state)
        if (self.folder / self.state).exists() and not isinstance(before.get("request"), dict):
            raise OutputError(f"{self.folder / self.state} is not of a sweep: choose another folder")
        if not self.resume or not before:
            return {}
        check_same(_flat(before["request"]), _flat(self.request), self.folder)
        return before

    def claim(self, names: Iterable[str], *, known: Collection[str] = ()) -> None:
        """Make room for trainings; whatever an earlier sweep left in their places is neither kept nor resumed later.

        Args:
            names: Of the trainings.
            known: Names of those that the interrupted sweep knows: their models and checkpoints are used.

        Raises:
            OutputError: If there are models that may not be replaced.
        """
        new = [name for name in names if name not in known]
        places = [self.folder / name for name in new] if known else self.folder.glob("*/")
        holding = sorted(place.name for place in places if _holds_model(place))
        if holding and not self.overwrite:
            ways = "choose another folder" if known else "resume it with --resume (resume=True), choose another folder"
            raise OutputError(
                f"{self.folder} already holds {', '.join(holding)}: {ways}, or pass --overwrite (overwrite=True)"
            )
        with reporting_failed_writes(self.folder):
            for name in new:
                (self.folder / name / CONFIG).unlink(missing_ok=True)
                shutil.rmtree(self.folder / name / CHECKPOINTS, ignore_errors=True)

    def is_finished(self, name: str) -> bool:
        """Whether a training was finished before."""
        place = self.folder / name
        if not (self.resume and is_finished(place)):
            return False
        if rank() == 0:
            remove_leftovers(place)
        return True

    def ready(self, trial: Trial) -> Trial:
        """A training that resumes what was interrupted.

        Where nothing was, files of a model that was to be replaced may be left.
        """
        resume = self.resume and (self.folder / trial.name / CHECKPOINTS).is_dir()
        overwrite = not resume and (self.overwrite or self.resume)
        return replace(trial, options=replace(trial.options, resume=resume, overwrite=overwrite))

    def write(self, name: str, content: Mapping[str, Any], *, sort_keys: bool = False) -> None:
        """Write a JSON file of the folder, whole or not at all; of several processes the first one does."""
        if rank() == 0:
            text = json.dumps(content, indent=2, ensure_ascii=False, sort_keys=sort_keys) + "\n"
            with writing(self.folder / name, overwrite=True) as file:
                file.write(text.encode())


def settings_of(
    arguments: Mapping[str, Any], options: TrainingOptions, *, without: Collection[str], **more: Any
) -> dict[str, Any]:
    """Settings as JSON has them: no token, of an encoder's folder the name, not the path.

    Args:
        arguments: Of `ModelTrainer`.
        options: Of the trainings.
        without: Names of options to leave out.
        **more: Further settings, by name.
    """
    settings = {name: value for name, value in arguments.items() if name != "hf_token"}
    if settings.get("model") is not None:
        settings["model"] = name_of(settings["model"])
    settings |= {one.name: getattr(options, one.name) for one in fields(options) if one.name not in without}
    plain: dict[str, Any] = json.loads(json.dumps({**settings, **more}, default=_named))
    return plain


def _named(value: Any) -> str:
    """What JSON cannot hold, such as a class, by its name."""
    return getattr(value, "__qualname__", type(value).__qualname__)


def _flat(request: Mapping[str, Any]) -> dict[str, Any]:
    """A request with its settings one by one, and the fingerprint of the notes under the name that is never shown."""
    flat = {**request, **request.get("settings", {})}
    return {"data" if name == "notes" else name: value for name, value in flat.items() if name != "settings"}


def _holds_model(place: Path) -> bool:
    return any(any(place.glob(f"{prefix}{CONFIG}")) for prefix in ("", f"{CHECKPOINTS}/*/"))
