from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.verification.bisection import bisect


@given(st.integers(1, 200), st.data())
def test_finds_the_first_bad_one(count, data):
    first = data.draw(st.integers(0, count - 1))
    asked: list[int] = []

    def is_good(n: int) -> bool:
        asked.append(n)
        return n <= first

    assert bisect(count, is_good) == first
    assert len(asked) == len(set(asked)) <= count.bit_length() + 1
    assert 0 not in asked


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_what_is_found_turns_good_into_bad_however_many_are_bad(good):
    index = bisect(len(good), lambda n: good[n - 1])
    if good[-1]:
        assert index is None
    else:
        assert index is not None
        assert not good[index]
        assert index == 0 or good[index - 1]


@pytest.mark.parametrize("count", [0, 1, 7])
def test_nothing_is_found_where_all_are_good(count):
    assert bisect(count, lambda n: True) is None
