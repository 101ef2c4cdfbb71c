"""Operators with constant parameters that take an affine map in: Conv, MatMul, Gemm, normalizations, Mul.

`after(node, map)` plans the node whose result is already mapped. A plan costs nothing until it is called,
and may be dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir import constants, lazy
from graphopt.ir.affine import Affine, Vector, affine_of
from graphopt.ir.attributes import attribute_float, attribute_int
from graphopt.ir.element_types import FLOATS
from graphopt.ir.operands import input_of
from graphopt.rewriting.operators import Operator, constant, in_place_of, op

if TYPE_CHECKING:
    from graphopt.ir.inference import Facts

__all__ = [
    "GROWTH_BYTES",
    "LAZY_BYTES",
    "Array",
    "Plan",
    "after",
    "copy_of",
    "fitting",
    "is_safe",
    "parameter",
    "rebuilt",
    "scaled",
    "transposed",
]

Array = npt.NDArray[np.generic]
Plan = Callable[[], ir.Value]

# A weight that others use too is written again up to this size only: about what a node costs in a file.
GROWTH_BYTES = 4 << 10

# More nodes than this with one weight are not looked through.
MOST_TWINS = 64

# Weights above this size are computed when they are saved, not now.
LAZY_BYTES = 1 << 20

# Scales whose product with ordinary weights neither overflows nor leaves the normal numbers, by element type.
_SAFE_EXPONENT = {
    ir.DataType.FLOAT: 60,
    ir.DataType.BFLOAT16: 60,
    ir.DataType.DOUBLE: 500,
    ir.DataType.FLOAT16: 8,
}


def copy_of(
    node: ir.Node,
    inputs: Sequence[ir.Value | Array | None],
    *,
    without: Sequence[str] = (),
    **changed: float | Sequence[int],
) -> ir.Value:
    """The same node with other inputs, and some attributes dropped or changed."""
    kept: dict[str, ir.Attr | float | Sequence[int]] = {
        name: given for name, given in node.attributes.items() if name not in without
    }
    kept |= changed
    made: ir.Value = Operator(node.domain, (node.op_type,))(*inputs, **kept)
    return made


def rebuilt(
    node: ir.Node,
    inputs: Sequence[ir.Value | Array | None],
    op_type: str = "",
    **changed: float | Sequence[int],
) -> ir.Value:
    """The same node with other inputs, where it stands; or another element-wise operator in its place."""
    with in_place_of(node):
        if not op_type:
            return copy_of(node, inputs, without=(), **changed)
        return op[op_type](*inputs, **changed)


# ------------------------------------------------------------------ constants


def parameter(value: ir.Value | None, *, is_shared_alike: bool = False) -> ir.TensorProtocol | None:
    """A constant that may be replaced by one of its size: floats, of no other use unless small.

    Args:
        value: The constant.
        is_shared_alike: Whether all other users are about to replace it by the same one.
    """
    tensor = constants.constant(value)
    if value is None or tensor is None or tensor.dtype not in FLOATS:
        return None
    others = (len(value.uses()) > 1 and not is_shared_alike) or value.is_graph_output()
    return None if others and tensor.nbytes > GROWTH_BYTES else tensor


def shared_alike(node: ir.Node, affine: Affine, facts: Facts) -> bool:
    """Whether every node that shares this one's weights has a result that only the same map takes."""
    weight = input_of(node, 1)
    if weight is None or len(weight.uses()) == 1 or len(weight.uses()) > MOST_TWINS:
        return False
    for twin, index in weight.uses():
        output = twin.outputs[0]
        if twin.op_type != node.op_type or index != 1 or len(output.uses()) != 1 or output.is_graph_output():
            return False
        found = affine_of(next(iter(output.uses())).node, facts)
        if found is None or found[0] is not output or not found[1].equals(affine):
            return False
    return True


def is_safe(scale: Vector, dtype: ir.DataType) -> bool:
    """Whether weights of the type stay finite and normal under the scale (zero is safe)."""
    limit = _SAFE_EXPONENT.get(dtype)
    sizes = np.abs(scale[scale != 0])
    if limit is None or not np.isfinite(sizes).all():
        return False
    return not sizes.size or bool(sizes.max() <= 2.0**limit and sizes.min() >= 2.0**-limit)


def scaled(value: ir.Value | None, factor: Vector) -> ir.Value:
    """A constant times a factor that broadcasts over it; large ones when they are saved."""
    tensor = constants.constant(value)
    assert value is not None and tensor is not None, "only constants are scaled"
    if not np.any(factor != 1):
        return value

    dtype, dims = tensor.dtype, constants.shape_of(tensor)
    if tensor.nbytes <= LAZY_BYTES or dtype == ir.DataType.DOUBLE:
        array = np.asarray(tensor.numpy())
        return constant((array.astype(np.float64) * factor).astype(array.dtype))
    # Rounding the factor first costs half a unit, and saves an array of twice the size.
    rounded = factor.astype(np.float32)
    product = lazy.mapped(
        (tensor,), lambda array: (array * rounded).astype(array.dtype, copy=False), dtype, dims
    )
    return constant(product)


def transposed(value: ir.Value) -> ir.Value:
    """A constant with its last two axes exchanged; a large one when it is saved."""
    tensor = constants.constant(value)
    assert tensor is not None, "only constants are transposed here"
    rank = len(constants.shape_of(tensor))
    found = lazy.transposed(tensor, [*range(rank - 2), rank - 1, rank - 2])
    return constant(np.ascontiguousarray(found.numpy()) if tensor.nbytes <= LAZY_BYTES else found)


def _mapped_bias(
    bias: ir.TensorProtocol | None, affine: Affine, count: int | None, dtype: ir.DataType
) -> Array | None:
    """bias * scale + shift as a vector of `count` channels (None: of its own shape); None if it overflows."""
    old = np.zeros(()) if bias is None else np.asarray(bias.numpy()).astype(np.float64)
    with np.errstate(all="ignore"):
        array = old * affine.scale + affine.shift
        found = (array if count is None else np.broadcast_to(array, (count,))).astype(dtype.numpy())
    return found if np.isfinite(found.astype(np.float64)).all() else None


# ------------------------------------------------------------------ after


def after(node: ir.Node, affine: Affine, facts: Facts) -> Plan | None:
    """A plan for the node's first output, mapped; None where the node can't take the map in."""
    planner = _AFTER.get(node.op_type) if node.domain == "" else None
    dtype = facts.dtype(node.outputs[0])
    if planner is None or dtype is None or not is_safe(affine.scale, dtype):
        return None
    if any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
        return None
    return planner(node, affine, facts)


def _after_conv(node: ir.Node, affine: Affine, facts: Facts) -> Plan | None:
    weight = parameter(input_of(node, 1), is_shared_alike=shared_alike(node, affine, facts))
    given = input_of(node, 2)
    bias = parameter(given)
    if weight is None or (given is not None and bias is None) or affine.axis not in (None, 1):
        return None
    shape = constants.shape_of(weight)
    groups = attribute_int(node, "group", 1)
    is_transposed = node.op_type == "ConvTranspose"
    count = shape[1] * groups if is_transposed else shape[0]
    if affine.scale.ndim and affine.scale.size != count:
        return None
    factor = affine.scale
    if factor.ndim and is_transposed:
        # [C, M/g, ...]: the output channels of group i are in the rows of group i.
        rows = np.repeat(factor.reshape(groups, 1, -1), shape[0] // groups, axis=1)
        factor = rows.reshape(shape[:2] + (1,) * (len(shape) - 2))
    elif factor.ndim:
        factor = factor.reshape((-1,) + (1,) * (len(shape) - 1))
    new_bias = None
    if bias is not None or affine.has_shift:
        new_bias = _mapped_bias(bias, affine, count, weight.dtype)
        if new_bias is None:
            return None
    return lambda: rebuilt(node, [node.inputs[0], scaled(node.inputs[1], factor), new_bias])


def _after_gemm(node: ir.Node, affine: Affine, _: Facts) -> Plan | None:
    weight, given = parameter(input_of(node, 1)), input_of(node, 2)
    addend = parameter(given)
    beta = attribute_float(node, "beta", 1.0)
    if affine.axis not in (None, 1):
        return None
    if weight is None or (given is not None and addend is None):
        return _after_any_gemm(node, affine)
    transposed = attribute_int(node, "transB", 0)
    count = constants.shape_of(weight)[0 if transposed else 1]
    dtype = weight.dtype
    new: Array | None = None
    if (addend is not None and beta != 0) or affine.has_shift:
        old = (
            np.zeros(())
            if addend is None or beta == 0
            else np.asarray(addend.numpy()).astype(np.float64) * beta
        )
        with np.errstate(all="ignore"):
            total = old * affine.scale + affine.shift
            new = np.broadcast_to(total, np.broadcast_shapes(total.shape, (count,))).astype(dtype.numpy())
        if not np.isfinite(new.astype(np.float64)).all() or new.nbytes > max(LAZY_BYTES, old.nbytes):
            return None
    factor = affine.scale.reshape(-1, 1) if affine.scale.ndim and transposed else affine.scale
    return lambda: rebuilt(node, [node.inputs[0], scaled(node.inputs[1], factor), new], beta=1.0)


def _after_any_gemm(node: ir.Node, affine: Affine) -> Plan | None:
    """A Gemm of two values: a number goes into alpha and beta."""
    if affine.axis is not None or affine.has_shift:
        return None
    factor = float(affine.scale)
    alpha, beta = attribute_float(node, "alpha", 1.0) * factor, attribute_float(node, "beta", 1.0) * factor
    return lambda: rebuilt(node, node.inputs, alpha=alpha, beta=beta)


def _after_matmul(node: ir.Node, affine: Affine, facts: Facts) -> Plan | None:
    rank = facts.rank(node.outputs[0])
    if affine.has_shift or rank is None:
        return None
    for i, axis in ((1, rank - 1), (0, rank - 2)):
        weight = parameter(input_of(node, i))
        if weight is None:
            continue
        if affine.axis is not None and (affine.axis != axis or len(weight.shape) < 2):
            continue
        if affine.scale.ndim and affine.scale.size != constants.shape_of(weight)[-1 if i else -2]:
            continue
        factor = affine.scale.reshape(-1, 1) if affine.scale.ndim and i == 0 else affine.scale
        return _scaled_input(node, i, factor)
    return None


def _scaled_input(node: ir.Node, index: int, factor: Vector) -> Plan:
    inputs: list[ir.Value | None] = list(node.inputs)

    def build() -> ir.Value:
        inputs[index] = scaled(inputs[index], factor)
        return rebuilt(node, inputs)

    return build


def _after_channel_norm(node: ir.Node, affine: Affine, facts: Facts) -> Plan | None:
    """BatchNormalization, InstanceNormalization, GroupNormalization: parameters along axis 1."""
    scale, bias = parameter(input_of(node, 1)), parameter(input_of(node, 2))
    if scale is None or bias is None or affine.axis not in (None, 1) or len(scale.shape) != 1:
        return None
    if node.op_type == "BatchNormalization" and facts.rank(node.outputs[0]) is None:
        return None
    count = constants.shape_of(scale)[0]
    if affine.scale.ndim + affine.shift.ndim and max(affine.scale.size, affine.shift.size) != count:
        return None
    new_bias = _mapped_bias(bias, affine, count, bias.dtype)
    if new_bias is None:
        return None
    return lambda: rebuilt(
        node, [node.inputs[0], scaled(node.inputs[1], affine.scale), new_bias, *node.inputs[3:]]
    )


def _after_layer_norm(node: ir.Node, affine: Affine, facts: Facts) -> Plan | None:
    """LayerNormalization and RMSNormalization: parameters over the last axes."""
    scale, given = parameter(input_of(node, 1)), input_of(node, 2)
    bias = parameter(given)
    rank = facts.rank(node.outputs[0])
    if scale is None or rank is None or (given is not None and bias is None):
        return None
    shape = constants.shape_of(scale)
    first = rank - len(shape)
    if affine.axis is not None and (affine.axis < first or shape[affine.axis - first] == 1):
        return None
    if affine.has_shift and node.op_type != "LayerNormalization":
        return None
    factor, shift = affine.shaped(affine.scale, rank), affine.shaped(affine.shift, rank)
    new_bias: Array | None = None
    if bias is not None or affine.has_shift:
        old = np.zeros(()) if bias is None else np.asarray(bias.numpy()).astype(np.float64)
        with np.errstate(all="ignore"):
            new_bias = np.broadcast_to(old * factor + shift, shape).astype(scale.dtype.numpy())
        if not np.isfinite(new_bias.astype(np.float64)).all():
            return None
    return lambda: rebuilt(node, [node.inputs[0], scaled(node.inputs[1], factor), new_bias])


def _after_mul(node: ir.Node, affine: Affine, facts: Facts) -> Plan | None:
    """x * c, x / c and c / x: the constant takes the scale."""
    rank = facts.rank(node.outputs[0])
    if affine.has_shift or rank is None:
        return None
    for i in (1, 0):
        tensor, other = constants.constant(input_of(node, i)), node.inputs[1 - i]
        if tensor is None or tensor.dtype not in FLOATS or other is None or facts.rank(other) != rank:
            continue
        factor = affine.shaped(affine.scale, rank)
        if node.op_type == "Div" and i == 1:
            # x / c * s is x * (s / c): one rounding more than x / c alone, so both stay one operator.
            with np.errstate(all="ignore"):
                array = factor / np.asarray(tensor.numpy()).astype(np.float64)
        else:
            array = np.asarray(tensor.numpy()).astype(np.float64) * factor
        new = fitting(array, tensor, rank)
        if new is None:
            return None
        if node.op_type == "Div" and i == 0:
            return lambda: rebuilt(node, [new, other])
        return lambda: rebuilt(node, [other, new], "Mul")
    return None


def fitting(array: npt.NDArray[np.float64], tensor: ir.TensorProtocol, rank: int) -> Array | None:
    """The array in the tensor's type; None where it overflows, outgrows the tensor, or raises the rank."""
    with np.errstate(all="ignore"):
        found = array.astype(tensor.dtype.numpy())
    if not np.isfinite(found.astype(np.float64)).all() or np.any((found == 0) & (array != 0)):
        return None
    return found if found.ndim <= rank and found.nbytes <= max(tensor.nbytes, GROWTH_BYTES * 4) else None


_AFTER: dict[str, Callable[[ir.Node, Affine, Facts], Plan | None]] = {
    "Conv": _after_conv,
    "ConvTranspose": _after_conv,
    "Gemm": _after_gemm,
    "MatMul": _after_matmul,
    "BatchNormalization": _after_channel_norm,
    "InstanceNormalization": _after_channel_norm,
    "GroupNormalization": _after_channel_norm,
    "LayerNormalization": _after_layer_norm,
    "RMSNormalization": _after_layer_norm,
    "Mul": _after_mul,
    "Div": _after_mul,
}
