"""Element-wise operators: arithmetic, activations, comparison, logic, casts, choice.

Shapes broadcast as numpy's do. Contents of small tensors are followed (`graphopt.ir.partial_values`),
so that shape arithmetic stays known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product as positions_of

import onnx_ir as ir

from graphopt.ir.dims import Dim, broadcast, cut_limits
from graphopt.ir.fact import Element, TensorFact
from graphopt.ir.facts.registry import InferenceContext, Results, operator
from graphopt.ir.partial_comparisons import COMPARISONS, select
from graphopt.ir.partial_values import BINARY, FLOATS, UNARY, cast

__all__ = ["broadcast_all", "broadcast_elements"]

Dims = tuple[Dim, ...]


def broadcast_all(shapes: Sequence[Dims | None]) -> Dims | None:
    """The shape that numpy's broadcasting gives; None where a rank is unknown.

    Raises:
        ValueError: Two numbers can't be broadcast together.
    """
    result: Dims | None = ()
    for dims in shapes:
        if dims is None:
            return None
        if dims == result or not dims:
            continue
        result = _broadcast_two(result, dims) if result else dims
    return result


def _broadcast_two(a: Dims, b: Dims) -> Dims:
    if len(a) < len(b):
        a, b = b, a
    offset = len(a) - len(b)
    return a[:offset] + tuple([broadcast(x, b[i]) for i, x in enumerate(a[offset:])])


def _joined(ctx: InferenceContext, *shapes: Dims | None) -> Dims | None:
    """`broadcast_all`; that the node is legal also tells how long a table is that was cut to fit."""
    dims = broadcast_all(shapes)
    if dims is None:
        return None
    for i in range(1, len(dims) + 1):
        column = tuple([shape[-i] for shape in shapes if shape is not None and len(shape) >= i])
        if all(dim is column[0] or type(dim) is int for dim in column):
            continue
        for dim in column:
            for limit in cut_limits(dim, column):
                ctx.learn(limit)
    return dims


def broadcast_elements(elements: Sequence[Element], dims: Dims, target: Dims) -> Sequence[Element] | None:
    """The elements of a tensor after it was broadcast to `target`; None unless all dims are numbers."""
    if dims == target:
        return elements
    sizes = [dim for dim in target if type(dim) is int]
    if len(sizes) != len(target):
        return None
    count = 1
    for size in sizes:
        count *= size
    if len(elements) == 1:
        return list(elements) * count
    strides = [0] * len(target)
    step = 1
    for i in range(len(dims) - 1, -1, -1):
        if dims[i] != 1:
            strides[len(target) - len(dims) + i] = step
        step *= dims[i]  # type: ignore[assignment]
    return [
        elements[sum(i * stride for i, stride in zip(place, strides, strict=True))]
        for place in positions_of(*map(range, sizes))
    ]


def _known(*facts: TensorFact | None) -> bool:
    return all(fact is not None and fact.elements is not None for fact in facts)


def _combined(
    ctx: InferenceContext, dims: Dims | None, function: Callable[..., Element]
) -> list[Element] | None:
    """The function of all inputs' elements, place by place; None where one has none (but a condition)."""
    if dims is None:
        return None
    columns: list[Sequence[Element]] = []
    for i in range(ctx.count):
        elements, source = ctx.elements(i), ctx.dims(i)
        if elements is None and i == 0 and function is select:
            elements, source = (None,), ()
        if elements is None or source is None:
            return None
        column = broadcast_elements(elements, source, dims)
        if column is None:
            return None
        columns.append(column)
    return [function(*places) for places in zip(*columns, strict=True)]


def _dtype(ctx: InferenceContext) -> ir.DataType | None:
    """The one dtype of all inputs, from the first that knows it."""
    for i in range(ctx.count):
        dtype = ctx.dtype(i)
        if dtype is not None:
            return dtype
    return None


@operator(
    "Abs", "Ceil", "Floor", "Neg", "Not", "Reciprocal", "Relu", "Round", "Sign", "Sqrt", elementwise=True
)
def followed_unary(ctx: InferenceContext) -> Results:
    """One input, contents followed."""
    fact = ctx.tensor_input(0)
    if fact is None or fact.elements is None or fact.dtype is None:
        return [fact if fact is None or fact.elements is None else ctx.tensor(fact.dtype, fact.dims)]
    function, dtype = UNARY[ctx.node.op_type], fact.dtype
    return [ctx.tensor(dtype, fact.dims, [function(element, dtype) for element in fact.elements])]


@operator(
    *("Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp", "Gelu"),
    *("HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Mish", "Selu", "Shrink", "Sigmoid", "Sin", "Sinh"),
    *("Softplus", "Softsign", "Swish", "Tan", "Tanh", "ThresholdedRelu", "BitwiseNot"),
    elementwise=True,
)
def unary(ctx: InferenceContext) -> Results:
    """One input, contents not followed."""
    fact = ctx.tensor_input(0)
    return [fact if fact is None or fact.elements is None else ctx.tensor(fact.dtype, fact.dims)]


@operator("IsNaN", "IsInf", elementwise=True)
def test(ctx: InferenceContext) -> Results:
    """A bool an element; integers that became floats are neither."""
    elements = ctx.elements(0)
    known = elements is not None and all(type(element) is not float for element in elements)
    answers = [None if element is None else False for element in elements or ()] if known else None
    return [ctx.tensor(ir.DataType.BOOL, ctx.dims(0), answers)]


@operator("Add", "Mul", elementwise=True, commutative=True)
@operator("Sub", "Pow", elementwise=True)
@operator("Div", "Mod", elementwise=True, can_fail=True)
def binary(ctx: InferenceContext) -> Results:
    """Two inputs, broadcast; before opset 7 the second one is aligned by `axis` to the first."""
    if ctx.opset < 7 and ctx.int_attr("broadcast", 0):
        return [ctx.tensor(ctx.dtype(0), ctx.dims(0))]
    a, b = ctx.tensor_input(0), ctx.tensor_input(1)
    if a is None or b is None:
        return [None]
    dtype = a.dtype if a.dtype is not None else b.dtype
    dims = a.dims if a.dims is b.dims else _joined(ctx, a.dims, b.dims)
    if a.elements is None or b.elements is None or dtype is None:
        return [TensorFact(dtype, dims, None)]
    if ctx.node.op_type == "Mod" and ctx.int_attr("fmod", 0):
        return [TensorFact(dtype, dims, None)]
    function = BINARY[ctx.node.op_type]
    return [ctx.tensor(dtype, dims, _combined(ctx, dims, lambda x, y: function(x, y, dtype)))]


@operator("BitShift", elementwise=True)
@operator("BitwiseAnd", "BitwiseOr", "BitwiseXor", elementwise=True, commutative=True)
@operator("PRelu", elementwise=True)
def plain_binary(ctx: InferenceContext) -> Results:
    """Two inputs, broadcast; contents not followed."""
    if ctx.node.op_type == "PRelu":
        # The slope is broadcast to x, never x to the slope.
        return [ctx.tensor(ctx.dtype(0), ctx.dims(0))]
    return [ctx.tensor(_dtype(ctx), _joined(ctx, ctx.dims(0), ctx.dims(1)))]


@operator("Min", "Max", "Sum", "Mean", elementwise=True, commutative=True)
def variadic(ctx: InferenceContext) -> Results:
    """Any number of inputs, broadcast."""
    dtype = _dtype(ctx)
    dims = _joined(ctx, *[ctx.dims(i) for i in range(ctx.count)])
    name = ctx.node.op_type
    if dtype is None or dims is None or name == "Mean":
        return [ctx.tensor(dtype, dims)]
    function = BINARY["Add" if name == "Sum" else name]

    def fold(first: Element, *others: Element) -> Element:
        for other in others:
            first = function(first, other, dtype)
        return first

    return [ctx.tensor(dtype, dims, _combined(ctx, dims, fold))]


@operator("Equal", "And", "Or", "Xor", elementwise=True, commutative=True)
@operator("Less", "Greater", "LessOrEqual", "GreaterOrEqual", elementwise=True)
def comparison(ctx: InferenceContext) -> Results:
    """Two inputs, broadcast, to bools."""
    if ctx.opset < 7 and ctx.int_attr("broadcast", 0):
        return [ctx.tensor(ir.DataType.BOOL, ctx.dims(0))]
    dims = _joined(ctx, ctx.dims(0), ctx.dims(1))
    return [ctx.tensor(ir.DataType.BOOL, dims, _combined(ctx, dims, COMPARISONS[ctx.node.op_type]))]


@operator("Where", elementwise=True)
def where(ctx: InferenceContext) -> Results:
    """condition ? x : y, all three broadcast."""
    dims = _joined(ctx, ctx.dims(0), ctx.dims(1), ctx.dims(2))
    dtype = ctx.dtype(1) if ctx.dtype(1) is not None else ctx.dtype(2)
    return [ctx.tensor(dtype, dims, _combined(ctx, dims, select))]


@operator("Clip", elementwise=True)
def clip(ctx: InferenceContext) -> Results:
    """Limits are scalars: attributes before opset 11, inputs from then on."""
    fact = ctx.tensor_input(0)
    if fact is None or fact.elements is None:
        return [fact]
    if ctx.opset < 11 or fact.dtype is None:
        return [ctx.tensor(fact.dtype, fact.dims)]
    elements = list(fact.elements)
    # min(max(x, low), high), also where low > high.
    for i, name in ((1, "Max"), (2, "Min")):
        if ctx.has(i):
            limit = (ctx.elements(i) or (None,))[0]
            elements = [BINARY[name](element, limit, fact.dtype) for element in elements]
    return [ctx.tensor(fact.dtype, fact.dims, elements)]


@operator("Cast", elementwise=True)
def cast_to(ctx: InferenceContext) -> Results:
    """To the dtype of attribute `to`."""
    code = ctx.attr("to", None)
    target = ir.DataType(code) if isinstance(code, int) else None
    return [_cast(ctx, target)]


@operator("CastLike", elementwise=True)
def cast_like(ctx: InferenceContext) -> Results:
    """To the dtype of input 1."""
    return [_cast(ctx, ctx.dtype(1))]


@operator("BitCast", elementwise=True)
def bit_cast(ctx: InferenceContext) -> Results:
    """The same bits as another dtype of the same width."""
    code = ctx.attr("to", None)
    return [ctx.tensor(ir.DataType(code) if isinstance(code, int) else None, ctx.dims(0))]


def _cast(ctx: InferenceContext, target: ir.DataType | None) -> TensorFact | None:
    fact = ctx.tensor_input(0)
    if fact is None or (target is fact.dtype and target is not None):
        return fact
    if fact.elements is None or target is None:
        return TensorFact(target, fact.dims, None)
    return ctx.tensor(target, fact.dims, [cast(element, fact.dtype, target) for element in fact.elements])


@operator("Identity", elementwise=True, movement=True)
def identity(ctx: InferenceContext) -> Results:
    """The input itself, of whatever kind."""
    return [ctx.input(0)]


def _keeps_everything(node: ir.Node) -> bool:
    """Whether a Dropout is one of inference: from opset 12 on training needs an input that says so."""
    if "is_test" in node.attributes.data or "ratio" in node.attributes.data:
        # Before opset 7 `is_test` decides; from 7 to 11 there is only inference, and `ratio` is an attribute.
        return bool(getattr(node.attributes.data.get("is_test"), "value", 1))
    return len(node.inputs) < 3 or node.inputs[2] is None


@operator("Dropout", elementwise=True, random=True, deterministic=_keeps_everything)
def dropout(ctx: InferenceContext) -> Results:
    """The data (scaled and masked in training) and the mask, which was of the data's dtype before 10."""
    fact = ctx.tensor_input(0)
    dtype = ir.DataType.BOOL if ctx.opset >= 10 else ctx.dtype(0)
    if fact is not None and fact.dtype in FLOATS:
        fact = ctx.tensor(fact.dtype, fact.dims)
    return [fact, ctx.tensor(dtype, ctx.dims(0))]
