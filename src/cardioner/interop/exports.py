"""What every export does: check where the model comes from and goes to, compare logits, publish the files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cardioner._io import grant_default_permissions, publish
from cardioner.errors import OutputError
from cardioner.model_dir.custom_code import own_file, tags_in_its_own_way
from cardioner.multiclass.inference import columns_of, pad
from cardioner.multiclass.modeling import TokenClassificationModel

Rows = Sequence[Sequence[int]]
"""Windows of ids, special ones included."""


def custom_class(config: Mapping[str, Any]) -> str | None:
    """What to call the user's own class of a model, if it has one: its file, or its name."""
    file = own_file(config)
    return str(file or config.get("custom_model_type")) if file or tags_in_its_own_way(config) else None


def check_place(directory: Path, out: Path) -> None:
    """Refuse to write an export into the model directory or in the place of a file.

    Raises:
        OutputError: Naming what is in the way.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file: expected a directory to write to")
    if out.resolve().is_relative_to(directory.resolve()):
        raise OutputError(f"{out} lies in the model directory {directory}: choose a place outside of it")


@torch.inference_mode()
def logits_of(model: Any, rows: Rows, padding: int) -> Tensor:
    """The logits `(batch, length, columns)` that a model computes for windows, padded on the right."""
    mask = pad([[1] * len(row) for row in rows], 0)
    return columns_of(model(input_ids=pad(rows, padding), attention_mask=mask))


def greatest_difference(model: TokenClassificationModel, compute: Callable[[Rows], Any], *, padding: int) -> float:
    """The greatest difference between a logit of the model and of its export, over random windows of many shapes.

    Args:
        model: The model.
        compute: Gives the logits `(batch, length, columns)` of the export, as a tensor or an array; of an export
            without attributes those of tags alone.
        padding: The id that shorter rows are padded with; no window holds it.

    Returns:
        The difference; infinite where a logit is not a number.
    """
    backbone: Any = model.backbone
    size = len(backbone.get_input_embeddings().weight)
    worst = 0.0
    for rows in _random_windows(int(model.config.window_length), size, padding):
        pairs = zip(rows, logits_of(model, rows, padding), torch.as_tensor(compute(rows)), strict=True)
        for row, ours, theirs in pairs:
            gap = (ours[:, : theirs.shape[1]] - theirs)[: len(row)].abs().nan_to_num(nan=float("inf"))
            worst = max(worst, float(gap.max()))
    return worst


def _random_windows(longest: int, size: int, padding: int) -> Iterator[list[list[int]]]:
    """Batches of one to three rows of random ids, up to a whole window long; the second row is half as long."""
    generator = torch.Generator().manual_seed(0)
    for count in (1, 2, 3):
        for length in sorted({1, 2, min(17, longest), longest}):
            ids = torch.randint(size, (count, length), generator=generator)
            ids[ids == padding] = (padding + 1) % size
            rows: list[list[int]] = ids.tolist()
            yield [row[: -(-length // 2)] if index == 1 else row for index, row in enumerate(rows)]


def publish_export(stage: Path, out: Path, *, stale: Iterable[str], key: str) -> None:
    """Move a finished export to its place.

    Args:
        stage: The folder that holds it.
        out: Where it goes.
        stale: Patterns of files that an earlier export may have left there.
        key: The file without which the export counts as incomplete.
    """
    grant_default_permissions(stage)
    for path in [path for pattern in (key, *stale) for path in out.glob(pattern)]:
        path.unlink(missing_ok=True)
    files = [path.relative_to(stage).as_posix() for path in stage.rglob("*") if path.is_file()]
    publish(stage, out, sorted(files), key=key)
