"""What a predictor computes with, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cardioner.errors import listed

if TYPE_CHECKING:
    from cardioner.prediction.predictor import Predictor


def computed_in(predictor: Predictor) -> str:
    """What a predictor computes in, on what, and with what."""
    dtypes = {engine.dtype for engine in predictor.engines}
    return f"{listed(dtypes)} on {predictor.engines[0].device} with {predictor.engines[0].name}"
