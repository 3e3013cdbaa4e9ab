"""How a model was trained, as one HTML page made of what a model directory's `training_args.json` records."""

from cardioner.reports.training.report import render, write_training_report

__all__ = ["render", "write_training_report"]
