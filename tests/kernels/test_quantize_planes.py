"""Images of few channels to bytes with channels innermost: every code is the one that dividing gives."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.errors import ExecutionError
from tests.kernels.calling import call
from tests.kernels.convolutions import channels_last_strides


def quantized(x: np.ndarray, scale: np.float32, zero: int, out: type, threads: int = 1) -> np.ndarray:
    asked = [(out, x.shape, channels_last_strides(x.shape))]
    return call("quantize.planes", [x], asked, [zero], [float(scale)], threads)[0]


def expected(x: np.ndarray, scale: np.float32, zero: int, out: type) -> np.ndarray:
    info = np.iinfo(out)
    return np.clip(np.rint(x / scale) + zero, info.min, info.max).astype(out)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("out", "zero"), [(np.uint8, 113), (np.int8, -7)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("image", [(0, 3), (1, 1), (3, 5), (4, 4), (31, 33), (96, 96), (7,), (2, 5, 9)])
def test_all_sizes(image: tuple[int, ...], channels: int, out: type, zero: int, threads: int) -> None:
    x = np.random.default_rng(0).standard_normal((2, channels, *image)).astype(np.float32)
    for scale in (np.float32(0.0173), np.float32(1.5 + 2.0**-23), np.float32(0.125)):
        np.testing.assert_array_equal(quantized(x, scale, zero, out, threads), expected(x, scale, zero, out))


def test_halves_infinities_and_nan() -> None:
    x = np.array([0.5, 1.5, -0.5, 2.5, np.inf, -np.inf, 1e30, np.nan] * 3, np.float32).reshape(1, 3, 8)
    wanted = expected(
        np.nan_to_num(x, nan=-np.inf, posinf=np.inf, neginf=-np.inf), np.float32(1), 3, np.uint8
    )
    np.testing.assert_array_equal(quantized(x, np.float32(1), 3, np.uint8), wanted)


def test_what_does_not_fit() -> None:
    with pytest.raises(ExecutionError, match="5 channels"):
        quantized(np.zeros((1, 5, 3, 3), np.float32), np.float32(1), 0, np.uint8)
    with pytest.raises(ExecutionError, match="do not lie"):
        call("quantize.planes", [np.zeros((1, 3, 3, 3), np.float32)], [(np.uint8, (1, 3, 3, 3))], [0], [1.0])
