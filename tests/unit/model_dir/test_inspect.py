"""What is said of a directory, and what is warned of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cardioner.model_dir.inspect import inspect
from cardioner.model_dir.layout import CODE
from cardioner.model_dir.load import read_model_dir
from cardioner.model_dir.save import write_model_dir
from cardioner.multiclass import TokenClassificationModel

MakeModel = Callable[..., TokenClassificationModel]


def described(model: TokenClassificationModel, tokenizer: Any, directory: Path) -> tuple[str, ...]:
    """The warnings about a model."""
    write_model_dir(model, tokenizer, directory)
    return inspect(directory).warnings


def test_trained_model_is_described_without_warnings(pristine: Path) -> None:
    found = inspect(pristine)
    assert found.warnings == ()
    assert found.facts["model"] == "TokenClassificationModelCRF"
    assert found.facts["labels"][:3] == ["O", "B-DISEASE", "I-DISEASE"]
    assert found.facts["head"] == "16 -> 7"
    assert found.facts["crf"] is True
    assert found.facts["encoder"] == "bert, 2 layers of 16"
    assert found.facts["trained_from"] == "tiny"
    assert found.files["model.safetensors"] == (pristine / "model.safetensors").stat().st_size
    model, _, _ = read_model_dir(pristine, device="cpu")
    assert found.facts["parameters"] == sum(parameter.numel() for parameter in model.parameters())


def test_standard_model_has_no_warning_about_a_crf(make_model: MakeModel, tokenizer: Any, tmp_path: Path) -> None:
    assert described(make_model(), tokenizer, tmp_path) == ()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_reported(
    make_model: MakeModel, tokenizer: Any, tmp_path: Path, value: float
) -> None:
    model: Any = make_model(use_crf=True)
    model.crf.end_transitions.data[2] = value
    (warning,) = described(model, tokenizer, tmp_path)
    assert warning == "crf.end_transitions holds values that are not finite: the model cannot be used"


def test_transitions_of_zero_are_reported_as_untrained(make_model: MakeModel, tokenizer: Any, tmp_path: Path) -> None:
    model: Any = make_model(use_crf=True)
    model.crf.reset_parameters()
    (warning,) = described(model, tokenizer, tmp_path)
    assert "all 0" in warning


def test_initial_values_of_pytorch_crf_are_reported_as_untrained(
    make_model: MakeModel, tokenizer: Any, tmp_path: Path
) -> None:
    model: Any = make_model(use_crf=True)
    torch.nn.init.uniform_(model.crf.transitions, -0.1, 0.1)
    (warning,) = described(model, tokenizer, tmp_path)
    assert "looks untrained" in warning


@pytest.mark.parametrize("name", CODE)
def test_changed_code_is_reported_and_not_run(directory: Path, name: str) -> None:
    (directory / name).write_text("raise SystemExit('this must not run')\n")
    _, warning = inspect(directory).warnings  # the first one is of the manifest
    assert warning.startswith(f"{name} is not that of cardioner")
    read_model_dir(directory, device="cpu")


def test_training_args_of_another_shape_are_passed_over(directory: Path) -> None:
    for content in ('{"scores": [1], "versions": 3}', '{"scores": {"test": 5}}', "[]", "{"):
        (directory / "training_args.json").write_text(content)
        found = inspect(directory)
        assert not any(found.facts["scores"].values())
        assert "transformers" in found.facts["versions"]["saved"]
