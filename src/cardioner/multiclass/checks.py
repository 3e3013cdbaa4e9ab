"""Refusals of labels, scores and spans that mean nothing to a model, before an index error hides the cause.

This file is copied into every saved model directory and imports nothing but torch.
"""

from __future__ import annotations

import torch
from torch import Tensor

IGNORED = -100
"""The label of a position that neither loss nor decoding looks at."""


def check_labels(labels: Tensor, num_tags: int, types: int | None = None) -> None:
    """Refuse label ids that the model does not have, before an index error or a device fault hides the cause.

    Args:
        labels: `(batch, length)`, or `(batch, length, types)`.
        num_tags: Number of tags, of each type where there are `types`.
        types: Number of types that have tags of their own.

    Raises:
        ValueError: Saying how many there are.
    """
    if labels.is_floating_point():
        raise ValueError(f"labels must be whole numbers, found {labels.dtype}")
    if torch.compiler.is_compiling() or labels.size(-1) != (types or labels.size(-1)):  # another shape is refused later
        return
    first = num_tags * torch.arange(types or 1, device=labels.device)
    wrong = int((labels.ne(IGNORED) & ((labels < first) | (labels >= first + num_tags))).sum())
    if wrong:
        of_each = "" if types is None else ", of each type its own"
        raise ValueError(
            f"labels must be 0 to {num_tags * (types or 1) - 1}{of_each}, or {IGNORED} for positions to leave out; "
            f"{wrong} of {labels.numel()} are not: check label2id against the labels of the data"
        )


def check_scores(emissions: Tensor, *transitions: Tensor) -> None:
    """Refuse scores that have no best tag, whose argmax would be any tag.

    Args:
        emissions: `(..., tags)`; minus infinity forbids a tag, as long as others are left.
        transitions: Of any shape; minus infinity forbids them.

    Raises:
        FloatingPointError: If one is not a number or plus infinity, or all tags of a position are forbidden.
    """
    best = emissions.amax(-1).abs()  # (...), infinite where all are forbidden; NaN is greater than any number
    if not torch.compiler.is_compiling() and not all(bool((part < torch.inf).all()) for part in (best, *transitions)):
        raise FloatingPointError("the model computed scores that are not finite numbers")


def check_spans(spans: list[tuple[int, int, list[int]]], lengths: list[list[int]], num_tags: int) -> None:
    """Refuse spans that lie outside of their rows, or hold tag ids that do not exist.

    Args:
        spans: Per span its row, its first position and its tag ids.
        lengths: For each type how many positions its rows have.
        num_tags: The number of tags of a type.

    Raises:
        ValueError: Naming the first of them.
    """
    for index, (row, first, tags) in enumerate(spans):
        kind = tags[0] // num_tags if tags else 0
        known = 0 <= kind < len(lengths) and all(tag // num_tags == kind for tag in tags)
        own = lengths[kind if known else 0]
        if not known or not 0 <= row < len(own) or not 0 <= first < first + len(tags) <= own[row]:
            raise ValueError(
                f"span {index}: expected positions within a row, rows having {own} of them, and tag ids below "
                f"{num_tags * len(lengths)}{' of one type' if len(lengths) > 1 else ''}; found row {row}, "
                f"position {first}, tag ids {tags}"
            )
