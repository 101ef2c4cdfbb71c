"""QuantizeLinear, DequantizeLinear: steps of element-wise programs. DynamicQuantizeLinear: a kernel.

Scales and zero points are looked at so that they broadcast: along an axis, or a block of it, whose dim is
then looked at as two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.attributes import attribute, attribute_int
from graphopt.ir.dims import Dim
from graphopt.ir.element_types import FLOATS, INTEGERS
from graphopt.ir.operands import input_of
from graphopt.lowering.builder import Builder
from graphopt.lowering.elementwise_program import FLOATS8, SMALL, Op, Ref
from graphopt.lowering.elementwise_writer import ElementwiseWriter
from graphopt.lowering.kernels import Layout, declare
from graphopt.lowering.registry import NotLowered, lowers

__all__: list[str] = []

Dims = tuple[Dim, ...]

declare("dynamic_quantize", inputs=Layout.DENSE, outputs=Layout.DENSE)
declare("quantize.planes", inputs=Layout.DENSE, outputs=Layout.CHANNELS_LAST)
# Of registers that lie alike: passes/quantization.py.
declare("sum.bytes", inputs=Layout.ANY, outputs=Layout.ANY)

_MAX_RANK = 8
_QUANTIZED = (
    FLOATS8 | SMALL | frozenset({ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16})
)


@dataclass(frozen=True, slots=True)
class Granularity:
    """How parameters spread over x.

    Attributes:
        axis: None: one for all.
        block: Elements of the axis that share one; 1: each has its own.
    """

    axis: int | None = None
    block: int = 1

    def split(self, dims: Dims) -> Dims:
        """Dims with that of the axis cut in blocks."""
        if self.axis is None or self.block == 1:
            return dims
        size = dims[self.axis]
        assert type(size) is int, "blocks of a known dim"
        return (*dims[: self.axis], size // self.block, self.block, *dims[self.axis + 1 :])

    def split_strides(self, strides: Dims) -> Dims:
        """Strides of those dims."""
        if self.axis is None or self.block == 1:
            return strides
        step = strides[self.axis]
        return (*strides[: self.axis], step * self.block, step, *strides[self.axis + 1 :])

    def parameter(self, dims: Dims, strides: Dims, rank: int) -> tuple[Dims, Dims]:
        """Dims and strides in which a parameter broadcasts to `split`."""
        if self.axis is None:
            return (), ()
        if len(dims) == 1 and (rank > 1 or self.block == 1):
            after = rank - 1 - self.axis
            return (dims[0], *(1,) * after), (strides[0], *(0,) * after)
        if self.block == 1:
            return dims, strides
        at = self.axis + 1
        return (*dims[:at], 1, *dims[at:]), (*strides[:at], 0, *strides[at:])


def _granularity(build: Builder, node: ir.Node) -> Granularity | NotLowered:
    x, scale = node.inputs[0], node.inputs[1]
    assert x is not None and scale is not None, "x and scale are required"
    dims, of = build.dims(x), build.dims(scale)
    if dims is None or of is None:
        return NotLowered("rank")
    if not of or (of == (1,) and len(dims) != 1) or (of == (1,) and dims == (1,)):
        return Granularity()
    axis = attribute_int(node, "axis", 1)
    if node.domain == "com.microsoft" and len(dims) == 1:
        axis = 0
    if not -len(dims) <= axis < len(dims):
        return Granularity() if of == (1,) else NotLowered("axis")
    axis %= len(dims)
    block = attribute_int(node, "block_size")
    if not block:
        return Granularity(axis) if len(of) == 1 else NotLowered("the scale's rank")
    size = dims[axis]
    if len(of) != len(dims):
        return NotLowered("the scale's rank")
    if block == 1:
        return Granularity(axis)
    if type(size) is not int or size % block or len(dims) == _MAX_RANK:
        return NotLowered("blocks that do not fill their axis")
    return Granularity(axis, block)


@dataclass(slots=True)
class _Parameters:
    """x, scale and zero point of a node, ready to be read."""

    writer: ElementwiseWriter
    x: Ref
    scale: Ref
    zero: Ref


def _parameters(
    build: Builder, node: ir.Node, spread: Granularity, quantized: ir.DataType
) -> _Parameters | NotLowered:
    writer = ElementwiseWriter(build, node)
    x, scale = node.inputs[0], node.inputs[1]
    assert x is not None and scale is not None, "x and scale are required"
    dtypes = build.dtype(x), build.dtype(scale)
    dims = build.dims(x)
    if dtypes[0] is None or dtypes[1] is None or dims is None:
        return NotLowered("element type")
    register = build.register(x)
    if spread.axis is not None and spread.block != 1:
        register = build.look(register, spread.split(dims), spread.split_strides(build.strides(register)))
    x_ref = writer.register(register, dtypes[0])
    scale_ref = _parameter(build, writer, scale, dtypes[1], spread, len(dims))
    zero = input_of(node, 2)
    if zero is None or quantized in FLOATS8:
        nothing = writer.constant(quantized, 0.0 if quantized in FLOATS8 else 0)
        return _Parameters(writer, x_ref, scale_ref, nothing)
    dtype = build.dtype(zero)
    if dtype != quantized:
        return NotLowered("the zero point's element type")
    return _Parameters(writer, x_ref, scale_ref, _parameter(build, writer, zero, dtype, spread, len(dims)))


def _parameter(
    build: Builder,
    writer: ElementwiseWriter,
    value: ir.Value,
    dtype: ir.DataType,
    spread: Granularity,
    rank: int,
) -> Ref:
    if spread.axis is None:
        array = build.constant(value)
        if array is not None:
            number = array.astype(np.float64).reshape(-1)[0]
            return writer.constant(dtype, float(number) if dtype in FLOATS | FLOATS8 else int(number))
    register = build.register(value)
    dims, strides = build.module.registers[register].dims, build.strides(register)
    assert dims is not None, "the rank of a parameter is known"
    return writer.register(build.look(register, *spread.parameter(dims, strides, rank)), dtype)


def _finish(
    build: Builder, node: ir.Node, spread: Granularity, writer: ElementwiseWriter, result: Ref
) -> NotLowered | None:
    if spread.axis is None or spread.block == 1:
        return writer.finish(result)
    if writer.problem is not None:
        return writer.problem
    output = build.output(node)
    dims = build.module.registers[output].dims
    assert dims is not None, "the rank of the result is known"
    cut = build.look(output, spread.split(dims), spread.split_strides(build.strides(output)))
    return writer.emit((result,), [cut])


def _quantize(build: Builder, node: ir.Node) -> NotLowered | None:
    """saturate(round(x / scale) + zero point), divided in `precision`, by default the scale's type."""
    to = build.dtype(node.outputs[0])
    spread = _granularity(build, node)
    if isinstance(spread, NotLowered):
        return spread
    if to not in _QUANTIZED:
        return NotLowered("element type")
    p = _parameters(build, node, spread, to)
    if isinstance(p, NotLowered):
        return p
    writer = p.writer
    saturate = (float(bool(attribute(node, "saturate", 1))), 0.0)
    precision = attribute(node, "precision", 0)
    wide = ir.DataType(precision) if isinstance(precision, int) and precision else writer.dtypes[p.scale]
    if wide not in FLOATS or writer.dtypes[p.x] not in FLOATS | INTEGERS:
        return NotLowered("element type")
    x, scale = writer.cast(p.x, wide), writer.cast(p.scale, wide)
    if wide != ir.DataType.FLOAT:
        x = writer.cast(writer.apply(Op.DIV, x, scale), ir.DataType.FLOAT)
        scale = writer.constant(ir.DataType.FLOAT, 1.0)
    result = writer.apply(Op.QUANTIZE, x, scale, p.zero, to=to, immediates=saturate)
    return _finish(build, node, spread, writer, result)


def _dequantize(build: Builder, node: ir.Node) -> NotLowered | None:
    """(x - zero point) * scale, computed in float32."""
    x = node.inputs[0]
    to, of = build.dtype(node.outputs[0]), build.dtype(x)
    spread = _granularity(build, node)
    if isinstance(spread, NotLowered):
        return spread
    if to not in FLOATS or of is None or of not in _QUANTIZED | {ir.DataType.INT32}:
        return NotLowered("element type")
    p = _parameters(build, node, spread, of)
    if isinstance(p, NotLowered):
        return p
    writer = p.writer
    scale = writer.cast(p.scale, ir.DataType.FLOAT)
    result = writer.apply(Op.DEQUANTIZE, p.x, scale, p.zero, to=ir.DataType.FLOAT)
    return _finish(build, node, spread, writer, writer.cast(result, to))


for _domain in ("", "com.microsoft"):
    lowers("QuantizeLinear", domain=_domain)(_quantize)
    lowers("DequantizeLinear", domain=_domain)(_dequantize)


@lowers("DynamicQuantizeLinear")
def dynamic_quantize(build: Builder, node: ir.Node) -> NotLowered | None:
    """Scale and zero point from the range of x."""
    x = node.inputs[0]
    if build.dtype(x) != ir.DataType.FLOAT:
        return NotLowered("element type")
    source = build.register(x)
    outputs = [build.output(node, k) for k in range(3)]
    kinds = (ir.DataType.UINT8, ir.DataType.FLOAT, ir.DataType.UINT8)
    dims = build.module.registers[source].dims
    for k, output in enumerate(outputs):
        if output < 0:
            if k == 0 and dims is None:
                return NotLowered("rank")
            outputs[k] = build.temporary(kinds[k], dims if k == 0 and dims is not None else ())
    build.emit("dynamic_quantize", [source], outputs)
    return None
