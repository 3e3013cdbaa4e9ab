"""The heads: from the encoder's states to the emissions of every tag, and to the scores of attributes of spans.

This file is copied into every saved model directory and imports nothing but torch and transformers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import TokenClassifierOutput

if TYPE_CHECKING:
    from collections.abc import Sequence


ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU}
"""What may lie behind a hidden layer."""


NEIGHBOUR_WIDTH = 128
"""How many numbers are kept of each sub-token that helps to decide what is said of a span."""


class Heads(nn.ModuleList):
    """A head for each entity type, all of which read the same states."""

    def forward(self, states: Tensor) -> Tensor:
        """The emissions of all types side by side."""
        return torch.cat([head(states) for head in self], dim=-1)


def build_head(
    width: int, hidden: Sequence[int], tags: Sequence[int], *, dropout: float, activation: str = "relu"
) -> nn.Module:
    """One linear layer for all tags, or hidden layers with activation and dropout and a linear layer behind them.

    Args:
        width: Of the encoder's states.
        hidden: Widths of the hidden layers.
        tags: How many tags each group has; each group has hidden layers of its own.
        dropout: Behind each hidden layer.
        activation: A name of `ACTIVATIONS`.

    Raises:
        ValueError: For another activation.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"classifier_activation must be one of {', '.join(ACTIVATIONS)}; found {activation!r}")
    if not hidden:
        return nn.Linear(width, sum(tags))
    heads = [_perceptron(width, [*hidden, count], dropout, ACTIVATIONS[activation]) for count in tags]
    return heads[0] if len(heads) == 1 else Heads(heads)


def _perceptron(width: int, widths: Sequence[int], dropout: float, activation: type[nn.Module]) -> nn.Module:
    """Linear layers with activation and dropout between them."""
    layers: list[nn.Module] = []
    for following in widths:
        layers += [nn.Linear(width, following), activation(), nn.Dropout(dropout)]
        width = following
    return nn.Sequential(*layers[:-2])


@dataclass
class TaggerOutput(TokenClassifierOutput):
    """As inherited, and `attribute_logits` `(batch, length, values)` of a model that knows attributes of spans."""

    attribute_logits: Tensor | None = None


ATTRIBUTE_HEAD = "attribute_head."
"""How the names of its weights in a model begin."""


class AttributeHead(nn.Module):
    """The scores of all values of all attributes at each position; those of a span are the mean over its positions.

    An encoder that learns with the head brings into its states by which words a mention is denied. One that only ever
    learned to tag does not: then the head reads the embeddings of the sub-tokens, too, with those of some neighbours.

    Args:
        width: Of the encoder's states, and of the hidden layer.
        embedding: Of the sub-tokens' embeddings.
        values: How many values all attributes have together.
        neighbours: How many sub-tokens on either side are read; 0 for the states alone, without any embedding.
        dropout: Behind the hidden layer.
    """

    def __init__(self, width: int, embedding: int, values: int, *, neighbours: int, dropout: float) -> None:
        super().__init__()
        self.around = Neighbours(width, embedding, neighbours) if neighbours else None
        self.hidden = nn.Linear(self.around.width if self.around else width, width)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, values)

    def forward(self, states: Tensor, embedded: Tensor, attention_mask: Tensor) -> Tensor:
        """Scores `(batch, length, values)`.

        Args:
            states: `(batch, length, width)`.
            embedded: `(batch, length, embedding)`.
            attention_mask: `(batch, length)`; what is masked changes nothing elsewhere.
        """
        read = states if self.around is None else self.around(states, embedded, attention_mask)
        scores: Tensor = self.output(self.dropout(nn.functional.gelu(self.hidden(read))))
        return scores


class Neighbours(nn.Module):
    """States, the embeddings of the sub-tokens, and what a convolution finds around each of them, side by side.

    Args:
        states: The width of the encoder's states.
        embedding: That of the embeddings.
        neighbours: How many sub-tokens on either side are read.
    """

    def __init__(self, states: int, embedding: int, neighbours: int) -> None:
        super().__init__()
        own = states + embedding
        self.width = own + NEIGHBOUR_WIDTH
        self.norm = nn.LayerNorm(embedding)
        self.narrow = nn.Linear(own, NEIGHBOUR_WIDTH)
        self.convolution = nn.Conv1d(NEIGHBOUR_WIDTH, NEIGHBOUR_WIDTH, 1 + 2 * neighbours, padding=neighbours)

    def forward(self, states: Tensor, embedded: Tensor, attention_mask: Tensor) -> Tensor:
        """`(batch, length, width)`, as `AttributeHead` takes its arguments."""
        own = torch.cat([states, self.norm(embedded)], dim=-1)
        narrow = nn.functional.gelu(self.narrow(own)) * attention_mask.unsqueeze(2).to(own.dtype)
        around = nn.functional.gelu(self.convolution(narrow.transpose(1, 2))).transpose(1, 2)
        return torch.cat([own, around], dim=-1)


def initialise(head: nn.Module, layer: nn.Module) -> None:
    """Draw the weights of a layer, if it is one of an MLP head's, so that it passes on what it gets at its own scale.

    He et al. 2015, https://arxiv.org/abs/1502.01852, equation 10. At the fixed deviation of the encoder's family two
    layers dampen values and gradients so much that little data teaches the encoder nothing.
    """
    for one in (head, *head.children()):
        layers = [part for part in one.children() if isinstance(part, (nn.Linear, nn.Conv1d))]
        if layer in layers:  # torch's function leaves weights alone that transformers has loaded
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear" if layer is layers[-1] else "relu")
