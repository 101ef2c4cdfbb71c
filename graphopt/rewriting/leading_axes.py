"""Operators that do the same whether the leading axes are one or several.

    x[b*h,n,k] @ y[b*h,k,m]  is  x[b,h,n,k] @ y[b,h,k,m]  but for a Reshape of the result

What an operator has to do with is its trailing axes; `adapted` gives its attributes and axes for more leading
axes, or says that it can't be had so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir import facts as operator_facts
from graphopt.ir.attribute_defaults import attribute_or_default
from graphopt.ir.attributes import axes_of
from graphopt.ir.dims import Dim
from graphopt.ir.inference import Facts
from graphopt.ir.relabelling import Relabelling, is_relabelling

__all__ = ["Adapted", "adapted", "wide_inputs"]

Dims = tuple[Dim, ...]

# Softmax works on the axis alone from here on; before, on all axes from it.
SOFTMAX_OVER_ONE_AXIS_SINCE = 13

REDUCTIONS = (
    *("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"),
    *("ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"),
)
AXIS_OPERATORS = (
    *("Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization", "Concat", "Split"),
    *("Gather", "GatherElements", "ArgMax", "ArgMin"),
)


@dataclass(frozen=True, slots=True)
class Adapted:
    """An operator for values whose first axis has become several.

    Attributes:
        attributes: Those that change.
        axes: The axes (from the end), where they are an input or an attribute of the old spelling.
        weak: Whether an input may have a 1 in place of leading axes: the operator broadcasts.
        relabelling: The node becomes this one.
        is_product: A Gemm becomes a MatMul, and an Add if it has a third input.
        growth: Nodes more than before.
    """

    attributes: dict[str, object] = field(default_factory=dict)
    axes: tuple[int, ...] | None = None
    weak: bool = False
    relabelling: Relabelling | None = None
    is_product: bool = False
    growth: int = 0


def adapted(facts: Facts, node: ir.Node, opset: int, wide: frozenset[int], extra: int) -> Adapted | None:
    """How to run a node with `extra` more leading axes on the inputs `wide`, whose first axis is parted.

    The other inputs stay what they are. None: it does not work, or nothing is known of the operator.
    """
    if node.domain != "" or not node.outputs:
        return None
    shapes = _shapes(facts, node)
    result = facts.dims(node.outputs[0])
    if shapes is None or result is None or len(shapes[min(wide)]) < 2:
        return None
    rank = len(shapes[min(wide)])
    if node.op_type == "Gemm":
        return _as_product(node, opset, shapes, wide)
    if node.op_type == "MatMul":
        return Adapted(weak=True) if _is_batched(shapes, wide) else None
    if operator_facts.is_elementwise(node):
        plain = (
            len(node.outputs) == 1 and "axis" not in node.attributes and not operator_facts.is_random(node)
        )
        return Adapted(weak=True) if plain and _broadcasts(shapes, wide, len(result)) else None
    if node.op_type == "Transpose":
        perm = attribute_or_default(node, "perm", opset)
        is_kept = isinstance(perm, tuple) and perm[0] == 0
        order = [*range(extra + 1), *(axis + extra for axis in perm[1:])] if is_kept else []  # type: ignore[index]
        return Adapted({"perm": order}, weak=True) if is_kept else None
    if node.op_type in REDUCTIONS or node.op_type == "Slice":
        return _over_axes(node, opset, rank, wide)
    return _over_axis(node, opset, rank, wide) if node.op_type in AXIS_OPERATORS else None


def _shapes(facts: Facts, node: ir.Node) -> dict[int, Dims] | None:
    """Dims of the inputs that are there; None where one's rank is unknown."""
    shapes: dict[int, Dims] = {}
    for i, value in enumerate(node.inputs):
        dims = facts.dims(value) if value is not None else None
        if dims is not None:
            shapes[i] = dims
        elif value is not None:
            return None
    return shapes


def _is_batched(shapes: dict[int, Dims], wide: frozenset[int]) -> bool:
    """Whether the first axis is one of the batch: neither rows, columns nor what is summed."""
    left, right = len(shapes[0]), len(shapes[1])
    if min(left, right) < 2 or (1 in wide and right < 3):
        return False
    if 0 in wide and left == 2:
        return right == 2
    return _broadcasts(shapes, wide, max(left, right))


def _as_product(node: ir.Node, opset: int, shapes: dict[int, Dims], wide: frozenset[int]) -> Adapted | None:
    """Of a Gemm the rows may be several axes, where it is MatMul and Add but for a transposed constant."""
    if 0 not in wide or 1 in wide or attribute_or_default(node, "transA", opset):
        return None
    if attribute_or_default(node, "transB", opset) and constants.constant(node.inputs[1]) is None:
        return None
    if any(attribute_or_default(node, name, opset) != 1 for name in ("alpha", "beta")):
        return None
    addend = shapes.get(2)
    if addend is not None and not _broadcasts({2: addend}, wide, 2):
        return None
    return Adapted(is_product=True, growth=int(addend is not None))


def _broadcasts(shapes: dict[int, Dims], wide: frozenset[int], rank: int) -> bool:
    """Whether wide inputs have all axes, and no other input has one in the place of the first."""
    return all(
        len(shape) == rank if i in wide else len(shape) < rank or shape[0] == 1 for i, shape in shapes.items()
    )


def wide_inputs(facts: Facts, node: ir.Node, merged: Dim) -> frozenset[int]:
    """The inputs of a node whose first axis is the merged one."""
    if node.op_type in AXIS_OPERATORS and node.op_type not in ("Concat", "GatherElements"):
        inputs: Sequence[ir.Value | None] = node.inputs[:1]
    elif node.op_type in (*REDUCTIONS, "Slice", "Transpose") or is_relabelling(node):
        inputs = node.inputs[:1]
    else:
        inputs = node.inputs
    found = []
    for i, value in enumerate(inputs):
        dims = facts.dims(value) if value is not None else None
        if dims is not None and len(dims) > 1 and dims[0] == merged:
            found.append(i)
    return frozenset(found)


def _over_axes(node: ir.Node, opset: int, rank: int, wide: frozenset[int]) -> Adapted | None:
    """Reductions and slices of trailing axes."""
    axes = axes_of(node, opset)
    if not axes or wide != {0}:
        return None
    trailing = tuple(sorted(axis % rank - rank for axis in axes))
    if len(axes) > 1 and node.op_type == "Slice":
        trailing = tuple(axis % rank - rank for axis in axes)
    return Adapted(axes=trailing, weak=True) if -rank not in trailing else None


def _over_axis(node: ir.Node, opset: int, rank: int, wide: frozenset[int]) -> Adapted | None:
    """Operators with one axis, which must not be the first."""
    axis = attribute_or_default(node, "axis", opset)
    if not isinstance(axis, int) or axis % rank == 0:
        return None
    axis = axis % rank - rank
    name = node.op_type
    if name in ("Softmax", "LogSoftmax") and opset < SOFTMAX_OVER_ONE_AXIS_SINCE and axis != -1:
        return None
    every = frozenset(range(len(node.inputs)))
    if name in ("Concat", "GatherElements"):
        if wide != every:
            return None
        return Adapted({"axis": axis})
    if wide != {0}:
        return None
    # Of a Gather too the axis is counted in the data.
    return Adapted({"axis": axis}, weak=True)
