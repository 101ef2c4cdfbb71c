from __future__ import annotations

import pytest

from graphopt.passes.fusion.fuse_biases_into_gelu import NO_BIAS, NO_KERNEL
from graphopt.rewriting import HAS_OTHER_CONSUMERS, IS_GRAPH_OUTPUT
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fuse-biases-into-gelu"
TARGET = {"target": "onnxruntime", "domains": {"com.microsoft": 1}, "opset": 20}


def graph(body, inputs="float[N,3,2] x", outputs="float[N,3,2] y"):
    return f"g ({inputs}) => ({outputs}) {{ {body} }}"


@pytest.mark.parametrize("order", ["x, [0.5,-1.0]", "[0.5,-1.0], x"])
@pytest.mark.parametrize(
    ("attribute", "operator"), [("", "BiasGelu"), ('<approximate = "tanh">', "FastGelu")]
)
def test_bias_goes_into_gelu(order, attribute, operator):
    assert_rewrites(
        PASS,
        before=graph(f"a = Add ({order})  y = Gelu {attribute} (a)"),
        after=graph(f"y = com.microsoft.{operator} (x, [0.5,-1.0])"),
        sizes=[{"N": 2}, {"N": 0}],
        exact=False,
        **TARGET,
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (graph("a = Add (x, [0.5,1.0])  g = Gelu (a)  y = Mul (a, g)"), HAS_OTHER_CONSUMERS),
        (
            graph("a = Add (x, [0.5,1.0])  y = Gelu (a)", outputs="float[N,3,2] y, float[N,3,2] a"),
            IS_GRAPH_OUTPUT,
        ),
        (graph("a = Add (x, 0.5)  y = Gelu (a)"), NO_BIAS),
        (graph("a = Add (x, [0.5])  y = Gelu (a)"), NO_BIAS),
        # One column may be widened to two by the bias.
        (graph("a = Add (x, [0.5,1.0])  y = Gelu (a)", "float[N,3,1] x"), NO_BIAS),
        (graph("a = Add (x, b)  y = Gelu (a)", "float[N,3,2] x, float[2] b"), NO_BIAS),
        (graph("a = Add (x, b)  y = Gelu (a)", "double[N,3,2] x, double[2] b", "double[N,3,2] y"), NO_KERNEL),
    ],
)
def test_leaves_alone(text, reason):
    assert_rejects(PASS, text, reason, opset=20, target="onnxruntime")
