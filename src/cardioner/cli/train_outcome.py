"""What `cardioner train` shows at the end."""

from __future__ import annotations

from collections import Counter
from statistics import mean
from typing import TYPE_CHECKING, Any

from cardioner.cli.console import count_table, loss_table, plain, score_table, show, table, tell
from cardioner.errors import listed, many
from cardioner.training.options import AUTO

if TYPE_CHECKING:
    from rich.table import Table

    from cardioner.evaluation import AttributeScores
    from cardioner.training.calibration import Temperature
    from cardioner.training.run_metadata import TrainingResult
    from cardioner.training.sweep.curve import Curve, Forecast
    from cardioner.training.sweep.members import Summary

_COLUMNS = ("precision", "recall", "F1")


def show_result(result: TrainingResult) -> None:
    """Scores, what was lost, and where the model lies."""
    show_losses(result)
    if result.epochs:
        rows = [
            (f"{number}{' (saved)' if number == result.best_epoch else ''}", micro.precision, micro.recall, micro.f1)
            for number, micro in enumerate((scores.strict.micro for scores in result.epochs), 1)
        ]
        show(table("Strict spans, per epoch, on the evaluation notes", ("epoch", *_COLUMNS), rows))
    _show_scores(result)
    if result.precision is not None:
        tried = "; ".join(
            f"{name}: strict F1 {trial.f1:.4f}, {trial.agreement:.1%} of the spans as in float32"
            for name, trial in result.precision.trials.items()
        )
        tell(f"Inference in {result.precision.dtype}; allowed: {listed(result.precision.allowed)} ({tried})")
    if result.temperature is not None:
        tell(_calibration_text(result.temperature))
    counts = f"{many(result.windows, 'window')}, {many(result.sub_tokens, 'sub-token')}"
    chosen = ", chosen by the number of steps" if result.asked_epochs == AUTO else ""
    epochs = f"{many(result.planned_epochs, 'epoch')} of {many(result.steps, 'step')}{chosen}"
    tell(f"{counts}, trained in {result.seconds:.0f} s: {epochs}")
    tell(f"Model: {result.output_dir}")
    if result.warning:
        tell(f"warning: {result.warning}")


def _calibration_text(found: Temperature) -> str:
    """What the scores of spans are worth."""
    if found.value == 1.0:
        return (
            "The scores of spans are not calibrated: the evaluation notes had too few correct or wrong spans "
            f"({found.spans} in total)"
        )
    return (
        f"Scores of spans: temperature {found.value:.2f}, fitted to {many(found.spans, 'span')} "
        f"(mean loss {found.before:.3f} before, {found.after:.3f} after)"
    )


def _show_scores(result: TrainingResult) -> None:
    """How good the saved model is on held-out notes."""
    for part, found in result.scored.items():
        show(score_table(f"{part.capitalize()} notes", found.scores))
        if found.attributes is not None:
            show(_attribute_table(part, found.attributes))


def _attribute_table(part: str, found: AttributeScores) -> Table:
    """How well the attributes of the spans of a part of the notes were predicted."""
    rows = [
        (plain(name), counts.accuracy, counts.matched.macro.f1, counts.end_to_end.micro.f1)
        for name, counts in found.per_attribute.items()
    ]
    columns = ("attribute", "accuracy", "macro F1", "end-to-end F1")
    return table(f"Attributes of strictly matched spans, and end to end, on the {part} notes", columns, rows)


def show_losses(result: TrainingResult) -> None:
    """What tags cannot express in the training notes, and what had to be repaired."""
    if result.losses:
        show(loss_table(result.losses))
    if remarks := Counter(result.remarks):
        show(count_table("Noticed in training", remarks))


def member_table(summary: Summary) -> Table:
    """The members' scores, their mean and deviation and, of folds, those of all notes together."""
    rows: list[list[Any]] = []
    for member in summary.members:
        assert member.scores is not None, "the summary is complete"
        micro = member.scores.strict.micro
        rows.append([member.name, member.epoch or "last", micro.precision, micro.recall, micro.f1])
    rows.append(["mean", "", *summary.mean.values()])
    if summary.deviation is not None:
        rows.append(["deviation", "", *summary.deviation.values()])
    pooled = summary.pooled
    for seed, scores in pooled.items():
        micro = scores.strict.micro
        name = "all folds" if len(pooled) == 1 else f"all folds, seed {seed}"
        rows.append([name, "", micro.precision, micro.recall, micro.f1])
    totals = len(rows) - len(summary.members)
    return table(f"Strict spans on {summary.scored_on}", ("model", "epoch", *_COLUMNS), rows, totals=totals)


def show_curve(curve: Curve) -> None:
    """Scores by number of notes, and what more notes would bring."""
    rows = []
    for size in curve.sizes:
        points = curve.of_size(size)
        figures = [point.f1 for point in points]
        mentions = round(mean(point.mentions for point in points))
        rows.append((size, mentions, len(points), mean(figures), min(figures), max(figures)))
    columns = ("notes", "mentions", "models", "mean F1", "lowest", "highest")
    show(table(f"Strict F1 on {curve.scored_on}, by number of training notes", columns, rows))
    found = curve.forecast
    tell("Too few trainings for a forecast: give --seeds 2 or more" if found is None else _forecast_text(found))


def _forecast_text(found: Forecast) -> str:
    """What more notes would bring, and how far that can be trusted."""
    more = many(found.more, "more note")
    ranges = f"(95 of 100 resampled fits: {found.interval.low:.3f} to {found.interval.high:.3f})"
    if not found.clear:
        return (
            f"No clear gain from {more}: the trainings differ by more than the curve rises (strict F1 {found.now:.3f} "
            f"now, {found.then:.3f} with them {ranges})"
        )
    return (
        f"If the error continues to fall as it did, {more} like these raise strict F1 from {found.now:.3f} to "
        f"{found.then:.3f} {ranges}. This is an extrapolation: it says nothing about notes of another kind, and it "
        "cannot see the limit that errors in the annotations set"
    )
