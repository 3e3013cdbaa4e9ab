"""The multiclass tagger: the code that travels with every saved model, and the trainer's import path.

Importing this package imports no torch: its windows and tags are used where there is none. The model classes below are
imported when they are first asked for; importing them registers them with transformers' Auto classes, which then load
model directories without remote code.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cardioner.multiclass.modeling import CardioNERConfig, TokenClassificationModel, TokenClassificationModelCRF

__all__ = ["CardioNERConfig", "TokenClassificationModel", "TokenClassificationModelCRF"]


def __getattr__(name: str) -> object:
    """Import the models when one of them is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.modeling"), name)


def __dir__() -> list[str]:
    """The public names."""
    return __all__
