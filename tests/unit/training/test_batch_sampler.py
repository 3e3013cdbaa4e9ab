"""Batches: every window once, of similar length, the same for any number of processes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardioner.errors import UsageError
from cardioner.training.batch_sampler import Batches, check_shares, plan_batches

LENGTHS = st.lists(st.integers(1, 128), min_size=1, max_size=300)


@given(LENGTHS, st.integers(1, 40), st.integers(0, 5), st.integers(0, 5))
def test_every_window_is_in_one_batch_and_batches_are_of_one_size(
    lengths: list[int], size: int, seed: int, epoch: int
) -> None:
    batches = plan_batches(lengths, size, seed=seed, epoch=epoch)
    assert sorted(itertools.chain(*batches)) == list(range(len(lengths)))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
    assert len(batches) == len(Batches(lengths, size, seed, epoch=lambda: epoch))


@given(LENGTHS, st.integers(2, 40), st.integers(1, 8))
def test_the_shares_of_the_processes_are_the_batches_of_one(lengths: list[int], size: int, processes: int) -> None:
    whole = list(Batches(lengths, size, 0, epoch=lambda: 3))
    shares = [
        list(Batches(lengths, size, 0, epoch=lambda: 3, process=process, processes=processes))
        for process in range(processes)
    ]
    assert [sorted(itertools.chain(*parts)) for parts in zip(*shares, strict=True)] == [sorted(one) for one in whole]
    empty = any(not share for parts in shares for share in parts)
    if empty:
        with pytest.raises(UsageError, match="fewer than the"):
            check_shares(len(lengths), size, processes)
    else:
        check_shares(len(lengths), size, processes)


def test_windows_of_a_batch_are_of_similar_length() -> None:
    lengths = [1 + (7 * index) % 128 for index in range(4000)]
    spreads = [
        max(lengths[index] for index in batch) - min(lengths[index] for index in batch)
        for batch in plan_batches(lengths, 16, seed=0, epoch=0)
    ]
    assert sum(spreads) / len(spreads) < 5, "padding is next to nothing"


def test_order_depends_on_seed_and_epoch_alone() -> None:
    lengths = [1 + index % 30 for index in range(200)]
    plans = [plan_batches(lengths, 8, seed=seed, epoch=epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert plans[0] == plan_batches(lengths, 8, seed=0, epoch=0)
    assert plans[0] != plans[1]
    assert plans[0] != plans[2]
    assert plans[1] != plans[2]
