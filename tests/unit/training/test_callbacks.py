"""Tracking: the figures of training where TensorBoard and MLflow find them, and nothing of user, machine or notes."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from cardioner.data.documents import Document
from cardioner.data.labels import LabelSet
from cardioner.errors import OutputError, UsageError
from cardioner.training import callbacks as tracking
from cardioner.training.callbacks import Tracker, trackers
from cardioner.training.options import TrainingOptions
from cardioner.training.trainer import ModelTrainer

SETTINGS = {
    "batch_size": 2,
    "hf_token": "hf_secret",
    "data": "digest_of_notes",
    "options": {"seed": 7, "precision": "auto"},
    "labels": ["O", "X"],
}
LOSS = {"loss": 1.5, "learning_rate": 1e-3, "grad_norm": 0.5, "epoch": 1.0}
SCORES = {"eval_precision": 0.5, "eval_recall": 0.25, "eval_f1": 1 / 3, "epoch": 1.0}
NAMES = {"train/loss", "train/learning_rate", "train/grad_norm", "eval/precision", "eval/recall", "eval/f1"}

Figures = dict[str, list[tuple[int, float]]]


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the caller's MLflow; what tracking sets is taken back in the end."""
    names = [name for name in os.environ if name.startswith("MLFLOW_")]
    names += ["MLFLOW_DISABLE_TELEMETRY", "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"]
    for name in [*names, "DO_NOT_TRACK", "MLFLOW_ALLOW_FILE_STORE"]:
        monkeypatch.setenv(name, "")  # known to monkeypatch, and so restored
        monkeypatch.delenv(name)


class Session:
    """A training, as the Hugging Face Trainer tells its callbacks of it."""

    def __init__(self, name: str, folder: Path, *, start: int = 0, main: bool = True) -> None:
        (self.tracker,) = trackers(name, folder, SETTINGS)
        self.state = TrainerState(global_step=start, is_world_process_zero=main)
        self.tracker.on_train_begin(None, self.state, TrainerControl())

    def log(self, step: int, logs: dict[str, Any]) -> None:
        self.state.global_step = step
        self.tracker.on_log(None, self.state, TrainerControl(), logs=logs)

    def end(self) -> Tracker:
        self.tracker.on_train_end(None, self.state, TrainerControl())
        return self.tracker


def tensorboard_figures(folder: Path) -> Figures:
    found = EventAccumulator(str(folder / "logs")).Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def client(folder: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return MlflowClient((folder / "mlruns").as_uri())


def runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The runs of the store in a folder, the oldest first."""
    store = client(folder, monkeypatch)
    experiments = [experiment.experiment_id for experiment in store.search_experiments()]
    return list(store.search_runs(experiments, order_by=["attributes.start_time"]))


def mlflow_figures(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Figures:
    """The figures of the only run."""
    (run,) = runs(folder, monkeypatch)
    store = client(folder, monkeypatch)
    histories = {name: store.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    return {name: [(figure.step, figure.value) for figure in found] for name, found in histories.items()}


def written(folder: Path) -> str:
    """Every name and every byte in a folder."""
    paths = sorted(folder.rglob("*"))
    content = [path.read_bytes().decode("latin-1") for path in paths if path.is_file()]
    return "\n".join([*(str(path.relative_to(folder)) for path in paths), *content])


# What is written -----------------------------------------------------------------------------------------------------


def test_none_has_no_callback(tmp_path: Path) -> None:
    assert trackers("none", tmp_path / "out", SETTINGS) == []
    assert not (tmp_path / "out").exists()


def test_an_unknown_name_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'wandb': expected tensorboard, mlflow or none"):
        trackers("wandb", tmp_path, SETTINGS)


@pytest.mark.parametrize(("name", "package"), [("tensorboard", "tensorboard"), ("mlflow", "mlflow-skinny")])
def test_without_its_package_it_says_what_to_install(
    name: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=f"{name} needs {package}: pip install {package}"):
        trackers(name, tmp_path, SETTINGS)


def test_tensorboard_reads_every_figure_at_its_step(tmp_path: Path) -> None:
    session = Session("tensorboard", tmp_path)
    session.log(10, LOSS)
    session.log(12, {**LOSS, "loss": 1.25})
    session.log(12, SCORES)
    session.log(12, {"train_runtime": 3.0, "total_flos": 1.0})
    assert session.end().remarks == {}
    found = tensorboard_figures(tmp_path)
    assert found.keys() == NAMES | {"train/epoch"}
    assert found["train/loss"] == [(10, 1.5), (12, 1.25)]
    assert found["train/epoch"] == [(10, 1.0), (12, 1.0)]
    assert found["eval/f1"] == [(12, pytest.approx(1 / 3))]


def test_mlflow_has_every_figure_at_its_step_and_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session("mlflow", tmp_path / "my model")
    session.log(10, LOSS)
    session.log(12, SCORES)
    session.log(12, {"train_runtime": 3.0})
    assert session.end().remarks == {}
    (run,) = runs(tmp_path / "my model", monkeypatch)
    assert (run.info.run_name, run.info.status) == ("my model", "FINISHED")
    assert run.data.params == {
        "batch_size": "2", "options.seed": "7", "options.precision": "auto", "labels": "['O', 'X']"
    }  # fmt: skip
    found = mlflow_figures(tmp_path / "my model", monkeypatch)
    assert found.keys() >= NAMES
    assert found["train/loss"] == [(10, 1.5)]
    assert found["eval/f1"] == [(12, 1 / 3)]


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_nothing_is_told_of_user_machine_place_or_token(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("USER", "LOGNAME", "USERNAME", "LNAME"):
        monkeypatch.setenv(variable, "jane_roe_the_user")
    monkeypatch.setattr(socket, "gethostname", lambda: "ward7_machine")
    assert getpass.getuser() == "jane_roe_the_user"
    session = Session(name, tmp_path)
    session.log(1, LOSS)
    session.end()
    found = written(tmp_path)
    assert "loss" in found
    secrets = [
        "jane_roe_the_user",
        "ward7_machine",
        str(Path.home()),
        str(tmp_path),
        str(Path.cwd()),
        "hf_secret",
        "digest_of_notes",
    ]
    assert [secret for secret in secrets if len(secret) > 1 and secret in found] == []
    assert not [word for word in ("mlflow.user", "mlflow.source", "git", "commit", ".py") if word in found]


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_of_several_processes_only_the_first_writes(name: str, tmp_path: Path) -> None:
    session = Session(name, tmp_path, main=False)
    session.log(1, LOSS)
    session.end()
    session.tracker.close(finished=False)
    assert list(tmp_path.iterdir()) == []


def test_telemetry_is_off_before_mlflow_is_imported_and_no_thread_is_left(tmp_path: Path) -> None:
    script = f"""
import os, sys, threading
from pathlib import Path
from transformers import TrainerControl, TrainerState
from cardioner.training.callbacks import trackers
assert not {{"mlflow", "tensorboard"}} & sys.modules.keys(), "they are loaded only where they are asked for"
(tracker,) = trackers("mlflow", Path({str(tmp_path)!r}), {{}})
assert "mlflow" not in sys.modules
def watch(event, arguments):
    if event == "import" and arguments[0] == "mlflow":
        seen.append((os.environ.get("MLFLOW_DISABLE_TELEMETRY"), os.environ.get("DO_NOT_TRACK")))
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        raise SystemExit(event)
seen = []
sys.addaudithook(watch)
before = threading.active_count()
tracker.on_train_begin(None, TrainerState(), TrainerControl())
tracker.on_log(None, TrainerState(global_step=1), TrainerControl(), logs={{"loss": 1.0}})
tracker.on_train_end(None, TrainerState(), TrainerControl())
from mlflow.telemetry import get_telemetry_client
assert seen[0] == ("true", "true"), seen
assert get_telemetry_client() is None
assert threading.active_count() == before
"""
    quiet = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_CURRENT_TEST")}
    outcome = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=quiet, check=False)
    assert (outcome.returncode, outcome.stderr) == (0, "")


# Going on ------------------------------------------------------------------------------------------------------------


def test_tensorboard_forgets_what_was_written_behind_the_checkpoint(tmp_path: Path) -> None:
    session = Session("tensorboard", tmp_path)
    for step in (10, 20, 30):
        session.log(step, {**LOSS, "loss": float(step)})
    session.tracker.close(finished=False)
    session = Session("tensorboard", tmp_path, start=20)
    for step in (30, 40):
        session.log(step, {**LOSS, "loss": step + 0.5})
    session.end()
    assert tensorboard_figures(tmp_path)["train/loss"] == [(10, 10.0), (20, 20.0), (30, 30.5), (40, 40.5)]
    session = Session("tensorboard", tmp_path)
    session.log(10, {**LOSS, "loss": 7.0})
    session.end()
    assert tensorboard_figures(tmp_path)["train/loss"] == [(10, 7.0)]


@pytest.mark.parametrize("killed", [False, True])
def test_mlflow_goes_on_with_the_same_run_and_writes_no_step_twice(
    killed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session("mlflow", tmp_path)
    for step in (10, 20, 30):
        session.log(step, LOSS)
    session.log(20, SCORES)
    if not killed:
        session.tracker.close(finished=False)
        assert [run.info.status for run in runs(tmp_path, monkeypatch)] == ["FAILED"]
    session = Session("mlflow", tmp_path, start=20)
    assert [run.info.status for run in runs(tmp_path, monkeypatch)] == ["RUNNING"]
    for step in (30, 40):
        session.log(step, LOSS)
        session.log(step, SCORES)
    session.end()
    found = mlflow_figures(tmp_path, monkeypatch)
    assert [step for step, _ in found["train/loss"]] == [10, 20, 30, 40]
    assert [step for step, _ in found["eval/f1"]] == [20, 30, 40]
    assert [run.info.status for run in runs(tmp_path, monkeypatch)] == ["FINISHED"]
    assert [path.name for path in tmp_path.iterdir()] == ["mlruns"]


def test_a_training_that_begins_afresh_has_a_run_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Session("mlflow", tmp_path).log(10, LOSS)
    Session("mlflow", tmp_path).end()
    Session("mlflow", tmp_path, start=5).end()  # goes on, but the run that was kept is finished
    assert [sorted(run.data.metrics) != [] for run in runs(tmp_path, monkeypatch)] == [True, False, False]


def test_a_run_that_was_deleted_from_the_store_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Session("mlflow", tmp_path).log(10, LOSS)
    (tmp_path / ".mlflow-run").write_text("0123456789abcdef" * 2, encoding="utf-8")
    Session("mlflow", tmp_path, start=10).end()
    assert len(runs(tmp_path, monkeypatch)) == 2


# What goes wrong -----------------------------------------------------------------------------------------------------


def break_mlflow(monkeypatch: pytest.MonkeyPatch, calls: list[int]) -> None:
    """A server that is gone."""

    def refuse(*_: Any, **__: Any) -> None:
        calls.append(1)
        raise MlflowException("API request to http://jane:pass@server/api failed: Max retries exceeded")

    for name in ("log_batch", "set_terminated"):
        monkeypatch.setattr(MlflowClient, name, refuse)


def test_a_store_that_fails_ends_the_tracking_and_not_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, calls = Session("mlflow", tmp_path), list[int]()
    session.log(10, LOSS)
    with monkeypatch.context() as broken:
        break_mlflow(broken, calls)
        for step in range(20, 100, 10):
            session.log(step, LOSS)
    assert len(calls) == 2, "one attempt to write and one to close: every attempt may take long"
    (remark,) = session.end().remarks
    assert remark.startswith(
        "MLflow stopped at step 20 (API request to http://server/api failed: Max retries exceeded)"
    )
    assert "pass" not in remark
    assert [step for step, _ in mlflow_figures(tmp_path, monkeypatch)["train/loss"]] == [10]


def test_a_full_disk_under_tensorboard_ends_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session("tensorboard", tmp_path)
    session.log(10, LOSS)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(session.tracker._writer, "flush", full)
        session.log(20, LOSS)
    session.log(30, LOSS)
    expected = "TensorBoard stopped at step 20 (No space left on device); the saved record has all figures"
    assert session.end().remarks == {expected: 1}
    assert next(step for step, _ in tensorboard_figures(tmp_path)["train/loss"]) == 10


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_place_that_cannot_be_written_is_refused_at_the_start(name: str, tmp_path: Path) -> None:
    for taken in ("logs", "mlruns"):
        (tmp_path / taken).write_text("a file", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot be"):
        Session(name, tmp_path)


def test_a_server_that_does_not_answer_is_refused_at_the_start_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise MlflowException("API request to http://jane:pass@server/api failed: Max retries exceeded")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://jane:pass@server:5000")
    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", refuse)
    with pytest.raises(UsageError, match=r"MLFLOW_TRACKING_URI points .*Max retries exceeded") as caught:
        Session("mlflow", tmp_path)
    assert "pass" not in str(caught.value)
    assert caught.value.__context__ is None
    assert int(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]) <= 30
    assert list(tmp_path.iterdir()) == []


def test_the_store_and_the_experiment_that_the_environment_names_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "elsewhere" / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "cardiology")
    Session("mlflow", tmp_path / "out").end()
    assert not (tmp_path / "out" / "mlruns").exists()
    store = client(tmp_path / "elsewhere", monkeypatch)
    assert {experiment.name for experiment in store.search_experiments()} == {"cardiology", "Default"}
    assert len(runs(tmp_path / "elsewhere", monkeypatch)) == 1


# In a training -------------------------------------------------------------------------------------------------------


class Slope(nn.Module):
    """A line through points."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(1, 1)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": (self.line(x) - labels).square().mean()}


class KilledError(Exception):
    """Ends a training in its middle."""


class Kill(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - inherited
        if state.global_step == 7:
            raise KilledError


def fit(place: Path, callbacks: list[Any], *, resume: bool = False) -> None:
    arguments = TrainingArguments(
        output_dir=str(place),
        max_steps=12,
        logging_steps=2,
        save_steps=4,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    data: Any = [{"x": torch.tensor([float(step)]), "labels": torch.tensor([1.0])} for step in range(16)]
    trainer = Trainer(model=Slope(), args=arguments, train_dataset=data, callbacks=callbacks)
    trainer.train(resume_from_checkpoint=resume)


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_an_interrupted_training_has_one_whole_curve(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KilledError):
        fit(tmp_path / "out", [*trackers(name, tmp_path, {}), Kill()])
    fit(tmp_path / "out", [*trackers(name, tmp_path, {})], resume=True)
    found = tensorboard_figures(tmp_path) if name == "tensorboard" else mlflow_figures(tmp_path, monkeypatch)
    assert [step for step, _ in found["train/loss"]] == [2, 4, 6, 8, 10, 12]
    assert [step for step, _ in found["train/grad_norm"]] == [2, 4, 6, 8, 10, 12]


@pytest.mark.parametrize("name", ["none", "tensorboard", "mlflow"])
def test_a_trained_model_has_figures_beside_it_only_on_request(
    name: Any,
    encoder_dir: Callable[[str], Path],
    labels: LabelSet,
    documents: list[Document],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "ward7_machine")  # a short name is in any file by chance
    options = TrainingOptions(window_context=4, training_context=4, precision="float32", device="cpu", tracking=name)
    ModelTrainer(
        label2id=labels.label2id,
        model=encoder_dir("bert"),
        output_dir=tmp_path / "out",
        max_length=32,
        batch_size=2,
        num_train_epochs=1,
        learning_rate=5e-3,
        options=options,
    ).train(documents, eval_data=documents)
    assert (tmp_path / "out" / "logs").exists() == (name == "tensorboard")
    assert (tmp_path / "out" / "mlruns").exists() == (name == "mlflow")
    if name != "none":
        place = tmp_path / "out"
        found = tensorboard_figures(place) if name == "tensorboard" else mlflow_figures(place, monkeypatch)
        assert found.keys() >= NAMES
        kept = written(place / ("logs" if name == "tensorboard" else "mlruns"))
        words = {word for document in documents for word in document.text.split() if len(word) > 5}
        assert not [word for word in {*words, str(tmp_path), socket.gethostname()} if word in kept]
