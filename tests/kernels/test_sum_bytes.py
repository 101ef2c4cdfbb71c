"""Sums of bytes as the numbers that they stand for: every code is the one that the single operators give."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.errors import ExecutionError
from tests.kernels.calling import call
from tests.kernels.convolutions import channels_last, channels_last_strides

SCALES = (np.float32(0.0371), np.float32(0.0213), np.float32(0.0417))


def codes(dims: tuple[int, ...], dtype: type, seed: int) -> np.ndarray:
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max + 1, dims).astype(dtype)


def expected(
    a: np.ndarray, b: np.ndarray, zeros: tuple[int, int, int], relu: bool, out: type, scales=SCALES
) -> np.ndarray:
    numbers = [
        (x.astype(np.int32) - z).astype(np.float32) * s
        for x, z, s in zip((a, b), zeros[:2], scales[:2], strict=True)
    ]
    total = numbers[0] + numbers[1]
    assert total.dtype == np.float32
    if relu:
        total = np.maximum(total, 0)
    info = np.iinfo(out)
    return np.clip(np.rint(total / scales[2]) + zeros[2], info.min, info.max).astype(out)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(
    ("left", "right", "out"),
    [
        (np.uint8, np.uint8, np.uint8),
        (np.int8, np.uint8, np.int8),
        (np.uint8, np.int8, np.uint8),
        (np.int8, np.int8, np.int8),
    ],
)
def test_all_sizes(left: type, right: type, out: type, relu: bool, threads: int) -> None:
    zeros = (110 if left is np.uint8 else -3, 128 if right is np.uint8 else 7, 31 if out is np.uint8 else -90)
    for n in (0, 1, 7, 16, 65, 1000, 300_000):
        a, b = codes((n,), left, 1), codes((n,), right, 2)
        (got,) = call("sum.bytes", [a, b], [(out, (n,))], [*zeros, int(relu)], SCALES, threads)
        np.testing.assert_array_equal(got, expected(a, b, zeros, relu, out))


def test_every_pair_of_codes_by_many_scales() -> None:
    every = np.arange(256, dtype=np.uint8)
    a, b = (np.ascontiguousarray(x) for x in np.meshgrid(every, every))
    rng = np.random.default_rng(0)
    for k in range(40):
        # Every fourth divides: its significand is next to a multiple of 2^16.
        scales = tuple(np.float32(2.0 ** rng.uniform(-9, 3)) for _ in range(3))
        if k % 4 == 0:
            scales = (*scales[:2], np.float32(1.5 + 2.0**-23))
        zeros = tuple(int(z) for z in rng.integers(0, 256, 3))
        (got,) = call("sum.bytes", [a, b], [(np.uint8, a.shape)], [*zeros, 0], scales)
        np.testing.assert_array_equal(got, expected(a, b, zeros, False, np.uint8, scales))


def test_channels_last() -> None:
    a, b = codes((2, 5, 3, 4), np.uint8, 1), codes((2, 5, 3, 4), np.uint8, 2)
    asked = [(np.uint8, a.shape, channels_last_strides(a.shape))]
    (got,) = call("sum.bytes", [channels_last(a), channels_last(b)], asked, [3, 4, 5, 1], SCALES)
    np.testing.assert_array_equal(got, expected(a, b, (3, 4, 5), True, np.uint8))


def test_operands_that_lie_otherwise() -> None:
    a = codes((2, 5, 3, 4), np.uint8, 1)
    with pytest.raises(ExecutionError, match="lie alike"):
        call("sum.bytes", [a, channels_last(a)], [(np.uint8, a.shape)], [0, 0, 0, 0], SCALES)
    with pytest.raises(ExecutionError, match="lie alike"):
        call("sum.bytes", [a[:, ::2], a[:, ::2]], [(np.uint8, (2, 3, 3, 4))], [0, 0, 0, 0], SCALES)
