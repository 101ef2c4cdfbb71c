"""Random graphs through a session, as they are: the answers of onnxruntime without optimizations."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import numpy as np
import onnx
from hypothesis import given, note, settings
from onnx import helper

from graphopt.errors import ExecutionError
from graphopt.ir.evaluate.plain import plain_session
from graphopt.ir.inference import Facts
from graphopt.ir.load import from_proto
from graphopt.runtime import InferenceSession
from tests.fuzz import kinds
from tests.fuzz.graphs import BOOL, FLOAT, INT, Draft, Value, feeds, models
from tests.fuzz.test_random_graphs import SLOW_IS_FINE, answers, close, nearby

MORE = settings.default.max_examples if settings.default.max_examples > 100 else 60
# Back and forth: plans are found again, and made anew.
SIZES = (
    {"N": 2, "M": 3},
    {"N": 1, "M": 1},
    {"N": 0, "M": 2},
    {"N": 2, "M": 3},
    {"N": 3, "M": 0},
    {"N": 1, "M": 4},
)

Kinds = Sequence[Callable[[Draft], None]]


def exact_unary(g: Draft) -> None:
    x = g.pick()
    kind = g.among("Relu", "Neg", "Abs", "Identity", "Floor", "Ceil", "Round", "Sign", "Sqrt", "IsNaN")
    dtype = BOOL if kind == "IsNaN" else FLOAT
    g.add(kind, [x.name], dtype, x.dims)


def chosen(g: Draft) -> None:
    """Elements above a number that no rounding crosses: how many, only their values tell."""
    x = g.pick()
    [flat] = g.node("Reshape", [x.name, g.constant([-1])])
    [mask] = g.node("Greater", [flat, g.constant(g.among(0.37, -1.13, 99.0), np.float32)])
    g.add("Compress", [flat, mask], FLOAT, (g.unknown(),), axis=0)


def counted(g: Draft) -> None:
    """A range as long as the number of large elements, or of an axis."""
    x = g.pick(accepts=lambda v: len(v.dims) > 0)
    if x is None:
        return
    if g.among(True, False):
        [mask] = g.node("Greater", [x.name, g.constant(0.37, np.float32)])
        [ones] = g.node("Cast", [mask], to=INT)
        [count] = g.node("ReduceSum", [ones], keepdims=0)
    else:
        [shape] = g.node("Shape", [x.name])
        [count] = g.node("Gather", [shape, g.constant(g.integer(0, len(x.dims) - 1))], axis=0)
    numbers = g.add("Range", [g.constant(0), count, g.constant(g.among(1, 2))], INT, (g.unknown(),))
    g.add("Cast", [numbers.name], FLOAT, numbers.dims, to=FLOAT)


def growing_loop(g: Draft) -> None:
    """A cache that a loop appends to, what it makes of it, and what it captures."""
    x = g.pick(accepts=lambda v: len(v.dims) > 0)
    if x is None:
        return
    rank, axis = len(x.dims), g.integer(0, len(x.dims) - 1)
    number_of, going, state = g.fresh("i"), g.fresh("b"), g.fresh("s")
    inner = Draft(g.draw, g.opset, g)
    inner.values.append(Value(g.fresh("part"), FLOAT, x.dims))
    inner.nodes.append(helper.make_node(g.among("Neg", "Tanh", "Identity"), [x.name], [inner.values[0].name]))
    for _ in range(g.integer(0, 2)):
        inner.among(kinds.smooth_unary, kinds.with_number, kinds.binary)(inner)
    part = [v for v in inner.values if v.dims == x.dims][-1]
    pair = [state, part.name] if g.among(True, True, False) else [part.name, state]
    [grown] = inner.node("Concat", pair, axis=axis)
    [still] = inner.node("Identity", [going])
    [total] = inner.node("ReduceSum", [g.among(grown, state)], keepdims=0)
    inner.inputs.extend(
        [
            helper.make_tensor_value_info(number_of, INT, []),
            helper.make_tensor_value_info(going, BOOL, []),
            helper.make_tensor_value_info(state, FLOAT, [f"{state}_{i}" for i in range(rank)]),
        ]
    )
    infos = [
        helper.make_tensor_value_info(still, BOOL, []),
        helper.make_tensor_value_info(grown, FLOAT, [f"{grown}_{i}" for i in range(rank)]),
        helper.make_tensor_value_info(total, FLOAT, []),
    ]
    graph = helper.make_graph(inner.nodes, "body", inner.inputs, infos, inner.initializers)
    trips = g.constant(g.among(0, 1, 2, 20))
    names = g.node("Loop", [trips, g.constant(True, np.bool_), x.name], outputs=2, body=graph)
    dims = (*x.dims[:axis], g.unknown(), *x.dims[axis + 1 :])
    g.values += [Value(names[0], FLOAT, dims), Value(names[1], FLOAT, (g.unknown(),))]


def total(g: Draft) -> None:
    kinds.reduction(g, "ReduceSum")


def mean(g: Draft) -> None:
    # Of something: the mean of nothing is NaN, as numpy has it; onnxruntime says 0 where all axes go.
    x = g.pick(accepts=lambda v: len(v.dims) > 0 and isinstance(v.dims[-1], int) and v.dims[-1] > 0)
    if x is not None:
        inputs, attributes = g.axes_or_attribute([-1], 18)
        g.add("ReduceMean", [x.name, *inputs], FLOAT, (*x.dims[:-1], 1), **attributes)


def arg(g: Draft) -> None:
    """Where the largest element is; which NaN is, the standard leaves open."""
    x = g.pick(accepts=lambda v: len(v.dims) > 0)
    if x is not None:
        [mask] = g.node("IsNaN", [x.name])
        [clean] = g.node("Where", [mask, g.constant(0.0, np.float32), x.name])
        g.values.append(Value(clean, FLOAT, x.dims))
        axis = g.integer(0, len(x.dims) - 1)
        dims = x.dims[:axis] + x.dims[axis + 1 :]
        g.add(g.among("ArgMax", "ArgMin"), [clean], INT, dims, axis=axis, keepdims=0)


UNSIZED = (chosen, counted, growing_loop, chosen, counted, growing_loop)
STEADY = (total, mean, *(kind for kind in kinds.STEADY if kind is not kinds.smooth_reduction))
SHARP = (
    *(exact_unary, kinds.compare, kinds.logic, kinds.where, kinds.cast, kinds.integers, arg),
    *(kinds.MOVEMENT),
)


def check(model: onnx.ModelProto) -> None:
    note(onnx.printer.to_text(model))
    try:
        theirs = plain_session(model)
    except Exception:
        return  # onnxruntime has no kernel for it
    ours = InferenceSession(model, optimize=False)
    graph = from_proto(model)
    facts = Facts(graph)
    for value in (output for node in graph.graph for output in node.outputs):
        facts.of(value)
    for seed, sizes in enumerate(SIZES):
        if facts.assumptions and 0 in sizes.values():
            continue  # a computed size of 0 would copy a dim (graphopt/ir/facts/reshaping.py)
        given = feeds(model, sizes, seed)
        expected = answers(theirs, given)
        if expected is None:
            # The engine may take what others refuse; if it does not, it says so.
            with contextlib.suppress(ExecutionError):
                ours.run(None, given)
            continue
        found = ours.run(None, given)
        for i, (output, a, b) in enumerate(zip(model.graph.output, expected, found, strict=True)):
            where = f"{output.name} at {sizes}"
            assert isinstance(b, np.ndarray)
            assert (a.shape, a.dtype) == (b.shape, b.dtype), f"{where}: {b.shape}, not {a.shape}"
            if a.dtype == np.float32:
                close(where, a, b, theirs.run(None, nearby(given))[i])
            else:
                np.testing.assert_array_equal(b, a, where)


@settings(max_examples=MORE, suppress_health_check=SLOW_IS_FINE)
@given(model=models(STEADY))
def test_steady_operators(model: onnx.ModelProto) -> None:
    check(model)


@settings(max_examples=MORE, suppress_health_check=SLOW_IS_FINE)
@given(model=models(SHARP))
def test_sharp_operators(model: onnx.ModelProto) -> None:
    check(model)


@settings(max_examples=MORE, suppress_health_check=SLOW_IS_FINE)
@given(model=models((*UNSIZED, *STEADY)))
def test_sizes_that_a_run_tells(model: onnx.ModelProto) -> None:
    check(model)
