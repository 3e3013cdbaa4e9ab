"""Spans to tags and back: who wins, what is reported, and how stray tags are read."""

from __future__ import annotations

import pytest

from cardioner.data.documents import Span
from cardioner.data.labels import LabelSet
from cardioner.multiclass.tagging import (
    Loss,
    Run,
    repair,
    run_offsets,
    split_tag,
    to_runs,
    to_tags,
    trim_offsets,
)

OFFSETS = [(0, 5), (6, 9), (9, 12), (13, 20)]
"""Four sub-tokens of `heart fai|lure unknown`, so to speak."""


def test_spans_become_an_opening_tag_and_inside_tags() -> None:
    tags, losses = to_tags([Span(13, 20, "Y"), Span(0, 12, "X")], OFFSETS)
    assert tags == ["B-X", "I-X", "I-X", "B-Y"]
    assert losses == []


def test_label_sets_with_closing_tags_get_them() -> None:
    label_set = LabelSet.from_types(["X"], scheme="BIOES").tags + LabelSet.from_types(["Y"]).tags[1:]
    spans = [Span(0, 9, "X"), Span(9, 12, "X"), Span(13, 20, "Y")]
    assert to_tags(spans, OFFSETS, label_set) == (["B-X", "E-X", "S-X", "B-Y"], [])
    assert to_tags([Span(0, 12, "X")], OFFSETS, label_set)[0] == ["B-X", "I-X", "E-X", "O"]


def test_touching_spans_of_one_type_stay_two() -> None:
    tags, losses = to_tags([Span(6, 9, "X"), Span(9, 12, "X")], OFFSETS)
    assert tags == ["O", "B-X", "B-X", "O"]
    assert losses == []


@pytest.mark.parametrize(
    ("spans", "loss"),
    [
        ([Span(0, 5, "X"), Span(0, 5, "X")], Loss("duplicate", "X", 0, 5)),
        ([Span(0, 5, "Y"), Span(0, 5, "X")], Loss("same span", "Y", 0, 5)),
        ([Span(0, 12, "X"), Span(6, 12, "X")], Loss("nested", "X", 6, 12)),
        ([Span(0, 12, "X"), Span(9, 20, "Y")], Loss("crossing", "Y", 9, 20)),
        ([Span(0, 7, "X"), Span(8, 9, "Y")], Loss("shared sub-token", "Y", 8, 9)),
        ([Span(6, 20, "X", fragments=((6, 9), (13, 20)))], Loss("discontinuous", "X", 6, 20)),
        ([Span(5, 6, "X")], Loss("no sub-token", "X", 5, 6)),
        ([Span(7, 9, "X")], Loss("cut sub-token", "X", 7, 9)),
        ([Span(6, 8, "X")], Loss("cut sub-token", "X", 6, 8)),
        ([Span(5, 12, "X")], Loss("edge in no sub-token", "X", 5, 12)),
    ],
    ids=lambda value: value.kind if isinstance(value, Loss) else "",
)
def test_each_kind_of_loss_is_reported(spans: list[Span], loss: Loss) -> None:
    for given in (spans, spans[::-1]):
        _, losses = to_tags(given, OFFSETS)
        assert loss in losses
        assert [found for found in losses if found.kind != "cut sub-token" and found != loss] == []


def test_the_longest_span_wins_then_the_first_then_the_label() -> None:
    longest = to_tags([Span(0, 5, "X"), Span(0, 9, "Y")], OFFSETS)[0]
    first = to_tags([Span(9, 15, "X"), Span(6, 12, "Y")], OFFSETS)[0]
    label = to_tags([Span(0, 5, "Z"), Span(0, 5, "A")], OFFSETS)[0]
    assert (longest, first, label) == (
        ["B-Y", "I-Y", "O", "O"],
        ["O", "B-Y", "I-Y", "O"],
        ["B-A", "O", "O", "O"],
    )


def test_a_lost_span_leaves_the_winners_tags_alone() -> None:
    tags, _ = to_tags([Span(0, 12, "X"), Span(9, 20, "Y"), Span(6, 20, "Z", fragments=((6, 9), (13, 20)))], OFFSETS)
    assert tags == ["B-X", "I-X", "I-X", "O"]


def test_a_cut_sub_token_is_tagged_whole() -> None:
    tags, losses = to_tags([Span(7, 10, "X")], OFFSETS)
    assert tags == ["O", "B-X", "I-X", "O"]
    assert losses == [Loss("cut sub-token", "X", 7, 10)]


def test_a_note_without_sub_tokens_or_spans_has_nothing_to_say() -> None:
    assert to_tags([], OFFSETS) == (["O"] * 4, [])
    assert to_tags([Span(0, 2, "X")], []) == ([], [Loss("no sub-token", "X", 0, 2)])


@pytest.mark.parametrize(
    ("tags", "runs"),
    [
        (["B-X", "I-X", "O", "B-X"], [Run(0, 2, "X"), Run(3, 4, "X")]),
        (["I-X", "I-X"], [Run(0, 2, "X")]),
        (["O", "I-X", "O", "I-X"], [Run(1, 2, "X"), Run(3, 4, "X")]),
        (["B-X", "I-Y", "I-Y"], [Run(0, 1, "X"), Run(1, 3, "Y")]),
        (["B-X", "B-X"], [Run(0, 1, "X"), Run(1, 2, "X")]),
        (["X", "X", "O", "Y"], [Run(0, 2, "X"), Run(3, 4, "Y")]),
        (["B-X", "I-X", "E-X", "S-X"], [Run(0, 3, "X"), Run(3, 4, "X")]),
        (["B-X", "E-X", "I-X", "E-X"], [Run(0, 2, "X"), Run(2, 4, "X")]),
        (["E-X", "S-X", "I-X", "S-X"], [Run(0, 1, "X"), Run(1, 2, "X"), Run(2, 3, "X"), Run(3, 4, "X")]),
        (["I-", "B-X", "O", "I-"], [Run(0, 1, ""), Run(1, 2, "X"), Run(3, 4, "")]),
        (["B-X", "O", "B-X", "E-Y"], [Run(0, 1, "X"), Run(2, 3, "X"), Run(3, 4, "Y")]),
        ([], []),
    ],
)
def test_runs_open_at_opening_tags_and_at_stray_inside_tags(tags: list[str], runs: list[Run]) -> None:
    assert to_runs(tags) == runs


@pytest.mark.parametrize(
    ("tags", "expected", "changed"),
    [
        (["O", "I-X", "I-X"], ["O", "B-X", "I-X"], 1),
        (["B-X", "I-Y", "I-X"], ["B-X", "B-Y", "B-X"], 2),
        (["I-X", "O", "I-X"], ["B-X", "O", "B-X"], 2),
        (["B-X", "I-X", "B-X", "O"], ["B-X", "I-X", "B-X", "O"], 0),
        ([], [], 0),
    ],
)
def test_repair_opens_stray_inside_tags_and_counts_them(tags: list[str], expected: list[str], changed: int) -> None:
    assert repair(tags) == (expected, changed)
    assert repair(expected) == (expected, 0)


def test_a_tag_is_split_at_its_first_dash() -> None:
    assert split_tag("B-a-b") == ("B", "a-b")
    assert split_tag("O") == ("O", "")
    assert split_tag("X-ray") == ("I", "X-ray")


def test_white_space_is_trimmed_off_both_edges_of_a_sub_token() -> None:
    text = "a \u00a0b\r\n \u2028"
    assert trim_offsets(text, [(0, 1), (1, 4), (2, 5), (1, 3), (5, 8), (8, 8)]) == [
        (0, 1),
        (3, 4),
        (3, 4),
        (3, 3),
        (8, 8),
        (8, 8),
    ]


def test_a_runs_characters_leave_out_sub_tokens_of_white_space() -> None:
    offsets = [(1, 1), (1, 3), (4, 4), (5, 6), (7, 7)]
    assert run_offsets(Run(0, 5, "X"), offsets) == (1, 6)
    assert run_offsets(Run(2, 3, "X"), offsets) == (0, 0)
