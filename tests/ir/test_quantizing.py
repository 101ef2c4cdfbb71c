"""Scales, zero points and codes against worked cases."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.errors import ModelError
from graphopt.ir.quantizing import Grid, asymmetric, block_grid, channel_grid, dequantized, quantized

I8, U8, I4 = ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT4


def grid(dtype: ir.DataType, scale: float, zero: int) -> Grid:
    return Grid(dtype, np.asarray(scale, np.float32), np.asarray(zero, dtype.numpy()))


def test_rounding_is_half_to_even_and_before_the_zero_point() -> None:
    x = np.array([-1.3, -0.75, -0.25, 0, 0.25, 0.75, 1.25, 130], np.float32)
    codes = quantized(x, grid(I8, 0.5, 1))
    assert codes.tolist() == [-2, -1, 1, 1, 1, 3, 3, 127]
    assert dequantized(codes, grid(I8, 0.5, 1)).tolist() == [-1.5, -1, 0, 0, 0, 1, 1, 63]
    assert quantized(x, grid(U8, 0.5, 128)).tolist() == [125, 126, 128, 128, 128, 130, 130, 255]


def test_what_is_no_number_and_what_is_too_large() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 3e38], np.float32)
    assert quantized(x, grid(U8, 0.5, 7)).tolist() == [7, 255, 0, 255]


@pytest.mark.parametrize(
    ("low", "high", "dtype", "scale", "zero"),
    [
        (-1, 3, U8, 0.0156863, 64),
        (-1, 3, I8, 0.0156863, -64),
        (0.5, 2, U8, 0.00784314, 0),
        (0.5, 2, I8, 0.00784314, -128),
        (-3, -1, U8, 0.0117647, 255),
        (-3, -1, I8, 0.0117647, 127),
        (0, 0, U8, 1, 0),
        (0, 0, I8, 1, 0),
        (0, 1e-45, U8, 1, 0),
        (-3e38, 3e38, U8, 6e38 / 255, 128),
    ],
)
def test_asymmetric(low: float, high: float, dtype: ir.DataType, scale: float, zero: int) -> None:
    found = asymmetric(low, high, dtype)
    assert found[0] == pytest.approx(scale, rel=1e-5)
    assert found[1] == zero


def test_a_scale_for_each_channel_has_a_smaller_error() -> None:
    weight = np.array([[1, -2], [0.5, 4]], np.float32)
    each, one = channel_grid(weight, 0), channel_grid(weight, None)
    assert each.scale == pytest.approx([0.0157480, 0.0314961], rel=1e-5)
    assert quantized(weight, each).tolist() == [[64, -127], [16, 127]]
    assert quantized(weight, one).tolist() == [[32, -64], [16, 127]]
    errors = [np.mean((dequantized(quantized(weight, g), g) - weight) ** 2) for g in (each, one)]
    assert errors == pytest.approx([1.937504e-5, 8.137516e-5], rel=1e-4)


def test_blocks_of_four_bits() -> None:
    weight = np.array([0.1, -0.3, 0.7, 0.2, 5, -1, 0, 2], np.float32)
    blocks = block_grid(weight, 0, 4)
    assert blocks.scale == pytest.approx([0.1, 0.714286], rel=1e-5)
    assert quantized(weight, blocks).astype(int).tolist() == [1, -3, 7, 2, 7, -1, 0, 3]
    assert quantized(weight, channel_grid(weight, None, I4)).astype(int).tolist() == [0, 0, 1, 0, 7, -1, 0, 3]


def test_the_last_block_may_be_short() -> None:
    weight = np.arange(10, dtype=np.float32).reshape(5, 2)
    blocks = block_grid(weight, 0, 2)
    assert blocks.scale.shape == (3, 2)
    again = dequantized(quantized(weight, blocks), blocks)
    assert np.abs(again - weight).max() <= blocks.scale.max() / 2 + 1e-6


def test_zeros_and_nothing() -> None:
    assert channel_grid(np.zeros((2, 3), np.float32), 1).scale.tolist() == [1, 1, 1]
    empty = channel_grid(np.zeros((0, 3), np.float32), 1)
    assert quantized(np.zeros((0, 3), np.float32), empty).shape == (0, 3)


def test_scales_that_do_not_fit() -> None:
    weight = np.zeros((2, 3), np.float32)
    with pytest.raises(ModelError, match=r"scales \[3\] do not fit \[2, 3\] along axis 0"):
        quantized(weight, Grid(I8, np.ones(3, np.float32), np.zeros(3, np.int8), 0))
    with pytest.raises(ModelError, match="3 scales without an axis"):
        quantized(weight, Grid(I8, np.ones(3, np.float32), np.zeros(3, np.int8)))
