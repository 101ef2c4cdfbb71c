"""Element-wise operators: each node is one instruction `elementwise`; fusion joins them later."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graphopt.ir.attributes import attribute, attribute_float
from graphopt.ir.dims import Dim
from graphopt.ir.element_types import FLOATS, INTEGERS
from graphopt.ir.operands import input_of
from graphopt.lowering.builder import Builder
from graphopt.lowering.elementwise_program import KERNEL, Op, Ref
from graphopt.lowering.elementwise_writer import ElementwiseWriter
from graphopt.lowering.kernels import Layout, declare
from graphopt.lowering.registry import NotLowered, lowers

__all__: list[str] = []

declare(KERNEL, inputs=Layout.ANY, outputs=Layout.ANY, in_place=tuple(range(8)))

_UNARY = {
    "Neg": Op.NEG,
    "Abs": Op.ABS,
    "Sign": Op.SIGN,
    "Sqrt": Op.SQRT,
    "Reciprocal": Op.RECIPROCAL,
    "Exp": Op.EXP,
    "Log": Op.LOG,
    "Erf": Op.ERF,
    "Sin": Op.SIN,
    "Cos": Op.COS,
    "Tan": Op.TAN,
    "Asin": Op.ASIN,
    "Acos": Op.ACOS,
    "Atan": Op.ATAN,
    "Sinh": Op.SINH,
    "Cosh": Op.COSH,
    "Tanh": Op.TANH,
    "Asinh": Op.ASINH,
    "Acosh": Op.ACOSH,
    "Atanh": Op.ATANH,
    "Floor": Op.FLOOR,
    "Ceil": Op.CEIL,
    "Round": Op.ROUND,
    "Relu": Op.RELU,
    "HardSwish": Op.HARD_SWISH,
    "Sigmoid": Op.SIGMOID,
    "Softplus": Op.SOFTPLUS,
    "Softsign": Op.SOFTSIGN,
    "Mish": Op.MISH,
    "Not": Op.NOT,
    "BitwiseNot": Op.BIT_NOT,
    "IsNaN": Op.IS_NAN,
}
# Attributes that become immediates, with their defaults.
_WITH_PARAMETERS = {
    "LeakyRelu": (Op.LEAKY_RELU, ("alpha", 0.01), None),
    "Elu": (Op.ELU, ("alpha", 1.0), None),
    "Selu": (Op.SELU, ("alpha", 1.67326319217681884765625), ("gamma", 1.05070102214813232421875)),
    "Celu": (Op.CELU, ("alpha", 1.0), None),
    "ThresholdedRelu": (Op.THRESHOLDED_RELU, ("alpha", 1.0), None),
    "HardSigmoid": (Op.HARD_SIGMOID, ("alpha", 0.2), ("beta", 0.5)),
    "Swish": (Op.SWISH, ("alpha", 1.0), None),
    "Shrink": (Op.SHRINK, ("lambd", 0.5), ("bias", 0.0)),
}
_BINARY = {
    "Add": Op.ADD,
    "Sub": Op.SUB,
    "Mul": Op.MUL,
    "Div": Op.DIV,
    "PRelu": Op.PRELU,
    "Equal": Op.EQUAL,
    "And": Op.BIT_AND,
    "Or": Op.BIT_OR,
    "Xor": Op.BIT_XOR,
    "BitwiseAnd": Op.BIT_AND,
    "BitwiseOr": Op.BIT_OR,
    "BitwiseXor": Op.BIT_XOR,
    "Less": Op.LESS,
    "LessOrEqual": Op.LESS_EQUAL,
}
_SWAPPED = {"Greater": Op.LESS, "GreaterOrEqual": Op.LESS_EQUAL}


def _float_attribute(node: ir.Node, name: str, default: float) -> float:
    return float(np.float32(attribute_float(node, name, default)))  # attributes are float32, defaults too


@lowers(*_UNARY)
def unary(build: Builder, node: ir.Node) -> NotLowered | None:
    """One input, no parameters."""
    writer = ElementwiseWriter(build, node)
    x = writer.value(node.inputs[0])
    if node.op_type == "IsNaN" and writer.dtypes[x] not in FLOATS:
        x = writer.cast(x, ir.DataType.FLOAT)
    return writer.finish(writer.apply(_UNARY[node.op_type], x))


@lowers(*_WITH_PARAMETERS)
def with_parameters(build: Builder, node: ir.Node) -> NotLowered | None:
    """One input and numbers from attributes."""
    writer = ElementwiseWriter(build, node)
    x = writer.value(node.inputs[0])
    dtype = writer.dtypes[x]
    op, first, second = _WITH_PARAMETERS[node.op_type]
    immediates = (_float_attribute(node, *first), _float_attribute(node, *second) if second else 0.0)
    if dtype in FLOATS or node.op_type == "LeakyRelu":
        return writer.finish(writer.apply(op, x, immediates=immediates))
    if node.op_type == "Shrink" and dtype in INTEGERS:
        wide = writer.cast(x, ir.DataType.DOUBLE)
        return writer.finish(writer.cast(writer.apply(op, wide, immediates=immediates), dtype))
    return NotLowered("element type")


@lowers("IsInf")
def is_inf(build: Builder, node: ir.Node) -> NotLowered | None:
    """Infinities of the signs that attributes ask for."""
    writer = ElementwiseWriter(build, node)
    x = writer.value(node.inputs[0])
    if writer.dtypes[x] not in FLOATS:
        x = writer.cast(x, ir.DataType.FLOAT)
    signs = (_float_attribute(node, "detect_negative", 1), _float_attribute(node, "detect_positive", 1))
    return writer.finish(writer.apply(Op.IS_INF, x, immediates=signs))


@lowers("Gelu")
def gelu(build: Builder, node: ir.Node) -> NotLowered | None:
    """With erf, or its approximation by tanh."""
    writer = ElementwiseWriter(build, node)
    is_tanh = attribute(node, "approximate", "none") == "tanh"
    return writer.finish(writer.apply(Op.GELU_TANH if is_tanh else Op.GELU, writer.value(node.inputs[0])))


@lowers("Gelu", "BiasGelu", "FastGelu", "QuickGelu", domain="com.microsoft")
def microsoft_gelu(build: Builder, node: ir.Node) -> NotLowered | None:
    """gelu(x + bias); FastGelu by tanh, QuickGelu(x) = x sigmoid(alpha x)."""
    writer = ElementwiseWriter(build, node)
    x = writer.value(node.inputs[0])
    bias = input_of(node, 1)
    if bias is not None:
        x = writer.apply(Op.ADD, x, writer.value(bias))
    if node.op_type == "QuickGelu":
        alpha = _float_attribute(node, "alpha", 1.702)
        return writer.finish(writer.apply(Op.SWISH, x, immediates=(alpha, 0.0)))
    return writer.finish(writer.apply(Op.GELU_TANH if node.op_type == "FastGelu" else Op.GELU, x))


@lowers(*_BINARY, *_SWAPPED)
def binary(build: Builder, node: ir.Node) -> NotLowered | None:
    """Two inputs that broadcast."""
    writer = ElementwiseWriter(build, node)
    operands = _operands(build, node, writer)
    if isinstance(operands, NotLowered):
        return operands
    a, b = operands
    if node.op_type in _SWAPPED:
        return writer.finish(writer.apply(_SWAPPED[node.op_type], b, a))
    return writer.finish(writer.apply(_BINARY[node.op_type], a, b))


def _operands(build: Builder, node: ir.Node, writer: ElementwiseWriter) -> tuple[Ref, Ref] | NotLowered:
    """Both inputs; before opset 7 the second's dims start at `axis` of the first's."""
    first, second = node.inputs[0], node.inputs[1]
    assert first is not None and second is not None, "both operands are required"
    axis = attribute(node, "axis")
    if node.op_type == "PRelu" and build.opset(node) < 7:
        axis = 1 if build.rank(second) == 1 and build.dims(second) != (1,) else None
    elif build.opset(node) >= 7 or not attribute(node, "broadcast", 0):
        axis = None
    if not isinstance(axis, int):
        return writer.value(first), writer.value(second)
    rank, dims, dtype = build.rank(first), build.dims(second), build.dtype(second)
    if rank is None or dims is None or dtype is None:
        return NotLowered("rank")
    missing = rank - (axis % rank if rank else 0) - len(dims)
    if missing < 0:
        return NotLowered("axis")
    base = build.register(second)
    aligned = build.look(base, dims + (1,) * missing, build.strides(base) + (0,) * missing)
    return writer.value(first), writer.register(aligned, dtype)


@lowers("Mod")
def mod(build: Builder, node: ir.Node) -> NotLowered | None:
    """Remainder with the sign of the divisor, or with `fmod` of the dividend."""
    writer = ElementwiseWriter(build, node)
    op = Op.FMOD if attribute(node, "fmod", 0) else Op.MOD
    return writer.finish(writer.apply(op, writer.value(node.inputs[0]), writer.value(node.inputs[1])))


@lowers("BitShift")
def bit_shift(build: Builder, node: ir.Node) -> NotLowered | None:
    """Shift left or right."""
    writer = ElementwiseWriter(build, node)
    op = Op.SHIFT_LEFT if attribute(node, "direction") == "LEFT" else Op.SHIFT_RIGHT
    return writer.finish(writer.apply(op, writer.value(node.inputs[0]), writer.value(node.inputs[1])))


@lowers("Pow")
def power(build: Builder, node: ir.Node) -> NotLowered | None:
    """x ** y in the type that numpy computes it in, then x's type."""
    writer = ElementwiseWriter(build, node)
    operands = _operands(build, node, writer)
    if isinstance(operands, NotLowered):
        return operands
    x, y = operands
    of, exponent = writer.dtypes[x], writer.dtypes[y]
    if of == exponent:
        return writer.finish(writer.apply(Op.POW, x, y))
    constant = build.constant(node.inputs[1]) if node.inputs[1] is not None else None
    is_small = constant is not None and constant.size == 1 and abs(float(constant.reshape(-1)[0])) <= 16
    wide = of if of in FLOATS and is_small else _computed_in(of, exponent)
    if wide not in FLOATS and wide not in INTEGERS:
        return NotLowered("element types")
    return writer.finish(writer.cast(writer.apply(Op.POW, writer.cast(x, wide), writer.cast(y, wide)), of))


def _computed_in(a: ir.DataType, b: ir.DataType) -> ir.DataType:
    """The type of numpy's result."""
    pair = {a, b}
    if ir.DataType.BFLOAT16 in pair:
        return ir.DataType.DOUBLE if ir.DataType.DOUBLE in pair else ir.DataType.FLOAT
    return ir.DataType.from_numpy(np.result_type(a.numpy(), b.numpy()))


@lowers("Where")
def where(build: Builder, node: ir.Node) -> NotLowered | None:
    """Choice."""
    writer = ElementwiseWriter(build, node)
    condition, yes, no = [writer.value(value) for value in node.inputs]
    return writer.finish(writer.apply(Op.WHERE, condition, yes, no))


@lowers("Clip")
def clip(build: Builder, node: ir.Node) -> NotLowered | None:
    """Bounds as inputs, before opset 11 as attributes; either may be absent."""
    writer = ElementwiseWriter(build, node)
    x = writer.value(node.inputs[0])
    low: Ref | None = None
    high: Ref | None = None
    if build.opset(node) < 11:
        for name in ("min", "max"):
            if attribute(node, name) is not None:
                bound = writer.constant(writer.dtypes[x], _float_attribute(node, name, 0.0))
                low, high = (bound, high) if name == "min" else (low, bound)
    else:
        low, high = (
            None if bound is None else writer.value(bound) for bound in (input_of(node, 1), input_of(node, 2))
        )
    if low is not None and high is not None:
        return writer.finish(writer.apply(Op.CLIP, x, low, high))
    if low is not None:
        return writer.finish(writer.apply(Op.MAX, x, low))
    return writer.finish(x if high is None else writer.apply(Op.MIN, x, high))


_MANY: dict[str, Op] = {"Min": Op.MIN, "Max": Op.MAX, "Sum": Op.ADD, "Mean": Op.ADD}


@lowers(*_MANY)
def many(build: Builder, node: ir.Node) -> NotLowered | None:
    """Any number of inputs, from left to right."""
    writer = ElementwiseWriter(build, node)
    result = writer.value(node.inputs[0])
    for value in list(node.inputs)[1:]:
        result = writer.apply(_MANY[node.op_type], result, writer.value(value))
    if node.op_type == "Mean":
        result = writer.apply(Op.DIV, result, writer.constant(writer.dtypes[result], float(len(node.inputs))))
    return writer.finish(result)


@lowers("Dropout")
def dropout(build: Builder, node: ir.Node) -> NotLowered | None:
    """Nothing is dropped outside training: the same memory, and a mask of ones."""
    training = input_of(node, 2)
    if training is not None:
        flag = build.constant(training)
        if flag is None or bool(flag.reshape(-1)[0]):
            return NotLowered("training mode")
    x = node.inputs[0]
    assert x is not None, "Dropout has an input"
    source = build.register(x)
    mask = node.outputs[1] if len(node.outputs) > 1 else None
    if mask is not None and (mask.uses() or mask.is_graph_output()):
        writer = ElementwiseWriter(build, node)
        writer.register(source, build.dtype(x) or ir.DataType.FLOAT)
        dtype = build.dtype(mask) or ir.DataType.BOOL
        one: float | Dim = 1.0 if dtype in FLOATS else 1
        problem = writer.emit((writer.constant(dtype, one),), [build.output(node, 1)])
        if problem is not None:
            return problem
    build.bind(node.outputs[0], source)
    return None
