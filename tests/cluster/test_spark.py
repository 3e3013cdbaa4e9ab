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
from pyspark.sql import SparkSession
from rows import CANARY, by_id

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

    def start(master: str) -> SparkSession:
        settings = {
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
    logs = [path.read_text(errors="replace") for path in (tmp_path / "spark" / "work").rglob("std*")]
    assert logs
    assert CANARY not in "".join(logs)
