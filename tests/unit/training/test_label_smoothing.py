"""Label smoothing is torch's, with class weights and left-out labels, is stored, and does not go with a CRF."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cardioner.multiclass.modeling import IGNORED, CardioNERConfig, TokenClassificationModel

MakeModel = Callable[..., TokenClassificationModel]
WEIGHTS = [0.5, 1.0, 1.0, 2.0, 2.0, 3.0, 0.0]


def case() -> tuple[Tensor, Tensor]:
    """Logits of three rows of five positions, and labels of which some are left out."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(3, 5, 7, generator=generator, requires_grad=True)
    labels = torch.randint(0, 6, (3, 5), generator=generator)
    labels[0, 3:] = IGNORED
    labels[2, 0] = IGNORED
    return logits, labels


@pytest.mark.parametrize("class_weights", [None, WEIGHTS], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.75])
def test_loss_and_gradient_are_those_of_torch(
    make_model: MakeModel, smoothing: float, class_weights: list[float] | None
) -> None:
    model = make_model(label_smoothing=smoothing, class_weights=class_weights)
    weight = None if class_weights is None else torch.tensor(class_weights)
    logits, labels = case()
    found = model.loss(logits, labels)
    expected = F.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), weight, ignore_index=IGNORED, label_smoothing=smoothing
    )
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found, logits)
    (wanted,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(gradient, wanted)


def test_smoothing_changes_the_loss_that_forward_gives(make_model: MakeModel) -> None:
    ids = torch.arange(6, 15).unsqueeze(0)
    labels = torch.arange(9).unsqueeze(0) % 7
    plain, smoothed = (make_model(label_smoothing=share)(input_ids=ids, labels=labels) for share in (0.0, 0.2))
    assert torch.equal(plain.logits, smoothed.logits)
    expected = F.cross_entropy(plain.logits[0], labels[0], label_smoothing=0.2)
    torch.testing.assert_close(smoothed.loss, expected)
    assert not torch.isclose(plain.loss, smoothed.loss)


def test_a_batch_without_labels_has_no_loss(make_model: MakeModel) -> None:
    logits, labels = case()
    loss = make_model(label_smoothing=0.1).loss(logits, torch.full_like(labels, IGNORED))
    assert loss.item() == 0
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_configuration_keeps_it(make_model: MakeModel, smoothing: float, tmp_path: Path) -> None:
    make_model(label_smoothing=smoothing).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["label_smoothing"] == smoothing
    assert CardioNERConfig.from_pretrained(tmp_path).label_smoothing == smoothing
    assert TokenClassificationModel.from_pretrained(tmp_path).config.label_smoothing == smoothing


def test_a_configuration_from_before_it_has_none() -> None:
    assert CardioNERConfig.from_dict({"classifier_dropout": 0.1}).label_smoothing == 0.0


def test_a_crf_refuses_it(make_model: MakeModel) -> None:
    with pytest.raises(ValueError, match=r"label_smoothing must be 0 with a CRF.*; found 0\.1"):
        make_model(use_crf=True, label_smoothing=0.1)
    make_model(use_crf=True, label_smoothing=0.0)


@pytest.mark.parametrize("smoothing", [-0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(make_model: MakeModel, smoothing: float) -> None:
    with pytest.raises(ValueError, match="label_smoothing must be from 0 to 1; found"):
        make_model(label_smoothing=smoothing)
