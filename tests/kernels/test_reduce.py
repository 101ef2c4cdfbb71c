"""Reductions over any axes against numpy, of every element type."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest

from graphopt.errors import ExecutionError
from tests.kernels.calling import FLOATS, ROUNDING, apart, call, numbers

OPERATORS = ["sum", "mean", "max", "min", "prod", "l1", "l2", "log_sum", "log_sum_exp", "sum_square"]
INTEGERS = [np.int32, np.int64, np.uint32, np.uint64]
SMALL = [np.int8, np.uint8, np.int16, np.uint16, np.bool_]
DIMS = [(), (7,), (100,), (5, 33), (3, 4, 70), (2, 3, 5, 17), (1, 3, 1, 40), (3, 130, 4)]


def exact(operator: str, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """In float64, or in the type of integers."""
    wide = x.astype(np.float64) if x.dtype.kind not in "iub" else x
    given = {"axis": axes, "keepdims": True}
    match operator:
        case "sum":
            return wide.sum(**given, dtype=wide.dtype)
        case "mean":
            total = wide.sum(**given, dtype=wide.dtype)
            count = np.prod([x.shape[i] for i in axes], dtype=np.int64)
            return total / count if wide.dtype.kind == "f" else np.trunc(total / count).astype(x.dtype)
        case "max":
            return wide.max(**given)
        case "min":
            return wide.min(**given)
        case "prod":
            return wide.prod(**given, dtype=wide.dtype)
        case "l1":
            return abs(wide).sum(**given, dtype=wide.dtype)
        case "l2":
            return np.sqrt((wide**2).sum(**given))
        case "log_sum":
            return np.log(wide.sum(**given))
        case "log_sum_exp":
            top = wide.max(**given)
            return np.log(np.exp(wide - top).sum(**given)) + top
        case _:
            return (wide**2).sum(**given, dtype=wide.dtype)


def reduced(
    operator: str, x: np.ndarray, axes: Sequence[int], threads: int = 1, keep: bool = True
) -> np.ndarray:
    return call(
        "reduce", [x], [(x.dtype, None)], [OPERATORS.index(operator), keep, 0, *axes], threads=threads
    )[0]


def assert_reduces(operator: str, x: np.ndarray, axes: tuple[int, ...], threads: int = 1) -> None:
    got, want = reduced(operator, x, axes, threads), exact(operator, x, axes)
    assert got.shape == want.shape
    if x.dtype.kind in "iub":
        np.testing.assert_array_equal(got, want)
        return
    # Of sums: a few roundings of the sum of magnitudes; float32 and shorter are joined in double precision.
    wide = x.astype(np.float64)
    magnitudes = abs(wide).sum(axis=axes, keepdims=True)
    count = max(x.size // max(want.size, 1), 1)
    some = 4 + count / 32 if x.dtype == np.float64 else 4
    near: np.ndarray | float = some * magnitudes
    if operator == "mean":
        near = some * magnitudes / count
    elif operator in ("log_sum", "log_sum_exp"):
        near = (
            2 * some
            + abs(want)
            + (abs(wide).max(axis=axes, keepdims=True) if operator == "log_sum_exp" else 0)
        )
    elif operator in ("prod", "sum_square", "l2"):
        near = (count + 4 if operator == "prod" else some + 2) * abs(want)
    rounding = ROUNDING[x.dtype]
    tiny = 2.0**-24 if x.dtype == np.float16 else 0
    np.testing.assert_array_less(abs(got.astype(np.float64) - want), rounding * near + tiny + 1e-300)


def subsets(rank: int) -> list[tuple[int, ...]]:
    return [axes for size in range(rank + 1) for axes in combinations(range(rank), size)]


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_floats(operator: str, dtype: np.dtype, threads: int) -> None:
    rng = np.random.default_rng(1)
    for dims in DIMS:
        x = numbers(rng, dims, np.float64)
        if operator == "prod":
            x = 1 + x / 100
        x = (abs(x) if operator == "log_sum" else x).astype(dtype)
        for axes in subsets(len(dims)):
            assert_reduces(operator, x, axes, threads)


@pytest.mark.parametrize("dtype", INTEGERS + SMALL, ids=lambda d: np.dtype(d).name)
def test_integers(dtype: type) -> None:
    rng = np.random.default_rng(2)
    few = ["max", "min"] if dtype in SMALL else ["sum", "mean", "max", "min", "prod", "l1", "sum_square"]
    for dims in DIMS:
        x = numbers(rng, dims, dtype)
        if dtype == np.int64:
            x.reshape(-1)[:1] = 2**53 + 1
        for operator in few:
            for axes in subsets(len(dims)):
                if operator != "mean" or dtype != np.int64:  # numpy's mean of these is inexact
                    assert_reduces(operator, x, axes)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_gaps(operator: str, dtype: np.dtype) -> None:
    rng = np.random.default_rng(3)
    x = (1 + abs(numbers(rng, (3, 5, 70), np.float64)) / 100).astype(dtype)
    for view in [
        *(apart(x, gap) for gap in range(3)),
        x.transpose(2, 0, 1),
        x.transpose(1, 0, 2),
        x[:, ::-1],
    ]:
        for axes in subsets(3):
            assert_reduces(operator, view, axes)
    wide = np.broadcast_to(x[:, :1], (3, 4, 70))
    assert_reduces(operator, wide, (1,))
    assert_reduces(operator, wide, (0, 2))


def test_result_with_gaps() -> None:
    x = numbers(np.random.default_rng(4), (3, 5, 70))
    for axis, dims, strides in [(1, [3, 70], [2, 7]), (2, [3, 5], [1, 4])]:
        [got] = call("reduce", [x], [(np.float32, dims, strides)], [0, 0, 0, axis])
        np.testing.assert_array_equal(got, reduced("sum", x, [axis], keep=False))


def test_dims_of_the_result() -> None:
    x = np.ones((3, 4, 5), np.float32)
    assert reduced("sum", x, [1], keep=False).shape == (3, 5)
    assert reduced("sum", x, [-1, 0], keep=False).shape == (4,)
    assert reduced("sum", x, [-1, 2]).shape == (3, 4, 1)
    assert call("reduce", [x], [(np.float32, None)], [0, 0, 1])[0].shape == ()
    assert call("reduce", [x], [(np.float32, None)], [0, 1, 1])[0].shape == (1, 1, 1)
    np.testing.assert_array_equal(call("reduce", [2 * x], [(np.float32, None)], [9, 0, 0])[0], 4 * x)
    with pytest.raises(ExecutionError, match="axis 3 of a tensor of rank 3"):
        reduced("sum", x, [3])


@pytest.mark.parametrize("dims", [(0,), (3, 0), (0, 20), (3, 0, 20)])
def test_of_nothing(dims: tuple[int, ...]) -> None:
    infinity = np.inf
    for operator, want in zip(
        OPERATORS, [0, np.nan, -infinity, infinity, 1, 0, 0, -infinity, -infinity, 0], strict=True
    ):
        for dtype in FLOATS:
            for axes in subsets(len(dims)):
                got = reduced(operator, np.zeros(dims, dtype), axes)
                assert got.shape == tuple(1 if i in axes else d for i, d in enumerate(dims))
                np.testing.assert_array_equal(got.astype(np.float64), np.full(got.shape, want))
    for dtype in [np.int8, np.uint8, np.int32, np.uint64]:
        limits = np.iinfo(dtype)
        axis = dims.index(0)
        assert (reduced("max", np.zeros(dims, dtype), [axis]) == limits.min).all()
        assert (reduced("min", np.zeros(dims, dtype), [axis]) == limits.max).all()
    assert not reduced("max", np.zeros(dims, np.bool_), [dims.index(0)]).any()
    assert reduced("min", np.zeros(dims, np.bool_), [dims.index(0)]).all()


def test_not_numbers_and_infinities() -> None:
    for size in [3, 40, 2000]:
        for place in [0, size // 2, size - 1]:
            x = np.zeros((size, 9), np.float32)
            x[place, 3] = np.nan
            for operator in OPERATORS:
                for view, axis in [(x, 0), (np.ascontiguousarray(x.T), 1)]:
                    got = reduced(operator, view, [axis], keep=False)
                    assert np.isnan(got[3]), operator
                    assert not np.isnan(np.delete(got, 3)).any(), operator
            x[place, 3] = np.inf
            assert reduced("log_sum_exp", x, [0])[0, 3] == np.inf
            assert reduced("log_sum_exp", np.full((size, 2), -np.inf, np.float32), [0])[0, 0] == -np.inf
    large = np.full((4, 30), 1000, np.float32)
    np.testing.assert_allclose(reduced("log_sum_exp", large, [1]), 1000 + np.log(30), rtol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
def test_long_sums_stay_exact(threads: int) -> None:
    rng = np.random.default_rng(5)
    x = rng.random((3, 1_000_003), dtype=np.float32)
    np.testing.assert_allclose(
        reduced("sum", x, [1], threads), x.sum(1, keepdims=True, dtype=np.float64), rtol=2e-7
    )
    tall = rng.random((100_003, 19), dtype=np.float32)
    want = tall.sum(0, keepdims=True, dtype=np.float64)
    np.testing.assert_allclose(reduced("sum", tall, [0], threads), want, rtol=2e-5)
