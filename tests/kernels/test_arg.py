"""ArgMax, ArgMin, TopK, CumSum and CumProd against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.errors import ExecutionError
from tests.kernels.calling import FLOATS, NUMBERS, ROUNDING, apart, call, numbers

TYPES = [d for d in NUMBERS if d.kind != "b"]
DIMS = [(1,), (7,), (300,), (5, 33), (3, 1, 4), (3, 5, 70), (2, 130, 3), (2, 3, 5, 17)]


def arg(
    name: str, x: np.ndarray, axis: int, keep: bool = True, last: bool = False, threads: int = 1
) -> np.ndarray:
    return call(name, [x], [(np.int64, None)], [axis, keep, last], threads=threads)[0]


def best(name: str, x: np.ndarray, axis: int, last: bool) -> np.ndarray:
    wide = x.astype(np.float64) if x.dtype.kind not in "iu" else x
    find = np.argmax if name == "arg_max" else np.argmin
    if not last:
        return find(wide, axis, keepdims=True)
    return x.shape[axis] - 1 - find(np.flip(wide, axis), axis, keepdims=True)


@pytest.mark.parametrize("name", ["arg_max", "arg_min"])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_arg(name: str, dtype: np.dtype, threads: int) -> None:
    rng = np.random.default_rng(1)
    for dims in DIMS:
        for few in [False, True]:  # with many equals
            x = rng.integers(0, 3, dims).astype(dtype) if few else numbers(rng, dims, dtype)
            for axis in range(-len(dims), len(dims)):
                for last in [False, True]:
                    np.testing.assert_array_equal(
                        arg(name, x, axis, last=last, threads=threads), best(name, x, axis, last)
                    )
                    view = apart(x, axis)
                    np.testing.assert_array_equal(arg(name, view, axis, last=last), best(name, x, axis, last))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_arg_of_not_a_number(dtype: np.dtype) -> None:
    rng = np.random.default_rng(2)
    for size in [5, 200]:
        for places in [[0], [size - 1], [1, 3], [2, size - 2]]:
            x = numbers(rng, (size, 8), dtype)
            x[places, 3] = np.nan
            for view, axis in [(x, 0), (np.ascontiguousarray(x.T), 1)]:
                for name in ["arg_max", "arg_min"]:
                    for last in [False, True]:
                        np.testing.assert_array_equal(
                            arg(name, view, axis, last=last), best(name, view, axis, last)
                        )


def test_arg_dims() -> None:
    x = np.zeros((3, 4, 5), np.float32)
    assert arg("arg_max", x, 1, keep=False).shape == (3, 5)
    assert arg("arg_max", x, -1).shape == (3, 4, 1)
    assert arg("arg_max", np.zeros((0, 4), np.float32), 1).shape == (0, 1)
    assert arg("arg_max", np.zeros((), np.float32), 0).shape == ()
    with pytest.raises(ExecutionError, match="axis 1 has no elements"):
        arg("arg_max", np.zeros((4, 0), np.float32), 1)


def top(x: np.ndarray, k: int, axis: int, largest: bool) -> tuple[np.ndarray, np.ndarray]:
    """A stable sort; NaN is the largest."""
    wide = x.astype(np.float64) if x.dtype.kind not in "iu" else x
    if largest:
        order = np.flip(x.shape[axis] - 1 - np.argsort(np.flip(wide, axis), axis, kind="stable"), axis)
    else:
        order = np.argsort(wide, axis, kind="stable")
    indices = np.take(order, np.arange(k), axis)
    return np.take_along_axis(x, indices, axis), indices


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_topk(dtype: np.dtype, threads: int) -> None:
    rng = np.random.default_rng(3)
    for dims in [*DIMS, (2, 5000)]:
        for few in [False, True]:
            x = rng.integers(0, 3, dims).astype(dtype) if few else numbers(rng, dims, dtype)
            if dtype.kind not in "iu" and x.size > 9:
                x.reshape(-1)[[3, 7]] = np.nan
            for axis in range(len(dims)):
                for k in sorted({0, 1, 2, dims[axis] // 2, dims[axis]} & set(range(dims[axis] + 1))):
                    for largest in [False, True]:
                        outputs = [(dtype, None), (np.int64, None)]
                        want = top(x, k, axis, largest)
                        for view in [x, apart(x, axis)]:
                            got = call("topk", [view], outputs, [axis, largest, k], threads=threads)
                            np.testing.assert_array_equal(got[1], want[1])
                            np.testing.assert_array_equal(
                                got[0].astype(np.float64), want[0].astype(np.float64)
                            )


def test_topk_of_a_number_that_is_data() -> None:
    x = np.array([[3, 1, 2]], np.float32)
    for dtype in [np.int64, np.int32]:
        got = call("topk", [x, np.array([2], dtype)], [(np.float32, None), (np.int64, None)], [1, 1, -1])
        np.testing.assert_array_equal(got[1], [[0, 2]])
    with pytest.raises(ExecutionError, match="4 of 3 elements"):
        call("topk", [x], [(np.float32, None), (np.int64, None)], [1, 1, 4])
    got = call("topk", [np.zeros((0, 3), np.float32)], [(np.float32, None), (np.int64, None)], [1, 1, 2])
    assert got[0].shape == (0, 2)


@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_running(name: str, dtype: np.dtype) -> None:
    rng = np.random.default_rng(4)
    for dims in DIMS:
        x = numbers(rng, dims, dtype)
        if name == "cumprod" and dtype.kind not in "iu":
            x = (1 + x.astype(np.float64) / 100).astype(dtype)
        wide = x if dtype.kind in "iu" else x.astype(np.float64)
        for axis in range(-len(dims), len(dims)):
            for exclusive in [0, 1]:
                for reverse in [0, 1]:
                    given = np.flip(wide, axis) if reverse else wide
                    if exclusive:
                        first = np.full_like(np.take(given, [0], axis), 0 if name == "cumsum" else 1)
                        given = np.concatenate([first, np.delete(given, -1, axis)], axis)
                    run = np.cumsum if name == "cumsum" else np.cumprod
                    want = run(given, axis, dtype=wide.dtype)
                    want = np.flip(want, axis) if reverse else want
                    for view in [x, apart(x, axis)]:
                        for threads in [1, 2]:
                            ints = [axis, exclusive, reverse]
                            [got] = call(name, [view], [(dtype, None)], ints, threads=threads)
                            if dtype.kind in "iu":
                                np.testing.assert_array_equal(got, want)
                            else:
                                near = (
                                    ROUNDING[dtype] * (dims[axis] + 2) * np.abs(wide).sum(axis, keepdims=True)
                                )
                                if name == "cumprod":
                                    near = 2 * ROUNDING[dtype] * (dims[axis] + 2) * np.abs(want)
                                assert (np.abs(got.astype(np.float64) - want) <= near).all()


def test_running_over_nothing() -> None:
    for dims in [(0,), (3, 0), (0, 3)]:
        assert call("cumsum", [np.zeros(dims, np.float32)], [(np.float32, None)], [0, 0, 0])[0].shape == dims
