"""Softmax, LogSoftmax, Hardmax and LpNormalization against float64."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.calling import FLOATS, ROUNDING, apart, call, numbers


def expected(kernel: str, x: np.ndarray, axis: int) -> np.ndarray:
    wide = x.astype(np.float64)
    if kernel == "hardmax":
        return (
            np.arange(x.shape[axis]).reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])
            == wide.argmax(axis, keepdims=True)
        ).astype(np.float64)
    shifted = wide - wide.max(axis, keepdims=True, initial=-np.inf)
    total = np.exp(shifted).sum(axis, keepdims=True)
    return shifted - np.log(total) if kernel == "log_softmax" else np.exp(shifted) / total


def assert_softmax(kernel: str, x: np.ndarray, axis: int, threads: int = 1) -> None:
    [y] = call(kernel, [x], [(x.dtype, None)], [axis, 0], threads=threads)
    rounding = ROUNDING[x.dtype]
    # A logarithm near 0 is the difference of numbers as large as the elements.
    atol = 2 * rounding * (float(np.abs(x).max(initial=0)) if kernel == "log_softmax" else 1)
    np.testing.assert_allclose(y.astype(np.float64), expected(kernel, x, axis), rtol=12 * rounding, atol=atol)


@pytest.mark.parametrize("kernel", ["softmax", "log_softmax", "hardmax"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_every_axis(kernel: str, dtype: np.dtype, threads: int) -> None:
    rng = np.random.default_rng(1)
    for dims in [(1,), (7,), (3, 16), (5, 33), (2, 3, 5), (4, 100, 31), (2, 3, 1, 17), (3, 2, 129), (1, 1)]:
        for axis in range(-len(dims), len(dims)):
            x = 4 * numbers(rng, dims, np.float64)
            assert_softmax(kernel, x.astype(dtype), axis, threads)


@pytest.mark.parametrize("threads", [1, 2])
def test_large(threads: int) -> None:
    rng = np.random.default_rng(2)
    for dims, axis in [((400, 100), -1), ((3, 19, 65, 67), 1), ((70000,), 0), ((3, 40000), 0)]:
        assert_softmax("softmax", numbers(rng, dims), axis, threads)
        assert_softmax("log_softmax", numbers(rng, dims), axis, threads)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_gaps(dtype: np.dtype) -> None:
    rng = np.random.default_rng(3)
    for dims in [(6, 20), (3, 4, 21)]:
        for axis in range(len(dims)):
            for gap in range(len(dims)):
                assert_softmax("softmax", apart(numbers(rng, dims, dtype), gap), axis)
                assert_softmax("hardmax", apart(numbers(rng, dims, dtype), gap), axis)
            x = numbers(rng, dims, dtype)
            strides = [2 * s // x.itemsize for s in x.strides]
            [y] = call("softmax", [x], [(dtype, dims, strides)], [axis, 0])
            [dense] = call("softmax", [x], [(dtype, dims)], [axis, 0])
            np.testing.assert_allclose(
                y.astype(np.float64), dense.astype(np.float64), rtol=12 * ROUNDING[dtype]
            )


def test_zero_sizes() -> None:
    for dims in [(0,), (0, 5), (5, 0), (3, 0, 4)]:
        for axis in range(len(dims)):
            for kernel in ["softmax", "log_softmax", "hardmax"]:
                assert (
                    call(kernel, [np.zeros(dims, np.float32)], [(np.float32, None)], [axis, 0])[0].shape
                    == dims
                )
    assert call("softmax", [np.array(3, np.float32)], [(np.float32, None)], [0, 0])[0] == 1


def test_extremes() -> None:
    """Far apart, infinite and not numbers."""
    x = np.array([[1e30, -1e30, 0], [3e38, 3e38, -3e38], [-np.inf, 0, 0], [-200, -100, 0]], np.float32)
    for rows in [x, x[[2, 1, 0, 3]]]:
        assert_softmax("softmax", rows, 1)
        assert_softmax("softmax", np.ascontiguousarray(np.repeat(rows.T[:, :, None], 5, 2)), 0)
    for bad in [[np.nan, 0, 1], [0, 1, np.nan], [np.inf, 0, 1], [-np.inf] * 3]:
        [y] = call(
            "softmax",
            [np.array([bad + [0.0] * 30 if bad[0] != -np.inf else bad * 11], np.float32)],
            [(np.float32, None)],
            [1, 0],
        )
        assert np.isnan(y).any()
        if np.isnan(bad).any() or bad[0] == -np.inf:
            assert np.isnan(y).all()


def test_hardmax_takes_the_first() -> None:
    [y] = call("hardmax", [np.array([[1, 3, 3, 2]], np.float32)], [(np.float32, None)], [1, 0])
    np.testing.assert_array_equal(y, [[0, 1, 0, 0]])


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("p", [1, 2])
def test_lp_normalize(dtype: np.dtype, p: int) -> None:
    rng = np.random.default_rng(4)
    for dims in [(5,), (3, 17), (2, 5, 40)]:
        for axis in range(-len(dims), len(dims)):
            x = numbers(rng, dims, dtype)
            x[..., 0] = 0
            wide = x.astype(np.float64)
            norm = np.linalg.norm(wide, p, axis, keepdims=True)
            [y] = call("lp_normalize", [x], [(dtype, None)], [axis, 0, p])
            want = np.divide(wide, norm, out=np.zeros_like(wide), where=norm != 0)
            np.testing.assert_allclose(y.astype(np.float64), want, rtol=8 * ROUNDING[dtype])


def test_rows_of_all_dims_from_an_axis_on() -> None:
    """As opsets below 13 had it."""
    x = numbers(np.random.default_rng(5), (3, 4, 7))
    for view in [x, apart(x, 1)]:
        for axis in range(3):
            [y] = call("softmax", [view], [(np.float32, None)], [axis, 1])
            flat = view.reshape(*x.shape[:axis], -1)
            np.testing.assert_allclose(y.reshape(flat.shape), expected("softmax", flat, -1), rtol=1e-6)
