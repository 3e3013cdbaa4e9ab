"""Linear layers whose products are those of whole numbers of 8 bits: faster on processors without bfloat16.

Weights have a scale for each row. What a layer is given has one scale, fixed beforehand, so that the notes that are
read together do not change each other's numbers. The ranges come from windows of random ids, always the same ones:
they follow from the weights alone, and nothing more has to be saved.
This file travels with every saved model and imports none of the others.
"""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

INT8_OPERATOR = "linear_with_input_q_dq_qweight_dq_output_fp32"
"""Rounds what it is given, multiplies whole numbers, and gives float32 back. A later torch may lack it."""

CALIBRATING = 8
"""Windows of random ids from which the ranges of values are taken that int8 has to hold."""

_SMOOTHING = 0.85
"""How far a channel's large values move from the activations, where they are rare, into the weights: the exponent alpha
of Xiao et al., SmoothQuant (ICML 2023)."""

_ACTIVATION, _WEIGHT = 255, 63
"""The largest whole numbers. Two products of 8 and 7 bits fit into the 16 bits in which processors without VNNI add
them; those of 8 and 8 bits would be cut off there."""


def computes_int8(device: torch.device) -> bool:
    """Whether torch has the operator for a device."""
    able = device.type == "cpu" and torch.backends.quantized.engine in {"x86", "fbgemm"}
    return able and hasattr(torch.ops.quantized, INT8_OPERATOR) and hasattr(torch, "quantize_per_channel")


def quantized(encoder: nn.Module, ids: Tensor) -> nn.Module:
    """A copy of an encoder with linear layers in int8.

    Args:
        encoder: The encoder, in float32.
        ids: Windows from which the ranges of values are taken, `(windows, length)`.

    Raises:
        RuntimeError: If torch cannot compute a layer so; an encoder that reads its layers' weights itself raises other
            errors, here or when it is called.
    """
    copied = copy.deepcopy(encoder).requires_grad_(False).eval()
    seen = _ranges(copied, ids)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces another package for what it still does itself
        return swapped(copied, lambda name, layer: _Int8Linear(layer, *seen[name]) if name in seen else layer)


def _ranges(encoder: nn.Module, ids: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """The least and greatest value that each linear layer is given in windows, channel by channel, by its name."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def watch(name: str) -> Callable[[Any, Any], None]:
        def note(_: Any, given: Any) -> None:
            values = given[0].flatten(0, -2)
            least, most = values.amin(0), values.amax(0)
            before = seen.get(name, (least, most))
            seen[name] = torch.minimum(before[0], least), torch.maximum(before[1], most)

        return note

    layers = [(name, layer) for name, layer in encoder.named_modules() if type(layer) is nn.Linear]
    hooks = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers]
    with torch.inference_mode():
        encoder(input_ids=ids, attention_mask=torch.ones_like(ids))
    for hook in hooks:
        hook.remove()
    return seen


def swapped(encoder: nn.Module, swap: Callable[[str, nn.Linear], nn.Module]) -> nn.Module:
    """Put something else in place of every linear layer, given its name."""
    for prefix, module in list(encoder.named_modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, swap(f"{prefix}.{name}" if prefix else name, child))
    return encoder


class _Int8Linear(nn.Module):
    """A linear layer with a scale for each row of its weights, and one, fixed beforehand, for what it is given.

    Args:
        layer: The layer.
        least: The least value of each channel that it is given, `(in)`.
        most: The greatest.
    """

    def __init__(self, layer: nn.Linear, least: Tensor, most: Tensor) -> None:
        super().__init__()
        weight = layer.weight.detach()
        size, heaviest = torch.maximum(-least, most).clamp(min=1e-5), weight.abs().amax(0).clamp(min=1e-5)
        smooth = size**_SMOOTHING / heaviest ** (1 - _SMOOTHING)
        smooth /= smooth.median()
        weight = weight * smooth
        self.inverse = 1 / smooth
        low, high = min(float((least / smooth).min()), 0.0), max(float((most / smooth).max()), 1e-5)
        self.scale = (high - low) / _ACTIVATION
        self.zero = round(-low / self.scale)
        scales = (weight.abs().amax(1) / _WEIGHT).clamp(min=1e-12).double()
        whole = torch.quantize_per_channel(weight, scales, torch.zeros_like(scales, dtype=torch.long), 0, torch.qint8)
        self.weight = torch.ops.quantized.linear_prepack(whole, layer.bias)

    def forward(self, values: Tensor) -> Tensor:
        multiply = getattr(torch.ops.quantized, INT8_OPERATOR)
        result: Tensor = multiply(values * self.inverse, self.scale, self.zero, self.weight)
        return result
