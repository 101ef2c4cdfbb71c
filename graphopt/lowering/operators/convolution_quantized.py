"""Convolutions of 8-bit integers: ConvInteger, QLinearConv.

Where all but the image is constant they run over channels-last images: what a run need not compute is put
into the weights (their zero points), into what sums start from (the bias, the image's zero point), and into
one scale for each filter. Everything else has a plain kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir.attributes import attribute_int
from graphopt.lowering.builder import Builder
from graphopt.lowering.kernels import Layout, declare
from graphopt.lowering.program import ABSENT
from graphopt.lowering.registry import NotLowered, lowers
from graphopt.lowering.windows import auto_pad_of, channels_last, window_ints

__all__: list[str] = []

BYTES = (ir.DataType.INT8, ir.DataType.UINT8)
# Taps that the depthwise kernel keeps pointers of: kMostTaps of kernels/ops/conv_bytes_depthwise.cpp.
MOST_TAPS = 512

declare("conv.integer", inputs={0: Layout.ANY, 1: Layout.ANY}, outputs=Layout.ANY)
declare("conv.quantized", inputs={0: Layout.ANY, 3: Layout.ANY}, outputs=Layout.ANY)
declare("conv.bytes", inputs={0: Layout.CHANNELS_LAST}, outputs=Layout.ANY)
declare("conv.bytes.depthwise", inputs={0: Layout.CHANNELS_LAST}, outputs=Layout.ANY)


@dataclass(frozen=True, slots=True)
class Constants:
    """What a convolution of bytes has besides the image, zero points of the weights taken out of them.

    Attributes:
        weights: Signed bytes [filters, channels of a group, taps..].
        start: The bias [filters], in the steps of the products.
        scale: From sums to results [filters]; None where sums are the result.
        x_zero: The image's zero point; y_zero the result's.
    """

    weights: npt.NDArray[np.int8]
    start: npt.NDArray[np.int64]
    scale: npt.NDArray[np.float32] | None
    x_zero: int
    y_zero: int


@lowers("ConvInteger", "QLinearConv")
def integer_conv(build: Builder, node: ir.Node) -> NotLowered | None:
    """Of 8-bit integers, summed exactly; QLinearConv also brings the sums to another scale."""
    quantized = node.op_type == "QLinearConv"
    inputs: list[ir.Value | None] = [*node.inputs]
    inputs += [None] * ((9 if quantized else 4) - len(inputs))
    x, w = inputs[0], inputs[3 if quantized else 1]
    assert x is not None and w is not None, "image and weights are required"
    if any(build.dtype(v) not in BYTES for v in (x, w, node.outputs[0] if quantized else x)):
        return NotLowered("integer convolution of this element type")
    dims = build.dims(w)
    if dims is None or not 3 <= len(dims) <= 5 or any(type(dim) is not int for dim in dims):
        return NotLowered("the dims of the weights are not known, or not those of 1 to 3 axes")
    shape = [dim for dim in dims if type(dim) is int]
    ints = (shape[0], attribute_int(node, "group", 1), auto_pad_of(node), *window_ints(node, shape[2:]))
    constants = _constants(build, inputs, quantized) if build.rank(x) == len(shape) else None
    if constants is not None:
        _emit(build, node, x, constants, ints)
        return None
    kernel = "conv.quantized" if quantized else "conv.integer"
    build.emit(kernel, [build.register(v) for v in inputs], [build.output(node)], ints)
    return None


def _constants(build: Builder, inputs: list[ir.Value | None], quantized: bool) -> Constants | None:
    """All but the image; None where some is made at run time, or where weights less zero need 9 bits."""
    given = [None if v is None else build.constant(v) for v in inputs]
    if any(array is None and value is not None for array, value in zip(given[1:], inputs[1:], strict=True)):
        return None
    w, x_zero, w_zero = (given[3], given[2], given[5]) if quantized else (given[1], given[2], given[3])
    assert w is not None, "weights are required"
    filters = w.shape[0]
    wide = w.astype(np.int16)
    if w_zero is not None:
        if w_zero.size not in (1, filters):
            return None
        wide = wide - w_zero.astype(np.int16).reshape(-1, *(1,) * (w.ndim - 1))
    if wide.size and (wide.min() < -128 or wide.max() > 127):
        return None
    zero = 0 if x_zero is None else int(x_zero.reshape(-1)[0])
    start = np.zeros(filters, np.int64)
    if not quantized:
        return Constants(wide.astype(np.int8), start, None, zero, 0)
    x_scale, w_scale, y_scale, y_zero, bias = given[1], given[4], given[6], given[7], given[8]
    assert x_scale is not None and w_scale is not None and y_scale is not None and y_zero is not None
    if any(scale.dtype != np.float32 for scale in (x_scale, w_scale, y_scale)):
        return None
    if bias is not None:
        start += bias.astype(np.int64)
    of_x, of_w, of_y = (scale.astype(np.float32).reshape(-1) for scale in (x_scale, w_scale, y_scale))
    scale = np.broadcast_to(of_x[:1] * of_w / of_y[:1], (filters,)).astype(np.float32)
    return Constants(wide.astype(np.int8), start, scale, zero, int(y_zero.reshape(-1)[0]))


def _emit(build: Builder, node: ir.Node, x: ir.Value, constants: Constants, ints: tuple[int, ...]) -> None:
    weights = constants.weights
    filters, channels = weights.shape[:2]
    groups = ints[1]
    depthwise = groups > 1 and channels == 1 and filters == groups and weights[0, 0].size <= MOST_TAPS
    # Products are of unsigned bytes: the kernels add 128 to signed ones.
    raised = 128 if build.dtype(x) == ir.DataType.INT8 else 0
    sums = weights.reshape(filters, -1).sum(axis=1, dtype=np.int64)
    start = (constants.start - (constants.x_zero + raised) * sums).astype(np.int32)
    if depthwise:
        parts = [weights, start] if constants.scale is None else [weights, start, constants.scale]
        operands = [build.packed("conv.bytes.depthwise", parts, [])]
    else:
        scale = ABSENT if constants.scale is None else build.constant_register(constants.scale)
        operands = [build.packed("conv.bytes", [weights], [groups]), build.constant_register(start), scale]
    build.emit(
        "conv.bytes.depthwise" if depthwise else "conv.bytes",
        [build.register(x), *operands],
        [build.output(node, order=channels_last(build.rank(node.outputs[0])))],
        (*ints, constants.x_zero & 0xFF, constants.y_zero),
    )
