"""Train, check, share and run entity taggers on clinical notes.

The names below are resolved on first use: importing the package imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from cardioner.documents import Document, Span
    from cardioner.predictor import Predictor, load

__all__ = ["Document", "Predictor", "Span", "__version__", "load"]

_HOMES = {"Document": "documents", "Span": "documents", "Predictor": "predictor", "load": "predictor"}


def __getattr__(name: str) -> object:
    """Import the module behind a public name when the name is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The public names."""
    return __all__
