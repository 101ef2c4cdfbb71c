"""Matrices that a DequantizeLinear makes of constants: as rules that multiply by the integers take them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants, lazy
from graphopt.ir.attributes import attribute_int
from graphopt.ir.quantization import BYTES, is_dequantize
from graphopt.rewriting.match import Match, Rejection
from graphopt.rewriting.operators import constant
from graphopt.rewriting.weights import transposed

__all__ = ["MIDDLE", "OTHER_WEIGHT", "Stored", "floats_of_bias", "shortened", "signed_codes", "stored_matrix"]

OTHER_WEIGHT = "the weight is no constant matrix of integers around zero with a scale for each output"

# 255 * 128 * K must fit into 32 bits.
MOST_DEPTH = 65_000
MIDDLE = 128
# One constant for all is shared by more than one operator.
MOST_SCALES_AS_THEY_ARE = 2
_STORED = (*BYTES, ir.DataType.INT4, ir.DataType.UINT4)


@dataclass(frozen=True)
class Stored:
    """A weight [K, N] as integers.

    Attributes:
        codes: The integers; `scale` stands for them.
        axis: Of the scale, and how many positions along it share one (0: one).
        is_plain: Whether there is a scale for each column or one for all, and they are signed bytes.
    """

    codes: ir.Value
    scale: ir.Value
    axis: int
    block_size: int
    is_plain: bool


def stored_matrix(m: Match, node: ir.Node, *, is_transposed: bool) -> Stored | Rejection:
    """The weight that a DequantizeLinear makes of constants."""
    codes, scale, *rest = node.inputs
    tensor = m.tensor(codes)
    if codes is None or scale is None or tensor is None or len(constants.shape_of(tensor)) != 2:
        return Rejection(OTHER_WEIGHT, codes)
    zero = m.array(rest[0]) if rest and rest[0] is not None else np.zeros(1)
    if tensor.dtype not in _STORED or m.dtype(scale) is not ir.DataType.FLOAT or m.tensor(scale) is None:
        return Rejection(OTHER_WEIGHT, codes)
    axis, blocks = m.attribute(node, "axis"), attribute_int(node, "block_size")
    assert isinstance(axis, int), "axis is a whole number"
    # One scale has no axis: that of the columns stands in.
    axis = (0 if is_transposed else 1) if m.dims(scale) in ((), (1,)) else axis % 2
    if zero is None or (zero != zero.reshape(-1)[:1]).any():
        return Rejection(OTHER_WEIGHT, codes)
    middle = int(zero.reshape(-1)[0])
    if middle not in (0, MIDDLE) or (middle and tensor.dtype is not ir.DataType.UINT8):
        return Rejection(OTHER_WEIGHT, codes)
    if is_transposed:
        if blocks:
            return Rejection(OTHER_WEIGHT, codes)
        codes, axis = transposed(codes), 1 - axis
    is_bytes = tensor.dtype is ir.DataType.INT8 or bool(middle)
    if middle:
        codes = signed_codes(codes)
    shape = constants.shape_of(tensor)
    depth = shape[1] if is_transposed else shape[0]
    is_plain = is_bytes and not blocks and axis == 1 and depth <= MOST_DEPTH
    return Stored(codes, scale, axis, blocks, is_plain)


def signed_codes(codes: ir.Value) -> ir.Value:
    """Unsigned bytes around 128 as signed ones around 0."""
    tensor = constants.constant(codes)
    assert tensor is not None, "only constants are shifted here"
    return constant(
        lazy.mapped(
            (tensor,),
            lambda array: (array.astype(np.int16) - MIDDLE).astype(np.int8),
            ir.DataType.INT8,
            constants.shape_of(tensor),
        )
    )


def floats_of_bias(m: Match, bias: ir.Value, columns: object) -> ir.Value | None:
    """A bias stored as integers, as the floats that they stand for; None if it is none over the columns."""
    node = bias.producer()
    if node is None or not is_dequantize(node) or len(m.dims(bias) or ()) != 1 or m.dims(bias) != (columns,):
        return None
    arrays = [None if v is None else m.array(v) for v in node.inputs[:2]]
    zero = m.array(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else np.zeros(1)
    if arrays[0] is None or arrays[1] is None or zero is None or zero.any():
        return None
    return constant((arrays[0].astype(np.float32) * arrays[1].astype(np.float32)).astype(np.float32))


def shortened(m: Match, scale: ir.Value | None) -> ir.Value | None:
    """Constant scales as float16 where that is what they are; operators of our own widen them."""
    tensor = m.tensor(scale)
    if tensor is None or tensor.dtype is not ir.DataType.FLOAT or tensor.size < MOST_SCALES_AS_THEY_ARE:
        return scale
    array = tensor.numpy()
    with np.errstate(over="ignore"):
        short = array.astype(np.float16)
    if not np.array_equal(short.astype(np.float32), array):
        return scale
    return constant(ir.Tensor(short, name="scale"))
