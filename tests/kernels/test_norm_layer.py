"""Normalization of the trailing dims against float64."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.errors import ExecutionError
from tests.kernels.calling import FLOATS, ROUNDING, apart, call, numbers

EPSILON = 1e-5


def assert_normalized(
    x: np.ndarray,
    axis: int,
    scale: np.ndarray | None,
    bias: np.ndarray | None,
    threads: int = 1,
) -> None:
    """layer_norm and rms_norm within a few roundings of each term."""
    axes = tuple(range(axis % x.ndim, x.ndim))
    wide = x.astype(np.longdouble)
    rounding, stash = ROUNDING[x.dtype], np.dtype(np.float64 if x.dtype == np.float64 else np.float32)
    stashed = [size if i < axes[0] else 1 for i, size in enumerate(x.shape)]
    factor = 1.0 if scale is None else scale.astype(np.float64)
    term = 0.0 if bias is None else bias.astype(np.float64)
    for kernel in ["layer_norm", "rms_norm"]:
        centred = kernel == "layer_norm"
        mean = wide.mean(axes, keepdims=True) if centred else np.zeros(stashed)
        inverse = 1 / np.sqrt(((wide - mean) ** 2).mean(axes, keepdims=True) + EPSILON)
        normal = (wide - mean) * inverse * factor
        want = normal + (term if centred else 0.0)
        got = call(
            kernel,
            [x, scale, bias] if centred else [x, scale],
            [(x.dtype, None)] + [(stash, None)] * (2 if centred else 1),
            [axis],
            [EPSILON],
            threads,
        )
        # Roundings: a few, and those of the sums, which are made in parts.
        some = 4 + wide.size / inverse.size / 4096
        near = some * rounding * ((np.abs(wide) + np.abs(mean) + 1) * inverse * np.abs(factor) + np.abs(want))
        smallest = 2.0**-24 if x.dtype == np.float16 else 0
        assert (np.abs(got[0].astype(np.longdouble) - want) <= near + smallest).all()
        np.testing.assert_allclose(got[-1], inverse, rtol=2 * some * ROUNDING[stash])
        if centred:
            largest = np.abs(wide).max(initial=0)
            np.testing.assert_allclose(got[1], mean, rtol=0, atol=some * ROUNDING[stash] * largest)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_rows(dtype: np.dtype, threads: int) -> None:
    rng = np.random.default_rng(1)
    for dims in [(1,), (5,), (3, 16), (2, 3, 31), (10, 256), (300, 257), (2, 2, 2, 67)]:
        for axis in range(-len(dims), len(dims)):
            row = dims[axis % len(dims) :]
            scale, bias = numbers(rng, row, dtype), numbers(rng, row, dtype)
            x = (3 * numbers(rng, dims, np.float64) + 1).astype(dtype)
            for chosen in [(scale, bias), (scale, None), (None, bias), (None, None)]:
                assert_normalized(x, axis, *chosen, threads)


def test_factors_of_other_shapes_and_types() -> None:
    rng = np.random.default_rng(2)
    x = numbers(rng, (4, 3, 5, 37))
    for dims in [(), (1,), (37,), (5, 1), (1, 37), (1, 1, 5, 37)]:
        assert_normalized(x, 2, numbers(rng, dims), numbers(rng, dims))
    assert_normalized(x, 2, apart(numbers(rng, (5, 37))), numbers(rng, (37,), np.float16))
    assert_normalized(x.astype(np.float16), 2, numbers(rng, (37,)), numbers(rng, (5, 37)))
    with pytest.raises(ExecutionError, match="dim 4 of input 1"):
        call("layer_norm", [x, numbers(rng, (4,))], [(np.float32, None)], [2], [EPSILON])
    with pytest.raises(ExecutionError, match="dim 3 of input 1"):
        call("layer_norm", [x, numbers(rng, (3, 1, 1))], [(np.float32, None)], [2], [EPSILON])


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_gaps(dtype: np.dtype) -> None:
    rng = np.random.default_rng(3)
    x = numbers(rng, (3, 4, 35), dtype)
    for axis in range(3):
        for gap in range(3):
            assert_normalized(apart(x, gap), axis, None, None)
        strides = [3 * s // x.itemsize for s in x.strides]
        [y] = call("layer_norm", [x], [(dtype, x.shape, strides)], [axis], [EPSILON])
        [dense] = call("layer_norm", [x], [(dtype, x.shape)], [axis], [EPSILON])
        np.testing.assert_array_equal(y, dense)


def test_zero_sizes() -> None:
    for dims in [(0,), (0, 5), (5, 0), (3, 0, 4)]:
        for axis in range(len(dims)):
            [y, mean, _] = call(
                "layer_norm", [np.zeros(dims, np.float32)], [(np.float32, None)] * 3, [axis], [EPSILON]
            )
            assert y.shape == dims
            assert mean.shape == (*dims[:axis], *(1,) * (len(dims) - axis))


def test_a_large_mean_leaves_the_deviation() -> None:
    x = np.float32(4096) + numbers(np.random.default_rng(4), (7, 300))
    wide = x.astype(np.longdouble)
    want = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + EPSILON)
    [y] = call("layer_norm", [x], [(np.float32, None)], [1], [EPSILON])
    np.testing.assert_allclose(y, want, atol=4096 * 2.0**-23)
