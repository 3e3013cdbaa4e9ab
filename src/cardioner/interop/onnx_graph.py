"""The graph of a model in ONNX: ids and attention mask of windows in, emissions out, in float32 or with 8-bit weights.

Whether an encoder family can be written is not looked up but found out: torch traces the model, and what came out is
compared with it over many shapes before anything is published.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cardioner.errors import ModelError
from cardioner.multiclass.inference import pad
from cardioner.multiclass.modeling import TokenClassificationModel

GRAPH = "model.onnx"
DATA = "model.onnx.data"
"""Weights beside the graph, where they are too large to stand in it."""

BOUND = 1e-4
"""How far a logit of the float32 graph may be from the model's."""

_INPUTS = ("input_ids", "attention_mask")
_OUTPUT = "logits"
_LARGEST = 1_900_000_000
"""Bytes of weights that fit into one file: protobuf holds less than 2 GiB."""

Compute = Callable[[Sequence[Sequence[int]]], Any]
"""Emissions `(batch, length, tags)` of rows of ids, padded on the right."""


class _Emissions(nn.Module):
    """The model as a function of two tensors; the encoder itself fills in what else it reads, such as segments."""

    def __init__(self, model: TokenClassificationModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


def write_graph(model: TokenClassificationModel, folder: Path) -> None:
    """Write `model.onnx`: any number of windows of any length that the encoder reads.

    Raises:
        ModelError: If torch cannot trace or write the encoder.
    """
    length = max(3, min(16, int(model.config.window_length)))
    ids = torch.ones((2, length), dtype=torch.long)
    mask = torch.ones_like(ids)
    mask[1, length // 2 :] = 0
    axes = {0: "batch", 1: "length"}
    large = sum(value.numel() * value.element_size() for value in model.state_dict().values()) > _LARGEST
    try:
        with _quiet(), torch.no_grad():
            torch.onnx.export(
                _Emissions(model),
                (ids, mask),
                folder / GRAPH,
                input_names=_INPUTS,
                output_names=[_OUTPUT],
                dynamic_shapes=dict.fromkeys(_INPUTS, axes),
                external_data=large,
                verbose=False,
            )
    except Exception as error:
        family = model.config.encoder_config["model_type"]
        raise ModelError(
            f"the encoder family {family} cannot be written as ONNX ({type(error).__name__}): share the directory as "
            "it is"
        ) from error


def quantize(folder: Path) -> None:
    """Turn the weights of `model.onnx` into 8 bits; the layer that gives the emissions stays in float32.

    Activations are quantised as they come (dynamic quantisation). Weights are unsigned: on processors without
    instructions of their own for it, sums of signed ones overflow in silence.
    """
    from onnx import ModelProto, load  # noqa: PLC0415 - optional
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415

    with _quiet(), tempfile.TemporaryDirectory(dir=folder) as name:
        graph: ModelProto = load(folder / GRAPH)
        large = (folder / DATA).is_file()
        quantize_dynamic(
            graph,
            Path(name) / GRAPH,
            op_types_to_quantize=["MatMul", "Gather"],
            per_channel=True,
            weight_type=QuantType.QUInt8,
            nodes_to_exclude=_last_layer(graph),
            use_external_data_format=large,
        )
        (folder / DATA).unlink(missing_ok=True)
        for path in Path(name).iterdir():
            path.replace(folder / path.name)


def size_of(folder: Path) -> int:
    """Bytes of the graph and its weights."""
    return sum((folder / name).stat().st_size for name in (GRAPH, DATA) if (folder / name).is_file())


def greatest_difference(model: TokenClassificationModel, compute: Compute, *, padding: int) -> float:
    """The greatest difference of a logit from the model's over random windows of many shapes; infinite for no number.

    Args:
        model: The model.
        compute: The other one.
        padding: The id that no window holds and shorter rows are filled up with.

    Raises:
        ModelError: If the other one cannot compute a shape.
    """
    backbone: Any = model.backbone
    longest, size = int(model.config.window_length), len(backbone.get_input_embeddings().weight)
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for rows in _windows(longest, size, padding, generator):
        ours = _logits(model, rows, padding)
        theirs = torch.from_numpy(compute(rows))
        for row, one, other in zip(rows, ours, theirs, strict=True):
            gap = (one - other)[: len(row)].abs().nan_to_num(nan=float("inf"))
            worst = max(worst, float(gap.max()))
    return worst


def _last_layer(model: Any) -> list[str]:
    """The names of the nodes behind which only additions stand: the last layer."""
    made_by = {output: node for node in model.graph.node for output in node.output}
    node = made_by[_OUTPUT]
    while node.op_type == "Add":
        node = next(made_by[name] for name in node.input if name in made_by)
    return [node.name]


def _windows(longest: int, size: int, padding: int, generator: torch.Generator) -> Iterator[list[list[int]]]:
    """Batches of one to three rows of random ids, up to a whole window long; the second row is half as long."""
    for count in (1, 2, 3):
        for length in sorted({1, 2, min(17, longest), longest}):
            ids = torch.randint(size, (count, length), generator=generator)
            ids[ids == padding] = (padding + 1) % size
            rows: list[list[int]] = ids.tolist()
            yield [row[: -(-length // 2)] if index == 1 else row for index, row in enumerate(rows)]


@torch.inference_mode()
def _logits(model: TokenClassificationModel, rows: Sequence[Sequence[int]], padding: int) -> Tensor:
    """The model's own emissions."""
    mask = pad([[1] * len(row) for row in rows], 0)
    logits: Tensor = model(input_ids=pad(rows, padding), attention_mask=mask).logits
    return logits


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep libraries from talking: what they cannot do is found out by what comes out."""
    before, silent = logging.root.manager.disable, logging.NullHandler()
    logging.root.addHandler(silent)  # else a library's first word sets up logging for the whole process
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        logging.root.removeHandler(silent)
