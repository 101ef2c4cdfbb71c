from __future__ import annotations

import pytest

from graphopt.passes.fusion.fuse_quick_gelu import NO_KERNEL
from graphopt.rewriting import HAS_OTHER_CONSUMERS, IS_GRAPH_OUTPUT
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fuse-quick-gelu"
TARGET = {"target": "onnxruntime", "domains": {"com.microsoft": 1}}


def graph(body, kind="float", outputs=None):
    return f"g ({kind}[N,4] x) => ({outputs or f'{kind}[N,4] y'}) {{ {body} }}"


@pytest.mark.parametrize("product", ["Mul (x, s)", "Mul (s, x)"])
@pytest.mark.parametrize(
    ("scaled", "alpha"),
    [("", 1.0), ("a = Mul (x, 1.702)", 1.702), ("a = Mul (1.702, x)", 1.702), ("a = Mul (x, [-2.0])", -2.0)],
)
def test_gate_of_a_multiple(scaled, alpha, product):
    assert_rewrites(
        PASS,
        before=graph(f"{scaled}  s = Sigmoid ({'a' if scaled else 'x'})  y = {product}"),
        after=graph(f"y = com.microsoft.QuickGelu <alpha = {alpha}> (x)"),
        sizes=[{"N": 2}, {"N": 0}],
        exact=False,
        **TARGET,
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (graph("s = Sigmoid (x)  m = Mul (x, s)  y = Add (m, s)"), HAS_OTHER_CONSUMERS),
        (graph("s = Sigmoid (x)  y = Mul (x, s)", outputs="float[N,4] y, float[N,4] s"), IS_GRAPH_OUTPUT),
        (graph("s = Sigmoid (x)  y = Mul (x, s)", "double"), NO_KERNEL),
        # Another value than the gate's.
        (graph("n = Neg (x)  s = Sigmoid (n)  y = Mul (x, s)"), None),
        # A multiple that differs by column.
        (graph("a = Mul (x, [1.0,2.0,3.0,4.0])  s = Sigmoid (a)  y = Mul (x, s)"), None),
    ],
)
def test_leaves_alone(text, reason):
    assert_rejects(PASS, text, reason, target="onnxruntime")


def test_a_number_with_more_axes_widens_the_result():
    k = "k = Constant <value = float[1,1,1] {2.0}> ()  "
    text = f"g (float[N,4] x) => (float[1,N,4] y) {{ {k} a = Mul (x, k)  s = Sigmoid (a)  y = Mul (x, s) }}"
    assert_rejects(PASS, text, NO_KERNEL, target="onnxruntime")
