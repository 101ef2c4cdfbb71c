"""Selections along an axis, and running sums: ArgMax, ArgMin, TopK, NonMaxSuppression, CumSum, CumProd."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.attributes import attribute_int
from graphopt.ir.dims import Dim
from graphopt.ir.element_types import FLOATS, INTEGERS
from graphopt.ir.operands import input_of
from graphopt.lowering.builder import Builder
from graphopt.lowering.kernels import Layout, declare
from graphopt.lowering.program import ABSENT
from graphopt.lowering.registry import NotLowered, lowers

__all__: list[str] = []

_T = ir.DataType
_NUMBERS = FLOATS | INTEGERS

for _kernel in ("arg_max", "arg_min", "cumsum", "cumprod"):
    declare(_kernel, inputs=Layout.ANY, outputs=Layout.ANY)
declare("topk", inputs={0: Layout.ANY, 1: Layout.ANY}, outputs=Layout.ANY)


@lowers("ArgMax", "ArgMin")
def arg(build: Builder, node: ir.Node) -> NotLowered | None:
    """The first or last index of an extreme."""
    if build.dtype(node.inputs[0]) not in _NUMBERS:
        return NotLowered("element type")
    ints = [
        attribute_int(node, name, default)
        for name, default in (("axis", 0), ("keepdims", 1), ("select_last_index", 0))
    ]
    kernel = "arg_max" if node.op_type == "ArgMax" else "arg_min"
    build.emit(kernel, [build.register(node.inputs[0])], [build.output(node)], ints=ints)
    return None


@lowers("TopK")
def topk(build: Builder, node: ir.Node) -> NotLowered | None:
    """Always sorted; how many is an attribute, a constant or data."""
    x, count = node.inputs[0], input_of(node, 1)
    dtype = build.dtype(x)
    if dtype not in _NUMBERS or x is None:
        return NotLowered("element type")
    sizes = None if count is None else build.sizes(count)
    k: Dim = attribute_int(node, "k", -1)
    if count is not None:
        k = sizes[0] if sizes is not None and len(sizes) == 1 else -1
    known = count is None or sizes is not None
    made = [build.output(node, 0), build.output(node, 1)]
    dims = build.dims(node.outputs[0])
    for i, register in enumerate(made):
        if register == ABSENT:
            if dims is None:
                return NotLowered("an output that is left out, of unknown dims")
            made[i] = build.temporary(dtype if i == 0 else _T.INT64, dims)
    build.emit(
        "topk",
        [build.register(x)] if known else [build.register(x), build.register(count)],
        made,
        ints=[attribute_int(node, "axis", -1), attribute_int(node, "largest", 1), k],
    )
    return None


@lowers("CumSum", "CumProd")
def running(build: Builder, node: ir.Node) -> NotLowered | None:
    """Along a constant axis."""
    value = input_of(node, 1)
    axis = None if value is None else build.sizes(value)
    if axis is None or len(axis) != 1 or type(axis[0]) is not int:
        return NotLowered("an axis that is data")
    if build.dtype(node.inputs[0]) not in _NUMBERS or build.rank(node.outputs[0]) == 0:
        return NotLowered("element type")
    build.emit(
        "cumsum" if node.op_type == "CumSum" else "cumprod",
        [build.register(node.inputs[0])],
        [build.output(node)],
        ints=[axis[0], attribute_int(node, "exclusive", 0), attribute_int(node, "reverse", 0)],
    )
    return None


@lowers("NonMaxSuppression")
def non_max_suppression(build: Builder, node: ir.Node) -> NotLowered | None:
    """How many boxes are chosen is known when it has run."""
    if any(v is not None and build.dtype(v) not in (_T.FLOAT, _T.INT64) for v in node.inputs):
        return NotLowered("element type")
    build.emit(
        "nms",
        [build.register(v) for v in node.inputs],
        [build.output(node)],
        ints=[attribute_int(node, "center_point_box", 0)],
    )
    return None
