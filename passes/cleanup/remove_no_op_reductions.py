"""Remove reductions and poolings of one element at a time.

    before   ReduceMax(x: [N, 1, C], axes=[1])   MaxPool(x, 1x1)   GlobalAveragePool(x: [N, C, 1, 1])
    after    x                                    x                 x

A reduction that also drops its axes becomes the Squeeze that it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.attributes import attribute, axes_of
from graphopt.rewriting import Match, Pass, op, rule_on


@rule_on("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", depth=1)
def reduction_of_one(m: Match) -> ir.Value | None:
    """ReduceMax(x) over axes of size 1 -> x, or Squeeze(x, axes)."""
    node = m.root
    x, axes = node.inputs[0], axes_of(node, m.opset)
    if x is None or axes is None:
        return None
    dims = m.dims(x)
    if not axes:
        if attribute(node, "noop_with_empty_axes", 0) == 1:
            return x
        axes = tuple(range(len(dims))) if dims is not None else ()
    if dims is None or not all(-len(dims) <= a < len(dims) and dims[a] == 1 for a in axes):
        return None
    if attribute(node, "keepdims", 1) == 1 or not dims:
        return x
    value: ir.Value = op.Squeeze(x, sorted(a % len(dims) for a in axes))
    return value


@rule_on("MaxPool", "AveragePool", depth=1)
def pool_of_one(m: Match) -> ir.Value | None:
    """MaxPool(x) with windows of one element, one by one -> x."""
    node = m.root
    if any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
        return None
    kernel, strides, pads = (_integers(node, name) for name in ("kernel_shape", "strides", "pads"))
    if not kernel or any(v != 1 for v in (*kernel, *strides)) or any(pads):
        return None
    return node.inputs[0]


def _integers(node: ir.Node, name: str) -> tuple[int, ...]:
    value = attribute(node, name)
    return tuple(v for v in value if isinstance(v, int)) if isinstance(value, tuple) else ()


@rule_on("GlobalAveragePool", "GlobalMaxPool", depth=1)
def global_pool_of_one(m: Match) -> ir.Value | None:
    """GlobalAveragePool(x: [N, C, 1, 1]) -> x."""
    x = m.root.inputs[0]
    dims = m.dims(x) if x is not None else None
    return x if dims is not None and len(dims) > 2 and all(d == 1 for d in dims[2:]) else None


@rule_on("CumSum", depth=1)
def sum_of_one(m: Match) -> ir.Value | None:
    """CumSum(x) along an axis of size 1 -> x."""
    x, axes = m.root.inputs[0], axes_of(m.root, m.opset)
    dims = m.dims(x) if x is not None else None
    if not axes or dims is None or attribute(m.root, "exclusive", 0) != 0:
        return None
    return x if -len(dims) <= axes[0] < len(dims) and dims[axes[0]] == 1 else None


@dataclass(frozen=True)
class RemoveNoOpReductions(Pass):
    """Remove reductions and poolings over single elements."""

    name = "remove-no-op-reductions"
    family = "cleanup"
    rules = (reduction_of_one, pool_of_one, global_pool_of_one, sum_of_one)
