"""What each engine for tables adds to the Predictor, and whether many notes go through at level rates and flat memory.

    pip install 'cardioner[torch,ray,spark]'
    python benchmarks/scale.py [--notes 1000] [--rounds 5] [--many 100000]

Every engine has one worker with one thread, which has loaded a model of the size of MiniLM-L6 and tagged a few notes.
Then all of them, and the Predictor, tag the same notes in turn, in each round. The time of processors is that of this
process and of all that it started; others on the machine disturb it less than that of the clock. Afterwards each engine
alone tags many notes with a tiny encoder: the spans must be equal, and the first tenth is compared with the last.
"""

from __future__ import annotations

import logging
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

os.environ.update(OMP_NUM_THREADS="1", PYSPARK_PYTHON=sys.executable, SPARK_LOCAL_IP="127.0.0.1")
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray spells it so; otherwise its workers give way to all others

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyspark
import ray
import torch
import typer
from pyspark.sql import SparkSession

from cardioner import Document, LabelSet, ModelTrainer, Predictor, __version__, read_corpus
from cardioner.cli.predict_tables import Findings
from cardioner.distributed import SparkTagger, TaggingJob, tag_dataset
from cardioner.distributed.ray_pool import PoolOptions, ray_pool
from cardioner.multiclass.windows import Coverage
from cardioner.tables.columns import SPAN, Columns
from cardioner.tables.files import TableFiles
from cardioner.tables.job import BatchLog, Tag, tag_table, tagging_here
from cardioner.tables.source import NoteBatch
from cardioner.tables.tagging import tag_batch
from cardioner.tables.writers import write_table
from made_up import CORPUS, ENCODERS, write_encoder

LABELS = ("DISEASE", "MEDICATION", "SYMPTOM")
LENGTH, SHORT = 200, 80
"""Characters of a note, about: of those that engines tag in turn, and of many."""
SPANS = 20
"""Of a note, where they are made up."""
TENTHS = ((0.05, 0.15), (0.45, 0.55), (0.9, 1.0))
SHARES = "an early, the middle and the last tenth"
PARTS = 50
"""Into how many parts many notes are split for Spark: their times tell its rate."""
Engine = Callable[[Path, Path], None]
"""Tags a Parquet file of notes into a place."""


def write_model(place: Path, *, tiny: bool) -> Path:
    """A model with random weights and a CRF that finds a span here and there."""
    encoder = write_encoder(ENCODERS[0], place / f"encoders-{tiny}", tiny=tiny)
    label2id = LabelSet.from_types(LABELS).label2id
    trainer = ModelTrainer(label2id, model=encoder, use_crf=True, output_dir=place / "unused", num_train_epochs=1)
    with torch.no_grad():
        list(trainer.model.classifier.modules())[-1].bias[0] += 0.4 if tiny else 1.1
    trainer.save_model(place / f"model-{tiny}")
    return place / f"model-{tiny}"


def write_notes(place: Path, count: int, length: int) -> Path:
    """So many notes of about so many characters, cut from those of the bundled corpus."""
    text = "\n".join(document.text for document in read_corpus(CORPUS / "train").documents)
    starts = [(number * 7919) % (len(text) - 2 * length) for number in range(count)]
    notes = [text[start : start + length // 2 + number % length] for number, start in enumerate(starts)]
    table = pa.table({"note_id": list(range(count)), "note_text": notes})
    pq.write_table(table, place, row_group_size=2_000)
    return place


# The engines ----------------------------------------------------------------------------------------------------------


def predictor_alone(model: Path, dtype: str) -> Engine:
    """The Predictor, whose notes are in memory, and which writes nothing."""
    predictor = Predictor.from_pretrained(model, device="cpu", dtype=dtype)

    def tag(notes: Path, _: Path) -> None:
        rows = pq.read_table(notes).to_pylist()
        list(predictor.predict(Document(str(row["note_id"]), row["note_text"]) for row in rows))

    return tag


def job_engine(tag: Tag, times: Times) -> Engine:
    """What `cardioner predict` does for a table: read, tag, log and write."""

    def run(notes: Path, out: Path) -> None:
        log = BatchLog.begin(out.with_suffix(".sqlite"), {})
        with closing(log):
            batches = tag_table(
                TableFiles([notes], Columns()), log, tag, advance=lambda done: times.add(done.documents)
            )
            write_table((batch.tagged for batch in batches), out, "parquet")

    return run


def local_tag(model: Path, dtype: str = "auto") -> Tag:
    """Tags in this process."""
    predictor = Predictor.from_pretrained(model, device="cpu", dtype=dtype)
    return tagging_here(
        lambda batch, advance: tag_batch(batch.rows, predictor, Columns(), advance=advance, refused=batch.refused)
    )


def ray_data(model: Path, times: Times) -> Engine:
    """Ray Data, which reads and writes too."""

    def run(notes: Path, out: Path) -> None:
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        tagged = tag_dataset(ray.data.read_parquet(str(notes)), model, workers=1, device="cpu")
        tagged.write_parquet(str(out))
        times.of_parts(out)

    return run


def spark(job: TaggingJob, session: SparkSession, times: Times, parts: int) -> Engine:
    """Spark, which reads and writes too."""
    tagger = SparkTagger(job)

    def run(notes: Path, out: Path) -> None:
        tagger.tag(session.read.parquet(str(notes)).repartition(parts)).write.parquet(str(out))
        times.of_parts(out)

    return run


@contextmanager
def spark_session() -> Iterator[SparkSession]:
    """One core on this machine."""
    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", "256").config("spark.driver.memory", "1g")
    builder = builder.config("spark.ui.showConsoleProgress", "false")
    session = builder.config("spark.driver.host", "127.0.0.1").getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


# What is measured -----------------------------------------------------------------------------------------------------


@dataclass
class Times:
    """When how many notes were finished."""

    done: list[tuple[float, int]] = field(default_factory=list)

    def add(self, count: int) -> None:
        """So many are finished now."""
        self.done.append((time.time(), count))

    def of_parts(self, folder: Path) -> None:
        """By when the parts of a folder were written."""
        parts = sorted((path.stat().st_mtime, pq.read_metadata(path).num_rows) for path in folder.glob("*.parquet"))
        count = 0
        for when, rows in parts:
            count += rows
            self.done.append((when, count))

    def when(self, share: float) -> float:
        """When this share of all notes was finished."""
        total = self.done[-1][1]
        return next(when for when, count in self.done if count >= share * total)

    def rate(self, first: float, last: float) -> float:
        """Notes per second between two shares of all notes."""
        return (last - first) * self.done[-1][1] / max(self.when(last) - self.when(first), 1e-3)


@dataclass
class Processors:
    """Seconds of processors of this process and of all that it started, ended ones too as far as they were seen."""

    seen: dict[tuple[int, float], float] = field(default_factory=dict)

    def seconds(self) -> float:
        """Until now."""
        me = psutil.Process()
        for process in [me, *me.children(recursive=True)]:
            with suppress(psutil.Error):
                used = process.cpu_times()
                self.seen[process.pid, process.create_time()] = used.user + used.system
        return sum(self.seen.values())


@dataclass
class Watch:
    """What is held and was used each half a second by this process and all that it started.

    Attributes:
        seen: When; MiB by kind, of the largest process; seconds of processors, of this process and of all.
    """

    seen: list[tuple[float, dict[str, float], float, float]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Look until it is over."""
        me, processors = psutil.Process(), Processors()
        while not self.over.wait(0.5):
            held: dict[str, float] = {}
            for process in [me, *me.children(recursive=True)]:
                with suppress(psutil.Error):  # it has ended
                    kind = kind_of(process, me)
                    held[kind] = max(held.get(kind, 0), process.memory_info().rss / 2**20)
            self.seen.append((time.time(), held, time.process_time(), processors.seconds()))

    def within(self, times: Times, first: float, last: float) -> list[tuple[float, dict[str, float], float, float]]:
        """What was seen while the notes between two shares of all were finished."""
        begin, end = times.when(first), times.when(last)
        return [one for one in self.seen if begin <= one[0] <= end] or self.seen[-1:]


def kind_of(process: psutil.Process, me: psutil.Process) -> str:
    """What a process is here for."""
    if process.pid == me.pid:
        return "driver"
    command = " ".join(process.cmdline())
    names = {"ray::Actor": "worker", "ray::MapWorker": "worker", "pyspark.daemon": "worker", "java": "Java"}
    return next((kind for name, kind in names.items() if name in command), "other")


def compare(model: Path, folder: Path, file: Path, rounds: int, dtype: str) -> None:
    """The same notes with each engine in turn."""
    notes = pq.read_metadata(file).num_rows
    options, nothing, processors = PoolOptions("local", workers=1), Times(), Processors()
    job = TaggingJob.of(model, device="cpu", dtype=dtype)
    with ray_pool(job, options) as pool, spark_session() as session:
        pool.start()
        engines = {
            "Predictor": predictor_alone(model, dtype),
            "cardioner predict": job_engine(local_tag(model, dtype), nothing),
            "cardioner predict --cluster ray": job_engine(pool.tag, nothing),
            "Spark": spark(job, session, nothing, 1),
        }
        warm = write_notes(folder / "warm.parquet", 256, LENGTH)
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in engines}
        for number in range(rounds):
            for name in list(engines)[:: -1 if number % 2 else 1]:
                engines[name](
                    warm, folder / f"{number} {name}, warming up"
                )  # Spark ends workers that idle for a minute
                began, used = time.perf_counter(), processors.seconds()
                engines[name](file, folder / f"{number} {name}.parquet")
                took[name].append((time.perf_counter() - began, processors.seconds() - used))
    for name, found in took.items():
        for place, kind in enumerate(("clock", "processors")):
            here, alone = [one[place] for one in found], [one[place] for one in took["Predictor"]]
            more = (sum(here) - sum(alone)) / (rounds * notes)
            each = " ".join(f"{one / other:.2f}" for one, other in zip(here, alone, strict=True))
            print(f"{name}, {kind}: {sum(here):.1f} s, {sum(here) / sum(alone):.3f} times ({each})", end=", ")
            print(f"{more * 1e3:+.2f} ms a note", flush=True)


def spans_of(place: Path) -> list[Any]:
    """The spans of all notes in the order of their ids, with scores as far as they agree whatever shares a batch."""
    rows = pq.read_table(place, columns=["note_id", "spans"]).sort_by("note_id").to_pylist()
    flat = [
        (span["start"], span["end"], span["label"], round(span["score"], 3)) for row in rows for span in row["spans"]
    ]
    return [[row["note_id"] for row in rows], [len(row["spans"]) for row in rows], flat]


def go_through(model: Path, folder: Path, many: int) -> None:
    """Many notes with each engine alone."""
    file = write_notes(folder / "many.parquet", many, SHORT)
    found: list[list[Any]] = []
    job = TaggingJob.of(model, device="cpu")

    def measure(name: str, times: Times, engine: Engine) -> None:
        watch, out = Watch(), folder / f"many {name}.parquet"
        watching = threading.Thread(target=watch.run)
        watching.start()
        began = time.perf_counter()
        engine(file, out)
        took = time.perf_counter() - began
        watch.over.set()
        watching.join()
        found.append(spans_of(out))
        print(f"{name}: {took:.0f} s; notes per second in {SHARES}:", *(f"{times.rate(*one):.0f}" for one in TENTHS))
        seen = [watch.within(times, *one) for one in TENTHS]
        for title, place in (("this process", 2), ("all", 3)):
            used = [
                (one[-1][place] - one[0][place]) / (times.rate(*share) * (one[-1][0] - one[0][0] + 1e-9))
                for one, share in zip(seen, TENTHS, strict=True)
            ]
            print(f"    ms of processors a note, {title}:", *(f"{one * 1e3:.2f}" for one in used))
        for kind in sorted({*chain.from_iterable(held for _, held, *_ in watch.seen)} - {"other"}):
            peaks = [max(held.get(kind, 0) for _, held, *_ in one) for one in seen]
            print(f"    MiB of {kind}:", *(f"{peak:.0f}" for peak in peaks), flush=True)

    measure("cardioner predict", (times := Times()), job_engine(local_tag(model), times))
    with ray_pool(job, PoolOptions("local", workers=1)) as pool:
        pool.start()
        measure("cardioner predict --cluster ray", (times := Times()), job_engine(pool.tag, times))
    ray.init("local", num_cpus=2, object_store_memory=500_000_000, log_to_driver=False, include_dashboard=False)
    measure("Ray Data", (times := Times()), ray_data(model, times))
    ray.shutdown()
    with spark_session() as session:
        measure("Spark", (times := Times()), spark(job, session, times, PARTS))
    print("spans:", len(found[0][2]), "equal" if all(one == found[0] for one in found) else "NOT EQUAL")


def driver_alone(folder: Path, notes: int) -> None:
    """What `cardioner predict` does beside tagging: notes of 2,000 characters, each with as many spans as `SPANS`."""
    file, out = write_notes(folder / "long.parquet", notes, 2_000), folder / "driver.parquet"
    chance, findings = np.random.default_rng(0), Findings()

    def tag(batch: NoteBatch, advance: Callable[[Coverage], None]) -> pa.RecordBatch:
        count = batch.rows.num_rows
        advance(Coverage(count))
        starts = pa.array(np.tile(np.arange(SPANS, dtype=np.int32) * 100, count))
        labels = pa.array(list(LABELS)).take(pa.array(np.arange(SPANS * count) % 3))
        parts = [starts, pc.add(starts, pa.scalar(9, pa.int32())), labels, pa.array(chance.random(SPANS * count))]
        empty = [pa.nulls(SPANS * count, field.type) for field in list(SPAN)[len(parts) :]]
        ends = pa.array(np.arange(count + 1, dtype=np.int32) * SPANS)
        found = pa.ListArray.from_arrays(ends, pa.StructArray.from_arrays([*parts, *empty], fields=list(SPAN)))
        made = [batch.rows.column("note_id"), found, pa.nulls(count, pa.string())]
        return pa.RecordBatch.from_arrays(made, names=["note_id", "spans", "problem"])

    began = time.process_time()
    log = BatchLog.begin(out.with_suffix(".sqlite"), {})
    with closing(log):
        made = tag_table(TableFiles([file], Columns()), log, tagging_here(tag), advance=lambda _: None)
        write_table((findings.add(one, one.tagged, Columns()) or one.tagged for one in made), out, "parquet")
    took = (time.process_time() - began) / notes
    places = {"in": file, "out": out, "log": out.with_suffix(".sqlite")}
    sizes = ", ".join(f"{name} {path.stat().st_size / notes:,.0f}" for name, path in places.items())
    print(f"beside tagging: {took * 1e3:.2f} ms of a processor a note; bytes a note: {sizes}", flush=True)


def main(
    notes: Annotated[int, typer.Option(help="Notes that all engines tag in turn; 0 to leave that out.")] = 1_000,
    rounds: Annotated[int, typer.Option(help="How often.")] = 5,
    dtype: Annotated[str, typer.Option(help="What the larger model computes in.")] = "auto",
    many: Annotated[int, typer.Option(help="Notes that each engine tags alone; 0 to leave that out.")] = 100_000,
) -> None:
    """Measure, and print."""
    torch.set_num_threads(1)
    kind = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"
    print(f"cardioner {__version__}, {kind}, ray {ray.__version__}, pyspark {pyspark.__version__}", flush=True)
    with tempfile.TemporaryDirectory() as made:
        if notes:
            file = write_notes(Path(made, "few.parquet"), notes, LENGTH)
            compare(write_model(Path(made), tiny=False), Path(made), file, rounds, dtype)
        driver_alone(Path(made), 20_000)
        if many:
            go_through(write_model(Path(made), tiny=True), Path(made), many)


if __name__ == "__main__":
    typer.run(main)
