"""What computes emissions when nobody learns: the model itself in float32, or a copy of it in bfloat16.

This file travels with every saved model and imports none of the others.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

REDUCED = "bfloat16"

_PROBE = 8
"""Sub-tokens of the first reading, which tells whether an encoder can be run with packed layers."""

_SAMPLED = 8
"""About as many numbers of each weight are compared to see whether it has changed."""

_SHORT = 192
"""Longest windows whose attention plain matrix products compute faster, on a CPU, than the fused operator."""

_ROWS = 1024
"""Rows that layers are packed for: about what is read at a time."""

_copies: WeakKeyDictionary[nn.Module, tuple[list[Any], Any]] = WeakKeyDictionary()
"""Of each model, the state of its weights when its copy was made, and the copy."""


def computes_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16: without them it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in probes)


def attention_without_cudnn(device: torch.device) -> AbstractContextManager[None]:
    """Have a GPU compute attention in bfloat16 without cuDNN, which torch may try first.

    cuDNN prepares a plan for every new shape of a batch, which takes far longer than the attention itself. Batches of
    notes seldom have the same shape twice.
    """
    if device.type != "cuda":
        return nullcontext()
    return sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])


def set_precision(model: Any) -> None:
    """Have a loaded model compute in float32, whatever its configuration allows, where bfloat16 would be slower."""
    if not computes_bfloat16(model.device):
        model.config.inference_dtype = "float32"


def reader_of(model: Any) -> Any:
    """What to call for emissions: the model, or its copy in bfloat16 if `config.inference_dtype` asks for it.

    The copy shares everything with the model but its encoder, whose weights are rounded once. It is kept for as long as
    the model lives, and made anew when the model's weights have changed.

    Args:
        model: A model of `modeling.py`; anything without an encoder of its own is called as it is.
    """
    if model.config.inference_dtype != REDUCED or not isinstance(getattr(model, "backbone", None), nn.Module):
        return model
    state = _state(model.backbone)
    if model not in _copies or _copies[model][0] != state:
        _copies[model] = state, _reduced(model)
    return _copies[model][1]


def _state(encoder: nn.Module) -> list[Any]:
    """What changes when weights do: versions, and a few numbers of each, as fused optimizers count no version up.

    The numbers of all weights leave a GPU together: each transfer has to wait for it.
    """
    weights = list(encoder.parameters())
    samples = [value.detach().flatten()[:: max(1, value.numel() // _SAMPLED)] for value in weights]
    numbers = torch.cat([sample.to(weights[0].device) for sample in samples]).tolist() if weights else []
    return [[(value._version, value.device) for value in weights], numbers]


def _reduced(model: Any) -> Any:
    """The model with an encoder in bfloat16; on the CPU with packed linear layers, where its kind allows it."""
    plain = _with_encoder(model, _Encoder(_rounded(model.backbone)))
    if model.device.type != "cpu":
        return plain
    short = model.config.window_length <= _SHORT
    probe = torch.arange(_PROBE).unsqueeze(0)
    try:
        encoder: Any = _packed(_rounded(model.backbone))
        if short:
            encoder.set_attn_implementation("eager")
        packed = _with_encoder(model, _Encoder(encoder))
        with torch.inference_mode():
            same = torch.allclose(packed(input_ids=probe).logits, plain(input_ids=probe).logits, rtol=0.1, atol=0.1)
    except (RuntimeError, AttributeError, TypeError, ValueError, NotImplementedError):
        return plain  # the operator has no public name: whatever another release makes of it, the plain copy works
    return packed if same else plain


def _with_encoder(model: Any, encoder: nn.Module) -> Any:
    """A shallow copy of a model around another encoder."""
    copied = copy.copy(model)
    copied._modules = {**model._modules, "backbone": encoder}
    return copied.eval()


def _rounded(encoder: nn.Module) -> nn.Module:
    """A copy whose weights are in bfloat16; buffers, such as frequencies of rotary positions, stay as they are."""
    rounded = copy.deepcopy(encoder).requires_grad_(False).eval()
    for value in rounded.parameters():
        value.data = value.data.to(torch.bfloat16)
    return rounded


def _packed(encoder: nn.Module) -> nn.Module:
    """Have every linear layer keep its weights in the order that the processor's library wants."""
    for module in list(encoder.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, _PackedLinear(child))
    return encoder


class _PackedLinear(nn.Module):
    """A linear layer whose weights are reordered once, and whose bias is added while the result is at hand."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), _ROWS)
        self.bias = layer.bias

    def forward(self, values: Tensor) -> Tensor:
        result: Tensor = torch.ops.mkldnn._linear_pointwise(values, self.weight, self.bias, "none", [], "")
        return result


class _Encoder(nn.Module):
    """An encoder in bfloat16 whose last hidden states come out in float32, for the head."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, **given: Any) -> Any:
        with attention_without_cudnn(next(self.encoder.parameters()).device):
            encoded = self.encoder(**given)
        encoded.last_hidden_state = encoded.last_hidden_state.float()
        return encoded
