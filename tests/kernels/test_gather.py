"""Gathering and scattering against numpy and the specification's own loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.errors import ExecutionError
from tests.kernels.movements import NUMBER_OF, SIZES, call, numbered

REDUCTIONS = ("none", "add", "mul", "max", "min")


def drawn_indices(data: st.DataObject, dims: list[int], size: int) -> np.ndarray:
    n = int(np.prod(dims))
    numbers = data.draw(st.lists(st.integers(-size, size - 1), min_size=n, max_size=n))
    return np.array(numbers, data.draw(st.sampled_from([np.int32, np.int64]))).reshape(dims)


def some_dims(data: st.DataObject, least: int, most: int) -> list[int]:
    return data.draw(st.lists(st.integers(1, 5), min_size=least, max_size=most))


def turned(x: np.ndarray) -> np.ndarray:
    """The same contents in another order of memory."""
    return x.T.copy().T


@given(st.data())
def test_gather(data: st.DataObject) -> None:
    x = numbered(some_dims(data, 1, 4), data.draw(st.sampled_from(SIZES)))
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    indices = drawn_indices(data, some_dims(data, 0, 3), x.shape[axis])
    for source in (x, turned(x)):
        (out,) = call("gather", [source, turned(indices)], [(x.dtype, None)], ints=[axis])
        assert np.array_equal(out, np.take(x, indices, axis))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("width", [1, 3, 7, 16, 96, 3000])
def test_gather_of_many_rows(threads: int, width: int) -> None:
    x = numbered((500, width), "float32")
    indices = np.arange(1000) * 37 % 500
    (out,) = call("gather", [x, indices], [("float32", (1000, width))], ints=[0], threads=threads)
    assert np.array_equal(out, x[indices])
    (out,) = call("gather", [x.T, indices], [("float32", (width, 1000))], ints=[1], threads=threads)
    assert np.array_equal(out, x.T[:, indices])


def test_gather_of_nothing() -> None:
    x = numbered((3, 0, 2), "int16")
    assert call("gather", [x, np.array([[0, 1]])], [("int16", None)], ints=[0])[0].shape == (1, 2, 0, 2)
    assert call("gather", [x, np.zeros((0, 4), int)], [("int16", None)], ints=[1])[0].shape == (3, 0, 4, 2)


@pytest.mark.parametrize("kernel", ["gather", "gather_elements", "scatter_elements"])
@pytest.mark.parametrize("index", [3, -4])
def test_index_out_of_range(kernel: str, index: int) -> None:
    x = numbered((3,), "float32")
    inputs = [x, np.array([index])] + ([x[:1]] if kernel.startswith("scatter") else [])
    with pytest.raises(ExecutionError, match=f"index {index} is out of range for axis 0 of 3 elements"):
        call(kernel, inputs, [("float32", None)], ints=[0, 0])


@given(st.data())
def test_gather_elements_and_scatter_elements(data: st.DataObject) -> None:
    x = numbered(some_dims(data, 1, 4), data.draw(st.sampled_from(SIZES)))
    axis = data.draw(st.integers(0, x.ndim - 1))
    dims = [data.draw(st.integers(0, 6 if d == axis else n)) for d, n in enumerate(x.shape)]
    indices = drawn_indices(data, dims, x.shape[axis])
    wanted, scattered = np.zeros(dims, x.dtype), x.copy()
    updates = numbered(dims, x.dtype)
    for place in np.ndindex(*dims):
        target = list(place)
        target[axis] = int(indices[place])
        wanted[place] = x[tuple(target)]
        scattered[tuple(target)] = updates[place]
    (out,) = call("gather_elements", [turned(x), indices], [(x.dtype, None)], ints=[axis - x.ndim], threads=2)
    assert np.array_equal(out, wanted)
    (out,) = call("scatter_elements", [x, indices, turned(updates)], [(x.dtype, None)], ints=[axis, 0])
    assert np.array_equal(out, scattered)


@given(st.data())
def test_gather_nd(data: st.DataObject) -> None:
    x = numbered(some_dims(data, 1, 5), data.draw(st.sampled_from(SIZES)))
    batch = data.draw(st.integers(0, x.ndim - 1))
    width = data.draw(st.integers(1, x.ndim - batch))
    outer = [*x.shape[:batch], *some_dims(data, 0, 2)]
    parts = [drawn_indices(data, outer, n).astype(np.int64) for n in x.shape[batch : batch + width]]
    indices = np.stack(parts, -1)
    wanted = np.empty([*outer, *x.shape[batch + width :]], x.dtype)
    for place in np.ndindex(*outer):
        wanted[place] = x[(*place[:batch], *map(int, indices[place]))]
    (out,) = call("gather_nd", [turned(x), turned(indices)], [(x.dtype, None)], ints=[batch])
    assert np.array_equal(out, wanted)


def reduced(x: np.ndarray, y: np.ndarray, reduction: str) -> np.ndarray:
    if reduction == "none":
        return y
    function = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}[reduction]
    with np.errstate(over="ignore"):
        return function(x, y)


@pytest.mark.parametrize("dtype", [d for d in NUMBER_OF if "complex" not in d])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_reductions(dtype: str, reduction: str) -> None:
    number = REDUCTIONS.index(reduction)
    x, updates = numbered((4, 5), dtype), numbered((3, 5), dtype) + np.array(1).astype(dtype)
    indices = np.array([[0, 1, -1, 2, 0], [0, 1, 2, 2, 1], [0, 3, 3, 3, 1]])
    wanted = x.copy()
    for row, column in itertools.product(range(3), range(5)):
        at = (indices[row, column], column)
        wanted[at] = reduced(wanted[at], updates[row, column], reduction)
    (out,) = call("scatter_elements", [x, indices, updates], [(dtype, None)], ints=[0, number])
    assert np.array_equal(out, wanted)
    rows, wanted = np.array([[2], [0], [2]]), x.copy()
    for k, row in enumerate((2, 0, 2)):
        wanted[row] = reduced(wanted[row], updates[k], reduction)
    (out,) = call("scatter_nd", [x, rows, updates], [(dtype, None)], ints=[number])
    assert np.array_equal(out, wanted)


def test_reductions_keep_nan() -> None:
    x, updates = np.array([np.nan, 1, 2], np.float32), np.array([1, np.nan, 3], np.float32)
    for number in (3, 4):
        (out,) = call("scatter_elements", [x, np.arange(3), updates], [("float32", None)], ints=[0, number])
        assert np.array_equal(out, [np.nan, np.nan, 3 if number == 3 else 2], equal_nan=True)


@given(st.data())
def test_scatter_nd(data: st.DataObject) -> None:
    x = numbered(some_dims(data, 1, 4), data.draw(st.sampled_from(SIZES)))
    width = data.draw(st.integers(0, x.ndim))
    outer = data.draw(st.lists(st.integers(0, 4), max_size=2))
    parts = [drawn_indices(data, outer, n).astype(np.int64) for n in x.shape[:width]]
    indices = np.stack(parts, -1) if parts else np.zeros([*outer, 0], np.int64)
    updates = numbered([*outer, *x.shape[width:]], x.dtype)
    wanted = x.copy()
    for place in np.ndindex(*outer):
        wanted[tuple(map(int, indices[place]))] = updates[place]
    (out,) = call("scatter_nd", [x, indices, turned(updates)], [(x.dtype, None)], ints=[0])
    assert np.array_equal(out, wanted)


@pytest.mark.parametrize("circular", [False, True])
def test_tensor_scatter(circular: bool) -> None:
    past, update = numbered((2, 3, 6, 4), "float32"), -numbered((2, 3, 2, 4), "float32")
    positions = np.array([1, 5 if circular else 4])
    wanted = past.copy()
    for batch, step in itertools.product(range(2), range(2)):
        wanted[batch, :, (positions[batch] + step) % 6] = update[batch, :, step]
    inputs = [past, update, positions]
    (out,) = call("tensor_scatter", inputs, [("float32", None)], ints=[-2, int(circular)])
    assert np.array_equal(out, wanted)
    if not circular:
        with pytest.raises(ExecutionError, match="position 6 is out of range for axis 2 of 6"):
            call("tensor_scatter", [past, update, positions + 1], [("float32", None)], ints=[-2, 0])
