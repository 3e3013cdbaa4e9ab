"""What a training's own record says against its model: entity types that it never finds, and what to change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cardioner.errors import many
from cardioner.model_dir.json_files import object_under, shown

LEAST_STEPS = 400
"""Steps of the optimizer after which a new head tags well, however few the notes: see ADR 10."""
MOST_EPOCHS = 40
"""Passes over notes that are few: more of them would only repeat what is known by heart."""
STUDENT_EPOCHS = 2
"""A model of the recipe `best` makes this many times as many passes over the notes as were asked for."""
LEAST_MENTIONS = 20
"""Spans of a type in the training notes, below which there is little to learn it from."""
_FALLING = 0.9
"""A loss that fell to less than this share of what it was a quarter of the training earlier is still falling."""
_NAMED = 5
_LONGEST = 60


def never_found(record: Mapping[str, Any]) -> str | None:
    """What to say of a model that finds no span of some types; `None` if it finds all that it is scored on, or is not.

    Args:
        record: Of a training, as `training_args.json` has it, or `Manifest.record`; what it lacks is left out.
    """
    for part in ("test", "evaluation"):
        strict = object_under(object_under(object_under(record, "scores"), part), "strict")
        if (missed := _missed(object_under(strict, "micro"))) is not None:
            spans = many(missed, "span")
            problem = f"this model finds nothing: none of the {spans} in the {part} notes was found (F1 0.000)"
            return f"{problem}: {_what_to_change(record, sorted(object_under(strict, 'per_type')))}"
        types = {name: _missed(counts) for name, counts in sorted(object_under(strict, "per_type").items())}
        if lacking := {name: missed for name, missed in types.items() if missed is not None}:
            found = ", ".join(f"{shown(name, _LONGEST)} (0 of {missed})" for name, missed in _first(lacking))
            more = f" and {len(lacking) - _NAMED} more types" if len(lacking) > _NAMED else ""
            return f"this model never finds {found}{more} in the {part} notes: {_what_to_change(record, [*lacking])}"
    return None


def _first(lacking: Mapping[str, int]) -> list[tuple[str, int]]:
    return list(lacking.items())[:_NAMED]


def _missed(counts: Any) -> int | None:
    """How many spans there were, where none of them was found."""
    right, missed = (counts.get(name) for name in ("tp", "fn")) if isinstance(counts, dict) else (None, None)
    return missed if right == 0 and type(missed) is int and missed > 0 else None


def _what_to_change(record: Mapping[str, Any], types: Sequence[str]) -> str:
    """The settings to change, from what the training saw."""
    spans = object_under(object_under(object_under(record, "documents"), "training"), "spans")
    known = {name: spans[name] for name in types if type(spans.get(name)) is int}
    lost = {name: count for name, count in _lost(record, known).items() if 2 * count > known[name]}
    if not lost:
        return _how_to_train(record, known)
    counts = ", ".join(f"{shown(name, _LONGEST)} {count} of {known[name]}" for name, count in _first(lost))
    advice = (
        f"the tags cannot express most mentions in the training notes ({counts} lost): cardioner check shows why, and "
        "how many --overlap per-type keeps"
    )
    rest = {name: count for name, count in known.items() if name not in lost}
    return f"{advice}; of the other types, {_how_to_train(record, rest)}" if rest else advice


def _lost(record: Mapping[str, Any], known: Iterable[str]) -> dict[str, int]:
    """How many training spans of these types the tags could not express."""
    lost = object_under(object_under(record, "training_data"), "lost")
    return {name: sum(count for count in object_under(lost, name).values() if type(count) is int) for name in known}


def _how_to_train(record: Mapping[str, Any], known: Mapping[str, int]) -> str:
    """The setting to change if the tags can express the mentions of these types."""
    epochs, steps = record.get("num_train_epochs"), object_under(record, "training_data").get("steps_per_epoch")
    if known and max(known.values()) < LEAST_MENTIONS:
        counts = ", ".join(f"{shown(name, _LONGEST)} {count}" for name, count in _first(known))
        return f"too few mentions to learn from ({counts} in the training notes): annotate {LEAST_MENTIONS} or more"
    share = STUDENT_EPOCHS if object_under(record, "distillation").get("recipe") == "best" else 1
    enough = min(-(-LEAST_STEPS // steps), MOST_EPOCHS) if isinstance(steps, int) and steps > 0 else 0
    if isinstance(epochs, int) and isinstance(steps, int) and epochs < enough:
        return f"too few steps ({epochs * steps} in {many(epochs, 'epoch')}): train with --epochs {-(-enough // share)}"
    if _still_falls(record.get("loss_of_quarters")) and type(epochs) is int:
        longer = 2 * epochs // share
        return f"the loss was still falling: train longer (--epochs {longer}), or at a higher --learning-rate"
    return (
        "train it for more epochs (--epochs), at another --learning-rate, with --class-weights balanced, or on more "
        "notes; cardioner check shows what is annotated"
    )


def loss_of_quarters(losses: Sequence[float]) -> list[float] | None:
    """The mean of the logged losses in the third and in the last quarter of a training; `None` if they are too few."""
    size = len(losses) // 4
    return None if size == 0 else [sum(part) / size for part in (losses[-2 * size : -size], losses[-size:])]


def _still_falls(quarters: Any) -> bool:
    """Whether the loss of the last quarter is clearly below that of the third."""
    numbers = isinstance(quarters, list) and len(quarters) == 2 and all(type(one) is float for one in quarters)
    return numbers and quarters[1] < _FALLING * quarters[0]
