from __future__ import annotations

import pytest

from graphopt.passes.fusion.merge_additions import NO_BIAS, NOT_ALIKE
from graphopt.rewriting import HAS_OTHER_CONSUMERS, IS_GRAPH_OUTPUT
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "merge-additions"
VALUE = "float[N,3,2]"


def graph(body, inputs=f"{VALUE} x, {VALUE} r", outputs=f"{VALUE} y"):
    return f"g ({inputs}) => ({outputs}) {{ {body} }}"


def test_bias_and_residual_in_the_order_of_addition():
    assert_rewrites(
        PASS,
        before=graph("b = Add (x, [0.1,-0.7])  y = Add (b, r)"),
        after=graph("y = Sum (x, [0.1,-0.7], r)"),
        sizes=[{"N": 2}, {"N": 1}, {"N": 0}],
        target="onnxruntime",
    )


def test_residual_on_the_left():
    assert_rewrites(
        PASS,
        before=graph("b = Add ([0.1,-0.7], x)  y = Add (r, b)"),
        after=graph("y = Sum ([0.1,-0.7], x, r)"),
        sizes=[{"N": 2}],
        target="onnxruntime",
    )


def test_sum_before_a_normalization_that_others_use():
    assert_rewrites(
        PASS,
        before=graph("a = Add (x, r)  l = LayerNormalization (a, [1.0,2.0])  y = Mul (l, a)"),
        after=graph("a = Sum (x, r)  l = LayerNormalization (a, [1.0,2.0])  y = Mul (l, a)"),
        sizes=[{"N": 2}, {"N": 0}],
        target="onnxruntime",
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (graph("b = Add (x, [0.1,0.2])  s = Add (b, r)  y = Mul (s, b)"), HAS_OTHER_CONSUMERS),
        (graph("b = Add (x, [0.1,0.2])  y = Add (b, r)", outputs=f"{VALUE} y, {VALUE} b"), IS_GRAPH_OUTPUT),
        (
            graph("b = Add (x, c)  y = Add (b, r)", f"{VALUE} x, {VALUE} r, {VALUE} c"),
            NO_BIAS,
        ),
        (graph("b = Add (x, [0.1,0.2])  y = Add (b, r)", f"{VALUE} x, float[M,3,2] r"), NOT_ALIKE),
        (
            graph("b = Add (x, [1,2])  y = Add (b, r)", "int64[N,3,2] x, int64[N,3,2] r", "int64[N,3,2] y"),
            NOT_ALIKE,
        ),
        (
            graph(
                "b = Add (x, [0.1,0.2])  y = Add (b, r)",
                "float[N,4,3,2] x, float[N,4,3,2] r",
                "float[N,4,3,2] y",
            ),
            NOT_ALIKE,
        ),
        (graph("a = Add (x, [0.1,0.2])  y = LayerNormalization (a, [1.0,2.0])"), NOT_ALIKE),
    ],
)
def test_leaves_alone(text, reason):
    assert_rejects(PASS, text, reason, target="onnxruntime")


def test_nested_sums_become_one():
    inputs = f"{VALUE} x, {VALUE} r, {VALUE} t, {VALUE} u"
    assert_rewrites(
        PASS,
        before=graph("b = Add (x, [0.1,-0.7])  c = Add (b, r)  y = Add (t, c)", inputs),
        after=graph("y = Sum (x, [0.1,-0.7], r, t)", inputs),
        sizes=[{"N": 2}, {"N": 0}],
        target="onnxruntime",
    )
    assert_rewrites(
        PASS,
        before=graph("a = Add (t, u)  y = Sum (x, r, a)", inputs),
        after=graph("y = Sum (x, r, t, u)", inputs),
        sizes=[{"N": 2}],
        exact=False,
        target="onnxruntime",
    )


@pytest.mark.parametrize(
    "body",
    [
        # Used twice.
        "a = Add (x, r)  s = Sum (a, r, t)  y = Mul (s, a)",
        # More terms than a Sum is worth.
        "a = Sum (x, x, x, r)  y = Sum (a, r, t, t)",
        # Wider than its part.
        "k = ReduceMax (x)  l = Add (k, [1.0,2.0])  y = Sum (x, r, l)",
    ],
)
def test_leaves_nested_sums(body):
    assert_rejects(PASS, graph(body, f"{VALUE} x, {VALUE} r, {VALUE} t"), target="onnxruntime")
