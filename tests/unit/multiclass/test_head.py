"""The head's first weights: what they make of values and gradients, and that loading leaves loaded ones alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from cardioner.data.labels import LabelSet
from cardioner.multiclass.modeling import CardioNERConfig, TokenClassificationModel, TokenClassificationModelCRF
from cardioner.training.initialization import build, read_source

MLPS = [(256,), (256, 64), (512, 256, 128)]
"""Widths of one to three hidden layers."""

MakeHead = Callable[..., TokenClassificationModel]
each_class = pytest.mark.parametrize("kind", [TokenClassificationModel, TokenClassificationModelCRF])


def rms(values: Tensor) -> float:
    return float(values.detach().pow(2).mean().sqrt())


@pytest.fixture
def fresh(encoder_config: Callable[[str], PretrainedConfig], labels: LabelSet) -> MakeHead:
    """A model as it starts, of a tiny encoder."""

    def make(
        widths: tuple[int, ...] | None, kind: type[TokenClassificationModel] = TokenClassificationModel
    ) -> TokenClassificationModel:
        torch.manual_seed(3)
        return kind(
            CardioNERConfig(
                encoder_config=encoder_config("bert").to_dict(),
                id2label=labels.id2label,
                label2id=labels.label2id,
                classifier_hidden_layers=widths,
            )
        ).eval()

    return make


@each_class
@pytest.mark.parametrize("widths", MLPS)
def test_an_mlp_passes_on_values_and_gradients_at_their_scale(
    fresh: MakeHead, kind: type[TokenClassificationModel], widths: tuple[int, ...]
) -> None:
    head = fresh(widths, kind).classifier
    layers = [part for part in head.children() if isinstance(part, nn.Linear)]
    given = torch.randn(500, layers[0].in_features, requires_grad=True)
    outputs: list[Tensor] = []
    for layer in layers:
        layer.register_forward_hook(lambda *found: outputs.append(found[2]))
    logits = head(given)
    torch.autograd.backward(logits, torch.randn_like(logits))
    # A ReLU halves the mean square, which the layer before it doubles.
    assert [rms(values) for values in outputs] == pytest.approx([2**0.5] * len(widths) + [1.0], rel=0.5)
    assert given.grad is not None
    assert rms(given.grad) == pytest.approx((logits.shape[1] / given.shape[1]) ** 0.5, rel=0.5)
    assert all(not layer.bias.any() for layer in layers)


@each_class
def test_a_single_layer_starts_as_transformers_starts_it(
    fresh: MakeHead, kind: type[TokenClassificationModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = fresh(None, kind).state_dict()
    monkeypatch.delattr(TokenClassificationModel, "_init_weights")
    theirs = fresh(None, kind).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


@each_class
@pytest.mark.parametrize("widths", [None, *MLPS])
def test_what_is_loaded_or_taken_over_keeps_its_weights(
    fresh: MakeHead,
    kind: type[TokenClassificationModel],
    widths: Any,
    labels: LabelSet,
    tmp_path: Path,
    tokenizers: Any,
) -> None:
    saved, tokenizer = fresh(widths, kind), tokenizers["wordpiece"]
    for value in saved.classifier.parameters():
        nn.init.normal_(value, std=0.1)
    saved.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(4)
    loaded = kind.from_pretrained(tmp_path)
    started = build(
        read_source(tmp_path), labels, use_crf=kind.uses_crf, tokenizer=tokenizer, classifier_hidden_layers=widths
    )
    for model in (loaded, started.model):
        assert all(torch.equal(value, saved.state_dict()[name]) for name, value in model.state_dict().items())
    assert not started.fresh
