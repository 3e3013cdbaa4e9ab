"""What a worker does with a batch, without a cluster: the same as one machine, or a clear refusal."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardioner.distributed.job import TaggingJob, load
from cardioner.distributed.ray import Tagger, workers_that_fit
from cardioner.errors import DataError, ModelError, UsageError
from cardioner.model_dir.save import write_model_dir
from cardioner.prediction.predictor import Predictor
from cardioner.tables.columns import Columns
from cardioner.tables.tagging import above, exploded, tag_batch

NOTES = pa.table(
    {
        "note_id": ["a", "b", "c", "d"],
        "note_text": ["Severe aortic stenosis, no oedema.", None, "", "Bisoprolol 2.5 mg for atrial fibrillation."],
        "ward": pa.array(["x", "y", "x", None]).dictionary_encode(),
    }
)
COLUMNS = Columns(keep=("ward",))


@pytest.fixture
def model(make_model: Callable[..., Any], tokenizers: dict[str, Any], tmp_path: Path) -> Path:
    """A model that finds spans in every note."""
    write_model_dir(make_model(use_crf=True), tokenizers["wordpiece"], tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """No models of other tests."""
    load.cache_clear()
    yield
    load.cache_clear()


@pytest.mark.parametrize("explode", [False, True])
def test_a_worker_gives_what_one_machine_gives_in_the_schema_that_was_promised(model: Path, explode: bool) -> None:
    job = TaggingJob.of(model, columns=COLUMNS, explode=explode, min_score=0.2, device="cpu")
    (batch,) = NOTES.to_batches()
    tagged = above(tag_batch(batch, Predictor.from_pretrained(model, device="cpu"), COLUMNS), 0.2)
    assert len(tagged.column("spans").flatten())
    expected = exploded(tagged) if explode else tagged
    sent = pickle.loads(pickle.dumps(job))
    assert sent.tag(batch).equals(expected)
    assert job.schema(NOTES.schema).equals(expected.schema)
    whole = pa.concat_tables([NOTES, NOTES])
    actor = Tagger(sent)
    assert actor(whole).equals(pa.Table.from_batches([expected, expected]))
    assert actor(whole.slice(0, 0)).schema.equals(expected.schema)


def test_the_models_are_loaded_once_a_process(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Any] = []
    real = Predictor.from_pretrained
    monkeypatch.setattr(Predictor, "from_pretrained", lambda *a, **k: loaded.append(a) or real(*a, **k))
    job = TaggingJob.of(model, device="cpu")
    for batch in (*NOTES.to_batches(), *NOTES.to_batches()):
        pickle.loads(pickle.dumps(job)).tag(batch)
    assert len(loaded) == 1


def test_a_worker_with_another_version_or_another_model_or_none_refuses(model: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(model, tmp_path / "model"))
    job = TaggingJob.of(place, device="cpu")
    with pytest.raises(UsageError, match=r"the worker on .* has cardioner .*, the driver 0\.0\.1: install the same"):
        load(replace(job, version="0.0.1"))
    config = place / "config.json"
    config.write_text(config.read_text() + "\n")
    with pytest.raises(ModelError, match=r"finds other files in .*model than the driver: copy the same model there"):
        load(job)
    shutil.rmtree(place)
    with pytest.raises(ModelError, match=r"the worker on .* has no .*model: put the model on storage that all workers"):
        load(job)
    with pytest.raises(ModelError, match="does not exist: expected a model directory"):
        TaggingJob.of(place)


def test_what_cannot_be_is_refused_on_the_driver(model: Path) -> None:
    with pytest.raises(UsageError, match="min_score must be between 0 and 1; found 2"):
        TaggingJob.of(model, min_score=2)
    with pytest.raises(DataError, match="no column 'note_text'; its columns are note_id, text"):
        TaggingJob.of(model).schema(pa.schema([("note_id", pa.string()), ("text", pa.string())]))


@pytest.mark.parametrize(
    ("nodes", "wanted", "cpus", "gpus", "count"),
    [
        ([(4, 0)], None, 1, 0, 3),
        ([(4, 0), (4, 0)], None, 1, 0, 7),
        ([(4, 0), (4, 0)], 2, 1, 0, 2),
        ([(5, 0), (4, 0)], None, 2, 0, 4),
        ([(16, 2)], None, 1, 0.5, 4),
        ([(3, 8)], None, 1, 1, 2),
        ([(2, 0), (0, 0)], None, 0.5, 0, 2),
    ],
)
def test_workers_fill_what_reading_leaves(
    nodes: list[tuple[float, float]], wanted: int | None, cpus: float, gpus: float, count: int
) -> None:
    assert workers_that_fit(nodes, wanted, cpus, gpus, others=1) == count


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=4),
    st.sampled_from([0.5, 1, 2]),
    st.sampled_from([0, 0.5, 1]),
    st.sampled_from([1, 2]),
)
def test_no_node_has_more_workers_than_it_has_room_for(
    nodes: list[tuple[int, int]], cpus: float, gpus: float, others: int
) -> None:
    def slots(node: tuple[float, float]) -> int:
        count = 0
        while (count + 1) * cpus <= node[0] and (count + 1) * gpus <= node[1]:
            count += 1
        return count

    largest = max(range(len(nodes)), key=lambda place: nodes[place][0])
    left = [(node[0] - others, node[1]) if place == largest else node for place, node in enumerate(nodes)]
    room = sum(map(slots, left))
    if room:
        assert workers_that_fit(nodes, None, cpus, gpus, others=others) == room
    with pytest.raises(UsageError, match="the cluster has no room for"):
        workers_that_fit(nodes, room + 1, cpus, gpus, others=others)
