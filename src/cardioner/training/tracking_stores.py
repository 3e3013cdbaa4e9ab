"""Stores for the figures of training: event files for TensorBoard, and runs of MLflow."""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from cardioner.errors import CardioNERError, OutputError, UsageError

LOGS = "logs"
STORE = "mlruns"
RUN = ".mlflow-run"
"""Holds the id of an unfinished run, so that a training that goes on continues it."""

EXPERIMENT = "cardioner"

_MOST_FIGURES, _MOST_PARAMETERS = 1000, 100
"""Of a call to MLflow."""
_LONGEST = 500
"""Characters of a parameter that every release of its server takes."""
_SECRETS = ("hf_token", "token", "data")
"""Settings that no store is told: tokens of users, and the digest by which a training knows its notes again."""


class Row(NamedTuple):
    """What is known of one step.

    Attributes:
        step: Steps of the optimizer so far.
        seconds: When it was logged, since 1970.
        figures: By name: `train/loss`, `eval/f1`.
    """

    step: int
    seconds: float
    figures: dict[str, float]


class Store(Protocol):
    """Where rows go.

    Attributes:
        name: What messages call it.
    """

    name: str

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """What its methods raise where it cannot be reached or written."""

    def begin(self, step: int) -> None:
        """Get ready for the rows behind a step: 0, or where an interrupted training goes on."""

    def put(self, rows: Sequence[Row]) -> None:
        """Write rows for good, or raise one of `failures`."""

    def end(self, *, finished: bool) -> None:
        """Close: training is over, or broke off."""


def reason_of(error: Exception) -> str:
    """What is wrong, in few words; no password that an address holds, and no page that a server sent."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    said = re.sub(r"//[^/@\s]*@", "//", " ".join(str(error).split()))
    return said if len(said) <= 200 else f"{said[:199]}…"


# TensorBoard ---------------------------------------------------------------------------------------------------------


class TensorBoard:
    """Event files; their names, other than those of TensorBoard's own writer, hold no name of the machine.

    Source: https://github.com/tensorflow/tensorboard/blob/master/tensorboard/compat/proto/event.proto
    """

    name = "TensorBoard"
    failures = (OSError,)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path: Path | None = None

    def begin(self, step: int) -> None:
        """Begin a file that has TensorBoard forget what older ones say of later steps."""
        try:
            self._begin(step + 1 if step else 0)
        except OSError as error:
            raise OutputError(f"{self.folder} cannot be written ({error.strerror})") from error

    def _begin(self, first: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # noqa: PLC0415 - an extra

        self.folder.mkdir(parents=True, exist_ok=True)
        seconds, rest = divmod(time.time_ns(), 10**9)
        self._path = self.folder / f"events.out.tfevents.{seconds:010d}.{rest:09d}"  # read in the order of their names
        start = SessionLog(status=SessionLog.START)
        self._append(
            Event(wall_time=seconds, file_version="brain.Event:2"),
            Event(wall_time=seconds, step=first, session_log=start),
        )

    def put(self, rows: Sequence[Row]) -> None:
        """Append to the file, or to a new one where the last may be cut short."""
        from tensorboard.compat.proto.event_pb2 import Event  # noqa: PLC0415 - an extra
        from tensorboard.compat.proto.summary_pb2 import Summary  # noqa: PLC0415

        if self._path is None:
            self._begin(rows[0].step)
        summaries = (
            Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in row.figures.items()])
            for row in rows
        )
        self._append(
            *(
                Event(wall_time=row.seconds, step=row.step, summary=summary)
                for row, summary in zip(rows, summaries, strict=True)
            )
        )

    def _append(self, *events: Any) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter  # noqa: PLC0415 - an extra

        content = io.BytesIO()
        for event in events:
            RecordWriter(content).write(event.SerializeToString())
        assert self._path is not None
        try:
            with self._path.open("ab") as file:
                file.write(content.getvalue())
        except OSError:
            self._path = None
            raise

    def end(self, *, finished: bool) -> None:
        """Nothing is left to do: the file is open only while it is written."""


# MLflow --------------------------------------------------------------------------------------------------------------


class MLflow:
    """A run of MLflow, on the server that the environment names, or in files of the output directory.

    Source: https://mlflow.org/docs/latest/api_reference/python_api/mlflow.client.html
    """

    name = "MLflow"

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.settings = settings
        self._client: Any = None
        self._run = ""
        self._written: dict[str, set[int]] = {}

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """What MLflow raises."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 - an extra

        return MlflowException, OSError

    def begin(self, step: int) -> None:
        """Begin a run, or go on with the one of the interrupted training."""
        _prepare_environment()
        expected: tuple[type[Exception], ...] = (*self.failures, ImportError)
        problem: CardioNERError
        try:
            self._client = self._connect()
            if not (step and self._continue()):
                self._create()
            return
        except expected as error:
            if os.environ.get("MLFLOW_TRACKING_URI"):
                problem = UsageError(
                    f"MLflow cannot be used where MLFLOW_TRACKING_URI points ({reason_of(error)}): mend that, unset it "
                    f"to write to {self.folder / STORE}, or train with another tracking"
                )
            else:
                problem = OutputError(f"{self.folder / STORE} cannot be used ({reason_of(error)})")
        raise problem  # outside, as MLflow's own message may hold the password of an address

    def _connect(self) -> Any:
        from mlflow import MlflowClient  # noqa: PLC0415 - an extra, and slow

        if os.environ.get("MLFLOW_TRACKING_URI"):
            return MlflowClient()
        # Where the folder is there, MLflow makes no default experiment, which would hold the path to it.
        (self.folder / STORE / ".trash").mkdir(parents=True, exist_ok=True)
        with _allowed_files():
            return MlflowClient((self.folder / STORE).absolute().as_uri())

    def _continue(self) -> bool:
        """Take up the run whose id is kept, and see which of its steps are written already."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 - an extra

        place = self.folder / RUN
        identity = place.read_text(encoding="utf-8") if place.is_file() else ""
        if not identity:
            return False
        try:
            names = self._client.get_run(identity).data.metrics
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise
        self._run = identity
        history = self._client.get_metric_history
        self._written = {name: {figure.step for figure in history(identity, name)} for name in names}
        self._client.update_run(identity, status="RUNNING")
        return True

    def _create(self) -> None:
        """Begin a run: created with a client, it has none of the tags that tell of user, source and commit."""
        from mlflow.entities import Param  # noqa: PLC0415 - an extra

        run = self._client.create_run(self._experiment(), run_name=self.folder.absolute().name)
        self._run, self._written = run.info.run_id, {}
        params = [Param(name, value) for name, value in _parameters(self.settings)]
        for start in range(0, len(params), _MOST_PARAMETERS):
            self._client.log_batch(self._run, params=params[start : start + _MOST_PARAMETERS], synchronous=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / RUN).write_text(self._run, encoding="utf-8")

    def _experiment(self) -> str:
        """The id of the experiment that the environment names, else of our own."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 - an extra

        if identity := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return identity
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        found = self._client.get_experiment_by_name(name)
        if found is None:
            # A place for artifacts that is no path; there are none.
            place = None if os.environ.get("MLFLOW_TRACKING_URI") else "mlflow-artifacts:/"
            try:
                return str(self._client.create_experiment(name, artifact_location=place))
            except MlflowException:
                found = self._client.get_experiment_by_name(name)  # another training that began was faster
                if found is None:
                    raise
        return str(found.experiment_id)

    def put(self, rows: Sequence[Row]) -> None:
        """Send the figures of steps that the run does not have yet."""
        from mlflow.entities import Metric  # noqa: PLC0415 - an extra

        metrics = [
            Metric(name, value, int(1000 * row.seconds), row.step)
            for row in rows
            for name, value in row.figures.items()
            if row.step not in self._written.get(name, ())
        ]
        for start in range(0, len(metrics), _MOST_FIGURES):
            self._client.log_batch(self._run, metrics=metrics[start : start + _MOST_FIGURES], synchronous=True)

    def end(self, *, finished: bool) -> None:
        """Close the run; one that broke off may be continued."""
        if finished:
            (self.folder / RUN).unlink(missing_ok=True)
        self._client.set_terminated(self._run, status="FINISHED" if finished else "FAILED")


def _prepare_environment() -> None:
    """Switch off what MLflow sends to its makers, and have it give up soon where a server does not answer."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "true"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")


@contextmanager
def _allowed_files() -> Iterator[None]:
    """Have MLflow write files, which it recommends a database for, and which need no package more."""
    own = os.environ.get("MLFLOW_ALLOW_FILE_STORE")
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    try:
        yield
    finally:
        del os.environ["MLFLOW_ALLOW_FILE_STORE"]
        if own is not None:
            os.environ["MLFLOW_ALLOW_FILE_STORE"] = own


def _parameters(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Settings by full name."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _parameters(value, f"{prefix}{name}.")
        elif name not in _SECRETS and not callable(value):
            shown = str(value)
            yield f"{prefix}{name}", shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"
