"""`cardioner upgrade`: what it finds goes to standard error, and what it writes tags notes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from cardioner.model_dir.json_files import read_object


@pytest.fixture
def old(opinionated: Callable[..., Path], tmp_path: Path) -> Path:
    """A model with a CRF in the form of the original: plain encoder configuration, old names, bfloat16."""
    new, place = opinionated(use_crf=True, classifier_hidden_layers=(8,)), tmp_path / "old"
    place.mkdir()
    config = read_object(new / "config.json")
    own = {key: config[key] for key in ("id2label", "label2id", "classifier_hidden_layers", "use_crf")}
    (place / "config.json").write_text(
        json.dumps({**config["encoder_config"], **own, "backbone_model_name": "some-lab/some-encoder"})
    )
    weights = load_file(new / "model.safetensors")
    renamed = {name.replace("backbone.", "roberta.", 1): value.to(torch.bfloat16) for name, value in weights.items()}
    save_file(renamed, place / "model.safetensors")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (place / name).write_bytes((new / name).read_bytes())
    return place


def test_an_old_model_is_upgraded_and_tags_notes(
    run: Callable[..., Any], old: Path, corpus: Path, tmp_path: Path
) -> None:
    done = run("upgrade", old, tmp_path / "new")
    assert (done.code, done.out) == (0, "")
    for message in ("bert", "16 -> 8 -> 7", "bfloat16", "B-DISEASE", "padding labelled as O", "cross-entropy"):
        assert message in done.err
    tagged = run("predict", tmp_path / "new", corpus / "dev", "--output", tmp_path / "tagged.jsonl", "--device", "cpu")
    assert tagged.code == 0, tagged.err
    assert run("inspect", tmp_path / "new", "--json").json["facts"]["crf"] is True


def test_an_encoder_that_is_not_at_hand_is_one_line(run: Callable[..., Any], old: Path, tmp_path: Path) -> None:
    (old / "config.json").write_text(json.dumps({"model_type": "bert", "backbone_model_name": "some-lab/some-encoder"}))
    done = run("upgrade", old, tmp_path / "new")
    assert done.code == 4
    assert "hf download some-lab/some-encoder" in done.error
