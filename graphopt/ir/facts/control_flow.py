"""If, Loop and Scan. What bodies declare about their inputs is not believed; see `graphopt.ir.loops`."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.dims import Dim, high, maximum
from graphopt.ir.fact import UNKNOWN, Fact, TensorFact
from graphopt.ir.facts.registry import InferenceContext, Results, operator
from graphopt.ir.facts.results import scalar
from graphopt.ir.joins import join
from graphopt.ir.loops import LoopState, know_captured, run_body

__all__: list[str] = []

INT64 = ir.DataType.INT64
BOOL = ir.DataType.BOOL


@operator("If")
def if_(ctx: InferenceContext) -> Results:
    """What holds in both branches; of the one alone that a known condition takes."""
    branches = [ctx.attr("then_branch", None), ctx.attr("else_branch", None)]
    graphs = [branch for branch in branches if isinstance(branch, ir.Graph)]
    if len(graphs) != 2:
        return []
    condition = (ctx.elements(0) or (None,))[0]
    if isinstance(condition, bool):
        return [ctx.facts.of(output) for output in graphs[0 if condition else 1].outputs]
    then, otherwise = ([ctx.facts.of(output) for output in graph.outputs] for graph in graphs)
    return [join(a, b, ctx.fresh) for a, b in zip(then, otherwise, strict=True)]


@operator("Loop", shape_inputs=(0,))
def loop(ctx: InferenceContext) -> Results:
    """Carried values, then scan outputs stacked along a new first axis."""
    body = ctx.attr("body", None)
    if not isinstance(body, ir.Graph):
        return []
    facts = ctx.facts
    know_captured(facts, body)
    state = LoopState(facts, [ctx.input(i) or UNKNOWN for i in range(2, ctx.count)])
    given: list[Fact] = [TensorFact(INT64, (), (state.iteration,)), TensorFact(BOOL, (), None)]
    results = run_body(facts, body, state, given, 2)
    trips = _trips(ctx, results[0] if results else UNKNOWN)
    count = len(state.carried)
    scanned = [state.stacked(fact, trips, 0) for fact in results[1 + count :]]
    return [*state.final(trips), *scanned]


def _trips(ctx: InferenceContext, condition: Fact) -> Dim:
    """How often the body runs: known where nothing but the trip count ends the loop."""
    most = scalar(ctx, 0) if ctx.has(0) else None
    starts = not ctx.has(1) or ctx.elements(1) == (True,)
    if most is not None:
        most = maximum(most, 0)
        goes_on = isinstance(condition, TensorFact) and condition.elements == (True,)
        if starts and goes_on:
            return most
    return ctx.fresh("trips", 0, None if most is None else high(most))


@operator("Scan")
def scan(ctx: InferenceContext) -> Results:
    """State variables, then scan outputs; the slices' axis is `scan_input_axes`, 0 without it."""
    body = ctx.attr("body", None)
    slices = ctx.int_attr("num_scan_inputs", 0)
    if not isinstance(body, ir.Graph) or ctx.opset < 9 or not slices:
        # Scan-8 has a batch axis and lengths of its own; no exporter in use writes it.
        return []
    facts = ctx.facts
    know_captured(facts, body)
    states = ctx.count - slices
    state = LoopState(facts, [ctx.input(i) or UNKNOWN for i in range(states)])
    axes = ctx.ints_attr("scan_input_axes") or (0,) * slices
    given: list[Fact] = []
    trips: Dim | None = None
    for place, axis in enumerate(axes):
        one, length = _slice(ctx.tensor_input(states + place) or UNKNOWN, axis)
        given.append(one)
        trips = length if trips is None or type(length) is int else trips
    results = run_body(facts, body, state, given, 0)
    if trips is None:
        trips = ctx.fresh("trips")
    stacked = results[states:]
    stacked_axes = ctx.ints_attr("scan_output_axes") or (0,) * len(stacked)
    scanned = [state.stacked(fact, trips, axis) for fact, axis in zip(stacked, stacked_axes, strict=True)]
    return [*state.final(trips), *scanned]


def _slice(fact: TensorFact, axis: int) -> tuple[TensorFact, Dim | None]:
    """One slice of a scan input, and how many there are."""
    if fact.dims is None:
        return TensorFact(fact.dtype, None, None), None
    axis = axis + len(fact.dims) if axis < 0 else axis
    return TensorFact(fact.dtype, fact.dims[:axis] + fact.dims[axis + 1 :], None), fact.dims[axis]
