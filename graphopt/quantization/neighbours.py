"""What an operator stands among, as far as that decides whether codes pay for it."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.attributes import attribute_int

__all__ = ["is_alone", "is_among_convolutions"]

# How far codes are worth carrying, in operators.
_REACH = 6
_PRODUCTS = ("MatMul", "Gemm", "Attention")


def is_alone(node: ir.Node) -> bool:
    """Whether a node is a depthwise convolution without other convolutions around it.

    It takes so little time that turning its input and its output into codes takes more: of a memory block of
    11 taps over 256 channels among products onnxruntime ran both forms equally fast, and floats lost less.
    """
    if node.op_type != "Conv" or node.domain != "" or attribute_int(node, "group", 1) < 2:
        return False
    weight = constants.constant(node.inputs[1])
    if weight is None or constants.shape_of(weight)[1] != 1:
        return False
    return not is_among_convolutions(node)


def is_among_convolutions(node: ir.Node) -> bool:
    """Whether a node is a convolution with others before or behind it.

    However small its weight, floats between codes would cost two conversions.
    """
    if node.op_type != "Conv" or node.domain != "":
        return False
    return _is_behind_convolution(node) or _is_before_convolution(node)


def _is_behind_convolution(node: ir.Node) -> bool:
    value = node.inputs[0]
    for _ in range(_REACH):
        maker = value.producer() if value is not None else None
        if maker is None or maker.op_type in _PRODUCTS:
            return False
        if maker.op_type == "Conv":
            return True
        value = maker.inputs[0] if maker.inputs else None
    return False


def _is_before_convolution(node: ir.Node) -> bool:
    nodes = [node]
    for _ in range(_REACH):
        users = [user for n in nodes for output in n.outputs for user, _ in output.uses()]
        if any(user.op_type == "Conv" for user in users):
            return True
        nodes = [user for user in dict.fromkeys(users) if user.op_type not in _PRODUCTS]
    return False
