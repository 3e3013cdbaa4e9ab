"""The graph of a model in ONNX: ids and attention mask of windows in, emissions out, in float32 or with 8-bit weights.

No table says which encoder families can be written: torch traces the model, and the graph is compared with it over many
shapes before anything is published.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cardioner.errors import ModelError
from cardioner.model_dir.layout import GRAPH
from cardioner.multiclass.modeling import TokenClassificationModel

DATA = "model.onnx.data"
"""Weights beside the graph, where they are too large to stand in it."""

_INPUTS = ("input_ids", "attention_mask")
_OUTPUTS = ("logits", "attribute_logits")
_LARGEST = 1_900_000_000
"""Bytes of weights that fit into one file: protobuf holds less than 2 GiB."""


class _Emissions(nn.Module):
    """The model as a function of two tensors; the encoder itself fills in what else it reads, such as segments."""

    def __init__(self, model: TokenClassificationModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        found = self.model(input_ids=input_ids, attention_mask=attention_mask)
        return (found.logits,) if found.attribute_logits is None else (found.logits, found.attribute_logits)


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
                output_names=list(_OUTPUTS[: 1 if model.attribute_head is None else 2]),
                dynamic_shapes=dict.fromkeys(_INPUTS, axes),
                external_data=large,
                verbose=False,
            )
            _strip(folder)
    except Exception as error:
        family = model.config.encoder_config["model_type"]
        raise ModelError(
            f"torch cannot write the encoder family {family} as ONNX ({type(error).__name__}): share the model "
            "directory itself"
        ) from error


def quantize(folder: Path) -> None:
    """Reduce the weights of `model.onnx` to 8 bits; the layers that give what comes out stay in float32.

    Activations are quantised while they are computed (dynamic quantisation). Weights are unsigned: on processors that
    lack instructions for it, sums of signed ones overflow silently.
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
            nodes_to_exclude=[_last_layer(graph, output.name) for output in graph.graph.output],
            use_external_data_format=large,
        )
        _strip(Path(name))
        (folder / DATA).unlink(missing_ok=True)
        for path in Path(name).iterdir():
            path.replace(folder / path.name)


def _strip(folder: Path) -> None:
    """Drop what only describes a graph, such as the lines of code, with their paths, that each operator came from."""
    from onnx import load, save  # noqa: PLC0415 - optional

    graph = load(folder / GRAPH, load_external_data=False)
    used = {node.domain for node in graph.graph.node}
    kept = [one for one in graph.opset_import if one.domain in used]
    del graph.opset_import[:]
    graph.opset_import.extend(kept)
    parts = (graph, graph.graph, *graph.graph.node, *graph.graph.initializer)
    for part in (*parts, *graph.graph.input, *graph.graph.output, *graph.graph.value_info):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    save(graph, folder / GRAPH)


def size_of(folder: Path) -> int:
    """Bytes of the graph and its weights."""
    return sum((folder / name).stat().st_size for name in (GRAPH, DATA) if (folder / name).is_file())


def _last_layer(model: Any, output: str) -> str:
    """The name of the last node before an output that is not an addition: its last layer."""
    made_by = {output: node for node in model.graph.node for output in node.output}
    node = made_by[output]
    while node.op_type == "Add":
        node = next(made_by[name] for name in node.input if name in made_by)
    return str(node.name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence libraries: what they could not do shows in the graph that they wrote."""
    before, silent = logging.root.manager.disable, logging.NullHandler()
    logging.root.addHandler(silent)  # else a library's first message sets up logging for the whole process
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        logging.root.removeHandler(silent)
