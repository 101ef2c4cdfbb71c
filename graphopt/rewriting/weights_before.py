"""Operators with constant weights that take in an affine map of their input.

`before(node, index, map)` plans the node on the unmapped input: the weights of each input channel take the
scale, the bias takes what the shift comes to.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.affine import Affine, Vector
from graphopt.ir.attributes import attribute, attribute_float, attribute_int
from graphopt.ir.inference import Facts
from graphopt.ir.operands import input_of
from graphopt.rewriting.weights import (
    LAZY_BYTES,
    Array,
    is_safe,
    parameter,
    rebuilt,
    scaled,
)

__all__ = ["PlanFrom", "before", "shift_through_matmul"]

# Builds the node from the value before the map.
PlanFrom = Callable[[ir.Value], ir.Value]


def before(node: ir.Node, index: int, affine: Affine, facts: Facts) -> PlanFrom | None:
    """A plan for the node's output from the unmapped input; None where the node can't take the map in."""
    planner = _BEFORE.get(node.op_type) if node.domain == "" else None
    dtype = facts.dtype(node.outputs[0])
    if planner is None or dtype is None or not is_safe(affine.scale, dtype):
        return None
    return planner(node, index, affine, facts)


def _conv(node: ir.Node, index: int, affine: Affine, _: Facts) -> PlanFrom | None:
    weight, given = parameter(input_of(node, 1)), input_of(node, 2)
    bias = parameter(given)
    if index or weight is None or (given is not None and bias is None) or affine.axis not in (None, 1):
        return None
    shape, groups = constants.shape_of(weight), attribute_int(node, "group", 1)
    if node.op_type == "ConvTranspose":
        if affine.has_shift or (affine.scale.ndim and affine.scale.size != shape[0]):
            return None
        rows = affine.scale
        return _with_weight(node, rows.reshape((-1,) + (1,) * (len(shape) - 1)) if rows.ndim else rows)
    factor = affine.scale
    if factor.ndim:
        if factor.size != shape[1] * groups:
            return None
        factor = _by_group(factor, shape, groups)
    if not affine.has_shift:
        return _with_weight(node, factor)
    # A shifted input is not zero where the convolution pads with zeros.
    pads = attribute(node, "pads", (0,))
    if not isinstance(pads, tuple) or any(pads):
        return None
    if attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    if affine.shift.ndim and affine.shift.size != shape[1] * groups:
        return None
    if weight.nbytes > LAZY_BYTES * 16:
        return None
    array = np.asarray(weight.numpy()).astype(np.float64)
    shift = _by_group(affine.shift, shape, groups) if affine.shift.ndim else affine.shift
    total = (array * shift).reshape(shape[0], -1).sum(axis=1)
    new_bias = _rounded(total + (0 if bias is None else np.asarray(bias.numpy()).astype(np.float64)), weight)
    if new_bias is None:
        return None
    return lambda x: rebuilt(node, [x, scaled(node.inputs[1], factor), new_bias])


def _by_group(vector: Vector, shape: tuple[int, ...], groups: int) -> Vector:
    """A value for each input channel as it meets the weights [M, C / groups, taps...]."""
    rows = np.repeat(vector.reshape(groups, -1), shape[0] // groups, axis=0)
    return rows.reshape(shape[:2] + (1,) * (len(shape) - 2))


def _with_weight(node: ir.Node, factor: Vector) -> PlanFrom:
    return lambda x: rebuilt(node, [x, scaled(node.inputs[1], factor), *node.inputs[2:]])


def _gemm(node: ir.Node, index: int, affine: Affine, _: Facts) -> PlanFrom | None:
    weight, given = parameter(input_of(node, 1)), input_of(node, 2)
    addend = parameter(given)
    # Transposed, the input's channels are the summed axis all the same.
    axis = 0 if attribute_int(node, "transA", 0) else 1
    if index or weight is None or affine.axis not in (None, axis):
        return None
    transposed = attribute_int(node, "transB", 0)
    factor = affine.scale if not affine.scale.ndim or transposed else affine.scale.reshape(-1, 1)
    if not affine.has_shift:
        return _with_weight(node, factor)
    beta = attribute_float(node, "beta", 1.0)
    if (given is not None and addend is None) or weight.nbytes > LAZY_BYTES * 16:
        return None
    total = _product(weight, affine.shift, transposed=bool(transposed)) * attribute_float(node, "alpha", 1.0)
    if addend is not None and beta != 0:
        total = total + np.asarray(addend.numpy()).astype(np.float64) * beta
    bias = _rounded(total, weight)
    if bias is None:
        return None
    return lambda x: rebuilt(node, [x, scaled(node.inputs[1], factor), bias], beta=1.0)


def _product(weight: ir.TensorProtocol, shift: Vector, *, transposed: bool) -> Vector:
    """shift @ weight: what a constant input comes to."""
    array = np.asarray(weight.numpy()).astype(np.float64)
    matrix = array.T if transposed else array
    return np.broadcast_to(shift, (matrix.shape[-2],)) @ matrix


def _matmul(node: ir.Node, index: int, affine: Affine, facts: Facts) -> PlanFrom | None:
    weight = parameter(input_of(node, 1 - index))
    source = node.inputs[index]
    rank = None if source is None else facts.rank(source)
    if weight is None or rank is None or affine.has_shift or len(constants.shape_of(weight)) < 2:
        return None
    if affine.axis not in (None, rank - 1 if index == 0 else rank - 2):
        return None
    factor = affine.scale.reshape(-1, 1) if affine.scale.ndim and index == 0 else affine.scale
    inputs: list[ir.Value | None] = list(node.inputs)

    def build(x: ir.Value) -> ir.Value:
        inputs[index] = x
        inputs[1 - index] = scaled(inputs[1 - index], factor)
        return rebuilt(node, inputs)

    return build


def shift_through_matmul(node: ir.Node, affine: Affine, facts: Facts) -> Vector | None:
    """What a shift of the first input comes to at the end of a MatMul; None where that is no vector."""
    weight = parameter(input_of(node, 1))
    source = node.inputs[0]
    rank = None if source is None else facts.rank(source)
    if weight is None or rank is None or len(constants.shape_of(weight)) != 2 or rank < 2:
        return None
    if affine.axis not in (None, rank - 1) or weight.nbytes > LAZY_BYTES * 16:
        return None
    return _product(weight, affine.shift, transposed=False)


def _hard_sigmoid(node: ir.Node, _: int, affine: Affine, __: Facts) -> PlanFrom | None:
    """max(0, min(1, alpha * (x * s + t) + beta)): numbers go into alpha and beta."""
    if affine.axis is not None:
        return None
    alpha, beta = attribute_float(node, "alpha", 0.2), attribute_float(node, "beta", 0.5)
    new_alpha, new_beta = alpha * float(affine.scale), alpha * float(affine.shift) + beta
    return lambda x: rebuilt(node, [x], alpha=new_alpha, beta=new_beta)


def _rounded(array: Vector, like: ir.TensorProtocol) -> Array | None:
    with np.errstate(all="ignore"):
        found = array.astype(like.dtype.numpy())
    return found if np.isfinite(found.astype(np.float64)).all() else None


_BEFORE: dict[str, Callable[[ir.Node, int, Affine, Facts], PlanFrom | None]] = {
    "Conv": _conv,
    "ConvTranspose": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "HardSigmoid": _hard_sigmoid,
}
