"""From numbers to integers: scales, zero points and codes, as QuantizeLinear defines them.

    code = clip(round(number / scale) + zero point), number' = (code - zero point) * scale

Rounding is half to even, and before the zero point is added. Zero always is a code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.errors import ModelError

__all__ = [
    "LIMITS",
    "Grid",
    "asymmetric",
    "block_grid",
    "channel_grid",
    "dequantized",
    "limits_of",
    "quantized",
    "symmetric_scale",
]

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]

# Lowest and highest code of each type.
LIMITS: dict[ir.DataType, tuple[int, int]] = {
    ir.DataType.INT4: (-8, 7),
    ir.DataType.UINT4: (0, 15),
    ir.DataType.INT8: (-128, 127),
    ir.DataType.UINT8: (0, 255),
    ir.DataType.INT16: (-32768, 32767),
    ir.DataType.UINT16: (0, 65535),
    ir.DataType.INT32: (-(2**31), 2**31 - 1),
}
_SMALLEST = float(np.finfo(np.float32).smallest_normal)


@dataclass(frozen=True, eq=False)
class Grid:
    """The codes of a tensor and what they stand for.

    Attributes:
        dtype: Type of the codes.
        scale: One number, one for each position along `axis`, or one for each block along it.
        zero_point: Integers like `scale`.
        axis: The axis; None where one scale holds for all.
        block_size: How many positions along the axis share a scale; 0: one.
        narrow: Whether the lowest code is left out, so that the codes are symmetric.
        bits: How many bits of the type the codes make use of; 0: all.
    """

    dtype: ir.DataType
    scale: Floats
    zero_point: Array
    axis: int | None = None
    block_size: int = 0
    narrow: bool = False
    bits: int = 0

    def spread(self, shape: tuple[int, ...]) -> tuple[Floats, Array]:
        """Scale and zero point, broadcastable with a tensor of this shape.

        Raises:
            ModelError: They do not fit the shape.
        """
        if self.axis is None:
            if self.scale.size != 1:
                raise ModelError(f"{self.scale.size} scales without an axis")
            return self.scale.reshape(()), self.zero_point.reshape(())
        axis, count = self.axis % len(shape) if shape else 0, self.block_size
        expected: tuple[int, ...] = (shape[axis],) if shape else ()
        if count:
            expected = tuple(-(-n // count) if i == axis else n for i, n in enumerate(shape))
        if self.scale.shape != expected or self.zero_point.shape != expected:
            raise ModelError(f"scales {list(self.scale.shape)} do not fit {list(shape)} along axis {axis}")
        if count:
            keep = [slice(None)] * len(shape)
            keep[axis] = slice(0, shape[axis])
            part = tuple(keep)
            return np.repeat(self.scale, count, axis)[part], np.repeat(self.zero_point, count, axis)[part]
        dims = [n if i == axis else 1 for i, n in enumerate(shape)]
        return self.scale.reshape(dims), self.zero_point.reshape(dims)


def limits_of(dtype: ir.DataType, *, narrow: bool = False, bits: int = 0) -> tuple[int, int]:
    """Lowest and highest code of a type, or of so many of its bits."""
    low, high = LIMITS[dtype]
    if bits:
        unused = dtype.bitwidth - bits
        low, high = low >> unused, high >> unused
    return (low + 1, high) if narrow and low < 0 else (low, high)


def asymmetric(low: float, high: float, dtype: ir.DataType) -> tuple[float, int]:
    """Scale and zero point for numbers from `low` to `high`; zero gets a code of its own."""
    first, last = LIMITS[dtype]
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / (last - first))
    if not math.isfinite(scale):
        scale = np.float32(high / (last - first) - low / (last - first))
    if scale < _SMALLEST:
        return 1.0, min(max(first, 0), last)
    zero = int(np.clip(np.rint(first - low / float(scale)), first, last))
    return float(scale), zero


def symmetric_scale(largest: Array | float, dtype: ir.DataType, bits: int = 0) -> Floats:
    """Scale for numbers up to `largest` in size, the lowest code left out; 1 where all are zero."""
    scale = np.asarray(np.asarray(largest, np.float64) / limits_of(dtype, bits=bits)[1], np.float32)
    return np.where(scale < _SMALLEST, np.float32(1), scale).astype(np.float32)


def channel_grid(
    weight: Array, axis: int | None, dtype: ir.DataType = ir.DataType.INT8, bits: int = 0
) -> Grid:
    """A symmetric grid for a weight, a scale for each position along `axis`, or one for all."""
    size = np.abs(np.asarray(weight, np.float32))
    if axis is None:
        largest = size.max(initial=0.0)
    else:
        others = tuple(i for i in range(size.ndim) if i != axis % size.ndim)
        largest = size.max(axis=others, initial=0.0)
    scale = symmetric_scale(largest, dtype, bits)
    zero = np.zeros(scale.shape, dtype.numpy())
    return Grid(dtype, scale, zero, None if axis is None else axis % size.ndim, 0, narrow=True, bits=bits)


def block_grid(weight: Array, axis: int, block_size: int, dtype: ir.DataType = ir.DataType.INT4) -> Grid:
    """A symmetric grid for a weight, a scale for each block of positions along `axis`."""
    size = np.abs(np.asarray(weight, np.float32))
    starts = np.arange(0, size.shape[axis], block_size)
    scale = symmetric_scale(np.maximum.reduceat(size, starts, axis=axis), dtype)
    return Grid(dtype, scale, np.zeros(scale.shape, dtype.numpy()), axis, block_size, narrow=True)


def quantized(numbers: Array, grid: Grid) -> Array:
    """The codes of numbers; NaN gets the code of zero."""
    scale, zero = grid.spread(numbers.shape)
    low, high = limits_of(grid.dtype, narrow=grid.narrow, bits=grid.bits)
    with np.errstate(invalid="ignore", over="ignore"):
        steps = np.rint(np.nan_to_num(np.asarray(numbers, np.float32) / scale, nan=0.0))
    # Clipped before the conversion: what is out of range of the integers would wrap.
    codes = np.clip(steps.astype(np.float64) + zero.astype(np.float64), low, high)
    found: Array = codes.astype(np.int64).astype(grid.dtype.numpy())
    return found


def dequantized(codes: Array, grid: Grid) -> Floats:
    """What codes stand for."""
    scale, zero = grid.spread(codes.shape)
    found: Floats = ((codes.astype(np.int64) - zero.astype(np.int64)).astype(np.float32) * scale).astype(
        np.float32
    )
    return found
