"""Copies in bfloat16 and in int8: close to the model, made anew when weights change, and never saved or trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from cardioner.multiclass import TokenClassificationModel, int8, precision
from cardioner.multiclass.precision import attention_without_cudnn, reader_of

MakeModel = Callable[..., TokenClassificationModel]
IDS = torch.arange(5, 29).reshape(2, 12)


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2", "modernbert", "electra"])
@pytest.mark.parametrize("packs", [True, False], ids=["packed", "plain"])
def test_the_copy_in_bfloat16_of_every_family_agrees_with_the_model_up_to_rounding(
    family: str, packs: bool, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not packs:
        monkeypatch.setattr(precision, "swapped", _refuse)
    model = make_model(family, use_crf=True).eval()
    model.config.inference_dtype = "bfloat16"
    reader = reader_of(model)
    with torch.inference_mode():
        exact, rounded = model(input_ids=IDS).logits, reader(input_ids=IDS).logits
    assert reader is not model
    assert rounded.dtype == torch.float32
    assert 0 < (exact - rounded).abs().max() < 0.1 * exact.abs().max()


def _refuse(*_: object) -> nn.Module:
    raise RuntimeError("no such operator")


class Packed(nn.Module):
    """A packed layer on any processor: the real operator needs instructions for bfloat16."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(values, self.weight, self.bias)


@pytest.mark.parametrize("packs", [True, False], ids=["with the operator", "without it"])
def test_linear_layers_are_packed_where_the_operator_is_there(
    packs: bool, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_PackedLinear", Packed if packs else _refuse)
    model = make_model()
    model.config.inference_dtype = "bfloat16"
    kinds = {type(module) for module in reader_of(model).backbone.modules()}
    assert (Packed in kinds, nn.Linear in kinds) == (packs, not packs)


def test_in_float32_the_model_itself_is_called(make_model: MakeModel) -> None:
    model = make_model()
    assert reader_of(model) is model


def test_the_copy_in_bfloat16_is_kept_until_a_weight_changes(make_model: MakeModel) -> None:
    model = make_model()
    model.config.inference_dtype = "bfloat16"
    first = reader_of(model)
    assert reader_of(model) is first
    with torch.no_grad():
        next(model.backbone.parameters()).add_(0.5)
    second = reader_of(model)
    assert second is not first
    with torch.inference_mode():
        assert not torch.equal(first(input_ids=IDS).logits, second(input_ids=IDS).logits)
    model.load_state_dict(make_model().state_dict())
    assert reader_of(model) is not second


def test_an_optimizer_step_is_a_change(make_model: MakeModel) -> None:
    model = make_model()
    model.config.inference_dtype = "bfloat16"
    first = reader_of(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    model(input_ids=IDS, labels=torch.ones_like(IDS)).loss.backward()
    optimizer.step()
    assert reader_of(model) is not first


def test_the_model_keeps_its_weights_its_precision_and_its_gradients(make_model: MakeModel) -> None:
    model = make_model(use_crf=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.config.inference_dtype = "bfloat16"
    with torch.inference_mode():
        reader_of(model)(input_ids=IDS)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) and after[name].dtype == torch.float32 for name in before)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_loaded_model_stays_in_float32_where_bfloat16_has_no_instructions(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    for computes, expected in ((True, "bfloat16"), (False, "float32")):
        model.config.inference_dtype = "bfloat16"
        monkeypatch.setattr(precision, "computes_bfloat16", lambda _, answer=computes: answer)
        precision.set_precision(model)
        assert model.config.inference_dtype == expected


@pytest.mark.parametrize(("device", "left_to_torch"), [("cpu", True), ("cuda", False)])
def test_attention_on_a_gpu_is_computed_without_cudnn_and_elsewhere_as_torch_likes(
    device: str, left_to_torch: bool
) -> None:
    before = torch.backends.cuda.cudnn_sdp_enabled()
    with attention_without_cudnn(torch.device(device)):
        assert torch.backends.cuda.cudnn_sdp_enabled() is (before and left_to_torch)
        assert torch.backends.cuda.mem_efficient_sdp_enabled()
    assert torch.backends.cuda.cudnn_sdp_enabled() is before


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2", "modernbert", "electra"])
def test_the_copy_in_int8_of_every_family_agrees_with_the_model_up_to_rounding(
    family: str, make_model: MakeModel
) -> None:
    model = make_model(family, use_crf=True).eval()
    model.config.inference_dtype = "int8"
    reader = reader_of(model)
    assert any(isinstance(module, int8._Int8Linear) for module in reader.backbone.modules())
    with torch.inference_mode():
        exact, rounded = model(input_ids=IDS).logits, reader(input_ids=IDS).logits
    assert 0 < (exact - rounded).abs().max() < 0.1 * exact.abs().max()


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:torch.quantize_per")
@pytest.mark.parametrize("size", [1.0, 1e3, 1e-3])
def test_a_layer_in_int8_multiplies_the_whole_numbers_that_it_says(size: float) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(96, 40)
    layer.weight[::2] = layer.weight.abs()[::2].max() * size  # sums of the largest products: nothing may be cut off
    values = torch.randn(64, 96) * size
    values[0] = values.max()
    made = int8._Int8Linear(layer, values.amin(0), values.amax(0))
    smooth = 1 / made.inverse
    rounded = ((values * made.inverse / made.scale).round() + made.zero).clamp(0, 255) - made.zero
    weight = layer.weight.detach() * smooth
    scales = weight.abs().amax(1, keepdim=True) / 63
    expected = (rounded.double() * made.scale) @ ((weight / scales).round() * scales).double().T + layer.bias.double()
    assert torch.allclose(made(values).double(), expected, rtol=1e-4, atol=float(1e-4 * expected.abs().mean()))


def test_windows_that_are_read_together_do_not_change_each_other_in_int8(make_model: MakeModel) -> None:
    model = make_model(use_crf=True).eval()
    model.config.inference_dtype = "int8"
    reader = reader_of(model)
    with torch.inference_mode():
        together = reader(input_ids=IDS).logits
        alone = torch.cat([reader(input_ids=row[None]).logits for row in IDS])
    assert torch.allclose(together, alone, atol=1e-5)


def test_an_encoder_that_cannot_be_computed_in_int8_is_called_as_it_is(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "quantized", _refuse)
    model = make_model()
    model.config.inference_dtype = "int8"
    assert reader_of(model) is model


@pytest.fixture
def race(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A race in which int8 wins, on a machine that offers all; the list gets a line for each measurement."""
    measured: list[str] = []

    def seconds(reader: TokenClassificationModel, _: torch.Tensor) -> float:
        measured.append(reader.config.inference_dtype)
        return {"float32": 3.0, "bfloat16": 2.0, "int8": 1.0}[measured[-1]]

    monkeypatch.setattr(precision, "offered", lambda _: precision.PRECISIONS)
    monkeypatch.setattr(precision, "_seconds", seconds)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return measured


def test_the_fastest_of_the_allowed_precisions_is_taken_and_measured_once_for_a_machine(
    race: list[str], make_model: MakeModel, tmp_path: Path
) -> None:
    for _ in range(2):
        model = make_model()
        model.config.inference_dtypes = ["float32", "bfloat16", "int8"]
        precision.set_precision(model)
        assert model.config.inference_dtype == "int8"
    assert race == ["float32", "bfloat16", "int8"]
    (kept,) = json.loads((tmp_path / "cardioner" / "precisions.json").read_text()).items()
    assert kept[1] == "int8"


def test_what_a_model_does_not_allow_is_not_tried(race: list[str], make_model: MakeModel) -> None:
    for allowed, expected in (([], "float32"), (["float32", "bfloat16"], "bfloat16")):
        model = make_model()
        model.config.inference_dtypes = allowed
        precision.set_precision(model)
        assert model.config.inference_dtype == expected
    assert race == []


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 5}', "[" * 10_000])
def test_damaged_results_are_measured_again(
    content: str, race: list[str], make_model: MakeModel, tmp_path: Path
) -> None:
    (tmp_path / "cardioner").mkdir()
    (tmp_path / "cardioner" / "precisions.json").write_text(content)
    model = make_model()
    model.config.inference_dtypes = ["int8"]
    precision.set_precision(model)
    assert model.config.inference_dtype == "int8"
    assert race == ["float32", "int8"]
