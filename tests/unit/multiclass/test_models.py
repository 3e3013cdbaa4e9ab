"""Both models: what learns, what the loss may not depend on, what is saved, and what is refused."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PretrainedConfig

from cardioner.data.labels import LabelSet
from cardioner.multiclass.modeling import (
    IGNORED,
    CardioNERConfig,
    TokenClassificationModel,
    TokenClassificationModelCRF,
    legal_transitions,
    load_custom_cardioner_multiclass_model,
)
from cardioner.multiclass.tagging import to_runs

FAMILIES = ["bert", "electra", "roberta", "modernbert", "xlm-roberta", "deberta-v2"]
HEADS = [None, (12, 8)]
KEYS = {
    *("auto_map", "classifier_hidden_layers", "classifier_dropout", "class_weights", "use_crf", "freeze_backbone"),
    *("custom_model_type", "requires_trust_remote_code", "id2label", "window_length", "window_context"),
    *("temperature", "inference_dtype", "custom_pipelines"),
}
SETTINGS: dict[str, Any] = {
    "classifier_hidden_layers": (12, 8),
    "classifier_dropout": 0.25,
    "class_weights": [0.5, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0],
    "freeze_backbone": True,
    "window_length": 64,
    "window_context": 7,
    "temperature": 1.5,
    "inference_dtype": "bfloat16",
}

MakeModel = Callable[..., TokenClassificationModel]
both_models = pytest.mark.parametrize("use_crf", [False, True], ids=["softmax", "crf"])
every_family = pytest.mark.parametrize("family", FAMILIES)


def batch(model: TokenClassificationModel, lengths: tuple[int, ...] = (9, 6, 4)) -> dict[str, Tensor]:
    """Random sub-tokens with legal random labels, padded on the right."""
    generator = torch.Generator().manual_seed(7)
    width, pad = max(lengths), model.config.encoder_config["pad_token_id"]
    ids = torch.randint(6, 90, (len(lengths), width), generator=generator)
    mask = torch.arange(width).unsqueeze(0) < torch.tensor(lengths).unsqueeze(1)
    tags = model.config.tags
    allowed = torch.tensor([model.config.label2id[tag] for tag in tags if not tag.startswith("I-")])
    labels = allowed[torch.randint(0, len(allowed), ids.shape, generator=generator)]
    opens = labels[:, :-1] != model.config.label2id["O"]
    goes_on = opens & (torch.rand(opens.shape, generator=generator) < 0.5)
    inside = torch.tensor([model.config.label2id.get(f"I-{tag[2:]}", 0) for tag in tags])
    labels[:, 1:] = torch.where(goes_on, inside[labels[:, :-1]], labels[:, 1:])
    return {
        "input_ids": ids.masked_fill(~mask, pad),
        "attention_mask": mask.long(),
        "labels": labels.masked_fill(~mask, IGNORED),
    }


def widened(inputs: dict[str, Tensor], by: int, *, ids: int, labels: int) -> dict[str, Tensor]:
    fillers = {"input_ids": ids, "attention_mask": 0, "labels": labels}
    return {name: F.pad(values, (0, by), value=fillers[name]) for name, values in inputs.items()}


def rewritten(directory: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    weights = load_file(directory / "model.safetensors")
    change(weights)
    save_file(weights, directory / "model.safetensors", {"format": "pt"})


@every_family
@both_models
@pytest.mark.parametrize("head", HEADS, ids=["linear", "mlp"])
def test_every_trainable_parameter_gets_a_gradient(
    make_model: MakeModel, family: str, use_crf: bool, head: tuple[int, ...] | None
) -> None:
    model = make_model(family, use_crf=use_crf, classifier_hidden_layers=head)
    model(**batch(model, (9, 9, 9, 8))).loss.backward()
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert [name for name, parameter in trainable.items() if parameter.grad is None] == []
    # A key's bias shifts all of a query's attention scores alike, so that its gradient is 0 by its nature.
    still = [name for name, parameter in trainable.items() if not parameter.grad.any() and "key" not in name]
    assert still == []
    if use_crf:
        legal = legal_transitions(model.config.tags)
        learning = model.crf.transitions.grad.ne(0)
        assert torch.equal(learning, torch.tensor(legal.transitions))
        assert torch.equal(model.crf.start_transitions.grad.ne(0), torch.tensor(legal.start))
        assert model.crf.end_transitions.grad.ne(0).all()


@every_family
@both_models
def test_logits_of_a_note_are_the_same_alone_and_in_a_padded_batch(
    make_model: MakeModel, family: str, use_crf: bool
) -> None:
    model = make_model(family, use_crf=use_crf)
    inputs = batch(model)
    with torch.no_grad():
        together = model(**inputs).logits
        for row, mask in enumerate(inputs["attention_mask"].bool()):
            alone = model(input_ids=inputs["input_ids"][row, mask].unsqueeze(0)).logits[0]
            torch.testing.assert_close(together[row, mask], alone, atol=1e-5, rtol=0)


@every_family
@both_models
@pytest.mark.parametrize("class_weights", [None, SETTINGS["class_weights"]], ids=["plain", "weighted"])
def test_loss_does_not_depend_on_padding_order_or_a_left_out_mask(
    make_model: MakeModel, family: str, use_crf: bool, class_weights: list[float] | None
) -> None:
    model = make_model(family, use_crf=use_crf, class_weights=class_weights)
    inputs = batch(model)
    pad = model.config.encoder_config["pad_token_id"]
    order = torch.tensor([2, 0, 1])
    variants = [
        widened(inputs, 5, ids=pad, labels=IGNORED),
        widened(inputs, 3, ids=17, labels=IGNORED),
        widened(inputs, 3, ids=17, labels=2),
        inputs | {"labels": inputs["labels"].masked_fill(inputs["attention_mask"] == 0, 4)},
        {name: values[order] for name, values in inputs.items()},
        {name: values for name, values in inputs.items() if name != "attention_mask"},
        inputs | {"attention_mask": inputs["attention_mask"].bool()},
    ]
    with torch.no_grad():
        expected = model(**inputs).loss
        losses = [model(**variant).loss for variant in variants]
    torch.testing.assert_close(torch.stack(losses), expected.expand(len(losses)), atol=1e-5, rtol=1e-5)


@both_models
def test_labels_that_are_left_out_do_not_count(make_model: MakeModel, use_crf: bool) -> None:
    model = make_model(use_crf=use_crf)
    inputs = batch(model, (6, 6))
    with torch.no_grad():
        logits = model(**inputs).logits
        whole = model.loss(logits, inputs["labels"])
        half = model.loss(logits, inputs["labels"].index_fill(0, torch.tensor([1]), IGNORED))
        other = model.loss(logits, inputs["labels"].index_fill(0, torch.tensor([0]), IGNORED))
        nothing = model.loss(logits, torch.full_like(inputs["labels"], IGNORED))
    torch.testing.assert_close(whole, (half + other) / 2)
    assert float(nothing) == 0.0


@both_models
def test_extreme_logits_and_rows_without_labels_keep_the_gradients_finite(make_model: MakeModel, use_crf: bool) -> None:
    model = make_model(use_crf=use_crf, class_weights=SETTINGS["class_weights"])
    labels = batch(model)["labels"].index_fill(0, torch.tensor([1]), IGNORED)
    logits = (torch.randn(*labels.shape, 7, generator=torch.Generator().manual_seed(0)) * 1e4).requires_grad_()
    model.loss(logits, labels).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert not logits.grad[1].any()


@pytest.mark.parametrize("class_weights", [None, SETTINGS["class_weights"]])
def test_cross_entropy_is_that_of_torch(make_model: MakeModel, class_weights: list[float] | None) -> None:
    model = make_model(class_weights=class_weights)
    inputs = batch(model)
    output = model(**inputs)
    weight = None if class_weights is None else torch.tensor(class_weights)
    expected = F.cross_entropy(output.logits.flatten(0, 1), inputs["labels"].flatten(), weight, ignore_index=IGNORED)
    torch.testing.assert_close(output.loss, expected)


def test_crf_loss_is_the_negative_log_likelihood_per_token(make_model: MakeModel) -> None:
    model = make_model(use_crf=True)
    inputs = batch(model)
    output = model(**inputs)
    total = model.crf(output.logits, inputs["labels"].clamp(min=0), inputs["attention_mask"])
    torch.testing.assert_close(output.loss, -total / inputs["attention_mask"].sum())


def test_crf_with_class_weights_adds_the_weighted_loss_of_the_marginals(make_model: MakeModel) -> None:
    weights = torch.tensor(SETTINGS["class_weights"])
    model = make_model(use_crf=True, class_weights=weights.tolist())
    inputs = batch(model)
    logits, labels = model(**inputs).logits, inputs["labels"]
    logs = model.crf.marginals(logits, labels.ne(IGNORED)).clamp(min=1e-30).log().flatten(0, 1)
    token_loss = F.nll_loss(logs, labels.flatten(), weights, ignore_index=IGNORED)
    torch.testing.assert_close(model.loss(logits, labels), token_loss - model.crf(logits, labels, None, "token_mean"))


def noisy_notes(seed: int, count: int, width: int) -> tuple[Tensor, Tensor]:
    """Features `(count, 12, width)` that tell tags badly, and labels in which the third type is rare."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.zeros(count, 12, dtype=torch.long)
    for row, position in product(range(count), (1, 4, 7, 10)):
        draw = float(torch.rand((), generator=generator))
        opening = 5 if draw < 0.06 else 1 if draw < 0.5 else 0
        labels[row, position : position + 2] = torch.tensor([opening, opening + 1]) if opening else 0
    directions = torch.randn(7, width, generator=torch.Generator().manual_seed(0)) * 0.3
    return directions[labels] + torch.randn(count, 12, width, generator=generator), labels


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_class_weights_raise_the_recall_of_the_rarest_type_with_a_crf(make_model: MakeModel, seed: int) -> None:
    features, labels = noisy_notes(seed, 96, 16)
    unseen, gold = noisy_notes(seed + 100, 300, 16)
    counts = labels.flatten().bincount(minlength=7).clamp(min=1)
    balanced = (labels.numel() / (5 * counts)).tolist()
    recalls = []
    for class_weights in (None, balanced):
        model = make_model(use_crf=True, class_weights=class_weights)
        model.classifier.reset_parameters()
        model.crf.reset_parameters()
        optimizer = torch.optim.Adam([*model.classifier.parameters(), *model.crf.parameters()], lr=0.05)
        for _ in range(40):
            optimizer.zero_grad()
            model.loss(model.classifier(features), labels).backward()
            optimizer.step()
        with torch.no_grad():
            found = torch.tensor(model.decode(model.classifier(unseen)))
        rare = gold >= 5
        recalls.append(float((found[rare] == gold[rare]).float().mean()))
    assert recalls[1] > recalls[0] + 0.05


@both_models
def test_frozen_encoder_stays_as_it_is_while_the_head_trains(make_model: MakeModel, use_crf: bool) -> None:
    model = make_model(use_crf=use_crf, freeze_backbone=True).train()
    model(**batch(model)).loss.backward()
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    assert not any(module.training for module in model.backbone.modules())
    assert model.dropout.training
    assert all(parameter.grad is not None for parameter in model.classifier.parameters())
    assert make_model(use_crf=use_crf).train().backbone.training
    assert not model.eval().dropout.training


@both_models
def test_dropout_acts_in_training_only(make_model: MakeModel, use_crf: bool) -> None:
    model = make_model(use_crf=use_crf, freeze_backbone=True, classifier_dropout=0.5)
    inputs = batch(model)
    assert torch.equal(model(**inputs).logits, model(**inputs).logits)
    model.train()
    assert not torch.equal(model(**inputs).logits, model(**inputs).logits)


@both_models
def test_head_is_one_linear_layer_or_the_layers_asked_for(make_model: MakeModel, use_crf: bool) -> None:
    simple = make_model(use_crf=use_crf).classifier
    assert isinstance(simple, nn.Linear)
    assert (simple.in_features, simple.out_features) == (16, 7)
    deep = make_model(use_crf=use_crf, classifier_hidden_layers=(12, 8), classifier_dropout=0.3).classifier
    kinds = [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert [type(layer) for layer in deep] == kinds
    assert [(layer.in_features, layer.out_features) for layer in deep[::3]] == [(16, 12), (12, 8), (8, 7)]
    assert {layer.p for layer in deep if isinstance(layer, nn.Dropout)} == {0.3}


@both_models
def test_decode_gives_one_best_tag_per_attended_position(make_model: MakeModel, use_crf: bool) -> None:
    model = make_model(use_crf=use_crf)
    inputs = batch(model)
    logits = model(**inputs).logits
    decoded = model.decode(logits, inputs["attention_mask"])
    assert [len(row) for row in decoded] == [9, 6, 4]
    if use_crf:
        assert decoded == model.crf.decode(logits, mask=inputs["attention_mask"].bool())
        assert model.decode(logits) == model.crf.decode(logits)
    else:
        assert model.decode(logits) == logits.argmax(-1).tolist()
        assert decoded == [row[: len(kept)] for row, kept in zip(model.decode(logits), decoded, strict=True)]


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_span_scores_of_a_crf_are_probabilities_of_exactly_these_spans(
    make_model: MakeModel, temperature: float
) -> None:
    model = make_model(use_crf=True, temperature=temperature)
    logits = torch.randn(4, 7, generator=torch.Generator().manual_seed(4)).double() * 2
    names = model.config.tags
    sequences = torch.tensor(list(product(range(7), repeat=4)))
    crf = model.crf.double()
    emissions, scale = logits.expand(len(sequences), 4, 7), 1 / temperature
    scores = crf(emissions, sequences, reduction="none").detach() * scale
    shares = scores.softmax(0)
    tags = [names.index(tag) for tag in ("B-DISEASE", "I-DISEASE", "O", "B-SYMPTOM")]
    runs = to_runs([names[tag] for tag in tags])
    expected = [
        float(
            sum(share for share, row in zip(shares, sequences, strict=True) if run in to_runs([names[t] for t in row]))
        )
        for run in runs
    ]
    spans = [(1, run.first, tags[run.first : run.stop]) for run in runs]
    padded = torch.nn.functional.pad(logits, (0, 0, 0, 2), value=9.0).expand(2, 6, 7)
    mask = torch.tensor([[1] * 6, [1, 1, 1, 1, 0, 0]])
    assert model.span_scores(padded, spans, mask) == pytest.approx(expected, abs=1e-6)


def test_span_scores_without_a_crf_are_products_of_token_probabilities(make_model: MakeModel) -> None:
    model = make_model(temperature=2.0)
    logits = torch.randn(3, 7, generator=torch.Generator().manual_seed(4)).requires_grad_()
    shares = (logits.detach() / 2).softmax(1)
    spans = [(1, 0, [1, 2]), (1, 2, [5])]
    expected = [float(shares[0, 1] * shares[1, 2]), float(shares[2, 5])]
    assert model.span_scores(logits.expand(2, 3, 7), spans) == pytest.approx(expected)
    left_padded = torch.nn.functional.pad(logits, (0, 0, 2, 0)).expand(2, 5, 7)
    mask = torch.tensor([[1] * 5, [0, 0, 1, 1, 1]])
    assert model.span_scores(left_padded, spans, mask) == pytest.approx(expected)
    assert model.span_scores(logits.unsqueeze(0), []) == []


@both_models
def test_span_scores_refuse_spans_that_are_not_there(make_model: MakeModel, use_crf: bool) -> None:
    with pytest.raises(ValueError, match="span 0: expected positions within a row"):
        make_model(use_crf=use_crf).span_scores(torch.zeros(1, 3, 7), [(0, 2, [1, 2])])


@both_models
def test_a_subclass_may_wrap_forward_with_keywords_alone(make_model: MakeModel, use_crf: bool, tmp_path: Path) -> None:
    base = type(make_model(use_crf=use_crf))

    class Doubled(base):  # type: ignore[misc, valid-type]
        def forward(self, **kwargs: Any) -> Any:
            outputs = super().forward(**kwargs)
            outputs.loss = outputs.loss * 2
            return outputs

    plain = make_model(use_crf=use_crf)
    doubled = Doubled(plain.config)
    doubled.load_state_dict(plain.state_dict())
    inputs = batch(plain)
    torch.testing.assert_close(doubled.eval()(**inputs).loss, plain(**inputs).loss * 2)
    doubled.save_pretrained(tmp_path)
    assert load_custom_class(tmp_path) == base.__name__
    assert torch.equal(base.from_pretrained(tmp_path)(**inputs).logits, plain(**inputs).logits)


def load_custom_class(directory: Path) -> str:
    auto_map = json.loads((directory / "config.json").read_text())["auto_map"]
    assert auto_map["AutoConfig"] == "modeling.CardioNERConfig"
    return str(auto_map["AutoModelForTokenClassification"].removeprefix("modeling."))


@both_models
def test_data_parallel_falls_through_to_the_model_on_a_cpu(make_model: MakeModel, use_crf: bool) -> None:
    model = make_model(use_crf=use_crf)
    inputs = batch(model)
    wrapped = torch.nn.DataParallel(model)(**inputs)
    assert torch.equal(wrapped.logits, model(**inputs).logits)
    assert torch.equal(wrapped.loss, model(**inputs).loss)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch, at a graph break
@both_models
def test_a_compiled_model_has_the_loss_and_the_gradients_of_the_eager_one(make_model: MakeModel, use_crf: bool) -> None:
    results = []
    for wrap in (lambda model: model, lambda model: torch.compile(model, backend="aot_eager")):
        model = make_model(use_crf=use_crf)
        output = wrap(model)(**batch(model))
        output.loss.backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        results.append([output.loss, output.logits, *gradients])
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager)


@both_models
def test_emissions_can_be_exported_for_any_batch_and_length(make_model: MakeModel, use_crf: bool) -> None:
    model = make_model(use_crf=use_crf)
    inputs = {name: values for name, values in batch(model).items() if name != "labels"}
    axes = {0: torch.export.Dim("batch", min=1, max=64), 1: torch.export.Dim("length", min=2, max=64)}
    exported = torch.export.export(model, (), inputs, dynamic_shapes=dict.fromkeys(inputs, axes)).module()
    shorter = {name: values[:2, :6] for name, values in inputs.items()}
    torch.testing.assert_close(exported(**shorter).logits, model(**shorter).logits)


@both_models
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("weights", [None, SETTINGS["class_weights"]], ids=["unweighted", "weighted"])
def test_training_under_autocast_gives_every_weight_a_finite_gradient(
    make_model: MakeModel, use_crf: bool, dtype: torch.dtype, weights: list[float] | None
) -> None:
    model = make_model(use_crf=use_crf, class_weights=weights).train()
    with torch.autocast("cpu", dtype=dtype):
        output = model(**batch(model))
    output.loss.backward()
    assert output.logits.dtype == dtype
    assert output.loss.dtype == torch.float32
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in learning)
    assert all(parameter.grad.any() for parameter in model.classifier.parameters())


def gradients(model: TokenClassificationModel) -> dict[str, Tensor]:
    """The gradient of every parameter that has one."""
    return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


def test_two_processes_average_to_the_gradients_of_one(make_model: MakeModel, tmp_path: Path) -> None:
    """Both models in the same two processes, which take longer to start than to compute."""
    expected: dict[Path, dict[str, Tensor]] = {}
    for name, use_crf in (("softmax", False), ("crf", True)):
        place = tmp_path / name
        place.mkdir()
        model = make_model(use_crf=use_crf)
        inputs = batch(model, (8, 8, 8, 8))
        (place / "config.json").write_text(model.config.to_json_string(use_diff=False))
        torch.save({"weights": model.state_dict(), "inputs": inputs}, place / "given.pt")
        model(**inputs).loss.backward()
        expected[place] = gradients(model)
    step = Path(__file__).with_name("distributed_step.py")
    command = [sys.executable, *map(str, (step, tmp_path / "meeting", *expected))]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    workers = [subprocess.Popen(command, env={**environment, "RANK": str(rank)}) for rank in range(2)]
    try:
        assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
    for place, own in expected.items():
        found = torch.load(place / "gradients.pt", weights_only=True)
        assert set(found) == set(own)
        for name, gradient in own.items():
            torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4)


@both_models
def test_output_holds_tensors_alone_so_that_devices_can_gather_it(make_model: MakeModel, use_crf: bool) -> None:
    model = make_model(use_crf=use_crf)
    output = model(**batch(model), output_hidden_states=True)
    assert set(output) == {"loss", "logits", "hidden_states"}
    assert all(isinstance(part, Tensor) for part in (output.loss, output.logits, *output.hidden_states))


@both_models
@pytest.mark.parametrize("wrong", [7, -1])
def test_labels_out_of_range_are_refused(make_model: MakeModel, use_crf: bool, wrong: int) -> None:
    model = make_model(use_crf=use_crf)
    inputs = batch(model)
    inputs["labels"][0, 2] = wrong
    with pytest.raises(ValueError, match="labels must be 0 to 6, or -100"):
        model(**inputs)


def test_forward_needs_an_input(make_model: MakeModel) -> None:
    with pytest.raises(ValueError, match="input_ids or inputs_embeds"):
        make_model()(attention_mask=torch.ones(1, 2))


def test_embeddings_may_stand_in_for_ids(make_model: MakeModel) -> None:
    model = make_model()
    ids = batch(model, (5, 5))["input_ids"]
    embedded = model.backbone.get_input_embeddings()(ids)
    torch.testing.assert_close(model(inputs_embeds=embedded).logits, model(input_ids=ids).logits)


@every_family
@both_models
def test_a_saved_model_comes_back_with_equal_logits(
    make_model: MakeModel, family: str, use_crf: bool, tmp_path: Path
) -> None:
    model = make_model(family, use_crf=use_crf, **SETTINGS)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    inputs = batch(model)
    assert not again.training
    assert torch.equal(again(**inputs).logits, model(**inputs).logits)
    assert torch.equal(again(**inputs).loss, model(**inputs).loss)
    assert {name for name, value in again.named_parameters() if value.requires_grad} == {
        name for name, value in model.named_parameters() if value.requires_grad
    }


@both_models
def test_the_configuration_keeps_every_documented_key(make_model: MakeModel, use_crf: bool, tmp_path: Path) -> None:
    model = make_model(use_crf=use_crf, **SETTINGS)
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    kept = {key: saved[key] for key in SETTINGS}
    assert set(saved) >= KEYS
    assert kept == SETTINGS | {"classifier_hidden_layers": [12, 8]}
    assert (saved["use_crf"], saved["requires_trust_remote_code"]) == (use_crf, True)
    assert (
        saved["custom_model_type"] == load_custom_class(tmp_path) == saved["architectures"][0] == type(model).__name__
    )
    assert saved["id2label"] == {str(index): tag for index, tag in model.config.id2label.items()}
    again = CardioNERConfig.from_pretrained(tmp_path)
    assert again.score_temperature == 1.5
    again.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text()) == saved


def test_the_nested_encoder_configuration_names_no_code_and_no_place(
    encoder_config: Callable[[str], PretrainedConfig], tmp_path: Path
) -> None:
    foreign = {"trust_remote_code": True, "auto_map": {"AutoModel": "x.Y"}, "_name_or_path": "/home/someone/x"}
    config = CardioNERConfig(encoder_config=encoder_config("bert").to_dict() | foreign)
    config.save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text()
    assert set(json.loads(text)["encoder_config"]).isdisjoint({*foreign, "transformers_version"})
    assert "/home" not in text
    assert "trust_remote_code" not in json.loads(text)
    assert CardioNERConfig.from_pretrained(tmp_path).build_encoder_config().hidden_size == 16


def test_a_configuration_without_an_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match="names no encoder"):
        TokenClassificationModel(CardioNERConfig())


def test_the_callers_order_of_labels_is_kept(encoder_config: Callable[[str], PretrainedConfig], tmp_path: Path) -> None:
    labels = LabelSet(("I-X", "B-Y", "O", "I-Y", "B-X"))
    config = CardioNERConfig(
        encoder_config=encoder_config("bert").to_dict(), id2label=labels.id2label, label2id=labels.label2id
    )
    TokenClassificationModelCRF(config).save_pretrained(tmp_path)
    again = TokenClassificationModelCRF.from_pretrained(tmp_path)
    assert again.config.label2id == labels.label2id
    assert again.config.tags == list(labels.tags)
    decoded = again.decode(F.one_hot(torch.tensor([[0, 0, 3]]), 5).float() * 9)[0]
    assert decoded[0] == 4
    assert decoded[1] == 0
    assert decoded[2] != 3


@both_models
def test_missing_extra_and_misshapen_weights_are_refused(make_model: MakeModel, use_crf: bool, tmp_path: Path) -> None:
    model = make_model(use_crf=use_crf)
    changes: dict[str, Callable[[dict[str, Tensor]], object]] = {
        "missing": lambda weights: weights.pop("classifier.weight"),
        "unexpected": lambda weights: weights.update({"classifier.extra": torch.zeros(2)}),
        "mismatched": lambda weights: weights.update({"classifier.weight": torch.zeros(3, 16)}),
    }
    for kind, change in changes.items():
        model.save_pretrained(tmp_path / kind)
        rewritten(tmp_path / kind, change)
        with pytest.raises(ValueError, match=rf"1 {kind}_keys, .*classifier\.(weight|extra)"):
            type(model).from_pretrained(tmp_path / kind)


@both_models
def test_the_wrong_class_is_refused_by_the_name_of_the_right_one(
    make_model: MakeModel, use_crf: bool, tmp_path: Path
) -> None:
    model = make_model(use_crf=use_crf)
    model.save_pretrained(tmp_path)
    wrong = TokenClassificationModel if use_crf else TokenClassificationModelCRF
    with pytest.raises(ValueError, match=rf"not those of {wrong.__name__}: .*saved as \['{type(model).__name__}'\]"):
        wrong.from_pretrained(tmp_path)


@both_models
def test_the_loader_picks_the_class_and_refuses_what_is_not_its_own(
    make_model: MakeModel, tokenizers: dict[str, Any], use_crf: bool, tmp_path: Path
) -> None:
    model = make_model(use_crf=use_crf)
    model.save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"lacks tokenizer_config\.json"):
        load_custom_cardioner_multiclass_model(tmp_path)
    tokenizers["wordpiece"].save_pretrained(tmp_path)
    again, tokenizer, config = load_custom_cardioner_multiclass_model(tmp_path, device="cpu")
    inputs = tokenizer("Patient has chest pain.", return_tensors="pt")
    assert type(again) is type(model)
    assert config.use_crf == use_crf
    assert torch.equal(again(**inputs).logits, model(**inputs).logits)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="expected a model of type 'cardioner_multiclass', found 'bert'"):
        load_custom_cardioner_multiclass_model(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"lacks config\.json, tokenizer_config\.json, model\.safetensors"):
        load_custom_cardioner_multiclass_model(tmp_path / "nowhere")


def test_an_old_pickle_of_weights_is_read_where_it_is_all_there_is(
    make_model: MakeModel, tokenizers: dict[str, Any], tmp_path: Path
) -> None:
    model = make_model(use_crf=True)
    model.save_pretrained(tmp_path)
    tokenizers["wordpiece"].save_pretrained(tmp_path)
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    again, _, _ = load_custom_cardioner_multiclass_model(tmp_path, device="cpu")
    inputs = batch(model)
    assert torch.equal(again(**inputs).logits, model(**inputs).logits)


def test_span_scores_of_many_spans_are_those_of_a_plain_loop(make_model: MakeModel) -> None:
    model, chance = make_model(temperature=1.5), random.Random(3)
    logits = torch.randn(6, 40, 7, generator=torch.Generator().manual_seed(5)) * 3
    mask = torch.tensor([[int(chance.random() < 0.7) for _ in range(40)] for _ in range(6)])
    mask[2] = 0  # a row without positions
    lengths = mask.sum(1).tolist()
    spans = []
    for _ in range(300):
        row = chance.choice([0, 1, 3, 4, 5])
        first = chance.randrange(lengths[row])
        size = chance.randrange(1, min(9, lengths[row] - first) + 1)
        spans.append((row, first, [chance.randrange(7) for _ in range(size)]))
    shares = F.log_softmax(logits / 1.5, dim=-1)
    rows = [row[kept] for row, kept in zip(shares, mask.bool(), strict=True)]
    expected = [
        float(sum(rows[row][first + place, tag] for place, tag in enumerate(tags)).exp()) for row, first, tags in spans
    ]
    found = model.span_scores(logits, spans, mask)
    assert found == pytest.approx(expected, abs=1e-6)
    assert {type(score) for score in found} == {float}
    assert model.span_scores(logits.bfloat16(), spans[:1], mask) == pytest.approx(expected[:1], abs=0.02)


@pytest.mark.parametrize("use_crf", [False, True])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_logits_that_are_no_numbers_are_not_decoded(value: float, use_crf: bool, make_model: MakeModel) -> None:
    model = make_model(use_crf=use_crf)
    logits, mask = torch.randn(2, 5, model.config.num_labels), torch.ones(2, 5)
    logits[1, 4] = value
    with pytest.raises(FloatingPointError, match="not finite"):
        model.decode(logits, mask)
    with pytest.raises(FloatingPointError, match="not finite"):
        model.decode(logits)
    mask[1, 4] = 0  # padding may hold anything
    assert [len(row) for row in model.decode(logits, mask)] == [5, 4]
