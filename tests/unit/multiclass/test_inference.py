"""Shares of notes side by side: nothing is lost, changed or left behind by the threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cardioner.multiclass import TokenClassificationModel, inference
from cardioner.multiclass.encoding import EncodedNote
from cardioner.multiclass.inference import even_shares, side_by_side
from cardioner.multiclass.pipeline import tag_texts
from cardioner.multiclass.windows import Coverage

MakeModel = Callable[..., TokenClassificationModel]
CPU = torch.device("cpu")
SENTENCE = "Patient denies chest pain. Atrial fibrillation since 2019, treated with bisoprolol. "


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a machine with two cores, and notes of few sub-tokens are worth sharing."""
    monkeypatch.setattr(inference, "SHARE_TOKENS", 8)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def notes_of(*sizes: int) -> list[EncodedNote]:
    """Notes of so many sub-tokens; the text says which note it is."""
    return [EncodedNote(str(place), [7] * size, [(0, 1)] * size) for place, size in enumerate(sizes)]


def in_a_new_thread(call: Callable[[], int]) -> int:
    """What a function gives in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


@given(st.lists(st.integers(0, 1000), max_size=40), st.integers(1, 6))
def test_shares_hold_every_note_once_and_differ_by_no_more_than_one_note(sizes: list[int], count: int) -> None:
    shares = even_shares(sizes, count)
    assert len(shares) == count
    assert sorted(index for share in shares for index in share) == list(range(len(sizes)))
    loads = [sum(sizes[index] for index in share) for share in shares]
    assert max(loads) - min(loads) <= max(sizes, default=0)


def test_each_share_has_a_thread_with_its_part_of_the_cores_and_the_caller_keeps_all() -> None:
    together = threading.Barrier(2, timeout=20)  # broken, and an error, unless both shares run at the same time
    seen: list[tuple[int, int]] = []

    def work(notes: Sequence[EncodedNote]) -> list[str]:
        together.wait()
        seen.append((threading.get_ident(), torch.get_num_threads()))
        return [note.text for note in notes]

    assert side_by_side(work, notes_of(30, 10, 20, 25, 5), CPU) == ["0", "1", "2", "3", "4"]
    assert len({thread for thread, _ in seen} - {threading.get_ident()}) == 2
    assert [threads for _, threads in seen] == [1, 1]
    assert (torch.get_num_threads(), in_a_new_thread(torch.get_num_threads)) == (2, 2)


@pytest.mark.parametrize(
    ("sizes", "device"),
    [
        ((), CPU),
        ((500,), CPU),
        ((500, 10, 10), CPU),  # one share would wait for the other
        ((3, 4, 3), CPU),
        ((30, 30), torch.device("meta")),
    ],
    ids=["none", "one", "uneven", "little", "not on a CPU"],
)
def test_what_cannot_be_shared_well_is_done_by_the_caller(sizes: tuple[int, ...], device: torch.device) -> None:
    calls: list[tuple[int, int]] = []

    def work(notes: Sequence[EncodedNote]) -> list[str]:
        calls.append((threading.get_ident(), len(notes)))
        return [note.text for note in notes]

    assert side_by_side(work, notes_of(*sizes), device) == [str(place) for place in range(len(sizes))]
    assert calls == [(threading.get_ident(), len(sizes))]


def test_an_error_in_a_share_is_the_caller_s_and_the_cores_are_given_back() -> None:
    def work(notes: Sequence[EncodedNote]) -> list[str]:
        if any(note.text == "2" for note in notes):
            raise FloatingPointError("not finite")
        return [note.text for note in notes]

    with pytest.raises(FloatingPointError, match="not finite"):
        side_by_side(work, notes_of(20, 20, 20, 20), CPU)
    assert (torch.get_num_threads(), in_a_new_thread(torch.get_num_threads)) == (2, 2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("use_crf", [False, True])
def test_spans_and_what_is_covered_are_those_of_one_thread(
    use_crf: bool, dtype: str, make_model: MakeModel, tokenizers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(use_crf=use_crf)
    model.config.inference_dtype = dtype
    texts = [SENTENCE * count for count in (3, 1, 2, 0, 3, 2, 1)]

    def tagged() -> tuple[list[list[tuple[int, int, str]]], list[float], Coverage]:
        covered: list[Coverage] = []
        found = tag_texts(model, tokenizers["wordpiece"], texts, advance=covered.append)
        places = [[(entity.start, entity.end, entity.label) for entity in note] for note in found]
        return places, [entity.score for note in found for entity in note], reduce(Coverage.plus, covered)

    started: list[object] = []
    pool = inference.ThreadPoolExecutor
    monkeypatch.setattr(inference, "ThreadPoolExecutor", lambda *a, **k: started.append(a) or pool(*a, **k))
    shared = tagged()
    assert started
    monkeypatch.setattr(inference, "MOST_SHARES", 1)
    alone = tagged()
    assert len(started) == 1
    assert any(alone[0])
    assert shared[0] == alone[0]
    assert shared[1] == pytest.approx(alone[1], abs=1e-4 if dtype == "float32" else 2e-2)
    assert shared[2] == alone[2]
