"""The choice of notes to annotate: against the greedy choice that computes every value anew each time."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardioner.data.documents import Document, Span
from cardioner.errors import DataError
from cardioner.prediction.selection import (
    DISCOUNT,
    Choice,
    Doubts,
    choose,
    doubts_of,
    entropy,
    read_order,
    select,
    write_order,
)

MENTIONS = st.sampled_from([("DISEASE", word) for word in "abcdef"])
NOTES = st.lists(st.dictionaries(MENTIONS, st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), max_size=5), max_size=8).map(
    lambda found: [Doubts(f"n{place}", len(one), one) for place, one in enumerate(found)]
)


def tagged(name: str, *found: tuple[str, float | None]) -> Document:
    """A note of these words, each a span with a score."""
    text, spans = "", []
    for words, score in found:
        spans.append(Span(len(text), len(text) + len(words), "DISEASE", score))
        text += words + " "
    return Document(name, text, tuple(spans))


def worth(note: Doubts, seen: Counter[tuple[str, str]]) -> float:
    return math.fsum(bits * DISCOUNT ** seen[mention] for mention, bits in note.mentions.items())


@given(NOTES)
def test_each_choice_is_the_best_of_those_left(notes: list[Doubts]) -> None:
    seen, left = Counter[tuple[str, str]](), {note.id: note for note in notes}
    for choice in choose(notes):
        values = {name: worth(note, seen) for name, note in left.items()}
        assert choice.gain == pytest.approx(max(values.values()))
        assert choice.gain == pytest.approx(values[choice.id])
        note = left.pop(choice.id)
        assert choice.new == sum(not seen[mention] for mention in note.mentions)
        seen.update(note.mentions.keys())
    assert not left


@given(NOTES, st.randoms())
def test_the_order_of_the_notes_changes_nothing(notes: list[Doubts], random: object) -> None:
    shuffled = list(notes)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert list(choose(notes)) == list(choose(shuffled))


@pytest.mark.parametrize(("probability", "bits"), [(0.0, 0), (1.0, 0), (0.5, 1), (0.25, 0.8112781), (0.75, 0.8112781)])
def test_the_entropy_of_a_score(probability: float, bits: float) -> None:
    assert entropy(probability) == pytest.approx(bits)


def test_a_mention_counts_once_a_note_with_its_least_certain_span_however_it_is_written() -> None:
    doubts = doubts_of(tagged("a", ("Heart  Failure", 1.0), ("heart failure", 0.5), ("syncope", 0.75)))
    assert doubts.spans == 3
    assert doubts.mentions == {
        ("DISEASE", "heart failure"): 1.0,
        ("DISEASE", "syncope"): pytest.approx(entropy(0.75)),
    }
    assert "syncope" not in repr(doubts)


def test_a_note_with_other_mentions_goes_before_a_less_certain_one_with_the_same() -> None:
    notes = [
        tagged("first", ("syncope", 0.5), ("angina", 0.5)),
        tagged("same", ("syncope", 0.5), ("angina", 0.5)),
        tagged("other", ("oedema", 0.25), ("fever", 0.6)),
        tagged("sure", ("stroke", 1.0)),
        Document("nothing", "No complaints."),
    ]
    assert [choice.id for choice in select(notes, 5)] == ["first", "other", "same", "sure", "nothing"]
    assert select(notes, 1) == [Choice("first", 2.0, 2, 2, 2)]


def test_what_is_annotated_is_not_chosen_and_its_mentions_are_not_new() -> None:
    annotated = [tagged("a", ("syncope", None))]
    notes = [tagged("a", ("fever", 0.5)), tagged("b", ("Syncope", 0.5)), tagged("c", ("oedema", 0.4))]
    assert select(notes, 9, annotated=annotated) == [Choice("c", entropy(0.4), 1, 1, 1), Choice("b", 0.5, 1, 1, 0)]


def test_spans_without_scores_and_equal_ids_are_refused() -> None:
    with pytest.raises(DataError, match="document a: its spans have no scores: expected what a model found"):
        select([tagged("a", ("syncope", None))], 1)
    with pytest.raises(DataError, match="two notes have the id 'a'"):
        select([Document("a", ""), Document("a", "")], 1)


def test_an_order_is_read_as_it_was_written_and_nothing_else_is_taken_for_one(tmp_path: Path) -> None:
    chosen = (Choice("a/ü 1", 2.5, 3, 3, 1), Choice("b", 0.0, 0, 0, 0))
    write_order(chosen, tmp_path / "order.jsonl")
    assert read_order(tmp_path / "order.jsonl") == chosen
    row = '{"id": "a", "gain": 1.5, "spans": 1, "mentions": 1, "new": 1}\n'
    for content, problem in {
        '{"id": "a"}': "line 1: expected what",
        f"{row}secret words": "line 2: expected what",
        row * 2: "line 2: the note 'a' has a place already",
    }.items():
        (tmp_path / "other").write_text(content)
        with pytest.raises(DataError, match=problem) as refused:
            read_order(tmp_path / "other")
        assert "secret" not in str(refused.value)
    with pytest.raises(DataError, match="cannot be read"):
        read_order(tmp_path / "missing")
