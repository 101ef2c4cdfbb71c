from __future__ import annotations

import math

import pytest

from graphopt.ir.ranges import clip_bounds, has_no_sign, is_never_negative
from graphopt.testing import model_from_text


def last(nodes, opset=18):
    text = f"g (float[N] x, float[N] z) => (float[N] y) {{ {nodes} }}"
    return list(model_from_text(text, opset=opset).graph)[-1]


@pytest.mark.parametrize(
    "nodes",
    [
        "y = Relu (x)",
        "y = Mul (x, x)",
        "a = Abs (x)  b = Exp (z)  y = Add (a, b)",
        "a = Relu (x)  y = Div (a, 3.0)",
        "y = Clip (x, 0.0, 6.0)",
        "y = Max (x, 0.0)",
        "a = Pow (x, 2.0)  y = ReduceMean (a)",
    ],
)
def test_never_negative(nodes):
    assert is_never_negative(last(nodes).outputs[0])


@pytest.mark.parametrize(
    "nodes",
    [
        "y = Tanh (x)",
        "a = Relu (x)  y = Sub (a, z)",
        "a = Relu (x)  y = Div (a, a)",
        "a = Relu (x)  y = Div (a, -3.0)",
        # Everything is max where min is above it.
        "y = Clip (x, 0.0, -1.0)",
        "y = Clip (x)",
        "y = Min (x, 1.0)",
        "y = Pow (x, 3.0)",
    ],
)
def test_may_be_negative(nodes):
    assert not is_never_negative(last(nodes).outputs[0])


def test_bounds_of_a_clip():
    assert clip_bounds(last("y = Clip (x, 1.0)"), 18) == (1.0, math.inf)
    assert clip_bounds(last("y = Clip <max = 6.0> (x)", opset=10), 10) == (pytest.approx(-3.4028235e38), 6.0)
    assert clip_bounds(last("a = ReduceMax <keepdims = 0> (z)  y = Clip (x, a)"), 18) is None


@pytest.mark.parametrize(
    "nodes",
    [
        "y = Abs (x)",
        "a = Sigmoid (x)  y = ReduceMean (a)",
        "a = Exp (x)  b = Abs (z)  y = Max (a, b)",
        "y = Mul (x, x)",
        "a = Softmax (x)  b = Constant <value_floats = [0.0, 1.0]> ()  y = Mul (a, b)",
    ],
)
def test_no_sign(nodes):
    assert has_no_sign(last(nodes).outputs[0])


@pytest.mark.parametrize(
    "nodes",
    [
        "y = Relu (x)",
        "y = Sqrt (x)",
        "y = Clip (x, 0.0, 6.0)",
        "a = Abs (x)  y = Max (a, z)",
        "a = Abs (x)  b = Constant <value_floats = [-0.0, 1.0]> ()  y = Mul (a, b)",
        "a = Abs (x)  y = Div (a, 3.0)",
    ],
)
def test_may_have_a_sign(nodes):
    assert not has_no_sign(last(nodes).outputs[0])
