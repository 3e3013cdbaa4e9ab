"""Spark on this machine: every note once, with the spans of one machine, also when a worker is killed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyspark
import pytest
from pyspark import SparkContext
from pyspark.errors import PythonException
from pyspark.sql import SparkSession
from rows import CANARY, by_id

from cardioner import __version__
from cardioner.distributed import SparkTagger, spark_tagger

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.enable_socket,
    pytest.mark.filterwarnings("ignore"),  # Spark's own
]


@pytest.fixture
def spark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], SparkSession]]:
    """Starts a session with a master; its logs are in `tmp_path`."""
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    home = tmp_path / "spark"  # workers write their logs into it
    home.mkdir()
    for entry in Path(pyspark.__file__).parent.iterdir():
        (home / entry.name).symlink_to(entry)
    monkeypatch.setenv("SPARK_HOME", str(home))
    monkeypatch.chdir(tmp_path)  # for its folders
    made: list[SparkSession] = []

    def start(master: str, **own: str) -> SparkSession:
        settings = {
            **own,
            "spark.ui.enabled": "false",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.sql.execution.arrow.maxRecordsPerBatch": "50",
            "spark.sql.files.maxPartitionBytes": "20000",
            "spark.executor.memory": "1g",
        }
        builder = SparkSession.builder.master(master)
        for name, value in settings.items():
            builder = builder.config(name, value)
        made.append(builder.getOrCreate())
        return made[-1]

    yield start
    for session in made:
        session.stop()
    gateway, SparkContext._gateway, SparkContext._jvm = SparkContext._gateway, None, None  # or Java would stay
    if gateway is not None:
        gateway.shutdown()
        gateway.proc.stdin.close()
        gateway.proc.wait()


def logs(place: Path) -> str:
    """All that the workers of `local-cluster` wrote."""
    found = [path.read_text(errors="replace") for path in (place / "spark" / "work").rglob("std*")]
    assert found
    return "".join(found)


def rows_of(frame: Any) -> list[dict[str, Any]]:
    return by_id(row.asDict(recursive=True) for row in frame.collect())


def test_a_frame_has_the_spans_of_one_machine(
    spark: Callable[[str], SparkSession], model: Path, notes: Path, expected: list[dict[str, Any]]
) -> None:
    session = spark("local[2]")
    tagger = spark_tagger(model, device="cpu")
    assert rows_of(tagger.tag(session.read.parquet(str(notes)).repartition(4))) == expected


def test_models_may_be_sent_along(
    spark: Callable[[str], SparkSession],
    model: Path,
    notes: Path,
    expected: list[dict[str, Any]],
    capfd: pytest.CaptureFixture[str],
) -> None:
    session = spark("local[1]")
    session.sparkContext.addFile(str(model), recursive=True)
    tagger = spark_tagger(model, device="cpu")
    tagger = SparkTagger(replace(tagger.job, models=(f"/only/on/the/driver/{model.name}",)))
    assert rows_of(tagger.tag(session.read.parquet(str(notes)))) == expected
    captured = capfd.readouterr()
    assert CANARY not in captured.out + captured.err


def test_a_worker_that_is_killed_loses_and_repeats_nothing(
    spark: Callable[[str], SparkSession],
    model: Path,
    notes: Path,
    expected: list[dict[str, Any]],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    session = spark("local-cluster[2,1,1024]")
    mark = tmp_path / "killed"
    tagger = spark_tagger(model, device="cpu")

    def fatal(batches: Any) -> Iterator[Any]:
        """Tags, but the first worker that has a batch done dies before it gives the next."""
        for number, batch in enumerate(tagger(batches)):
            if number and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), 9)
            yield batch

    frame = session.read.parquet(str(notes)).repartition(4)
    found = rows_of(frame.mapInArrow(fatal, tagger.schema(frame)))
    assert mark.exists()
    assert found == expected
    assert CANARY not in logs(tmp_path) + "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("place", "environment", "said"),
    [
        ("/proc/self/cwd/model", "", "has no /proc/self/cwd/model: put the model on storage that all workers see"),
        ("model", "other", f"has cardioner 0.0.1, the driver {__version__}: install the same version everywhere"),
    ],
    ids=["no model", "another version"],
)
def test_a_worker_that_cannot_tag_says_why_in_one_line(
    place: str,
    environment: str,
    said: str,
    spark: Callable[..., SparkSession],
    model: Path,
    notes: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    other = tmp_path / "other"  # for workers alone
    other.mkdir()
    (other / "sitecustomize.py").write_text("import cardioner\ncardioner.__version__ = '0.0.1'\n")
    own = {"spark.executorEnv.PYTHONPATH": str(other)} if environment else {}
    session = spark("local-cluster[1,1,1024]", **own)
    tagger = spark_tagger(place, device="cpu")
    with pytest.raises(PythonException) as caught:
        rows_of(tagger.tag(session.read.parquet(str(notes)).repartition(1)))
    assert len([line for line in str(caught.value).splitlines() if said in line]) == 1
    assert model.is_dir()
    assert CANARY not in str(caught.value) + logs(tmp_path) + "".join(capfd.readouterr())
