from __future__ import annotations

import pytest

from graphopt.passes.fusion.fuse_norm_reductions import NOT_FLOATS, UNKNOWN_AXES
from graphopt.rewriting import HAS_OTHER_CONSUMERS
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fuse-norm-reductions"


def graph(body, x="float[N,3]", y="float[N,1]"):
    return f"g ({x} x) => ({y} y) {{ two = Constant <value = float {{2.0}}> ()  {body} }}"


@pytest.mark.parametrize(
    ("parts", "operator"),
    [
        ("q = Mul (x, x)  s = ReduceSum (q, [1])  y = Sqrt (s)", "ReduceL2"),
        ("q = Pow (x, two)  s = ReduceSum (q, [-1])  y = Sqrt (s)", "ReduceL2"),
        ("q = Mul (x, x)  y = ReduceSum (q, [1])", "ReduceSumSquare"),
        ("q = Abs (x)  y = ReduceSum (q, [1])", "ReduceL1"),
    ],
)
@pytest.mark.parametrize("opset", [13, 18])
def test_parts_become_one(parts, operator, opset):
    after = f"y = {operator} (x, [1])" if opset == 18 else f"y = {operator} <axes = [1]> (x)"
    keeps = (
        after.replace("(x", "<keepdims = 1> (x")
        if opset == 18
        else after.replace("[1]>", "[1], keepdims = 1>")
    )
    assert_rewrites(
        PASS, before=graph(parts), after=graph(keeps), opset=opset, exact=False, sizes=[{"N": 2}, {"N": 0}]
    )


def test_over_all_axes_and_without_dims():
    assert_rewrites(
        PASS,
        before=graph("q = Mul (x, x)  s = ReduceSum <keepdims = 0> (q)  y = Sqrt (s)", y="float"),
        after=graph("y = ReduceL2 <keepdims = 0> (x, [0,1])", y="float"),
        exact=False,
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (graph("q = Mul (x, x)  y = ReduceSum (q, [1])", "int32[N,3]", "int32[N,1]"), NOT_FLOATS),
        (graph("q = Mul (x, x)  y = ReduceSum <noop_with_empty_axes = 1> (q)", y="float[N,3]"), UNKNOWN_AXES),
        (
            graph("q = Mul (x, x)  s = ReduceSum (q, [1])  y = Add (q, s)", y="float[N,3]"),
            HAS_OTHER_CONSUMERS,
        ),
        (graph("q = Mul (x, two)  y = ReduceSum (q, [1])"), None),
    ],
)
def test_leaves_alone(text, reason):
    assert_rejects(PASS, text, reason)
