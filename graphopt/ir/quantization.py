"""What QuantizeLinear and DequantizeLinear do, as far as constants fix it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.attributes import attribute
from graphopt.ir.inference import Facts
from graphopt.ir.operands import input_of
from graphopt.ir.quantizing import LIMITS

__all__ = ["BYTES", "Quantization", "is_dequantize", "is_quantize", "quantization"]

Array = npt.NDArray[np.generic]

DOMAINS = ("", "com.microsoft")

# Types of one byte: what runtimes have kernels for in every operator that moves data.
BYTES = (ir.DataType.INT8, ir.DataType.UINT8)

# Types of codes that are dealt with here; INT32 is that of sums.
_CODES = frozenset(LIMITS) - {ir.DataType.INT32}
# Bits of the significand, the hidden one counted; exponents of the smallest normal number and of the largest.
_FLOATS = {
    ir.DataType.FLOAT: (24, -126, 127),
    ir.DataType.FLOAT16: (11, -14, 15),
    ir.DataType.BFLOAT16: (8, -126, 127),
}


@dataclass(frozen=True, eq=False)
class Quantization:
    """A map between numbers and integers: number = (integer - zero point) * scale.

    Attributes:
        scale: One number, or one for each position along `axis`.
        zero_point: Integers like `scale`.
        dtype: Type of the integers.
        wide: Type of the scale, and of the numbers.
        axis: The axis, not negative; None where one scale holds for all.
    """

    scale: Array
    zero_point: Array
    dtype: ir.DataType
    wide: ir.DataType
    axis: int | None

    def same_as(self, other: Quantization) -> bool:
        """Whether both are one map, bit for bit."""
        return (
            (self.dtype, self.wide, self.axis) == (other.dtype, other.wide, other.axis)
            and self.scale.shape == other.scale.shape
            and self.scale.tobytes() == other.scale.tobytes()
            and np.array_equal(self.zero_point, other.zero_point)
        )

    @property
    def lowest(self) -> int:
        return LIMITS[self.dtype][0]

    @property
    def highest(self) -> int:
        return LIMITS[self.dtype][1]

    @property
    def is_reversible(self) -> bool:
        """Whether quantizing what was dequantized gives every integer back.

        With d = q - zero point, which is exact, the number is d * scale rounded, and dividing it by the scale
        rounds once more: it ends within |d| * 2 * 2^-bits of d, if nothing overflows or is subnormal. The
        rounding that follows gives d where that is less than a half; a runtime that multiplies by the rounded
        reciprocal of the scale rounds three times, so a factor of 4 is asked for instead of 2.
        """
        bits, smallest, largest = _FLOATS[self.wide]
        span = self.highest - self.lowest
        scale = self.scale.astype(np.float64)
        if not span * 4.0 * 2.0**-bits < 0.5:
            return False
        lower, upper = 2.0 ** max(smallest, -largest), 2.0**largest / span
        return bool(((scale >= lower) & (scale <= upper) & (scale <= 2.0**-smallest)).all())

    def integer_of(self, number: float) -> int:
        """What a number is quantized to; for one scale of float32."""
        quotient = np.float32(number) / np.float32(self.scale.reshape(-1)[0])
        found = np.rint(quotient) + float(self.zero_point.reshape(-1)[0])
        return int(np.clip(found, self.lowest, self.highest))


def is_quantize(node: ir.Node | None) -> bool:
    """Whether the node is a QuantizeLinear."""
    return node is not None and node.op_type == "QuantizeLinear" and node.domain in DOMAINS


def is_dequantize(node: ir.Node | None) -> bool:
    """Whether the node is a DequantizeLinear."""
    return node is not None and node.op_type == "DequantizeLinear" and node.domain in DOMAINS


def quantization(node: ir.Node, facts: Facts) -> Quantization | None:
    """The map of a QuantizeLinear or DequantizeLinear.

    None where its scale or zero point is no constant, for blocks, for types that are no integers (float8),
    and where a precision is asked for.
    """
    if len(node.inputs) < 2 or attribute(node, "block_size") or attribute(node, "precision"):
        return None
    scale_value = node.inputs[1]
    scale = constants.array(scale_value)
    data = node.inputs[0] if is_dequantize(node) else node.outputs[0]
    dtype = facts.dtype(data) if data is not None else None
    wide = facts.dtype(scale_value) if scale_value is not None else None
    number = node.outputs[0] if is_dequantize(node) else node.inputs[0]
    if scale is None or dtype not in _CODES or wide not in _FLOATS or number is None:
        return None
    if facts.dtype(number) != wide:
        return None
    zero_point = _zero_point(node, scale)
    axis = _axis(node, scale, facts)
    if zero_point is None or axis == -1:
        return None
    if axis is None:
        scale, zero_point = scale.reshape(()), zero_point.reshape(())
    return Quantization(scale, zero_point, dtype, wide, axis)


def _zero_point(node: ir.Node, scale: Array) -> Array | None:
    given = input_of(node, 2)
    if given is None:
        return np.zeros(scale.shape, np.int64)
    array = constants.array(given)
    return None if array is None or array.size != scale.size else array.astype(np.int64)


def _axis(node: ir.Node, scale: Array, facts: Facts) -> int | None:
    """The axis, None for one scale over all; -1 where it can't be told."""
    if scale.size == 1:
        return None
    rank = facts.rank(node.inputs[0]) if node.inputs[0] is not None else None
    axis = attribute(node, "axis", 1)
    if rank is None or not isinstance(axis, int) or scale.ndim != 1 or not -rank <= axis < rank:
        return -1
    return axis % rank
