"""How a model was trained, as one HTML page made of what a model directory's `training_args.json` records."""

from cardioner.reports.training.report import render

__all__ = ["render"]
