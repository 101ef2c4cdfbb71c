"""copy, fill, values and concat against numpy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.errors import ExecutionError
from tests.kernels.movements import NUMBER_OF, SIZES, call, numbered


def copied(view: np.ndarray, threads: int = 1) -> np.ndarray:
    return call("copy", [view], [(view.dtype, view.shape)], threads=threads)[0]


@pytest.mark.parametrize("dtype", NUMBER_OF)
def test_every_element_type(dtype: str) -> None:
    x = numbered((3, 5, 7), dtype)
    assert np.array_equal(copied(x), x)
    assert np.array_equal(copied(x.transpose(2, 0, 1)), x.transpose(2, 0, 1))


@pytest.mark.parametrize("dtype", SIZES)
@pytest.mark.parametrize("rows", [1, 2, 3, 7, 15, 16, 17, 31, 64, 65, 79, 80, 81, 200])
@pytest.mark.parametrize("columns", [1, 2, 3, 4, 8, 16, 33, 64, 127, 129])
def test_transposes(dtype: str, rows: int, columns: int) -> None:
    x = numbered((2, rows, columns), dtype)
    for perm in ((0, 2, 1), (2, 0, 1), (1, 2, 0), (2, 1, 0)):
        assert np.array_equal(copied(x.transpose(perm)), x.transpose(perm))


@pytest.mark.parametrize("dtype", SIZES)
@pytest.mark.parametrize("last", [1, 2, 3, 4, 5, 8, 16, 24, 64, 600])
def test_permutations_of_four_dims(dtype: str, last: int) -> None:
    x = numbered((3, 5, 18, last), dtype)
    for perm in itertools.permutations(range(4)):
        assert np.array_equal(copied(x.transpose(perm)), x.transpose(perm)), perm


@pytest.mark.parametrize("threads", [1, 2])
def test_large_copies_are_cut_for_threads(threads: int) -> None:
    x = numbered((1031, 517), "float32")
    views = (x, x.T, x[::-1], x[:, ::-1], x[::2, ::3], x.T[:, ::-1], np.broadcast_to(x[:, :1], (1031, 517)))
    for view in views:
        assert np.array_equal(copied(view, threads), view)
    row = numbered((1_000_003,), "int16")
    assert np.array_equal(copied(row, threads), row)


@given(st.data())
def test_any_view(data: st.DataObject) -> None:
    rank = data.draw(st.integers(0, 6))
    dims = data.draw(st.lists(st.integers(1, 9), min_size=rank, max_size=rank))
    x = numbered(dims, data.draw(st.sampled_from(SIZES)))
    view = x.transpose(data.draw(st.permutations(range(rank))))
    slices = []
    for dim in view.shape:
        step = data.draw(st.sampled_from([1, 1, 2, 3, -1, -2]))
        first, last = data.draw(st.integers(0, dim)), data.draw(st.integers(0, dim))
        slices.append(
            slice(min(first, last), max(first, last), step) if step > 0 else slice(None, None, step)
        )
    view = view[tuple(slices)]
    extended = data.draw(st.lists(st.integers(0, 5), max_size=8 - rank))
    view = np.broadcast_to(view, (*extended, *view.shape))
    assert np.array_equal(copied(view, data.draw(st.sampled_from([1, 2]))), view)


@given(st.data())
def test_any_output_strides(data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, 5))
    dims = tuple(data.draw(st.lists(st.integers(1, 20), min_size=rank, max_size=rank)))
    x = numbered(dims, data.draw(st.sampled_from(SIZES)))
    # Dims lie in another order and have room after them.
    strides, step = [0] * rank, data.draw(st.sampled_from([1, 1, 2, 5]))
    for axis in data.draw(st.permutations(range(rank))):
        strides[axis] = step
        step *= dims[axis] + data.draw(st.integers(0, 2))
    (out,) = call("copy", [x], [(x.dtype, dims, tuple(strides))])
    assert np.array_equal(out, x)


@pytest.mark.parametrize("dims", [(), (0,), (3, 0, 2), (1,) * 8, (2,) * 8])
def test_ranks_and_empty_tensors(dims: tuple[int, ...]) -> None:
    x = numbered(dims, "float32")
    assert np.array_equal(copied(x.T), x.T)


def test_copy_says_which_shapes_differ() -> None:
    with pytest.raises(ExecutionError, match=r"\[2,3\] to \[3,2\]"):
        call("copy", [numbered((2, 3), "float32")], [("float32", (3, 2))])


@pytest.mark.parametrize("dtype", NUMBER_OF)
def test_fill(dtype: str) -> None:
    element = np.ones((), dtype)
    (dense,) = call("fill", [], [(dtype, (5, 37))], data=element.tobytes())
    assert np.array_equal(dense, np.ones((5, 37), dtype))
    (unknown,) = call("fill", [], [(dtype, None)], ints=[2, 0, 3], data=element.tobytes())
    assert unknown.shape == (2, 0, 3)
    (asked,) = call("fill", [np.array([3, 2])], [(dtype, None)], data=element.tobytes())
    assert np.array_equal(asked, np.ones((3, 2), dtype))
    (strided,) = call("fill", [], [(dtype, (4, 6), (1, 5))], data=element.tobytes())
    assert np.array_equal(strided, np.ones((4, 6), dtype))


@pytest.mark.parametrize("dtype", [d for d in NUMBER_OF if "complex" not in d])
def test_values(dtype: str) -> None:
    numbers = [0, 1, 2, 100, -1 if np.dtype(dtype).kind in "if" else 3]
    (out,) = call("values", [], [(dtype, (5,))], ints=numbers)
    assert np.array_equal(out, np.array(numbers).astype(dtype))
    (scalar,) = call("values", [], [(dtype, ())], ints=[1])
    assert scalar.shape == () and scalar == 1
    (broken,) = call("values", [], [(dtype, (2,))], floats=[1.5, 2.0])
    assert np.array_equal(broken, np.array([1.5, 2.0]).astype(dtype))


@pytest.mark.parametrize("dtype", SIZES)
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("threads", [1, 2])
def test_concat(dtype: str, axis: int, threads: int) -> None:
    parts = [numbered([n if d == axis % 3 else 40 + d for d in range(3)], dtype) for n in (3, 0, 1, 70)]
    want = np.concatenate(parts, axis)
    (out,) = call("concat", parts, [(dtype, want.shape)], ints=[axis], threads=threads)
    assert np.array_equal(out, want)
    turned = [np.ascontiguousarray(part.T).T for part in parts]
    (out,) = call("concat", turned, [(dtype, None)], ints=[axis], threads=threads)
    assert np.array_equal(out, want)


def test_concat_of_many() -> None:
    parts = [numbered((2, k % 5), "int16") for k in range(100)]
    (out,) = call("concat", parts, [("int16", None)], ints=[1])
    assert np.array_equal(out, np.concatenate(parts, 1))


def test_concat_says_what_does_not_fit() -> None:
    parts = [numbered((2, 3), "float32"), numbered((4, 3), "float32")]
    with pytest.raises(ExecutionError, match=r"\[4,3\] into \[2,6\] along axis 1"):
        call("concat", parts, [("float32", (2, 6))], ints=[1])
