"""Kernels that make tensors from sizes, places and counts, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.errors import ExecutionError
from tests.kernels.movements import NUMBER_OF, SIZES, call, numbered

REAL = [d for d in NUMBER_OF if "complex" not in d]


def scalar(x: float, dtype: str) -> np.ndarray:
    return np.array(x, dtype)


@given(
    st.integers(-9, 9),
    st.integers(-9, 9),
    st.integers(-4, 4).filter(bool),
    st.sampled_from(["int32", "int64"]),
)
def test_range_of_integers(start: int, limit: int, delta: int, dtype: str) -> None:
    (out,) = call("range", [scalar(n, dtype) for n in (start, limit, delta)], [(dtype, None)])
    assert np.array_equal(out, np.arange(start, limit, delta, dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_range_of_floats(dtype: str) -> None:
    for start, limit, delta in ((0, 1, 0.125), (1, -2, -0.5), (0.5, 0.5, 1), (3, 1, 2), (0, 10000 / 8, 1)):
        (out,) = call("range", [scalar(n, dtype) for n in (start, limit, delta)], [(dtype, None)])
        assert np.array_equal(out, np.arange(start, limit, delta).astype(dtype))
    with pytest.raises(ExecutionError, match="steps of 0"):
        call("range", [scalar(n, dtype) for n in (0, 1, 0)], [(dtype, None)])


@pytest.mark.parametrize("dtype", [d for d in REAL if d != "bool"])
@pytest.mark.parametrize("diagonal", [-7, -2, 0, 1, 9])
def test_eye_like(dtype: str, diagonal: int) -> None:
    (out,) = call("eye_like", [numbered((4, 6), "float32")], [(dtype, None)], ints=[diagonal])
    assert np.array_equal(out, np.eye(4, 6, diagonal, dtype))


@pytest.mark.parametrize("dtype", SIZES)
@pytest.mark.parametrize("dims", [(3, 5), (5, 3), (2, 4, 4), (0, 3), (2, 0, 3, 0), (40, 30, 70)])
@pytest.mark.parametrize("upper", [0, 1])
def test_trilu(dtype: str, dims: tuple[int, ...], upper: int) -> None:
    x = numbered(dims, dtype)
    x = x.swapaxes(0, -1).copy().swapaxes(0, -1)
    for k in (-9, -1, 0, 2, 7):
        wanted = np.triu(x, k) if upper else np.tril(x, k)
        assert np.array_equal(
            call("trilu", [x, np.array(k)], [(dtype, None)], ints=[upper], threads=2)[0], wanted
        )
    wanted = np.triu(x) if upper else np.tril(x)
    assert np.array_equal(call("trilu", [x], [(dtype, None)], ints=[upper])[0], wanted)


def test_shape_and_size() -> None:
    x = numbered((2, 0, 3), "int8")
    assert call("shape_of", [x], [("int64", None)], ints=[0, 1 << 60])[0].tolist() == [2, 0, 3]
    assert call("shape_of", [x], [("int64", None)], ints=[-2, -1])[0].tolist() == [0]
    assert call("shape_of", [x], [("int64", None)], ints=[2, 1])[0].tolist() == []
    assert call("size_of", [x[:, :0]], [("int64", None)])[0] == 0
    assert call("size_of", [x.reshape(2, 3, 0)[:, :1]], [("int64", None)])[0].shape == ()


@pytest.mark.parametrize("dtype", SIZES)
@pytest.mark.parametrize("axes", [(0, 1), (1, 0), (2, 0)])
def test_reverse_sequence(dtype: str, axes: tuple[int, int]) -> None:
    x = numbered((4, 4, 4, 3), dtype)
    lengths = np.array([0, 1, 3, 4])
    wanted = x.copy()
    for k, length in enumerate(lengths):
        part: list[int | slice] = [slice(None)] * 4
        part[axes[0]], part[axes[1]] = k, slice(0, length)
        at = axes[1] - (axes[0] < axes[1])
        wanted[tuple(part)] = np.flip(x[tuple(part)], at)
    (out,) = call("reverse_sequence", [x, lengths], [(dtype, None)], ints=axes, threads=2)
    assert np.array_equal(out, wanted)
    with pytest.raises(ExecutionError, match="sequence 1 has length 5 of 4"):
        call("reverse_sequence", [x, np.array([1, 5, 0, 0])], [(dtype, None)], ints=axes)


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_onehot(dtype: str, axis: int) -> None:
    signed = np.dtype(dtype).kind in "if"
    indices = np.array([[0, 1, 2], [3, 7, -2 if signed else 1]]).astype(dtype)
    values = np.array([3, 5], "int16")
    wanted = np.full((2, 3, 4), 3, "int16")
    for place in np.ndindex(2, 3):
        index = int(indices[place])
        if -4 <= index < 4:
            wanted[(*place, index)] = 5
    wanted = np.moveaxis(wanted, -1, axis)
    (out,) = call("onehot", [indices, np.array([4.0], "float32"), values], [("int16", None)], ints=[axis])
    assert np.array_equal(out, wanted)


@pytest.mark.parametrize("dtype", REAL)
def test_nonzero(dtype: str) -> None:
    x = numbered((3, 4, 5), dtype) * (np.arange(60).reshape(3, 4, 5) % 3 == 0).astype(dtype)
    for view in (x, x.T, x[:0], x[0, 0], x[::-1, ::2]):
        (out,) = call("nonzero", [view], [("int64", None)])
        assert np.array_equal(out, np.array(view.nonzero()))
    assert call("nonzero", [x[0, 0, 0]], [("int64", None)])[0].shape == (0, int(x[0, 0, 0] != 0))


@pytest.mark.parametrize("dtype", SIZES)
def test_compress(dtype: str) -> None:
    x = numbered((3, 4), dtype)
    for axis, condition in ((0, [1, 0, 1]), (1, [0, 1, 1, 1]), (-1, [1]), (1, [0, 0])):
        chosen = np.array(condition, bool)
        (out,) = call("compress", [x, chosen], [(dtype, None)], ints=[axis])
        assert np.array_equal(out, np.compress(chosen, x, axis))
    (out,) = call("compress", [x.T, np.array([1, 0, 0, 1, 1], bool)], [(dtype, None)])
    assert np.array_equal(out, np.compress([1, 0, 0, 1, 1], x.T))


@given(st.data())
def test_unique(data: st.DataObject) -> None:
    dims = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=3))
    n = int(np.prod(dims))
    numbers = data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    x = np.array(numbers).reshape(dims).astype(data.draw(st.sampled_from(REAL)))
    axis = data.draw(st.one_of(st.none(), st.integers(0, len(dims) - 1)))
    is_sorted = data.draw(st.booleans())
    values, first, inverse, counts = np.unique(x, True, True, True, axis)
    if not is_sorted:
        order = np.argsort(first)
        values = np.take(values, order, 0 if axis is None else axis)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        first, inverse, counts = first[order], rank[inverse], counts[order]
    types = [(x.dtype, None), *[("int64", None)] * 3]
    got = call("unique", [x], types, ints=[int(is_sorted)] + ([] if axis is None else [axis]))
    for found, wanted in zip(got, (values, first, inverse.reshape(-1), counts), strict=True):
        assert np.array_equal(found, wanted)


def test_unique_takes_nans_as_one() -> None:
    x = np.array([np.nan, 1, np.nan, -np.inf], "float32")
    values, first, inverse, counts = call(
        "unique", [x], [("float32", None), *[("int64", None)] * 3], ints=[1]
    )
    assert np.array_equal(values, [-np.inf, 1, np.nan], equal_nan=True)
    assert (first.tolist(), inverse.tolist(), counts.tolist()) == ([3, 1, 0], [2, 1, 2, 0], [1, 1, 2])
