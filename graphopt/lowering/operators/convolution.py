"""Convolutions.

With constant float weights they run over channels-last images: depthwise where each channel has one filter
of its own, else densely. The output is channels-last in memory; its dims keep their order. 16-bit floats are
computed in float32. Everything else has a plain kernel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.attributes import attribute, attribute_int, attribute_ints
from graphopt.ir.constants import constant, shape_of
from graphopt.ir.element_types import FLOATS
from graphopt.ir.operands import input_of
from graphopt.lowering.builder import Builder
from graphopt.lowering.casting import emit_cast
from graphopt.lowering.elementwise_writer import common_order
from graphopt.lowering.kernels import Layout, declare
from graphopt.lowering.operators.linear import ACTIVATION_NUMBERS
from graphopt.lowering.program import ABSENT
from graphopt.lowering.registry import NotLowered, lowers
from graphopt.lowering.windows import auto_pad_of, channels_last, window_ints

__all__: list[str] = []

# Rows of taps that the depthwise kernel keeps pointers of: kMostTapRows of kernels/ops/conv_depthwise.h.
MOST_TAP_ROWS = 64

# What kernels/ops/conv_winograd.cpp gains: 1.2 to 1.9 times from 24 channels on; it reads 16 weights for 9.
LEAST_WINOGRAD_CHANNELS = 24
NEAR_WEIGHTS = 256 * 256
LEAST_TILES, LEAST_TILES_OF_MANY = 4, 12

# Dense convolutions read any layout: what has a border or other strides goes through scratch anyway.
declare("conv", inputs=Layout.ANY, outputs=Layout.ANY)
declare("conv.direct", inputs=Layout.ANY, outputs=Layout.ANY)
declare("conv.winograd", inputs=Layout.ANY, outputs=Layout.ANY)
declare("conv.transpose", inputs=Layout.ANY, outputs=Layout.ANY)
declare("conv.transpose.direct", inputs=Layout.ANY, outputs=Layout.ANY)
declare("conv.depthwise", inputs={0: Layout.CHANNELS_LAST, 3: Layout.CHANNELS_LAST}, outputs=Layout.ANY)


@dataclass(frozen=True, slots=True)
class End:
    """What follows the sums: an added operand, then an activation."""

    residual: ir.Value | None = None
    activation: int = 0
    parameters: tuple[float, ...] = ()


@lowers("Conv")
def conv(build: Builder, node: ir.Node) -> NotLowered | None:
    """Conv."""
    return _conv(build, node, End())


@lowers("FusedConv", domain="com.microsoft")
def fused_conv(build: Builder, node: ir.Node) -> NotLowered | None:
    """activation(Conv(x, w, b) + z)."""
    kind = str(attribute(node, "activation", ""))
    if kind not in ACTIVATION_NUMBERS:
        return NotLowered(f"activation {kind}")
    given = attribute(node, "activation_params", ())
    assert isinstance(given, tuple), "parameters are a list"
    parameters = tuple(float(p) for p in given)
    residual = input_of(node, 3)
    return _conv(build, node, End(residual, ACTIVATION_NUMBERS[kind], parameters))


def _conv(build: Builder, node: ir.Node, end: End) -> NotLowered | None:
    x, w = node.inputs[0], node.inputs[1]
    assert x is not None and w is not None, "image and weights are required"
    b = input_of(node, 2)
    dtype = build.dtype(x)
    if dtype not in FLOATS:
        return NotLowered(f"convolution of element type {dtype}")
    rank = build.rank(w)
    if rank is None or not 3 <= rank <= 5:
        return NotLowered("the number of axes is not known, or not 1 to 3")
    dims = build.dims(w)
    assert dims is not None, "ranked tensors have dims"
    shape = [dim if type(dim) is int else 0 for dim in dims]  # 0: read from the weights
    groups = attribute_int(node, "group", 1)
    window = window_ints(node, shape[2:])
    ints = (shape[0], groups, auto_pad_of(node), *window, end.activation, 0)
    tensor = constant(w)
    if (
        tensor is None
        or dtype == ir.DataType.DOUBLE
        or (dtype != ir.DataType.FLOAT and build.rank(x) is None)
    ):
        inputs = [build.register(v) for v in (x, w, b, end.residual)]
        build.emit("conv", inputs, [build.output(node)], ints, end.parameters)
        return None
    depthwise = _is_depthwise(shape_of(tensor), groups)
    kernel = "conv.depthwise" if depthwise else "conv.direct"
    if _pays_winograd(build, node, shape_of(tensor), groups, window):
        kernel = "conv.winograd"
    packed = build.packed(kernel, [w], [groups] if kernel == "conv.direct" else [])
    inputs = [_float32(build, node, x), packed, _float32(build, node, b), _float32(build, node, end.residual)]
    order = channels_last(build.rank(node.outputs[0]))
    output = build.output(node, order=order)
    if dtype == ir.DataType.FLOAT:
        build.emit(kernel, inputs, [output], ints, end.parameters)
        return None
    dims = build.dims(node.outputs[0])
    assert dims is not None, "as many as the input has"
    sums = build.temporary(ir.DataType.FLOAT, dims, order)
    build.emit(kernel, inputs, [sums], ints, end.parameters)
    return emit_cast(build, node, sums, output)


def _is_depthwise(shape: tuple[int, ...], groups: int) -> bool:
    filters, channels, *kernel = shape
    return groups > 1 and channels == 1 and filters == groups and math.prod(kernel[:-1]) <= MOST_TAP_ROWS


def _pays_winograd(
    build: Builder, node: ir.Node, shape: tuple[int, ...], groups: int, window: tuple[int, ...]
) -> bool:
    """Whether tiles of 4 x 4 are faster: neither few channels nor few tiles pay for them."""
    if groups != 1 or window[:6] != (3, 3, 1, 1, 1, 1) or min(shape[:2]) < LEAST_WINOGRAD_CHANNELS:
        return False
    dims = build.dims(node.outputs[0])
    if dims is None or len(dims) != 4:
        return False
    batch, _, height, width = dims
    if not (isinstance(batch, int) and isinstance(height, int) and isinstance(width, int)):
        return True
    tiles = batch * ((height + 1) // 2) * ((width + 1) // 2)
    return tiles >= (LEAST_TILES if shape[0] * shape[1] <= NEAR_WEIGHTS else LEAST_TILES_OF_MANY)


def _float32(build: Builder, node: ir.Node, value: ir.Value | None) -> int:
    """The register of a value in float32."""
    register = build.register(value)
    if value is None or build.dtype(value) == ir.DataType.FLOAT:
        return register
    array = build.constant(value) if constant(value) is not None else None
    if array is not None:
        return build.constant_register(array.astype(np.float32))
    dims = build.dims(value)
    assert dims is not None, "only ranked values are converted"
    wide = build.temporary(ir.DataType.FLOAT, dims, common_order(build, [register], dims))
    emit_cast(build, node, register, wide)
    return wide


@lowers("ConvTranspose")
def conv_transpose(build: Builder, node: ir.Node) -> NotLowered | None:
    """The gradient of a convolution by its input: a convolution for each phase of the stride."""
    x, w = node.inputs[0], node.inputs[1]
    assert x is not None and w is not None, "image and weights are required"
    b = input_of(node, 2)
    dtype, dims = build.dtype(x), build.dims(w)
    if dtype not in FLOATS:
        return NotLowered(f"convolution of element type {dtype}")
    if dims is None or not 3 <= len(dims) <= 5 or any(type(dim) is not int for dim in dims[1:]):
        return NotLowered("the dims of the weights are not known, or not those of 1 to 3 axes")
    kernel = [dim for dim in dims[2:] if type(dim) is int]
    groups = attribute_int(node, "group", 1)
    axes = len(kernel)
    window = window_ints(node, kernel)
    extra = attribute_ints(node, "output_padding", (0,) * axes)
    asked = attribute_ints(node, "output_shape", (0,) * axes)[-axes:]
    ints = (dims[1] * groups, groups, auto_pad_of(node), *window, *extra, *asked, 0, 0)
    dilated = any(d != 1 and k != 1 for d, k in zip(window[2 * axes : 3 * axes], kernel, strict=True))
    if constant(w) is None or dtype != ir.DataType.FLOAT or dilated:
        build.emit("conv.transpose", [build.register(v) for v in (x, w, b)], [build.output(node)], ints)
        return None
    strides = window[axes : 2 * axes]
    packed = build.packed("conv.transpose.direct", [w], [groups, *strides])
    output = build.output(node, order=channels_last(build.rank(node.outputs[0])))
    build.emit(
        "conv.transpose.direct", [build.register(x), packed, build.register(b), ABSENT], [output], ints
    )
    return None
