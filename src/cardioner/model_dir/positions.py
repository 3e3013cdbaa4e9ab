"""How many sub-tokens an encoder reads at a time, as its configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OFFSET_POSITIONS = {
    *("camembert", "data2vec-text", "esm", "ibert", "layoutlmv3", "lilt", "longformer", "luke", "markuplm", "mpnet"),
    *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"),
}
"""Families that number positions from behind the padding id, so that their table is two rows longer than a text."""


def max_positions(config: Mapping[str, Any]) -> int | None:
    """Most sub-tokens an encoder reads at a time, special ones included; `None` if nothing limits it."""
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int) or positions <= 0:
        return None
    return positions - 2 if config.get("model_type") in _OFFSET_POSITIONS else positions
