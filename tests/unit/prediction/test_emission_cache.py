"""Windows that were read before are not computed again, and nothing else changes."""

from __future__ import annotations

import pickle
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cardioner.errors import UsageError
from cardioner.multiclass.encoding import EncodedNote, SpecialIds, WindowPlan, borders_in, read_notes
from cardioner.prediction.emission_cache import ENTRY_BYTES, EmissionCache
from cardioner.prediction.predictor import Predictor

PLAN = WindowPlan(SpecialIds((1,), (2,)), 62, 4)
TAGS = 3
WORDS = [f"w{number}" for number in range(300)]


def made_up(lines: int, seed: int) -> str:
    """Lines of 4 to 14 words; some are sentences, some are wrapped, some end a paragraph."""
    chance = random.Random(seed)
    ends = ("\n", ".\n", "\n\n", ". W", ": ")
    texts = (" ".join(chance.choices(WORDS, k=chance.randint(4, 14))).capitalize() for _ in range(lines))
    return "".join(text + chance.choice(ends) for text in texts)


def encoded(text: str) -> EncodedNote:
    """One sub-token a word, and one more for the point behind it."""
    offsets, at = [], 0
    for word in text.split():
        start = text.index(word, at)
        at = start + len(word)
        offsets += [(start, at - 1), (at - 1, at)] if word[-1] in ".:" else [(start, at)]
    return EncodedNote(text, [3 + sum(text[start:end].lower().encode()) for start, end in offsets], offsets)


class Encoder:
    """A stand-in for a model: each row depends on all ids of its window; counts the windows that it computes."""

    def __init__(self) -> None:
        self.windows = 0

    def __call__(self, windows: Sequence[Sequence[int]]) -> Any:
        self.windows += len(windows)
        rows = np.full((len(windows), max(map(len, windows)), TAGS), np.nan, np.float32)
        for index, ids in enumerate(windows):
            values = np.array(ids, np.float32)
            rows[index, : len(ids)] = np.sin(np.outer(values + values.mean(), np.arange(1, TAGS + 1)))
        return rows


def allocate(rows: int) -> Any:
    return np.empty((rows, TAGS), np.float32)


def only_borders(compute: Any, _: Any) -> Any:
    """Cuts notes where their content says, and keeps nothing."""
    return compute


def read(notes: Sequence[EncodedNote], cache: Any) -> tuple[list[Any], int]:
    """The rows of notes, one group a note, and how many windows were computed."""
    encoder, plan = Encoder(), PLAN._replace(cache=cache)
    return [rows for note in notes for rows in read_notes(plan, [note], encoder, allocate)], encoder.windows


@pytest.fixture(scope="module")
def record() -> list[EncodedNote]:
    """Notes that share a passage, one of them twice."""
    passage = made_up(40, seed=0)
    texts = [made_up(5 + seed, seed) + passage + made_up(3, 50 + seed) for seed in range(1, 5)]
    return [encoded(text) for text in (*texts, texts[0], "", "W1 w2")]


@pytest.mark.parametrize("limit", [0, 20_000, 1 << 24])
def test_a_cache_of_any_size_changes_not_a_bit(record: list[EncodedNote], limit: int) -> None:
    for kept, computed in zip(read(record, EmissionCache(limit))[0], read(record, only_borders)[0], strict=True):
        assert kept.tobytes() == computed.tobytes()


def test_pasted_text_is_computed_once(record: list[EncodedNote]) -> None:
    cache = EmissionCache(1 << 24)
    (_, computed), (_, every) = read(record, cache), read(record, only_borders)
    assert computed + cache.hits == every
    assert computed < 0.6 * every
    assert len(cache) == computed


def test_equal_windows_of_one_batch_are_computed_once() -> None:
    encoder, cache = Encoder(), EmissionCache(0)
    note = encoded(made_up(3, seed=7))
    first, second = read_notes(PLAN._replace(cache=cache), [note, note], encoder, allocate)
    assert first.tobytes() == second.tobytes()
    assert (encoder.windows, cache.hits) == (1, 1)


@pytest.mark.parametrize("seed", range(5))
def test_a_passage_has_the_same_borders_wherever_it_stands_but_near_its_ends(seed: int) -> None:
    passage = made_up(60, seed)
    notes = [encoded(made_up(lines, 100 * lines + seed) + passage + made_up(9, lines)) for lines in (3, 8)]
    windows = [{(*note.ids[w.start : w.stop],) for w in PLAN._replace(cache=only_borders).cut(note)} for note in notes]
    shared = sum(len(ids) for ids in windows[0] & windows[1])
    assert len(encoded(passage).ids) - shared <= 2 * PLAN.length


def test_the_checksums_of_places_look_no_further_than_the_sub_tokens_beside_them() -> None:
    note = encoded("Aa bb cc dd\nEe ff gg hh. Ii jj kk ll\nmm nn\n\nOo pp")
    places, closed = borders_in(note)
    assert places[0] == 15  # a paragraph
    assert places[1] == 4  # a line
    assert places[2] == 9  # a sentence; the line at 13 goes on with a small letter
    assert closed == {4, 15}
    assert sorted(places) == [*range(1, len(note.ids))]
    assert places[-1] == 8  # before the point


def test_what_is_kept_stays_within_the_bound_and_the_oldest_goes_first() -> None:
    cache = EmissionCache(3 * (ENTRY_BYTES + 5 * TAGS * 4))
    answer = cache(Encoder(), allocate)
    rows = [[number] * 5 for number in range(5)]
    for row in (rows[0], rows[1], rows[2], rows[0], rows[3]):
        answer([row])
        assert cache.size <= cache.limit
    assert (len(cache), cache.hits) == (3, 1)
    answer([rows[0], rows[2], rows[3]])
    assert cache.hits == 4
    answer([rows[1]])
    assert cache.hits == 4
    cache.clear()
    assert (len(cache), cache.size) == (0, 0)


def test_keys_differ_from_cache_to_cache_and_hold_no_id() -> None:
    ids = [70_000 + number for number in range(9)]
    one, other = EmissionCache(1), EmissionCache(1)
    assert one.key_of(ids) == one.key_of([*ids])
    assert one.key_of(ids) != one.key_of(ids[:-1])
    assert one.key_of(ids) != other.key_of(ids)


def test_a_cache_holds_emissions_alone_and_is_sent_away_empty(record: list[EncodedNote]) -> None:
    cache = EmissionCache(1 << 24)
    read(record, cache)
    kept = {type(key) for key in cache._rows}, {(type(rows), rows.dtype) for rows in cache._rows.values()}
    assert kept == ({bytes}, {(np.ndarray, np.dtype(np.float32))})
    assert all(rows.base is None for rows in cache._rows.values()), "a view would keep its whole batch"
    assert "w1" not in repr(cache)
    sent = pickle.loads(pickle.dumps(cache))
    assert (len(sent), sent.limit, sent._key == cache._key) == (0, cache.limit, False)


def test_a_negative_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cache_mib must be 0 or more; found -1"):
        Predictor.from_pretrained(tmp_path, cache_mib=-1)
