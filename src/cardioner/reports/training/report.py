"""A training as one HTML page that needs no network, no script and no other file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cardioner.errors import many
from cardioner.evaluation.matching import CRITERIA
from cardioner.model_dir.findings import never_found
from cardioner.reports import html
from cardioner.reports.html import COUNT_COLUMNS, SCORE_COLUMNS, Table, count_cells, score_cells, score_text
from cardioner.reports.training.content import Content, duration, read_record, without_folders
from cardioner.reports.training.plots import plots_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_NAMED = 8
"""Most types in the title."""


def render(record: Mapping[str, Any]) -> str:
    """The page.

    Args:
        record: Content of a model directory's `training_args.json`, which holds no text of notes. For one of an older
            version, or of a model that was never trained, the page shows less.

    Returns:
        HTML, the same for the same record.

    Raises:
        UsageError: If jinja2 or matplotlib is missing.
    """
    content = read_record(record)
    plots = plots_of(content)
    return html.render_page(
        "cardioner.reports.training",
        {name: plot.draw for name, plot in plots.items()},
        words={name: plot.words for name, plot in plots.items()},
        content=content,
        warning=never_found(record),
        tables=_tables(content),
        facts=list(_facts(content)),
        advice=list(_advice(content)),
        title=_title(content.types),
        calibration=_whole(record.get("calibration"), ("value", "spans", "before", "after")),
        inference=_inference(record.get("inference")),
        versions=record.get("versions") or {},
        styles=html.type_styles(content.types),
    )


def _tables(content: Content) -> dict[str, Any]:
    """The tables of the page, by name; those of types by part of the data."""
    others = [name for name in CRITERIA if name != "strict"]
    epochs, parts, types, saved = [], [], {}, None
    for row, epoch in enumerate(content.epochs):
        saved = row if epoch.saved else saved
        strict, name = epoch.scores.strict, f"{epoch.number} saved" if epoch.saved else str(epoch.number)
        scores = (*score_cells(strict.micro), score_text(strict.macro.f1), *count_cells(strict.micro))
        epochs.append((name, epoch.step, score_text(epoch.loss), *scores))
    for name, found in content.parts.items():
        strict = found.strict
        lenient = [score_text(found.by(other).micro.f1) for other in others]
        parts.append((name, found.documents, *score_cells(strict.micro), score_text(strict.macro.f1), *lenient))
        rows = [(label, *score_cells(one), one.gold, *count_cells(one)) for label, one in strict.per_type.items()]
        types[name] = Table(("type", *SCORE_COLUMNS, "gold", *COUNT_COLUMNS), rows)
    heads = ("epoch", "last step", "mean loss", *SCORE_COLUMNS, "macro F1", *COUNT_COLUMNS)
    more = ("precision", "recall", "strict F1", "macro F1", *(f"{other} F1" for other in others))
    return {
        "epochs": Table(heads, epochs, highlighted=saved),
        "parts": Table(("notes", "count", *more), parts),
        "types": types,
        "notes": Table(("notes", "count", "spans"), [(name, *counts) for name, counts in content.notes.items()]),
    }


def _title(types: Sequence[str]) -> str:
    """What was trained, in one line."""
    more = len(types) - _NAMED
    return f"Training of a tagger for {', '.join(types[:_NAMED])}" + (f" and {more} more types" if more > 0 else "")


def _whole(found: Any, names: Iterable[str]) -> Mapping[str, Any] | None:
    """An object of the record, if it has all of these."""
    return found if isinstance(found, dict) and found.keys() >= set(names) else None


def _inference(found: Any) -> tuple[str, list[tuple[str, float, float]]] | None:
    """The precision of a record, and those that were tried, each with its F1 and its agreement with float32."""
    if earlier := _whole(found, ("dtype", "float32", "bfloat16", "agreement")):  # written by 0.2.0
        tried = [("float32", earlier["float32"], 1.0), ("bfloat16", earlier["bfloat16"], earlier["agreement"])]
        return earlier["dtype"], tried
    whole = _whole(found, ("dtype", "trials"))
    if whole is None:
        return None
    return whole["dtype"], [(name, trial["f1"], trial["agreement"]) for name, trial in whole["trials"].items()]


def _facts(content: Content) -> Iterator[tuple[str, str]]:
    """What was trained, on how much, and for how long."""
    record, data = content.record, content.record.get("training_data") or {}
    encoder = without_folders(str(record.get("model", "not recorded")))
    yield "encoder", f"{encoder}, frozen" if record.get("freeze_backbone") else encoder
    yield "head", content.head
    yield (
        "entity types",
        f"{len(content.types):,} in {many(len(record.get('labels') or ()), 'tag')}: {', '.join(content.types)}",
    )
    if "max_length" in record:
        yield "windows", f"up to {record['max_length']:,} sub-tokens"
    if data:
        yield "training data", f"{data.get('windows', 0):,} windows, {data.get('sub_tokens', 0):,} sub-tokens"
    if content.trained and "num_train_epochs" in record:
        yield "epochs", _epochs(content)
    if content.steps:
        yield "steps", f"{content.steps:,}"
    if "seconds" in record:
        yield "time", f"{duration(record['seconds'])}, including the scoring after each epoch"


def _epochs(content: Content) -> str:
    asked, saved = content.record["num_train_epochs"], content.saved_epoch
    chosen = ", chosen by the number of steps" if "epochs_chosen" in content.record else ""
    if saved is None:
        return f"{asked:,}{chosen}; the last one is saved"
    ran = content.epochs[-1].number
    return f"{ran:,}" + (f" of {asked:,}" if ran != asked else "") + f"{chosen}; epoch {saved.number:,} is saved"


def _advice(content: Content) -> Iterator[str]:
    """What the curves say that a reader could miss."""
    saved, epochs = content.saved_epoch, content.epochs
    if saved is not None and len(epochs) > 1 and saved.number == epochs[-1].number:
        yield "The last epoch is the best one: more epochs may raise the scores further."
    if "evaluation" in content.parts and "test" not in content.parts:
        yield "The epoch was chosen on the evaluation notes, so their scores are optimistic. There were no test notes."
    if content.unread:
        yield f"Left out, as another version wrote them in an unknown form: {many(content.unread, 'score')}."
