"""A saved directory to look at, and one to damage."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PretrainedConfig

from cardioner.data.labels import LabelSet
from cardioner.model_dir.save import write_model_dir
from cardioner.multiclass import CardioNERConfig, TokenClassificationModelCRF


@pytest.fixture(scope="session")
def pristine(
    tmp_path_factory: pytest.TempPathFactory,
    tokenizers: dict[str, Any],
    encoder_config: Callable[[str], PretrainedConfig],
    labels: LabelSet,
) -> Path:
    """A whole directory that no test may change."""
    torch.manual_seed(2)
    config = CardioNERConfig(
        encoder_config=encoder_config("bert").to_dict(), id2label=labels.id2label, label2id=labels.label2id
    )
    model = TokenClassificationModelCRF(config).eval()
    for parameter in model.crf.parameters():
        torch.nn.init.normal_(parameter)
    directory = tmp_path_factory.mktemp("pristine") / "model"
    write_model_dir(model, tokenizers["wordpiece"], directory, training_args={"model": "tiny"})
    return directory


@pytest.fixture
def directory(pristine: Path, tmp_path: Path, without_manifest: Callable[[Path], Path]) -> Path:
    """A whole directory to damage, with no manifest that would tell at once."""
    return without_manifest(Path(shutil.copytree(pristine, tmp_path / "model")))


@pytest.fixture
def tokenizer(tokenizers: dict[str, Any]) -> Any:
    return tokenizers["wordpiece"]
