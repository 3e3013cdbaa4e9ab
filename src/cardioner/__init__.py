"""Train, check, share and run entity taggers on clinical notes.

The names below are resolved on first use: importing the package imports no torch.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

from cardioner.errors import missing_extra

__version__ = "0.2.0"

if TYPE_CHECKING:
    from cardioner.data.corpus import Corpus
    from cardioner.data.documents import Document, Span
    from cardioner.data.formats import read_corpus, write_corpus
    from cardioner.data.labels import LabelSet
    from cardioner.evaluation.comparison import compare
    from cardioner.evaluation.evaluate import evaluate
    from cardioner.prediction.predictor import Predictor, load
    from cardioner.training.options import Distillation, TrainingOptions
    from cardioner.training.trainer import ModelTrainer

__all__ = [
    "Corpus",
    "Distillation",
    "Document",
    "LabelSet",
    "ModelTrainer",
    "Predictor",
    "Span",
    "TrainingOptions",
    "__version__",
    "compare",
    "evaluate",
    "load",
    "read_corpus",
    "write_corpus",
]

_TELEMETRY_OFF = {"HF_HUB_DISABLE_TELEMETRY": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "ORT_DISABLE_TELEMETRY": "1"}
"""Variables that huggingface_hub, MLflow and ONNX Runtime read before they report use, which all do by default."""

for _name, _off in _TELEMETRY_OFF.items():  # here, as they ask when they are imported
    os.environ.setdefault(_name, _off)  # whoever has set one has chosen

_HOMES = {
    "Corpus": "data.corpus",
    "Distillation": "training.options",
    "Document": "data.documents",
    "LabelSet": "data.labels",
    "ModelTrainer": "training.trainer",
    "Predictor": "prediction.predictor",
    "Span": "data.documents",
    "TrainingOptions": "training.options",
    "compare": "evaluation.comparison",
    "evaluate": "evaluation.evaluate",
    "load": "prediction.predictor",
    "read_corpus": "data.formats",
    "write_corpus": "data.formats",
}
"""Public names and the modules that hold them."""


def __getattr__(name: str) -> object:
    """Import the module behind a public name when the name is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if problem := missing_extra(f"cardioner.{name}", error):
            raise ModuleNotFoundError(problem, name=error.name) from None
        raise


def __dir__() -> list[str]:
    """The public names."""
    return __all__
