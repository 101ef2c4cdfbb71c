"""Normalizations that give bytes: what `layer_norm` and the quantization behind it give, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from graphopt.errors import ExecutionError
from tests.kernels.calling import call

EPSILON = 1e-5


def normalized(kernel: str, inputs: Sequence[np.ndarray | None], axis: int = -1) -> np.ndarray:
    x = inputs[0]
    assert x is not None
    return call(kernel, inputs, [(np.float32, x.shape)], [axis], [EPSILON])[0]


def operands(
    kernel: str, dims: Sequence[int], scale: bool, bias: bool, seed: int = 0
) -> list[np.ndarray | None]:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(dims) * 3 + 1).astype(np.float32)
    factors = [
        rng.standard_normal(dims[-1:]).astype(np.float32) if given else None for given in (scale, bias)
    ]
    return [x, *factors[: 2 if kernel == "layer_norm" else 1]]


def quantized(x: np.ndarray, scale: np.float32, zero: int, dtype: type) -> np.ndarray:
    info = np.iinfo(dtype)
    return np.clip(np.rint(x / scale) + zero, info.min, info.max).astype(dtype)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kernel", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("dims", [(3, 1), (2, 7), (5, 16), (1, 64), (2, 3, 100), (300, 129), (0, 8)])
def test_one_scale(kernel: str, dims: tuple[int, ...], threads: int) -> None:
    for scale, bias, dtype, zero in (
        (True, True, np.uint8, 100),
        (True, False, np.int8, -3),
        (False, True, np.uint8, 0),
    ):
        given = operands(kernel, dims, scale, bias)
        # The last is one that divides: its significand is near a multiple of 2^16.
        for step in (np.float32(0.037), np.float32(0.25), np.float32(2.0**-5 * (1 + 2.0**-23))):
            (got,) = call(f"{kernel}.bytes", given, [(dtype, dims)], [-1, zero], [EPSILON, step], threads)
            np.testing.assert_array_equal(got, quantized(normalized(kernel, given), step, zero, dtype))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kernel", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("dims", [(3, 1), (2, 7), (5, 16), (1, 64), (2, 3, 100), (300, 129), (0, 8)])
def test_a_scale_for_each_row(kernel: str, dims: tuple[int, ...], threads: int) -> None:
    rows = dims[:-1]
    asked = [(np.uint8, dims), (np.float32, rows), (np.int32, rows)]
    for scale, bias in ((True, True), (True, False), (False, False)):
        given = operands(kernel, dims, scale, bias)
        got = call(f"{kernel}.rows", given, asked, [-1], [EPSILON], threads)
        wanted = call("quantize_rows", [normalized(kernel, given)], asked)
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_array_equal(a, b)


def test_rows_with_gaps_between_them() -> None:
    wide = np.random.default_rng(0).standard_normal((4, 6, 50)).astype(np.float32)
    x = wide[:, ::2, 5:45]
    (got,) = call(
        "layer_norm.bytes", [x, None, None], [(np.uint8, (4, 3, 40), (200, 64, 1))], [2, 7], [EPSILON, 0.05]
    )
    np.testing.assert_array_equal(
        got, quantized(normalized("layer_norm", [x.copy(), None, None]), np.float32(0.05), 7, np.uint8)
    )


def test_several_trailing_dims_are_one_row() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    (got,) = call("layer_norm.bytes", [x, None, None], [(np.int8, (3, 4, 5))], [1, 0], [EPSILON, 0.02])
    np.testing.assert_array_equal(
        got, quantized(normalized("layer_norm", [x, None, None], 1), np.float32(0.02), 0, np.int8)
    )


def test_what_does_not_fit() -> None:
    x = np.ones((3, 4), np.float32)
    with pytest.raises(ExecutionError, match="5 elements for rows of 4"):
        call(
            "layer_norm.bytes",
            [x, np.ones(5, np.float32), None],
            [(np.uint8, (3, 4))],
            [-1, 0],
            [EPSILON, 0.1],
        )
    with pytest.raises(ExecutionError, match="gaps"):
        call(
            "rms_norm.rows",
            [np.ones((4, 3), np.float32).T, None],
            [(np.uint8, (3, 4)), (np.float32, (3,)), (np.int32, (3,))],
            [-1],
            [EPSILON],
        )
    with pytest.raises(ExecutionError, match="scales for 3 rows"):
        call(
            "rms_norm.rows",
            [x, None],
            [(np.uint8, (3, 4)), (np.float32, (4,)), (np.int32, (4,))],
            [-1],
            [EPSILON],
        )
