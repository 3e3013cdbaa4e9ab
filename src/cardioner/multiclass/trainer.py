"""The import path of the trainer that the specification names."""

from __future__ import annotations

from cardioner.training.trainer import ModelTrainer

__all__ = ["ModelTrainer"]
