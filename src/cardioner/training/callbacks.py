"""Where the figures of training go beside the record: event files for TensorBoard, runs of MLflow, or nowhere.

The callbacks of transformers are not used: they write all arguments of the Trainer, with the paths of this machine, and
the one for MLflow adds the user, the script and the commit, and changes settings of the whole process. Here nothing is
sent anywhere unless the environment names an MLflow server, and nothing is written about user, machine or notes. A
store that fails once training runs ends the tracking, never the training.
"""

from __future__ import annotations

import os
import re
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.integrations.integration_utils import rewrite_logs
from transformers.utils import flatten_dict

from cardioner.errors import CardioNERError, OutputError, UsageError, missing_packages

LOGS, STORE = "logs", "mlruns"
RUN = ".mlflow-run"
"""Holds the id of an unfinished MLflow run, so that a resumed training continues it."""
EXPERIMENT = "cardioner"

_PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow-skinny"}
_EVENTS = re.compile(r"(events\.out\.tfevents\.\d+)\..*(\.\d+\.\d+)")
"""Names of event files: the time, the name of the machine, the process and a number."""
_MOST_PARAMETERS, _LONGEST = 100, 500
"""Parameters in one call to MLflow, and characters of each, that every release of its server takes."""
_SECRETS = ("hf_token", "token", "data")
"""Settings that are not tracked: tokens of users, and the fingerprint of the corpus."""


def trackers(name: str, folder: Path, settings: Mapping[str, Any]) -> list[Tracker]:
    """The callbacks that write what training logs.

    Args:
        name: `tensorboard` writes to `logs` in the folder; `mlflow` to what `MLFLOW_TRACKING_URI` names, else to
            `mlruns` in the folder; `none` writes nothing.
        folder: The training's output directory.
        settings: Of the training; MLflow shows them as parameters, but for tokens and the fingerprint of the corpus.

    Raises:
        UsageError: If there is no such name, or a package is missing.
    """
    if name == "none":
        return []
    if name not in _PACKAGES:
        raise UsageError(f"there is no tracking {name!r}: expected tensorboard, mlflow or none")
    if find_spec(name) is None:
        raise UsageError(missing_packages(f"tracking {name}", [_PACKAGES[name]]))
    return [TensorBoard(folder)] if name == "tensorboard" else [MLflow(folder, settings)]


class Tracker(TrainerCallback, ABC):
    """Writes what training logs, in the first of several processes.

    Attributes:
        name: Of the store, in messages.
        place: Its folder in the output directory.
        folder: The training's output directory.
        remarks: What went wrong, counted.
    """

    name: str
    place: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.remarks: Counter[str] = Counter()
        self._open = False

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """What the store raises where it cannot be reached or written."""
        return (OSError,)

    @abstractmethod
    def begin(self, step: int) -> None:
        """Get ready for what comes after a step: 0, or where an interrupted training is resumed."""

    @abstractmethod
    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures of a step by name: `train/loss`, `eval/f1`."""

    @abstractmethod
    def end(self, *, finished: bool) -> None:
        """Close the store when training is over or breaks off."""

    def refusal(self, reason: str) -> CardioNERError:
        """What to raise where the store cannot be used."""
        return OutputError(f"{self.folder / self.place} cannot be written ({reason})")

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - inherited
        """Open the store.

        Raises:
            UsageError: If a store that the environment names cannot be used.
            OutputError: If files cannot be written.
        """
        if not state.is_world_process_zero:
            return
        problem = None
        try:
            self.begin(state.global_step)
            self._open = True
        except Exception as error:
            if not isinstance(error, (*self.failures, ImportError)):
                raise
            problem = self.refusal(_reason(error))
        if problem is not None:  # raised outside: the store's own message may hold a password
            raise problem

    def on_log(self, args: Any, state: Any, control: Any, *, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
        """Write every number, but for the sums at the end, which miss what came before an interruption."""
        figures = {name: value for name, value in rewrite_logs(logs or {}).items() if isinstance(value, (int, float))}
        if "train/loss" not in figures:  # the epoch is beside scores too
            figures = {name: value for name, value in figures.items() if name.startswith("eval/")}
        if not self._open or not figures:
            return
        try:
            self.write(state.global_step, figures)
        except self.failures as error:
            self._open = False
            self._note(f"stopped at step {state.global_step}", error)
            with suppress(*self.failures):
                self.end(finished=False)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - inherited
        """Close the store."""
        self.close(finished=True)

    def close(self, *, finished: bool) -> None:
        """Close the store, if it is open; a training that breaks off may continue it later."""
        if self._open:
            self._open = False
            try:
                self.end(finished=finished)
            except self.failures as error:
                self._note("was not closed", error)

    def _note(self, what: str, error: Exception) -> None:
        self.remarks[f"{self.name} {what} ({_reason(error)}); the saved record has all figures"] += 1


def _reason(error: Exception) -> str:
    """What is wrong, in a few words, without the password of an address or the page that a server sent."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return _cut(re.sub(r"//[^/@\s]*@", "//", " ".join(str(error).split())), 200)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


class TensorBoard(Tracker):
    """Event files in `logs`."""

    name, place = "TensorBoard", LOGS
    _writer: Any = None

    def begin(self, step: int) -> None:
        """Start a file that has TensorBoard forget what older ones say of later steps."""
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - needs an extra

        self._strip_names()
        self._writer = SummaryWriter(self.folder / LOGS, purge_step=step + 1 if step else 0)

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Append to the file."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def end(self, *, finished: bool) -> None:  # noqa: ARG002 - inherited
        """Close the file."""
        self._writer.close()
        self._strip_names()

    def _strip_names(self) -> None:
        """Take the name of the machine out of the files' names: model directories are passed on."""
        for path in (self.folder / LOGS).glob("events.out.tfevents.*"):
            path.rename(path.with_name(_EVENTS.sub(r"\1\2", path.name)))


class MLflow(Tracker):
    """A run of MLflow, on the server that the environment names, or in files of the output directory.

    Source: https://mlflow.org/docs/latest/api_reference/python_api/mlflow.client.html
    """

    name, place = "MLflow", STORE

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        super().__init__(folder)
        shown = {name: value for name, value in flatten_dict(settings).items() if name not in _SECRETS}
        self.parameters = {name: _cut(str(value), _LONGEST) for name, value in shown.items()}
        self.local = not os.environ.get("MLFLOW_TRACKING_URI")
        self._client: Any = None
        self._run = ""
        self._last_steps: dict[str, int] = {}

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """What MLflow raises."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 - an extra

        return MlflowException, OSError

    def refusal(self, reason: str) -> CardioNERError:
        """What to raise where the store cannot be used."""
        if self.local:
            return super().refusal(reason)
        return UsageError(
            f"MLflow cannot be used where MLFLOW_TRACKING_URI points ({reason}): correct it, unset it to write to "
            f"{self.folder / STORE}, or train with another tracking"
        )

    def begin(self, step: int) -> None:
        """Start a run, or continue that of the interrupted training."""
        _prepare_environment()
        from mlflow import MlflowClient  # noqa: PLC0415 - an extra, and slow

        store = self.folder / STORE
        if self.local:  # where this folder exists MLflow makes no default experiment, which would hold the path to it
            (store / ".trash").mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(store.absolute().as_uri() if self.local else None)
        if not (step and self._continue()):
            self._create()

    def _continue(self) -> bool:
        """Continue the run whose id is kept, if the store still has it."""
        if not (self.folder / RUN).is_file():
            return False
        self._run = (self.folder / RUN).read_text(encoding="utf-8")
        try:
            names = self._client.get_run(self._run).data.metrics
        except self.failures:  # it is gone, or the store is, which a new run would find out
            return False
        history = self._client.get_metric_history
        self._last_steps = {name: max(one.step for one in history(self._run, name)) for name in names}
        self._client.update_run(self._run, status="RUNNING")
        return True

    def _create(self) -> None:
        """Start a run; made by a client, it has none of the tags that name user, source and commit."""
        from mlflow.entities import Param  # noqa: PLC0415 - an extra

        self._run = self._client.create_run(self._experiment(), run_name=self.folder.absolute().name).info.run_id
        params = [Param(name, value) for name, value in self.parameters.items()]
        for start in range(0, len(params), _MOST_PARAMETERS):
            self._client.log_batch(self._run, params=params[start : start + _MOST_PARAMETERS], synchronous=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / RUN).write_text(self._run, encoding="utf-8")

    def _experiment(self) -> str:
        """The id of the experiment that the environment names, else of our own."""
        if identity := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return identity
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        if self._client.get_experiment_by_name(name) is None:
            place = "mlflow-artifacts:/" if self.local else None  # there are no artifacts: a place that is no path
            with suppress(*self.failures):  # another training may have been faster
                self._client.create_experiment(name, artifact_location=place)
        return str(self._client.get_experiment_by_name(name).experiment_id)

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Send the figures that the run does not have yet."""
        from mlflow.entities import Metric  # noqa: PLC0415 - an extra

        now = int(1000 * time.time())
        new = {name: value for name, value in figures.items() if step > self._last_steps.get(name, -1)}
        metrics = [Metric(name, value, now, step) for name, value in new.items()]
        self._client.log_batch(self._run, metrics=metrics, synchronous=True)

    def end(self, *, finished: bool) -> None:
        """Close the run; one that broke off may be continued."""
        if finished:
            (self.folder / RUN).unlink(missing_ok=True)
        self._client.set_terminated(self._run, status="FINISHED" if finished else "FAILED")


def _prepare_environment() -> None:
    """Switch off MLflow's telemetry, let it write files, and have it give up soon where a server does not answer."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "true"
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
