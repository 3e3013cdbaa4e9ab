"""Models that are served: what is said of them, and that they are only loaded again if they verify."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cardioner.errors import ModelError, UsageError
from cardioner.model_dir.save import write_model_dir
from cardioner.model_dir.signing import make_signing_key, write_signature
from cardioner.prediction.directories import models_digest
from cardioner.server.models import Source, load_models, load_verified


@pytest.fixture
def saved(make_model: Callable[..., Any], tokenizers: dict[str, Any], tmp_path: Path) -> Path:
    write_model_dir(make_model("bert", use_crf=True), tokenizers["wordpiece"], tmp_path / "model")
    return tmp_path / "model"


def test_what_is_said_of_a_model_is_what_its_directory_says(saved: Path, tmp_path: Path) -> None:
    make_signing_key(tmp_path / "key")
    fingerprint = write_signature(saved, tmp_path / "key")
    for key in (None, tmp_path / "key.pub"):
        (model,) = load_verified(Source((saved,), dtype="float32", key=key))
        assert (model.name, model.message.engine, model.message.dtype) == ("model", "torch", ["float32"])
        assert model.message.digest == models_digest([saved])
        assert list(model.message.types) == list(model.predictor.labels)
        assert [(one.names, one.proven) for one in model.message.signatures] == [(fingerprint, key is not None)]


def test_a_directory_that_does_not_verify_is_not_loaded_again(saved: Path) -> None:
    weights = saved / "model.safetensors"
    load_verified(Source((saved,)))
    with weights.open("r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write(b"damaged!")
    with pytest.raises(ModelError, match=r"is not sound: model\.safetensors: its content has changed"):
        load_verified(Source((saved,)))


def test_a_directory_without_a_manifest_is_served_but_not_loaded_again(
    saved: Path, without_manifest: Callable[[Path], Path]
) -> None:
    source = Source((without_manifest(saved),))
    assert load_models(source)
    with pytest.raises(ModelError, match="has no manifest"):
        load_verified(source)


def test_models_of_one_name_cannot_be_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two models are called model"):
        load_models(Source((tmp_path / "a" / "model", tmp_path / "b" / "model")))
