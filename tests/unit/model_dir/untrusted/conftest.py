"""A whole directory with a CRF and hidden layers, and a copy of it to damage."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PretrainedConfig

from cardioner.data.labels import LabelSet
from cardioner.model_dir.save import write_model_dir
from cardioner.multiclass import CardioNERConfig, TokenClassificationModelCRF


@pytest.fixture(scope="session")
def whole_directory(
    tmp_path_factory: pytest.TempPathFactory,
    tokenizers: dict[str, Any],
    encoder_config: Callable[[str], PretrainedConfig],
    labels: LabelSet,
) -> Path:
    """A directory with a CRF and hidden layers that no test may change."""
    config = CardioNERConfig(
        encoder_config=encoder_config("bert").to_dict(),
        id2label=labels.id2label,
        label2id=labels.label2id,
        classifier_hidden_layers=[8],
    )
    directory = tmp_path_factory.mktemp("whole") / "model"
    write_model_dir(TokenClassificationModelCRF(config).eval(), tokenizers["wordpiece"], directory)
    return directory


@pytest.fixture
def directory(whole_directory: Path, tmp_path: Path) -> Path:
    """A whole directory to damage."""
    return Path(shutil.copytree(whole_directory, tmp_path / "model"))
