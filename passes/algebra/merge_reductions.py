"""A reduction that does what comes after it too.

    before   ReduceMean(axes=[2,3]) -> Flatten     ReduceSum(x) / 512     ReduceMax(ReduceMax(x, 1), 2)
    after    ReduceMean(axes=[2,3], keepdims=0)    ReduceMean(x)          ReduceMax(x, [1,2])

Reduced axes are kept or dropped as the reshape that follows wants it; a global pooling whose axes are dropped
is a reduction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.attributes import axes_of
from graphopt.ir.dims import Dim
from graphopt.ir.element_types import FLOATS
from graphopt.rewriting import Match, Pass, Rejection, op, rule_on
from graphopt.rewriting.weights import copy_of

OTHER_SHAPE = "the reshape does more than drop or restore the reduced axes"
HAS_OTHER_CONSUMERS = "the reduced value has another consumer"
AXES_DIFFER = "the axes of one reduction can't be told in terms of the other's"

_REDUCTIONS = frozenset(
    {
        "ReduceSum",
        "ReduceMean",
        "ReduceMax",
        "ReduceMin",
        "ReduceProd",
        "ReduceL1",
        "ReduceL2",
        "ReduceSumSquare",
    }
    | {"ReduceLogSum", "ReduceLogSumExp"}
)
# f(f(x, a), b) is f(x, a and b) for these.
_ASSOCIATIVE = frozenset(
    {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"}
    | {"ReduceLogSumExp"}
)
_POOLS = {"GlobalAveragePool": "ReduceMean", "GlobalMaxPool": "ReduceMax"}


@dataclass(frozen=True)
class _Reduction:
    """A node that reduces: as which operator, its input, the input's dims, the axes from the front."""

    node: ir.Node
    op_type: str
    source: ir.Value
    dims: tuple[Dim, ...]
    axes: tuple[int, ...]
    keeps: bool

    def written(self, axes: tuple[int, ...], *, keepdims: bool) -> ir.Value:
        if self.node.op_type == self.op_type:
            inputs: list[ir.Value | np.ndarray | None] = [self.source, np.array(axes, np.int64)]
            without = ("axes", "noop_with_empty_axes")
            return copy_of(self.node, inputs, without=without, keepdims=int(keepdims))
        result: ir.Value = op[self.op_type](self.source, list(axes), keepdims=int(keepdims))
        return result


def _reduction(m: Match, value: ir.Value | None) -> _Reduction | None:
    node = None if value is None else value.producer()
    if node is None or node.domain != "" or not (node.op_type in _REDUCTIONS or node.op_type in _POOLS):
        return None
    source = node.inputs[0]
    dims = None if source is None else m.dims(source)
    if source is None or dims is None:
        return None
    if node.op_type in _POOLS:
        return _Reduction(node, _POOLS[node.op_type], source, dims, tuple(range(2, len(dims))), True)
    axes = axes_of(node, m.opset)
    if axes is None or (not axes and m.attribute(node, "noop_with_empty_axes")):
        return None
    rank = len(dims)
    # Opset 11 is the first that counts axes from the end.
    whole = tuple(sorted({a % rank for a in axes})) if axes and rank else tuple(range(rank))
    return _Reduction(node, node.op_type, source, dims, whole, m.attribute(node, "keepdims") != 0)


@rule_on("Squeeze", "Unsqueeze", "Reshape", "Flatten", depth=2)
def reshaped_reduction(m: Match) -> ir.Value | Rejection | None:
    """Squeeze(ReduceMean(x, axes, keepdims=1), axes) -> ReduceMean(x, axes, keepdims=0)."""
    value = m.root.inputs[0]
    reduction = _reduction(m, value)
    if reduction is None or value is None:
        return None
    made = m.dims(m.output)
    dropped = tuple(dim for i, dim in enumerate(reduction.dims) if i not in reduction.axes)
    kept = tuple(1 if i in reduction.axes else dim for i, dim in enumerate(reduction.dims))
    if made is None or made not in (dropped, kept) or not reduction.axes:
        return Rejection(OTHER_SHAPE, m.output)
    if not m.has_one_consumer(value):
        return Rejection(HAS_OTHER_CONSUMERS, value)
    if made == kept and reduction.keeps:
        return value
    return reduction.written(reduction.axes, keepdims=made == kept)


@rule_on(*sorted(_REDUCTIONS), depth=2)
def reduction_of_reshaped(m: Match) -> ir.Value | Rejection | None:
    """ReduceMean(Squeeze(x, a), b) -> ReduceMean(x, b)."""
    value = m.root.inputs[0]
    node = None if value is None else value.producer()
    if value is None or node is None or node.op_type not in ("Squeeze", "Unsqueeze") or node.domain != "":
        return None
    source, outer = node.inputs[0], _reduction(m, m.output)
    given, made = None if source is None else m.dims(source), m.dims(m.output)
    if source is None or outer is None or given is None or made is None or not outer.axes:
        return None
    changed = axes_of(node, m.opset)
    wide = given if node.op_type == "Squeeze" else outer.dims
    if changed is None or (node.op_type == "Squeeze" and not changed):
        return Rejection(AXES_DIFFER, value)
    dropped = {a % len(wide) for a in changed}
    left = [i for i in range(len(wide)) if i not in dropped]
    if node.op_type == "Squeeze":
        axes = {left[a] for a in outer.axes}
        choices = [(axes, False), (axes, True), (axes | dropped, False)]
    else:
        axes = {left.index(a) for a in outer.axes if a not in dropped}
        choices = [(axes, False), (axes, True)]
    for chosen, keeps in choices:
        dims = tuple(1 if i in chosen else d for i, d in enumerate(given) if keeps or i not in chosen)
        if dims == made and chosen:
            inner = _Reduction(m.root, m.root.op_type, source, given, tuple(sorted(chosen)), keeps)
            return inner.written(inner.axes, keepdims=keeps)
    return Rejection(OTHER_SHAPE, value)


@rule_on(*sorted(_ASSOCIATIVE), depth=2)
def reduction_of_reduction(m: Match) -> ir.Value | Rejection | None:
    """ReduceMax(ReduceMax(x, a), b) -> ReduceMax(x, a and b)."""
    value = m.root.inputs[0]
    inner = _reduction(m, value)
    if inner is None or value is None or inner.node.op_type != m.root.op_type:
        return None
    outer = _reduction(m, m.output)
    if outer is None or not m.has_one_consumer(value):
        return Rejection(HAS_OTHER_CONSUMERS, value)
    if inner.keeps:
        axes = tuple(sorted({*inner.axes, *outer.axes}))
        if not outer.keeps and not set(inner.axes) <= set(outer.axes):
            return Rejection(AXES_DIFFER, value)
    else:
        left = [i for i in range(len(inner.dims)) if i not in inner.axes]
        axes = tuple(sorted({*inner.axes, *(left[a] for a in outer.axes)}))
        if outer.keeps:
            return Rejection(AXES_DIFFER, value)
    return inner.written(axes, keepdims=outer.keeps)


@rule_on("Mul", "Div", depth=2)
def sum_over_count(m: Match) -> ir.Value | Rejection | None:
    """Div(ReduceSum(x), count) -> ReduceMean(x)."""
    for value, given in (m.root.inputs, m.root.inputs[::-1]):
        number = constants.uniform(given)
        if number is None or number == 0 or (m.root.op_type == "Div" and given is m.root.inputs[0]):
            continue
        reduction = _reduction(m, value)
        if reduction is None or reduction.node.op_type != "ReduceSum" or value is None or not reduction.axes:
            return None
        dtype, sizes = m.dtype(value), [reduction.dims[a] for a in reduction.axes]
        if dtype is None or not dtype.is_floating_point() or not m.facts.same_shape(value, m.output):
            return None
        if not all(isinstance(size, int) for size in sizes):
            return None
        count = math.prod(size for size in sizes if isinstance(size, int))
        expected = np.array(count if m.root.op_type == "Div" else 1 / max(count, 1)).astype(dtype.numpy())
        if count == 0 or float(expected) != float(number):
            return None
        if not m.has_one_consumer(value):
            return Rejection(HAS_OTHER_CONSUMERS, value)
        mean: ir.Value = op.ReduceMean(reduction.source, list(reduction.axes), keepdims=int(reduction.keeps))
        return mean
    return None


@rule_on("ReduceSum", depth=2)
def sum_of_weighted(m: Match) -> ir.Value | Rejection | None:
    """ReduceSum(Mul(x, weights), axes=[-1]) -> MatMul(x, weights)."""
    reduction, value = _reduction(m, m.output), m.root.inputs[0]
    product = None if value is None else value.producer()
    if reduction is None or value is None or product is None or product.op_type != "Mul" or product.domain:
        return None
    rank = len(reduction.dims)
    if reduction.axes != (rank - 1,) or rank < 2 or m.dtype(value) not in FLOATS:
        return None
    for x, given in (product.inputs, product.inputs[::-1]):
        tensor, size = m.tensor(given), reduction.dims[-1]
        if tensor is None or x is None or not isinstance(size, int) or size < 2:
            continue
        if tensor.size != size or constants.shape_of(tensor)[-1:] != (size,) or m.dims(x) != reduction.dims:
            return None
        if not m.has_one_consumer(value):
            return Rejection(HAS_OTHER_CONSUMERS, value)
        weights = np.asarray(tensor.numpy()).reshape((size, 1) if reduction.keeps else (size,))
        return op.MatMul(x, weights)
    return None


@dataclass(frozen=True)
class MergeReductions(Pass):
    """Merge reductions with the reshape, scaling or reduction that follows them."""

    name = "merge-reductions"
    family = "algebra"
    level = 2
    bound = "float32 within a few units in the last place: sums are taken in another order"
    rules = (
        reshaped_reduction,
        reduction_of_reshaped,
        reduction_of_reduction,
        sum_over_count,
        sum_of_weighted,
    )
