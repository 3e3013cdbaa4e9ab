"""Layers of every family: their order, what thaws, and how fast each learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from cardioner.training.optimizer import depths, optimizer, parameter_groups, unfreeze_top
from cardioner.training.options import TrainingOptions

FAMILIES = ("bert", "electra", "roberta", "modernbert", "xlm-roberta", "deberta-v2")
SETTINGS = {"learning_rate": 1e-3, "weight_decay": 0.01}


@pytest.mark.parametrize("family", FAMILIES)
def test_depth_is_the_order_in_which_the_encoder_computes(family: str, make_model: Callable[..., Any]) -> None:
    model = make_model(family, use_crf=True)
    found = depths(model)
    assert set(found.values()) == {0, 1, 2, 3}, "embeddings, two layers, head"
    assert {found[name] for name in found if name.startswith(("classifier.", "crf."))} == {3}
    assert (
        found[next(name for name, value in model.named_parameters() if value is model.get_input_embeddings().weight)]
        == 0
    )
    layers = [name for name in found if ".layers.1." in name or ".layer.1." in name]
    assert layers
    assert {found[name] for name in layers} == {2}


@pytest.mark.parametrize("family", FAMILIES)
def test_unfreezing_goes_from_the_top_to_the_embeddings(family: str, make_model: Callable[..., Any]) -> None:
    model = make_model(family, use_crf=True)
    trainable = frozenset(name for name, value in model.named_parameters() if value.requires_grad)
    by_name, before = depths(model), set[str]()
    for layers, deepest in ((0, 3), (1, 2), (2, 1), (3, 0), (9, 0)):
        unfreeze_top(model, trainable, layers)
        learning = {name for name, value in model.named_parameters() if value.requires_grad}
        assert learning == {name for name in trainable if by_name[name] >= deepest}
        assert before <= learning
        before = learning
    assert before == trainable


def test_what_was_not_to_learn_never_unfreezes(make_model: Callable[..., Any]) -> None:
    model = make_model("bert")
    trainable = frozenset(name for name, _ in model.named_parameters() if "LayerNorm" not in name)
    unfreeze_top(model, trainable, 9)
    assert {name for name, value in model.named_parameters() if value.requires_grad} == trainable


@pytest.mark.parametrize("family", FAMILIES)
def test_each_layer_learns_slower_than_the_one_above(family: str, make_model: Callable[..., Any]) -> None:
    model = make_model(family, use_crf=True)
    options = TrainingOptions(layer_decay=0.5, head_learning_rate=4e-3, crf_learning_rate=5e-2)
    groups = parameter_groups(model, SETTINGS, options)
    rates = {id(value): group["lr"] for group in groups for value in group["params"]}
    decays = {id(value): group["weight_decay"] for group in groups for value in group["params"]}
    by_name = depths(model)
    trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}
    assert len(rates) == len(trainable) == sum(len(group["params"]) for group in groups), "each once"
    expected = {0: 0.25e-3, 1: 0.5e-3, 2: 1e-3}
    for name, value in trainable.items():
        own = 5e-2 if name.startswith("crf.") else 4e-3 if name.startswith("classifier.") else expected[by_name[name]]
        assert rates[id(value)] == pytest.approx(own), name
        decayed = value.ndim >= 2 and not name.startswith("crf.")
        assert decays[id(value)] == (0.01 if decayed else 0.0), name


def test_without_wishes_all_but_the_crf_learn_at_one_rate(make_model: Callable[..., Any]) -> None:
    groups = optimizer(make_model("bert", use_crf=True), SETTINGS, TrainingOptions()).param_groups
    assert {group["lr"] for group in groups} == {1e-3, 1e-2}
    assert len(groups) == 3


def test_a_step_moves_layers_as_far_as_their_rates_say(make_model: Callable[..., Any]) -> None:
    model = make_model("bert")
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    stepper = optimizer(model, {**SETTINGS, "weight_decay": 0.0}, TrainingOptions(layer_decay=0.5))
    ids = torch.arange(5, 25).reshape(2, 10)
    model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids % model.num_labels).loss.backward()
    stepper.step()
    moved = {name: float((value.detach() - before[name]).abs().max()) for name, value in model.named_parameters()}
    assert moved["classifier.weight"] == pytest.approx(1e-3, rel=0.01)  # Adam's first step is the rate
    assert moved["backbone.encoder.layer.1.output.dense.weight"] == pytest.approx(1e-3, rel=0.01)
    assert moved["backbone.encoder.layer.0.output.dense.weight"] == pytest.approx(0.5e-3, rel=0.01)
    assert moved["backbone.embeddings.word_embeddings.weight"] == pytest.approx(0.25e-3, rel=0.01)
