"""A model and made-up notes for clusters on this machine. Run alone, by `make test-clusters`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

os.environ["RAY_raylet_start_wait_time_s"] = "120"  # noqa: SIM112 - Ray spells it so; a machine may have other work
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
sys.path.append(str(Path(__file__).parent))  # for the module of these tests that is none itself
from rows import CANARY, by_id

from cardioner.model_dir.save import write_model_dir
from cardioner.prediction.predictor import Predictor
from cardioner.tables.columns import Columns
from cardioner.tables.tagging import tag_batch


@pytest.fixture
def model(make_model: Callable[..., Any], tokenizers: dict[str, Any], tmp_path: Path) -> Path:
    """A model that finds spans in every note, and says something of them."""
    said = {"Negation": [None, True], "Certainty": [None, "possible"]}
    write_model_dir(make_model(use_crf=True, attributes=said), tokenizers["wordpiece"], tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """A Parquet file of 2,000 notes, one of them without text."""
    texts: list[str | None] = [
        f"Patient {number} denies chest pain {CANARY}. Bisoprolol {number % 7} mg." * (1 + number % 3)
        for number in range(2000)
    ]
    texts[7] = None
    pq.write_table(
        pa.table({"note_id": [f"n{number}" for number in range(2000)], "note_text": texts}), tmp_path / "notes.parquet"
    )
    return tmp_path / "notes.parquet"


@pytest.fixture
def expected(model: Path, notes: Path) -> list[dict[str, Any]]:
    """What one machine makes of the notes, by id."""
    predictor = Predictor.from_pretrained(model, device="cpu")
    batches = pq.read_table(notes).to_batches()
    return by_id(row for batch in batches for row in tag_batch(batch, predictor, Columns()).to_pylist())
