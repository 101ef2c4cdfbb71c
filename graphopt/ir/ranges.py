"""What can be said of the sign of a value's elements without running anything."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.attributes import attribute_float

__all__ = ["clip_bounds", "has_no_sign", "is_never_negative"]

# Results that are at least zero, NaN aside.
_NEVER_NEGATIVE = frozenset(
    {"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "Exp", "Softplus", "Sqrt", "ReduceSumSquare"}
    | {"ReduceL1", "ReduceL2", "Cosh"}
)
# Results of these are as little negative as their first input is. The largest of no elements is -infinity:
# ReduceMax, MaxPool and GlobalMaxPool are not among them.
_KEEPS_SIGN = frozenset(
    {
        "Reshape",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Identity",
        "Slice",
        "Gather",
        "Expand",
        "Tile",
    }
    | {"ReduceSum", "ReduceMean", "ReduceMin", "AveragePool", "GlobalAveragePool"}
    | {"Floor", "Ceil", "Round", "LeakyRelu", "Dropout", "DepthToSpace", "SpaceToDepth"}
)
_DEEPEST = 6
_LARGEST = 1 << 12


def is_never_negative(value: ir.Value | None, left: int = _DEEPEST) -> bool:
    """Whether every element of a float value is at least zero, or NaN; False where that is not plain."""
    if value is None or left == 0:
        return False
    tensor = constants.constant(value)
    if tensor is not None:
        return tensor.size <= _LARGEST and bool((tensor.numpy() >= 0).all())
    node = value.producer()
    if node is None or node.domain != "" or value.index() != 0:
        return False
    if node.op_type in _NEVER_NEGATIVE:
        return True
    if node.op_type in _KEEPS_SIGN:
        return is_never_negative(node.inputs[0], left - 1)
    if node.op_type == "Mul" and node.inputs[0] is node.inputs[1]:
        return True
    if node.op_type == "Div":
        # A divisor of -0.0 would be "at least zero" too.
        divisor = constants.uniform(node.inputs[1])
        return divisor is not None and divisor > 0 and is_never_negative(node.inputs[0], left - 1)
    if node.op_type in ("Add", "Mul", "Sum", "Min", "Concat"):
        return all(is_never_negative(given, left - 1) for given in node.inputs)
    if node.op_type == "Max":
        return any(is_never_negative(given, left - 1) for given in node.inputs)
    if node.op_type == "Pow":
        return constants.uniform(node.inputs[1]) in (2, 4)
    if node.op_type == "Clip":
        bounds = clip_bounds(node, 11 if len(node.inputs) > 1 else 6)
        return bounds is not None and min(bounds) >= 0
    return False


# Results whose zeros have no sign either, NaN aside: Relu, Sqrt and the other roundings hand -0.0 through.
_NEVER_SIGNED = _NEVER_NEGATIVE - {"Relu", "Sqrt", "HardSigmoid"}


def has_no_sign(value: ir.Value | None, left: int = _DEEPEST) -> bool:
    """Whether every element of a float value is +0.0 or greater, or NaN; False where that is not plain."""
    if value is None or left == 0:
        return False
    tensor = constants.constant(value)
    if tensor is not None:
        return tensor.size <= _LARGEST and not np.signbit(tensor.numpy()).any()
    node = value.producer()
    if node is None or node.domain != "" or value.index() != 0:
        return False
    if node.op_type in _NEVER_SIGNED:
        return True
    if node.op_type in _KEEPS_SIGN:
        return has_no_sign(node.inputs[0], left - 1)
    if node.op_type == "Mul" and node.inputs[0] is node.inputs[1]:
        return True
    if node.op_type in ("Add", "Mul", "Sum", "Min", "Max", "Concat"):
        return all(has_no_sign(given, left - 1) for given in node.inputs)
    return False


def clip_bounds(node: ir.Node, opset: int) -> tuple[float, float] | None:
    """The constant bounds of a Clip; None where one is computed.

    An absent bound is infinite from opset 11 on; before, it is the largest float32.
    """
    largest = math.inf if opset >= 11 else float(np.finfo(np.float32).max)
    found = [attribute_float(node, "min", -largest), attribute_float(node, "max", largest)]
    for i, given in enumerate(node.inputs[1:3]):
        if given is None:
            continue
        array = constants.array(given)
        if array is None or array.size != 1:
            return None
        found[i] = float(array.reshape(()).astype(np.float64))
    return found[0], found[1]
