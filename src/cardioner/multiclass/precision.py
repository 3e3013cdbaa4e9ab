"""What computes emissions when nobody learns: the model itself in float32, or a copy of it in bfloat16 or in int8.

This file travels with every saved model and imports only `int8.py`, which does too.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import platform
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from threading import RLock
from time import perf_counter
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .int8 import CALIBRATING, computes_int8, quantized, swapped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FULL, REDUCED, INT8 = PRECISIONS = ("float32", "bfloat16", "int8")
"""The number formats of an encoder in prediction. In int8 the products of linear layers are those of whole numbers."""

_PROBE = 8
"""Sub-tokens of the first reading, which tells whether an encoder can be run with packed layers."""

_SAMPLED = 8
"""About as many numbers of each weight are compared to see whether it has changed."""

_SHORT = 192
"""Longest windows whose attention plain matrix products compute faster, on a CPU, than the fused operator."""

_ROWS = 1024
"""Rows that layers are packed for: about what is read at a time."""

_RACING = 4, 3
"""Windows, and rounds, of the race between precisions."""

_copies: WeakKeyDictionary[nn.Module, tuple[list[Any], Any]] = WeakKeyDictionary()
"""Of each model, the state of its weights when its copy was made, and the copy."""

_making = RLock()
"""Held while a copy is looked up or made."""


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


def offered(device: torch.device) -> tuple[str, ...]:
    """The precisions that a device has instructions for, float32 first."""
    return (FULL, *([REDUCED] if computes_bfloat16(device) else []), *([INT8] if computes_int8(device) else []))


def set_precision(model: Any) -> None:
    """Have a loaded model compute in the fastest precision that its configuration allows and its device offers."""
    config = model.config
    allowed = {config.inference_dtype, *(config.inference_dtypes or ())}
    choices = [name for name in offered(model.device) if name == FULL or name in allowed]
    config.inference_dtype = _fastest(model, choices) if INT8 in choices else choices[-1]


def _fastest(model: Any, choices: Sequence[str]) -> str:
    """The precision that reads windows fastest, measured once for a kind of encoder on a machine."""
    key, known = _race_key(model, choices), dict[str, str]()
    with suppress(OSError, ValueError, TypeError, RuntimeError):
        known = dict(json.loads(_race_results().read_text(encoding="utf-8")))
    if known.get(key) in choices:
        return known[key]
    own = model.config.inference_dtype
    taken = {}
    for name in choices:
        model.config.inference_dtype = name
        taken[name] = _seconds(reader_of(model), _random_ids(model, _RACING[0]))
    model.config.inference_dtype = own
    winner = min(taken, key=lambda name: taken[name])
    with suppress(OSError, RuntimeError):  # without a place to keep it, it is measured again
        place = _race_results()
        place.parent.mkdir(parents=True, exist_ok=True)
        written = place.with_name(f"{place.name}.{os.getpid()}")
        written.write_text(json.dumps({**known, key: winner}, indent=1), encoding="utf-8")
        written.replace(place)
    return winner


def _race_results() -> Path:
    """The file of results: nothing but digests and names of precisions."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches, "cardioner", "precisions.json")


def _race_key(model: Any, choices: Sequence[str]) -> str:
    """A digest of all that the result depends on: the encoder's sizes, the machine, torch."""
    sizes = [[name, list(value.shape)] for name, value in model.backbone.named_parameters()]
    machine = [platform.node(), platform.machine(), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()]
    content = json.dumps([sizes, model.config.window_length, [*choices], machine, torch.__version__])
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def _random_ids(model: Any, windows: int) -> Tensor:
    """Windows of random ids, always the same, `(windows, length)`."""
    generator = torch.Generator().manual_seed(0)
    rows = model.backbone.get_input_embeddings().num_embeddings
    return torch.randint(rows, (windows, int(model.config.window_length)), generator=generator)


def _seconds(reader: Any, ids: Tensor) -> float:
    """The least time of reading windows, after one reading that warms up."""
    taken = []
    with torch.inference_mode():
        for _ in range(1 + _RACING[1]):
            begun = perf_counter()
            reader(input_ids=ids, attention_mask=torch.ones_like(ids))
            taken.append(perf_counter() - begun)
    return min(taken[1:])


def reader_of(model: Any) -> Any:
    """What to call for emissions: the model, or its copy in the precision that `config.inference_dtype` asks for.

    The copy shares everything with the model but its encoder, whose weights are rounded once. It is kept for as long as
    the model lives, and made anew when the model's weights have changed.

    Args:
        model: A model of `modeling.py`; anything without an encoder of its own is called as it is.
    """
    make: Callable[[Any], Any] | None = {REDUCED: _reduced, INT8: _quantized}.get(model.config.inference_dtype)
    if make is None or not isinstance(getattr(model, "backbone", None), nn.Module):
        return model
    with _making:  # one copy, however many threads ask for the first
        state = [model.config.inference_dtype, *_state(model.backbone)]
        if model not in _copies or _copies[model][0] != state:
            _copies[model] = state, make(model)
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
        encoder: Any = swapped(_rounded(model.backbone), lambda _, layer: _PackedLinear(layer))
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


def _quantized(model: Any) -> Any:
    """The model with linear layers in int8; the model itself if its encoder is not one that can be computed so."""
    try:
        made = _with_encoder(model, _Encoder(quantized(model.backbone, _random_ids(model, CALIBRATING))))
        with torch.inference_mode():
            made(input_ids=_random_ids(model, 1)[:, :_PROBE])
    except (RuntimeError, AttributeError, TypeError, ValueError, NotImplementedError):
        return model  # it reads its layers' weights in a way of its own, or the operator is not what it was
    return made


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
    """An encoder in another precision whose last hidden states come out in float32, for the head."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def get_input_embeddings(self) -> nn.Module:
        """As the encoder has them."""
        encoder: Any = self.encoder
        found: nn.Module = encoder.get_input_embeddings()
        return found

    def forward(self, **given: Any) -> Any:
        with attention_without_cudnn(given["input_ids"].device):
            encoded = self.encoder(**given)
        encoded.last_hidden_state = encoded.last_hidden_state.float()
        return encoded
