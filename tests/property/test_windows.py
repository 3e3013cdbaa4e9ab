"""What holds of every cut, whatever the note's length and the window's size."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardioner.multiclass.windows import Window, cut, cut_at

COUNTS = st.integers(0, 400) | st.integers(0, 10**4)


@st.composite
def sizes(draw: st.DrawFn) -> tuple[int, int]:
    """A window's length and context that leave room between them."""
    context = draw(st.integers(0, 30))
    return 2 * context + draw(st.integers(1, 60)), context


@given(COUNTS, sizes())
def test_each_sub_token_is_owned_once_and_in_order(count: int, size: tuple[int, int]) -> None:
    length, context = size
    windows = cut(count, length=length, context=context)
    assert windows[0].own_start == 0
    assert windows[-1].own_stop == count
    assert all(before.own_stop == after.own_start for before, after in pairwise(windows))
    assert all(window.own_start < window.own_stop for window in windows) or windows == [Window(0, 0, 0, 0)]


@given(COUNTS, sizes())
def test_a_window_fits_holds_what_it_owns_and_has_its_context(count: int, size: tuple[int, int]) -> None:
    length, context = size
    for window in cut(count, length=length, context=context):
        assert 0 <= window.start <= window.own_start <= window.own_stop <= window.stop <= count
        assert window.stop - window.start <= length
        assert window.own_start == 0 or window.own_start - window.start >= context
        assert window.own_stop == count or window.stop - window.own_stop >= context


@given(COUNTS, sizes())
def test_windows_are_equally_long_and_as_few_as_the_context_allows(count: int, size: tuple[int, int]) -> None:
    length, context = size
    windows = cut(count, length=length, context=context)
    assert len({window.stop - window.start for window in windows}) == 1
    fewer = len(windows) - 1
    most_owned_by_fewer = length + (fewer - 1) * (length - 2 * context) if fewer else 0
    assert most_owned_by_fewer < max(count, 1)
    owned = [window.own_stop - window.own_start for window in windows[1:-1]]
    assert not owned or max(owned) - min(owned) <= 1


@given(COUNTS, sizes())
def test_a_sub_token_is_read_where_it_is_most_central(count: int, size: tuple[int, int]) -> None:
    length, context = size
    for before, after in pairwise(cut(count, length=length, context=context)):
        behind, ahead = before.stop - before.own_stop, after.own_start - after.start
        assert abs(behind - ahead) <= 1


@given(st.integers(0, 200), sizes())
def test_owned_selects_from_the_window_what_it_owns_in_the_note(count: int, size: tuple[int, int]) -> None:
    length, context = size
    note = list(range(count))
    windows = cut(count, length=length, context=context)
    assert [index for window in windows for index in note[window.own_start : window.own_stop]] == note


@given(st.integers(0, 60), sizes())
def test_a_note_that_fits_is_one_window(count: int, size: tuple[int, int]) -> None:
    length, context = size
    assert (cut(count, length=length, context=context) == [Window(0, count, 0, count)]) == (count <= length)


def test_a_note_of_nothing_has_one_empty_window() -> None:
    assert cut(0, length=3, context=1) == [Window(0, 0, 0, 0)]


@pytest.mark.parametrize(("length", "context"), [(8, 4), (7, 4), (0, 0), (-1, 0), (5, -1)])
@pytest.mark.parametrize("count", [0, 3, 100])
def test_context_without_room_between_is_refused(count: int, length: int, context: int) -> None:
    with pytest.raises(
        ValueError, match=f"window of {length} sub-tokens has no room between two contexts of {context}"
    ):
        cut(count, length=length, context=context)


@given(COUNTS, sizes(), st.integers(0, 4), st.sampled_from([1, 8, 32]))
def test_aligned_windows_are_as_few_and_only_as_much_longer_as_alignment_needs(
    count: int, size: tuple[int, int], special: int, aligned: int
) -> None:
    length, context = size
    plain = cut(count, length=length, context=context)
    rounded = cut(count, length=length, context=context, special=special, aligned=aligned)
    (needed,) = {window.stop - window.start for window in plain}
    (taken,) = {window.stop - window.start for window in rounded}
    assert len(rounded) == len(plain)
    if len(plain) > 1:
        assert taken == length or (taken + special) % aligned == 0
        assert needed <= taken < needed + aligned
    assert [window.own_start for window in rounded[1:]] == [window.own_stop for window in rounded[:-1]]
    assert all(window.start <= window.own_start < window.own_stop <= window.stop for window in rounded[1:])


@st.composite
def cuts_on_content(draw: st.DrawFn) -> tuple[int, int, list[Window], set[int]]:
    """A length, a context, and the windows of a note whose places come in any order, some of them closed."""
    length, context = draw(sizes())
    count = draw(st.integers(0, 300))
    places = draw(st.permutations(range(1, count)))
    closed = draw(st.sets(st.sampled_from(places))) if places else set()
    return length, context, cut_at(count, places, closed, length=length, context=context), closed


@given(cuts_on_content())
def test_windows_on_content_own_each_sub_token_once_and_fit(
    made: tuple[int, int, list[Window], set[int]],
) -> None:
    length, _, windows, _ = made
    count = windows[-1].own_stop
    assert [index for window in windows for index in range(window.own_start, window.own_stop)] == [*range(count)]
    for window in windows:
        assert 0 <= window.start <= window.own_start <= window.own_stop <= window.stop <= count
        assert window.stop - window.start <= length


@given(cuts_on_content())
def test_windows_on_content_have_their_context_but_behind_a_closed_border(
    made: tuple[int, int, list[Window], set[int]],
) -> None:
    _, context, windows, closed = made
    count = windows[-1].own_stop
    for window in windows:
        left = 0 if window.own_start in closed else min(context, window.own_start)
        right = 0 if window.own_stop in closed else min(context, count - window.own_stop)
        assert (window.own_start - window.start, window.stop - window.own_stop) == (left, right)


def test_the_best_places_become_borders_unless_they_are_too_close() -> None:
    windows = cut_at(40, [10, 11, 39, 25, *range(1, 40)], {25}, length=22, context=2)
    assert windows == [Window(0, 12, 0, 10), Window(8, 25, 10, 25), Window(25, 40, 25, 40)]


def test_content_leaves_no_room_between_contexts_either() -> None:
    with pytest.raises(ValueError, match="a window of 4 sub-tokens has no room between two contexts of 2"):
        cut_at(9, range(1, 9), set(), length=4, context=2)
