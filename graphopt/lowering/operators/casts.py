"""Casts: steps of element-wise programs."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.attributes import attribute
from graphopt.lowering.builder import Builder
from graphopt.lowering.elementwise_program import SMALL, Op
from graphopt.lowering.elementwise_writer import ElementwiseWriter
from graphopt.lowering.registry import NotLowered, lowers

__all__: list[str] = []

# kernels/ops/float8.h, Scale8Rounding
_ROUNDING = {"up": 0, "down": 1, "nearest": 2}


@lowers("Cast", "CastLike")
def cast(build: Builder, node: ir.Node) -> NotLowered | None:
    """To the type of the attribute, or of the second input."""
    to = build.dtype(node.outputs[0])
    x = node.inputs[0]
    assert x is not None, f"{node.op_type} has an input"
    of = build.dtype(x)
    if to is None or of is None or ir.DataType.STRING in (to, of):
        return NotLowered("strings" if to is not None and of is not None else "element type")
    if to == of:
        build.bind(node.outputs[0], build.register(x))
        return None
    writer = ElementwiseWriter(build, node)
    saturate = bool(attribute(node, "saturate", 1))
    rounding = _ROUNDING[str(attribute(node, "round_mode", "up"))]
    source = writer.register(build.register(x), of)
    return writer.finish(writer.cast(source, to, saturate, rounding))


@lowers("BitCast")
def bit_cast(build: Builder, node: ir.Node) -> NotLowered | None:
    """The same bits under another type of the same width."""
    to = build.dtype(node.outputs[0])
    x = node.inputs[0]
    of = build.dtype(x)
    if x is None or to is None or of is None:
        return NotLowered("element type")
    if to == of:
        build.bind(node.outputs[0], build.register(x))
        return None
    if to.bitwidth != of.bitwidth or ir.DataType.STRING in (to, of):
        return NotLowered("types of different width")
    writer = ElementwiseWriter(build, node)
    source = writer.register(build.register(x), of)
    if to in SMALL and of in SMALL:
        return writer.finish(writer.cast(source, to))  # signs fill the upper bits in registers
    if to.bitwidth < 8:
        return NotLowered("types below 8 bits")
    return writer.finish(writer.apply(Op.COPY, source, to=to))
