"""A weight as its file describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from cardioner.model_dir.untrusted.files import refuse

_MOST_WEIGHTS = 8_192
_LONGEST_NAME = 512


@dataclass(frozen=True, slots=True)
class Stored:
    """A weight as its file describes it.

    Attributes:
        shape: Its sizes.
        real: Whether its numbers have fractions, as those that a model learns.
    """

    shape: tuple[int, ...]
    real: bool

    @property
    def count(self) -> int:
        """How many numbers it has."""
        return prod(self.shape)


def check_count(path: Path, weights: Mapping[str, Any]) -> None:
    """Refuse no weights, and more than a tagger has."""
    if not 0 < len(weights) <= _MOST_WEIGHTS:
        refuse(path, f"expected from 1 to {_MOST_WEIGHTS:,} weights, found {len(weights):,}")


def check_name(path: Path, name: str) -> None:
    """Refuse a name that could not be that of a weight."""
    if not name.isprintable() or len(name) > _LONGEST_NAME:
        refuse(path, "expected names of weights, found one that is too long or has control characters")
