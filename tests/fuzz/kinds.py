"""What random graphs are made of: each function appends one operator, or one idiom of exporters."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from tests.fuzz.graphs import BOOL, FAR, FLOAT, INT, Dim, Draft, Value, body, finished, joined, product

SMOOTH = (
    *("Relu", "Neg", "Abs", "Sigmoid", "Tanh", "Identity", "Erf", "Softplus", "Elu", "LeakyRelu"),
    *("HardSigmoid", "Sin"),
)
SHARP = ("Exp", "Sqrt", "Reciprocal", "Log", "Floor", "Ceil", "Round", "Sign", "Dropout")


def smooth_unary(g: Draft) -> None:
    x = g.pick()
    g.add(g.among(*SMOOTH), [x.name], FLOAT, x.dims)


def sharp_unary(g: Draft) -> None:
    x = g.pick()
    g.add(g.among(*SHARP), [x.name], FLOAT, x.dims)


def number(g: Draft, dims: tuple[Dim, ...]) -> tuple[str, tuple[Dim, ...]]:
    """A constant that broadcasts to dims: a scalar, or one number for each place of the last axis."""
    value = g.among(0.0, 1.0, -1.0, 2.0, 0.5, -0.0, 3.0)
    if dims and isinstance(dims[-1], int) and g.among(True, False):
        shape = (dims[-1],) if g.among(True, False) else (1,) * (len(dims) - 1) + (dims[-1],)
        if g.among(True, False):
            return g.weights(shape), shape
        return g.constant(np.full(shape, value), np.float32), shape
    shape = g.among((), (1,), (1,) * len(dims))
    return g.constant(np.full(shape, value), np.float32), shape


def with_number(g: Draft) -> None:
    x = g.pick()
    name, shape = number(g, x.dims)
    pair = [x.name, name] if g.among(True, True, False) else [name, x.name]
    dims = joined(x.dims, shape)
    g.add(g.among("Add", "Sub", "Mul", "Div", "Max", "Min"), pair, FLOAT, dims)


def binary(g: Draft) -> None:
    x = g.pick()
    y = g.pick(accepts=lambda v: joined(v.dims, x.dims) is not None)
    g.add(g.among("Add", "Sub", "Mul", "Max"), [x.name, y.name], FLOAT, joined(x.dims, y.dims))


def square(g: Draft) -> None:
    x = g.pick()
    g.add("Pow", [x.name, g.constant(g.among(2.0, 1.0, 0.0, 3.0), np.float32)], FLOAT, x.dims)


def clip(g: Draft) -> None:
    x = g.pick()
    bounds = [
        g.constant(v, np.float32) if v is not None else "" for v in g.among((0, 6), (None, 1), (-1, None))
    ]
    g.add("Clip", [x.name, *bounds], FLOAT, x.dims)


def compare(g: Draft) -> None:
    x = g.pick()
    y = g.pick(accepts=lambda v: joined(v.dims, x.dims) is not None)
    g.add(g.among("Less", "Greater", "Equal"), [x.name, y.name], BOOL, joined(x.dims, y.dims))


def logic(g: Draft) -> None:
    x = g.pick(BOOL)
    if x is None:
        compare(g)
        return
    y = g.pick(BOOL, lambda v: joined(v.dims, x.dims) is not None)
    if g.among(True, False):
        g.add("Not", [x.name], BOOL, x.dims)
    else:
        g.add(g.among("And", "Or", "Xor"), [x.name, y.name], BOOL, joined(x.dims, y.dims))


def where(g: Draft) -> None:
    c = g.pick(BOOL)
    if c is None:
        compare(g)
        return
    x = g.pick(accepts=lambda v: joined(v.dims, c.dims) is not None)
    if x is None:
        return
    dims = joined(x.dims, c.dims)
    other = g.constant(g.among(0.0, 1.0, -1e9), np.float32)
    pair = [x.name, other] if g.among(True, False) else [other, x.name]
    g.add("Where", [c.name, *pair], FLOAT, dims)


def cast(g: Draft) -> None:
    x = g.pick()
    if g.among(True, False):
        through = g.among(TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.BOOL)
        [middle] = g.node("Cast", [x.name], to=through)
        g.add("Cast", [middle], FLOAT, x.dims, to=FLOAT)
    else:
        small = g.add("Clip", [x.name, g.constant(-8, np.float32), g.constant(8, np.float32)], FLOAT, x.dims)
        [finite] = g.node("IsNaN", [small.name])
        [clean] = g.node("Where", [finite, g.constant(0, np.float32), small.name])
        g.add("Cast", [clean], INT, x.dims, to=INT)


def integers(g: Draft) -> None:
    x = g.pick(INT)
    if x is None:
        cast(g)
        return
    kind = g.among("Add", "Sub", "Mul", "Div", "Mod", "Cast")
    if kind == "Cast":
        g.add("Cast", [x.name], FLOAT, x.dims, to=FLOAT)
    else:
        g.add(kind, [x.name, g.constant(g.among(1, 2, 3, -1))], INT, x.dims)


def transpose(g: Draft) -> None:
    x = g.pick(accepts=lambda v: len(v.dims) > 1)
    if x is not None:
        perm = g.draw(permutations(len(x.dims)))
        g.add("Transpose", [x.name], FLOAT, [x.dims[i] for i in perm], perm=perm)


def permutations(rank: int):
    from hypothesis import strategies as st

    return st.permutations(list(range(rank)))


def reshape(g: Draft) -> None:
    x = g.pick(accepts=lambda v: len(v.dims) > 0)
    if x is None:
        return
    rank = len(x.dims)
    kind = g.among("merge", "split", "flatten", "computed", "all")
    if kind == "flatten":
        axis = g.integer(0, rank)
        g.add("Flatten", [x.name], FLOAT, (product(x.dims[:axis]), product(x.dims[axis:])), axis=axis)
    elif kind == "all":
        g.add("Reshape", [x.name, g.constant([-1])], FLOAT, (product(x.dims),))
    elif kind == "merge" and rank > 1:
        at = g.integer(0, rank - 2)
        merged = product(x.dims[at : at + 2])
        dims = (*x.dims[:at], merged, *x.dims[at + 2 :])
        target = [0] * at + [-1] + [d if isinstance(d, int) else None for d in x.dims[at + 2 :]]
        if None not in target:
            g.add("Reshape", [x.name, g.constant(target)], FLOAT, dims)
    elif kind == "split":
        places = [i for i, d in enumerate(x.dims) if d in (4, 12, 24)]
        if places:
            at = places[-1]
            parts = (2, x.dims[at] // 2)
            tail = x.dims[at + 1 :]
            if all(isinstance(d, int) for d in tail):
                g.add(
                    "Reshape",
                    [x.name, g.constant([0] * at + [*parts, *tail])],
                    FLOAT,
                    (*x.dims[:at], *parts, *tail),
                )
    elif kind == "computed" and rank > 1:
        sizes = [size_of(g, x, i) for i in range(rank)]
        at = g.integer(0, rank - 2)
        if g.among(True, False):
            [between] = g.node("Mul", sizes[at : at + 2])
        else:
            between = g.constant([-1])
        parts = [*sizes[:at], between, *sizes[at + 2 :]]
        [target] = g.node("Concat", parts, axis=0)
        dims = (*x.dims[:at], product(x.dims[at : at + 2]), *x.dims[at + 2 :])
        g.add("Reshape", [x.name, target], FLOAT, dims)


def size_of(g: Draft, x: Value, axis: int) -> str:
    """One dim as a vector of one element, in one of the exporters' spellings."""
    [shape] = g.node("Shape", [x.name])
    if g.among(True, False):
        return g.node("Slice", [shape, g.constant([axis]), g.constant([axis + 1]), g.constant([0])])[0]
    [scalar] = g.node("Gather", [shape, g.constant(axis)], axis=0)
    return g.node("Unsqueeze", [scalar, g.constant([0])])[0]


def squeeze(g: Draft) -> None:
    x = g.pick()
    ones = [i for i, d in enumerate(x.dims) if d == 1]
    if ones and g.among(True, False):
        axis = g.among(*ones)
        g.add("Squeeze", [x.name, g.constant([axis])], FLOAT, x.dims[:axis] + x.dims[axis + 1 :])
    elif len(x.dims) < 4:
        axis = g.integer(0, len(x.dims))
        written = axis if g.among(True, False) else axis - len(x.dims) - 1
        g.add("Unsqueeze", [x.name, g.constant([written])], FLOAT, (*x.dims[:axis], 1, *x.dims[axis:]))


def cut(g: Draft) -> None:
    x = g.pick(accepts=lambda v: len(v.dims) > 0)
    if x is None:
        return
    axis = g.integer(0, len(x.dims) - 1)
    start, end = g.among(0, 1, -1, -2, 2), g.among(1, 2, 3, -1, FAR)
    step = g.among(1, 1, 2)
    if g.among(True, True, False) is False:
        start, end, step = -1, -FAR, -1
    dim: Dim = g.unknown()
    if isinstance(x.dims[axis], int):
        dim = len(range(*slice(start, end, step).indices(x.dims[axis])))
    parts = [[start], [end], [axis - (len(x.dims) if g.among(True, False) else 0)], [step]]
    dims = (*x.dims[:axis], dim, *x.dims[axis + 1 :])
    g.add("Slice", [x.name, *(g.constant(p) for p in parts)], FLOAT, dims)


def concat(g: Draft) -> None:
    x = g.pick(accepts=lambda v: len(v.dims) > 0)
    if x is None:
        return
    axis = g.integer(0, len(x.dims) - 1)

    def fits(v: Value) -> bool:
        rest = [d for i, d in enumerate(v.dims) if i != axis]
        return len(v.dims) == len(x.dims) and rest == [d for i, d in enumerate(x.dims) if i != axis]

    others = [g.pick(accepts=fits) for _ in range(g.integer(0, 2))]
    parts = [x, *(v for v in others if v is not None)]
    along = [v.dims[axis] for v in parts]
    dim: Dim = sum(along) if all(isinstance(d, int) for d in along) else g.unknown()
    dim = along[0] if len(along) == 1 else dim
    g.add("Concat", [v.name for v in parts], FLOAT, (*x.dims[:axis], dim, *x.dims[axis + 1 :]), axis=axis)


def split(g: Draft) -> None:
    x = g.pick(accepts=lambda v: any(isinstance(d, int) and d > 1 for d in v.dims))
    if x is None:
        return
    axis = g.among(*(i for i, d in enumerate(x.dims) if isinstance(d, int) and d > 1))
    first = g.integer(1, x.dims[axis] - 1)
    sizes = [first, x.dims[axis] - first]
    names = g.node("Split", [x.name, g.constant(sizes)], outputs=2, axis=axis)
    for name, n in zip(names, sizes, strict=True):
        g.values.append(Value(name, FLOAT, (*x.dims[:axis], n, *x.dims[axis + 1 :])))


def gather(g: Draft) -> None:
    x = g.pick(accepts=lambda v: len(v.dims) > 0)
    if x is None:
        return
    axis = g.integer(0, len(x.dims) - 1)
    size = x.dims[axis]
    indices = [0, -1] if not isinstance(size, int) else list(range(-size, size))
    if not indices:
        return
    if g.among(True, False):
        g.add(
            "Gather",
            [x.name, g.constant(g.among(*indices))],
            FLOAT,
            x.dims[:axis] + x.dims[axis + 1 :],
            axis=axis,
        )
    else:
        taken = [g.among(*indices) for _ in range(g.integer(1, 3))]
        g.add(
            "Gather",
            [x.name, g.constant(taken)],
            FLOAT,
            (*x.dims[:axis], len(taken), *x.dims[axis + 1 :]),
            axis=axis,
        )


def pad(g: Draft) -> None:
    x = g.pick(accepts=lambda v: len(v.dims) > 0)
    if x is None:
        return
    rank = len(x.dims)
    amounts = [g.among(0, 0, 1) for _ in range(2 * rank)]
    dims = [
        d if not (b or a) else d + b + a if isinstance(d, int) else g.unknown()
        for d, b, a in zip(x.dims, amounts[:rank], amounts[rank:], strict=True)
    ]
    value = [g.constant(g.among(0.0, 1.0), np.float32)] if g.among(True, False) else []
    g.add("Pad", [x.name, g.constant(amounts), *value], FLOAT, dims)


def expand(g: Draft) -> None:
    x = g.pick(accepts=lambda v: 0 < len(v.dims) < 4)
    if x is None:
        return
    target = [g.among(1, 2) if d == 1 else d if isinstance(d, int) else 1 for d in x.dims]
    if g.among(True, False):
        target = [g.among(1, 2), *target]
    if g.among(True, True, False):
        dims = joined(x.dims, target)
        if dims is not None:
            g.add("Expand", [x.name, g.constant(target)], FLOAT, dims)
    else:
        other = g.pick(accepts=lambda v: joined(v.dims, x.dims) is not None)
        [shape] = g.node("Shape", [other.name])
        g.add("Expand", [x.name, shape], FLOAT, joined(x.dims, other.dims))


def tile(g: Draft) -> None:
    x = g.pick(accepts=lambda v: len(v.dims) > 0)
    if x is None:
        return
    repeats = [g.among(1, 1, 2) for _ in x.dims]
    dims = [
        d if r == 1 else d * r if isinstance(d, int) else g.unknown()
        for d, r in zip(x.dims, repeats, strict=True)
    ]
    g.add("Tile", [x.name, g.constant(repeats)], FLOAT, dims)


def filled(g: Draft) -> None:
    x = g.pick()
    value = helper.make_tensor("value", FLOAT, [1], [g.among(0.0, 1.0, 2.0)])
    [shape] = g.node("Shape", [x.name])
    g.add("ConstantOfShape", [shape], FLOAT, x.dims, value=value)


def reduction(g: Draft, *kinds: str) -> None:
    x = g.pick(accepts=lambda v: len(v.dims) > 0)
    if x is None:
        return
    rank = len(x.dims)
    axes = sorted({g.integer(0, rank - 1) for _ in range(g.integer(1, 2))})
    kept = g.among(0, 1)
    dims = [1 if i in axes else d for i, d in enumerate(x.dims) if kept or i not in axes]
    kind = g.among(*kinds)
    written = [a - rank if g.among(True, False) else a for a in axes]
    inputs, attributes = g.axes_or_attribute(written, 13 if kind == "ReduceSum" else 18)
    g.add(kind, [x.name, *inputs], FLOAT, dims, keepdims=kept, **attributes)


def smooth_reduction(g: Draft) -> None:
    reduction(g, "ReduceMean", "ReduceSum")


def any_reduction(g: Draft) -> None:
    reduction(
        g, "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL2", "ReduceSumSquare"
    )


def arg(g: Draft) -> None:
    x = g.pick(accepts=lambda v: len(v.dims) > 0)
    if x is not None:
        axis = g.integer(0, len(x.dims) - 1)
        g.add(
            g.among("ArgMax", "ArgMin"),
            [x.name],
            INT,
            x.dims[:axis] + x.dims[axis + 1 :],
            axis=axis,
            keepdims=0,
        )


def cumulative(g: Draft) -> None:
    x = g.pick(accepts=lambda v: len(v.dims) > 0)
    if x is not None:
        g.add(
            "CumSum",
            [x.name, g.constant(g.integer(0, len(x.dims) - 1))],
            FLOAT,
            x.dims,
            exclusive=g.among(0, 1),
        )


def softmax(g: Draft) -> None:
    x = g.pick(accepts=lambda v: len(v.dims) > 0)
    if x is not None:
        g.add(g.among("Softmax", "LogSoftmax"), [x.name], FLOAT, x.dims, axis=g.among(-1, 0))


def linear(g: Draft) -> None:
    x = g.pick(accepts=lambda v: len(v.dims) > 1 and isinstance(v.dims[-1], int))
    if x is None:
        return
    width = g.among(4, 3)
    dims = (*x.dims[:-1], width)
    if len(x.dims) == 2 and g.among(True, False):
        flag = g.among(0, 1)
        weight = g.weights((width, x.dims[-1]) if flag else (x.dims[-1], width))
        g.add(
            "Gemm", [x.name, weight, g.weights((width,))], FLOAT, dims, transB=flag, alpha=g.among(1.0, 0.5)
        )
        return
    if g.among(True, False):
        [weight] = g.node("Transpose", [g.weights((width, x.dims[-1]))], perm=[1, 0])
    else:
        weight = g.weights((x.dims[-1], width))
    y = g.add("MatMul", [x.name, weight], FLOAT, dims)
    if g.among(True, False):
        g.add("Add", g.among([y.name, g.weights((width,))], [g.weights((width,)), y.name]), FLOAT, dims)


def product_of_values(g: Draft) -> None:
    x = g.pick(accepts=lambda v: len(v.dims) > 1)
    if x is not None:
        rank = len(x.dims)
        perm = [*range(rank - 2), rank - 1, rank - 2]
        [turned] = g.node("Transpose", [x.name], perm=perm)
        g.add("MatMul", [x.name, turned], FLOAT, (*x.dims[:-1], x.dims[-2]))


def convolution(g: Draft) -> None:
    x = g.pick(accepts=lambda v: len(v.dims) == 4 and isinstance(v.dims[1], int) and v.dims[1] > 0)
    if x is None:
        return
    channels, size = g.among(2, 4), g.among(1, 3)
    same = size // 2
    weight, bias = (
        g.weights((channels, x.dims[1], size, size)),
        [g.weights((channels,))] if g.among(True, False) else [],
    )
    y = g.add("Conv", [x.name, weight, *bias], FLOAT, (x.dims[0], channels, *x.dims[2:]), pads=[same] * 4)
    if g.among(True, False):
        parts = [g.weights((channels,)) for _ in range(3)] + [g.constant(np.full(channels, 0.7), np.float32)]
        g.add("BatchNormalization", [y.name, *parts], FLOAT, y.dims)


def pool(g: Draft) -> None:
    x = g.pick(accepts=lambda v: len(v.dims) == 4)
    if x is None:
        return
    if g.among(True, False):
        g.add("GlobalAveragePool", [x.name], FLOAT, (*x.dims[:2], 1, 1))
    else:
        kind = g.among("MaxPool", "AveragePool")
        g.add(kind, [x.name], FLOAT, x.dims, kernel_shape=[3, 3], pads=[1, 1, 1, 1])


def layer_norm(g: Draft) -> None:
    x = g.pick(accepts=lambda v: len(v.dims) > 0 and isinstance(v.dims[-1], int) and v.dims[-1] > 1)
    if x is None:
        return
    inputs, attributes = g.axes_or_attribute([-1], 18)
    [mean] = g.node("ReduceMean", [x.name, *inputs], **attributes)
    [centred] = g.node("Sub", [x.name, mean])
    [squared] = g.node("Pow", [centred, g.constant(2.0, np.float32)])
    [variance] = g.node("ReduceMean", [squared, *inputs], **attributes)
    [safe] = g.node("Add", [variance, g.constant(1e-5, np.float32)])
    [deviation] = g.node("Sqrt", [safe])
    y = g.add("Div", [centred, deviation], FLOAT, x.dims)
    if g.among(True, False):
        scaled = g.add("Mul", [y.name, g.weights((x.dims[-1],))], FLOAT, x.dims)
        g.add("Add", [scaled.name, g.weights((x.dims[-1],))], FLOAT, x.dims)


def gelu(g: Draft) -> None:
    x = g.pick()
    [scaled] = g.node("Div", [x.name, g.constant(np.sqrt(2.0), np.float32)])
    [error] = g.node("Erf", [scaled])
    [one] = g.node("Add", [error, g.constant(1.0, np.float32)])
    [whole] = g.node("Mul", [x.name, one])
    g.add("Mul", [whole, g.constant(0.5, np.float32)], FLOAT, x.dims)


def attention(g: Draft) -> None:
    x = g.pick(accepts=lambda v: len(v.dims) == 3 and v.dims[-1] == 4)
    if x is None:
        return
    heads = []
    for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
        [projected] = g.node("MatMul", [x.name, g.weights((4, 4))])
        [parts] = g.node("Reshape", [projected, g.constant([0, 0, 2, 2])])
        heads.append(g.node("Transpose", [parts], perm=perm)[0])
    query, keys, values = heads
    [scores] = g.node("MatMul", [query, keys])
    [scaled] = g.node("Mul", [scores, g.constant(2**-0.5, np.float32)])
    [weights] = g.node("Softmax", [scaled], axis=-1)
    [mixed] = g.node("MatMul", [weights, values])
    [back] = g.node("Transpose", [mixed], perm=[0, 2, 1, 3])
    g.add("Reshape", [back, g.constant([0, 0, 4])], FLOAT, x.dims)


INSIDE = (smooth_unary, with_number, binary, square, clip, reshape, transpose, any_reduction)


def branch(g: Draft) -> None:
    x = g.pick()
    condition = g.pick(BOOL, lambda v: v.dims == ())
    if condition is not None and g.among(True, False):
        name = condition.name
    elif g.among(True, False):
        name = g.constant(g.among(True, False), np.bool_)
    else:
        total = g.node("ReduceSum", [x.name], keepdims=0)[0]
        # Sums are 0 but for rounding often, and never this.
        name = g.node("Greater", [total, g.constant(0.37, np.float32)])[0]
    graphs = []
    for which in ("then", "else"):
        inner, result = body(g, x, g.integer(0, 3), INSIDE)
        graphs.append(finished(inner, which, [result]))
    g.add("If", [name], FLOAT, x.dims, then_branch=graphs[0], else_branch=graphs[1])


def loop(g: Draft) -> None:
    x = g.pick()
    state = Value(g.fresh("s"), FLOAT, x.dims)
    inner, result = body(g, state, g.integer(1, 3), INSIDE)
    number_of, going = g.fresh("i"), g.fresh("b")
    [still] = inner.node("Identity", [going])
    rank = len(x.dims)
    inner.inputs.extend(
        [
            helper.make_tensor_value_info(number_of, INT, []),
            helper.make_tensor_value_info(going, BOOL, []),
            helper.make_tensor_value_info(state.name, FLOAT, [f"{state.name}_{i}" for i in range(rank)]),
        ]
    )
    outputs = [Value(still, BOOL, ()), result]
    # What a loop that never runs has scanned is empty; how long its other axes are, the standard leaves open.
    count = g.among(0, 1, 2, 3)
    if count and g.among(True, False):
        [kept] = inner.node("Identity", [result.name])
        outputs.append(Value(kept, FLOAT, x.dims))
    graph = finished(inner, "body", outputs)
    trips = g.constant(count)
    names = g.node("Loop", [trips, g.constant(True, np.bool_), x.name], outputs=len(outputs) - 1, body=graph)
    g.values.append(Value(names[0], FLOAT, x.dims))
    if len(names) > 1:
        g.values.append(Value(names[1], FLOAT, (g.unknown(), *x.dims)))


MOVEMENT = (transpose, reshape, squeeze, cut, concat, split, gather, pad, expand, tile, filled)
PRODUCTS = (linear, product_of_values, convolution, pool, layer_norm, gelu, attention)
# Rounding moves the answers of these a little, and those of no operator much.
STEADY = (
    *(smooth_unary, with_number, binary, square, clip, smooth_reduction, softmax, *PRODUCTS, *MOVEMENT),
    *(branch, loop),
)
# Kernels of products and of long sums are chosen by what is constant: these are left out where bits count.
EXACT = (
    *(smooth_unary, sharp_unary, with_number, binary, square, clip, compare, logic, where, cast, integers),
    *(any_reduction, arg, cumulative, softmax, *MOVEMENT, branch, loop),
)
