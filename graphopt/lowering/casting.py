"""Conversions that the lowering of other operators asks for."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.lowering.builder import Builder
from graphopt.lowering.elementwise_writer import ElementwiseWriter
from graphopt.lowering.registry import NotLowered

__all__ = ["emit_cast"]


def emit_cast(build: Builder, node: ir.Node, source: int, target: int) -> NotLowered | None:
    """Fill a register with another's elements in its own element type."""
    of, to = (ir.DataType(build.module.registers[r].dtype) for r in (source, target))
    writer = ElementwiseWriter(build, node)
    return writer.emit((writer.cast(writer.register(source, of), to),), [target])
