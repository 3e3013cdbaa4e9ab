"""Where the figures of training go beside the record: event files for TensorBoard, runs of MLflow, or nowhere.

Nothing is sent anywhere unless the environment names an MLflow server, and nothing is told of the user, the machine or
the notes. A store that fails once training has begun never ends it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from cardioner.errors import UsageError
from cardioner.training.tracking_stores import LOGS, MLflow, Row, Store, TensorBoard, reason_of

FIRST_PAUSE, LONGEST_PAUSE = 60.0, 3600.0
"""Seconds until a store that failed is tried again; each failure in a row doubles them."""

_SCORES = ("precision", "recall", "f1")


def trackers(name: str, folder: Path, settings: Mapping[str, Any]) -> list[Tracker]:
    """The callbacks that write what training logs.

    Args:
        name: `tensorboard` writes to `logs` in the folder; `mlflow` to what `MLFLOW_TRACKING_URI` names, else to
            `mlruns` in the folder; `none` writes nothing.
        folder: The training's output directory.
        settings: What the training is asked for; MLflow shows it as parameters. Tokens of users and the
            digest of the data (`data`) are left out.

    Raises:
        UsageError: If there is no such name, or a package is missing.
    """
    if name == "none":
        return []
    if name == "tensorboard":
        _check_installed("tensorboard", "tensorboard")
        return [Tracker(TensorBoard(folder / LOGS))]
    if name == "mlflow":
        _check_installed("mlflow", "mlflow-skinny")
        return [Tracker(MLflow(folder, settings))]
    raise UsageError(f"there is no tracking {name!r}: expected tensorboard, mlflow or none")


def _check_installed(module: str, package: str) -> None:
    if find_spec(module) is None:
        raise UsageError(f"tracking {module} needs {package}: pip install 'cardioner[{module}]'")


class Tracker(TrainerCallback):
    """Hands what training logs to a store; of several processes only the first one does.

    Attributes:
        remarks: What went wrong with the store, counted.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.remarks: Counter[str] = Counter()
        self._waiting: list[Row] = []
        self._open = False
        self._pause, self._next_try = FIRST_PAUSE, 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - inherited
        """Open the store.

        Raises:
            UsageError: If a store that the environment names cannot be used.
            OutputError: If files cannot be written.
        """
        if state.is_world_process_zero:
            self.store.begin(state.global_step)
            self._open = True

    def on_log(self, args: Any, state: Any, control: Any, *, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
        """Write every number, or keep it for later."""
        figures = dict(_named(logs or {}))
        if self._open and figures:
            self._waiting.append(Row(state.global_step, time.time(), figures))
            if time.monotonic() >= self._next_try:
                self._try()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - inherited
        """Write what is left and close the store."""
        self._close(finished=True)

    def break_off(self) -> None:
        """Write what is left of a training that ends with an error; one that goes on later continues its figures."""
        self._close(finished=False)

    def _try(self) -> None:
        """Write what is waiting."""
        try:
            self.store.put(self._waiting)
        except self.store.failures as error:
            self._failed(error)
            return
        self._waiting, self._pause = [], FIRST_PAUSE

    def _failed(self, error: Exception) -> None:
        self.remarks[f"{self.store.name}: attempts to write figures that failed ({reason_of(error)})"] += 1
        self._next_try = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _close(self, *, finished: bool) -> None:
        if not self._open:
            return
        self._open = False
        if self._waiting:
            self._try()
        if self._waiting:
            what = f"{self.store.name}: rows of figures that were not written; the saved record has them"
            self.remarks[what] = len(self._waiting)
        try:
            self.store.end(finished=finished)
        except self.store.failures as error:
            self._failed(error)


def _named(logs: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Numbers by full name; not the sums at the end, which know nothing of what was before an interruption."""
    for name, value in logs.items():
        again = name == "epoch" and "loss" not in logs
        if isinstance(value, (int, float)) and not again and not name.startswith(("train_", "total_")):
            short = name.removeprefix("eval_")
            yield (f"eval/{short}" if short != name or name in _SCORES else f"train/{name}"), float(value)
