"""A training as one HTML page that needs nothing but itself: no network, no script, no file beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cardioner.evaluation.matching import CRITERIA
from cardioner.reports import check_installed, render_page, type_styles, write_page
from cardioner.reports.training.content import Content, duration, read_record
from cardioner.reports.training.plots import plot_training

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

_NAMED = 8
"""Most types in the title."""


def render(record: Mapping[str, Any]) -> str:
    """The page.

    Args:
        record: Content of a model directory's `training_args.json`, which holds no text of notes; one of an older
            version, or of a model that was never trained, has a page with less on it.

    Returns:
        HTML, the same for the same record.

    Raises:
        UsageError: If jinja2 or matplotlib is missing.
    """
    check_installed()
    content = read_record(record)
    return render_page(
        "cardioner.reports.training",
        content=content,
        record=record,
        plots=plot_training(content),
        facts=list(_facts(content)),
        advice=list(_advice(content)),
        others=[name for name in CRITERIA if name != "strict"],
        title=_title(content.types),
        calibration=_whole(record.get("calibration"), ("value", "spans", "before", "after")),
        inference=_whole(record.get("inference"), ("dtype", "float32", "bfloat16", "agreement")),
        versions=record.get("versions") or {},
        styles=type_styles(content.types),
    )


def write_training_report(record: Mapping[str, Any], path: Path, *, overwrite: bool = False) -> None:
    """Write the page as a file.

    Args:
        record: Content of a model directory's `training_args.json`.
        path: The file.
        overwrite: Replace a file that is there.

    Raises:
        UsageError: If jinja2 or matplotlib is missing.
        OutputError: If the file exists and may not be replaced, or cannot be written.
    """
    write_page(render(record), path, overwrite=overwrite)


def _title(types: Sequence[str]) -> str:
    """What was trained, in a line."""
    more = len(types) - _NAMED
    return f"Training of a tagger for {', '.join(types[:_NAMED])}" + (f" and {more} more types" if more > 0 else "")


def _whole(found: Any, names: Iterable[str]) -> Mapping[str, Any] | None:
    """An object of the record, if it has all of these."""
    return found if isinstance(found, dict) and found.keys() >= set(names) else None


def _facts(content: Content) -> Iterator[tuple[str, str]]:
    """What was trained, on how much, and for how long."""
    record, data = content.record, content.record.get("training_data") or {}
    yield "encoder", f"{content.model}, frozen" if record.get("freeze_backbone") else content.model
    yield "head", content.head
    yield "entity types", f"{len(content.types):,} in {content.tags:,} tags: {', '.join(content.types)}"
    if "max_length" in record:
        yield "windows", f"up to {record['max_length']:,} sub-tokens"
    if data:
        yield "training data", f"{data.get('windows', 0):,} windows, {data.get('sub_tokens', 0):,} sub-tokens"
    if content.trained and "num_train_epochs" in record:
        yield "epochs", _epochs(content)
    if content.steps:
        yield "steps", f"{content.steps:,}"
    if "seconds" in record:
        yield "time", f"{duration(record['seconds'])}, the scoring after each epoch included"


def _epochs(content: Content) -> str:
    asked, saved = content.record["num_train_epochs"], content.saved_epoch
    if saved is None:
        return f"{asked:,}; the last one is saved"
    ran = content.epochs[-1].number
    return f"{ran:,}" + (f" of {asked:,}" if ran != asked else "") + f"; number {saved.number:,} is saved"


def _advice(content: Content) -> Iterator[str]:
    """What the curves say that a reader could miss."""
    saved, epochs = content.saved_epoch, content.epochs
    if saved is not None and len(epochs) > 1 and saved.number == epochs[-1].number:
        yield "The last epoch is the best one: more epochs may raise the scores further."
    if "evaluation" in content.parts and "test" not in content.parts:
        yield "The evaluation notes picked the epoch: their scores flatter the model. There were no test notes."
    if content.parts:
        worst = [label for label, counts in _strict(content).items() if counts.gold and not counts.true_positives]
        if worst:
            yield f"Types of which no span was found: {', '.join(worst)}."
    if content.unread:
        yield f"Scores that another version wrote in a form unknown here, left out: {content.unread:,}."


def _strict(content: Content) -> Mapping[str, Any]:
    """The strict counts per type on the notes that tell most."""
    return list(content.parts.values())[-1].strict.per_type
