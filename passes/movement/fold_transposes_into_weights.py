"""Let the rows of a weight matrix stand in the order of what is multiplied.

    before   x[n,c,h,w] -> Transpose(0 2 3 1) -> Reshape(n, h*w*c) -> Gemm(w)
    after    x[n,c,h,w] -> Reshape(n, c*h*w) -> Gemm(w')        w' is w with its rows in another order

A dense layer behind a convolution of a TensorFlow model has such a Transpose: its weights expect the
channels last.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants, lazy
from graphopt.ir.element_types import FLOATS
from graphopt.ir.regions import Movement, is_movement_node, then
from graphopt.ir.relabelling import is_relabelling, relabelling
from graphopt.rewriting import HAS_OTHER_CONSUMERS, Match, Pass, Rejection, constant, op, rule_on
from graphopt.rewriting.relabels import written

OTHER_ORDER = "more than the elements of a row changes places, or sizes are not known"
SHARED_WEIGHT = "another operator uses the weights"

# Up to this size a weight is computed at once; a larger one when it is saved.
LAZY_BYTES = 1 << 20


@rule_on("Gemm", "MatMul", depth=3)
def reordered_rows(m: Match) -> ir.Value | Rejection | None:
    """Gemm(Reshape(Transpose(x)), w) -> Gemm(Reshape(x), w with its rows in another order)."""
    flat = m.root.inputs[0]
    reshape = flat.producer() if flat is not None else None
    middle = reshape.inputs[0] if reshape is not None and is_relabelling(reshape) else None
    transpose = middle.producer() if middle is not None else None
    if transpose is None or not is_movement_node(transpose) or is_relabelling(transpose):
        return None
    weight = m.tensor(m.root.inputs[1])
    if weight is None or weight.dtype not in FLOATS or weight.shape.rank() != 2 or middle is None:
        return None
    assert flat is not None and reshape is not None
    if m.root.op_type == "Gemm" and m.attribute(m.root, "transA"):
        return None
    shared = next((v for v in (flat, middle) if not m.has_one_consumer(v)), None)
    if shared is not None:
        return Rejection(HAS_OTHER_CONSUMERS, shared)
    if len(m.root.inputs[1].uses()) > 1:  # type: ignore[union-attr]
        return Rejection(SHARED_WEIGHT, m.root.inputs[1])
    return _reordered(m, transpose, reshape, weight)


def _reordered(
    m: Match, transpose: ir.Node, reshape: ir.Node, weight: ir.TensorProtocol
) -> ir.Value | Rejection:
    source = transpose.inputs[0]
    dims = m.dims(source) if source is not None else None
    movement = then(Movement.of(dims), transpose, m.facts) if dims is not None else None
    movement = then(movement, reshape, m.facts) if movement is not None else None
    if movement is None or source is None or dims is None:
        return Rejection(OTHER_ORDER, m.root.inputs[0])
    rows = movement.groups[-1]
    sizes = [n for place in rows if isinstance(n := movement.factors[place], int)]
    outer = tuple(place for group in movement.groups[:-1] for place in group)
    plain = relabelling(dims, movement.result, m.opset)
    # The row's elements are the last ones of the source, all behind what stays in front.
    if len(sizes) < len(rows) or outer != tuple(range(len(outer))) or plain is None:
        return Rejection(OTHER_ORDER, m.root.inputs[0])
    order = [rows.index(place) for place in sorted(rows)]
    by_columns = m.root.op_type == "Gemm" and bool(m.attribute(m.root, "transB"))
    shape = constants.shape_of(weight)

    def moved(array: np.ndarray) -> np.ndarray:
        table = np.arange(int(np.prod(sizes))).reshape(sizes).transpose(order).reshape(-1)
        return array.take(table, axis=1 if by_columns else 0)

    tensor = lazy.mapped((weight,), moved, weight.dtype, shape)
    again = constant(tensor if weight.nbytes > LAZY_BYTES else tensor.numpy())
    make = getattr(op, m.root.op_type)
    result: ir.Value = make(written(source, plain), again, *m.root.inputs[2:], **m.root.attributes)
    return result


@dataclass(frozen=True)
class FoldTransposesIntoWeights(Pass):
    """Let the rows of a weight matrix stand in the order of what is multiplied."""

    name = "fold-transposes-into-weights"
    family = "movement"
    stage = "fuse"
    level = 2
    bound = "float32 within a few units in the last place: the products are summed in another order"
    rules = (reordered_rows,)
