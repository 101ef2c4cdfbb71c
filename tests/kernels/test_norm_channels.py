"""Group, instance and batch normalization and LRN against float64."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.errors import ExecutionError
from tests.kernels.calling import FLOATS, ROUNDING, apart, call, numbers

EPSILON = 1e-5
DIMS = [(2, 6, 5), (3, 12, 7, 9), (1, 6, 1), (2, 6), (2, 6, 3, 2, 33), (1, 12, 40, 41)]


def column(x: np.ndarray, rank: int) -> np.ndarray:
    """[C] as [C, 1, ...] in float64."""
    return x.astype(np.float64).reshape(-1, *[1] * (rank - 2))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_group_norm(dtype: np.dtype, threads: int) -> None:
    rng = np.random.default_rng(1)
    for dims in DIMS:
        for groups in [1, 2, 3, dims[1]]:
            for count in {dims[1], groups}:
                x = (2 * numbers(rng, dims, np.float64) + 1).astype(dtype)
                scale, bias = numbers(rng, (count,), dtype), numbers(rng, (count,), dtype)
                [y] = call("group_norm", [x, scale, bias], [(dtype, None)], [groups], [EPSILON], threads)
                grouped = x.astype(np.float64).reshape(dims[0], groups, -1)
                mean = grouped.mean(-1, keepdims=True)
                inverse = 1 / np.sqrt(grouped.var(-1, keepdims=True) + EPSILON)
                normal = ((grouped - mean) * inverse).reshape(dims)
                widths = np.broadcast_to(inverse, grouped.shape).reshape(dims)
                repeats = dims[1] // count
                s, b = (column(np.repeat(v, repeats), len(dims)) for v in (scale, bias))
                near = np.abs(s) * (np.abs(normal) + widths * (np.abs(x.astype(np.float64)) + 2)) + np.abs(b)
                assert (np.abs(y.astype(np.float64) - (normal * s + b)) <= 4 * ROUNDING[dtype] * near).all()


def test_group_norm_of_a_large_mean() -> None:
    x = np.float32(4096) + numbers(np.random.default_rng(2), (1, 4, 50, 50))
    ones, zeros = np.ones(4, np.float32), np.zeros(4, np.float32)
    [y] = call("group_norm", [x, ones, zeros], [(np.float32, None)], [2], [EPSILON])
    wide = x.astype(np.float64).reshape(1, 2, -1)
    want = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + EPSILON)
    np.testing.assert_allclose(y, want.reshape(x.shape), atol=4096 * 2.0**-22)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_batch_norm(dtype: np.dtype, threads: int) -> None:
    rng = np.random.default_rng(3)
    for dims in [*DIMS, (7, 1), (400, 70)]:
        x = numbers(rng, dims, dtype)
        factors = [numbers(rng, (dims[1],), dtype) for _ in range(4)]
        factors[3] = np.abs(factors[3]) + dtype.type(0.125)
        scale, bias, mean, variance = (column(f, len(dims)) for f in factors)
        inverse = scale / np.sqrt(variance + EPSILON)
        want = (x.astype(np.float64) - mean) * inverse + bias
        near = (
            4
            * ROUNDING[dtype]
            * ((np.abs(x.astype(np.float64)) + np.abs(mean)) * np.abs(inverse) + np.abs(bias))
        )
        innermost = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
        strides = [s // x.itemsize for s in innermost.strides]
        for view, output in [
            (x, (dtype, dims)),
            (apart(x), (dtype, dims)),
            (apart(x, 1), (dtype, dims)),
            (innermost, (dtype, dims)),
            (innermost, (dtype, dims, strides)),
        ]:
            [y] = call("batch_norm", [view, *factors], [output], [], [EPSILON], threads)
            assert (np.abs(y.astype(np.float64) - want) <= near).all()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_lrn(dtype: np.dtype, threads: int) -> None:
    rng = np.random.default_rng(4)
    for dims in DIMS:
        for size in [1, 2, 5, 9]:
            for alpha, beta, bias in [(1e-4, 0.75, 1.0), (2.0, 0.5, 0.5)]:
                x = numbers(rng, dims, dtype)
                [y] = call("lrn", [x], [(dtype, None)], [size], [alpha, beta, bias], threads)
                squares = x.astype(np.float64) ** 2
                sums = np.zeros(dims)
                for c in range(dims[1]):
                    sums[:, c] = squares[:, max(0, c - (size - 1) // 2) : c + size // 2 + 1].sum(1)
                want = x.astype(np.float64) / (bias + alpha / size * sums) ** beta
                np.testing.assert_allclose(y.astype(np.float64), want, rtol=16 * ROUNDING[dtype])


def test_zero_sizes() -> None:
    for dims in [(0, 4, 3), (2, 4, 0), (2, 0, 3)]:
        x, c = np.zeros(dims, np.float32), np.ones(dims[1], np.float32)
        assert call("batch_norm", [x, c, c, c, c], [(np.float32, None)], [], [EPSILON])[0].shape == dims
        assert call("group_norm", [x, c, c], [(np.float32, None)], [1], [EPSILON])[0].shape == dims
        assert call("lrn", [x], [(np.float32, None)], [3], [1.0, 1.0, 1.0])[0].shape == dims


def test_wrong_operands() -> None:
    x, c = np.zeros((2, 4, 3), np.float32), np.ones(4, np.float32)
    with pytest.raises(ExecutionError, match="4 channels in 3 groups"):
        call("group_norm", [x, c, c], [(np.float32, None)], [3], [EPSILON])
    with pytest.raises(ExecutionError, match="input 2 has 3 elements"):
        call("batch_norm", [x, c, c[:3], c, c], [(np.float32, None)], [], [EPSILON])
