"""What a record says of types that are never found, and which setting it names."""

from __future__ import annotations

from typing import Any

import pytest

from cardioner.model_dir.findings import LEAST_STEPS, loss_of_quarters, never_found


def counts(right: Any, missed: Any) -> dict[str, Any]:
    return {"tp": right, "fp": 3, "fn": missed}


def record(part: str = "evaluation", *, mentions: int = 90, **training: Any) -> dict[str, Any]:
    """Of a training that found all spans of A and none of B."""
    strict = {"micro": counts(7, 5), "per_type": {"A": counts(7, 0), "B": counts(0, 5)}}
    return {
        "num_train_epochs": 10,
        "training_data": {"steps_per_epoch": LEAST_STEPS},
        "documents": {"training": {"spans": {"A": 500, "B": mentions}}},
        "loss_of_quarters": [0.5, 0.49],
        **training,
        "scores": {part: {"strict": strict}},
    }


def nothing(part: str, right: Any, missed: Any) -> dict[str, Any]:
    return {part: {"strict": {"micro": counts(right, missed)}}}


def test_a_model_without_a_span_of_scored_notes_finds_nothing() -> None:
    found = never_found({"scores": nothing("evaluation", 0, 12)})
    start = "this model finds nothing: none of the 12 spans in the evaluation notes was found (F1 0.000): "
    assert found is not None
    assert found.startswith(start)
    scores = nothing("evaluation", 4, 1) | nothing("test", 0, 1)
    assert "1 span in the test notes" in (never_found({"scores": scores}) or "")


@pytest.mark.parametrize(
    "scores", [{}, {"test": 3}, nothing("test", 1, 11), nothing("test", 0, 0), nothing("test", 0, "x")]
)
def test_a_model_that_is_fine_or_not_scored_is_not_blamed(scores: dict[str, Any]) -> None:
    assert never_found({"scores": scores}) is None


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ({"mentions": 7}, "too few mentions to learn from (B 7 in the training notes): annotate 20 or more"),
        (
            {"training_data": {"steps_per_epoch": 19}},
            f"too few steps (190 in 10 epochs): train with --epochs {-(-LEAST_STEPS // 19)}",
        ),
        ({"training_data": {"steps_per_epoch": 1}}, "too few steps (10 in 10 epochs): train with --epochs 40"),
        (
            {"training_data": {"steps_per_epoch": 1}, "distillation": {"recipe": "best"}},
            "too few steps (10 in 10 epochs): train with --epochs 20",
        ),
        (
            {"loss_of_quarters": [0.5, 0.2], "distillation": {"recipe": "best"}},
            "the loss was still falling: train longer (--epochs 10)",
        ),
        ({"training_data": {"steps_per_epoch": 1}, "num_train_epochs": 40}, "train it for more epochs (--epochs), at"),
        (
            {"training_data": {"steps_per_epoch": 1, "lost": {"B": {"nested": 80, "crossing": 4}}}},
            "the tags cannot express most mentions in the training notes (B 84 of 90 lost): cardioner check shows why",
        ),
        ({"training_data": {"steps_per_epoch": 1, "lost": {"B": {"nested": 9}}}}, "too few steps (10 in 10 epochs)"),
        ({"loss_of_quarters": [0.5, 0.3]}, "the loss was still falling: train longer (--epochs 20), or at a higher"),
        ({}, "train it for more epochs (--epochs), at another --learning-rate, with --class-weights balanced"),
    ],
)
def test_the_setting_to_change_follows_from_what_the_training_saw(given: dict[str, Any], advice: str) -> None:
    found = never_found(record(**given)) or ""
    assert found.startswith("this model never finds B (0 of 5) in the evaluation notes: ")
    assert advice in found


@pytest.mark.parametrize("key", ["num_train_epochs", "training_data", "documents", "loss_of_quarters"])
@pytest.mark.parametrize("value", [None, "x\x1b[2J", {"training": 3}, {"lost": {"B": 3}}, [1.0]])
def test_a_record_of_any_content_is_read_and_no_control_character_is_passed_on(key: str, value: Any) -> None:
    found = never_found({**record(), key: value}) or ""
    assert "never finds B" in found
    assert found.isprintable()
    strange = record()
    strange["scores"]["evaluation"]["strict"]["per_type"] = {"\x1b[2J": counts(0, 5)}
    assert (never_found(strange) or "\x1b").isprintable()


def test_types_that_tags_lose_are_told_from_those_that_training_does_not_reach() -> None:
    some = record(training_data={"steps_per_epoch": 1, "lost": {"A": {"nested": 400}}})
    some["scores"]["evaluation"]["strict"]["per_type"]["A"] = counts(0, 9)
    found = never_found(some) or ""
    assert "(A 400 of 500 lost)" in found
    assert found.endswith("; of the other types, too few steps (10 in 10 epochs): train with --epochs 40")


def test_losses_are_compared_by_quarters() -> None:
    assert loss_of_quarters([9.0, 9.0, 9.0, 9.0, 4.0, 2.0, 2.0, 1.0]) == [3.0, 1.5]
    assert loss_of_quarters([1.0, 2.0, 3.0]) is None
