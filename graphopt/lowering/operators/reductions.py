"""Reductions: one kernel for all, told which by a number."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.attributes import attribute, attribute_int, axes_of
from graphopt.ir.element_types import FLOATS
from graphopt.ir.operands import input_of
from graphopt.lowering.builder import Builder
from graphopt.lowering.kernels import Layout, declare
from graphopt.lowering.registry import NotLowered, lowers

__all__: list[str] = []

# In the order of `enum Reduction`, kernels/ops/reduce.h.
_OPERATORS = (
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceSumSquare",
)
_T = ir.DataType
_INTEGERS = frozenset({_T.INT32, _T.INT64, _T.UINT32, _T.UINT64})
_SMALL = frozenset({_T.INT8, _T.UINT8, _T.INT16, _T.UINT16, _T.BOOL})
_OF_FLOATS = frozenset({"ReduceL2", "ReduceLogSum", "ReduceLogSumExp"})

declare("reduce", inputs=Layout.ANY, outputs=Layout.ANY)


def _takes(op_type: str, dtype: ir.DataType | None) -> bool:
    if dtype in _SMALL:
        return op_type in ("ReduceMax", "ReduceMin")
    return dtype in FLOATS or (dtype in _INTEGERS and op_type not in _OF_FLOATS)


@lowers(*_OPERATORS)
def reduction(build: Builder, node: ir.Node) -> NotLowered | None:
    """Over constant axes; without any over all, or over none."""
    axes = axes_of(node, build.opset(node))
    if axes is None:
        axes = _computed(build, node)
    if axes is None:
        return NotLowered("axes that are data")
    if not _takes(node.op_type, build.dtype(node.inputs[0])):
        return NotLowered("element type")
    over_all = not axes and not attribute(node, "noop_with_empty_axes", 0)
    keeps = attribute_int(node, "keepdims", 1)
    build.emit(
        "reduce",
        [build.register(node.inputs[0])],
        [build.output(node)],
        ints=[_OPERATORS.index(node.op_type), int(keeps != 0), int(over_all), *axes],
    )
    return None


def _computed(build: Builder, node: ir.Node) -> tuple[int, ...] | None:
    """Axes that are no constant but come out of constants."""
    value = input_of(node, 1)
    numbers = None if value is None else build.sizes(value)
    if numbers is None:
        return None
    axes = tuple([n for n in numbers if type(n) is int])
    return axes if len(axes) == len(numbers) else None
