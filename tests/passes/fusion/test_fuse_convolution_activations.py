from __future__ import annotations

import pytest

from graphopt.passes.fusion.fuse_convolution_activations import (
    NO_BOUND,
    NO_CONVOLUTION,
    NO_KERNEL,
    NOT_ALIKE,
)
from graphopt.rewriting import HAS_OTHER_CONSUMERS, IS_GRAPH_OUTPUT
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fuse-convolution-activations"
TARGET = {"target": "onnxruntime", "domains": {"com.microsoft": 1}}
W = "w = Constant <value = float[2,2,1,1] {0.5, -1.0, 2.0, 0.25}> ()  "
IMAGE = "float[N,2,H,5]"


def graph(body, *, inputs=f"{IMAGE} x", outputs=f"{IMAGE} y"):
    return f"g ({inputs}) => ({outputs}) {{ {W} {body} }}"


@pytest.mark.parametrize(
    ("after_conv", "attributes"),
    [
        ("y = Relu (c)", 'activation = "Relu"'),
        ("y = Sigmoid (c)", 'activation = "Sigmoid"'),
        ("y = Tanh (c)", 'activation = "Tanh"'),
        ("y = LeakyRelu <alpha = 0.25> (c)", 'activation = "LeakyRelu", activation_params = [0.25]'),
        (
            "y = HardSigmoid <alpha = 0.25> (c)",
            'activation = "HardSigmoid", activation_params = [0.25, 0.5]',
        ),
        ("y = Clip (c, -0.5, 6.0)", 'activation = "Clip", activation_params = [-0.5, 6.0]'),
    ],
)
def test_activation_after_convolution(after_conv, attributes):
    assert_rewrites(
        PASS,
        before=graph(f"c = Conv <pads = [1,0,1,0], strides = [1,1]> (x, w)  {after_conv}"),
        after=graph(f"y = com.microsoft.FusedConv <pads = [1,0,1,0], strides = [1,1], {attributes}> (x, w)"),
        sizes=[{"N": 2, "H": 3}, {"N": 0, "H": 3}],
        **TARGET,
    )


def test_an_open_end_of_a_clip_is_the_largest_float():
    assert_rewrites(
        PASS,
        before=graph("c = Conv (x, w)  y = Clip (c, 0.5)"),
        after=graph(
            'y = com.microsoft.FusedConv <activation = "Clip", activation_params = [0.5, 3.4028235e38]> (x, w)'
        ),
        **TARGET,
    )


def test_bounds_as_attributes_before_opset_11():
    assert_rewrites(
        PASS,
        before=graph("c = Conv (x, w)  y = Clip <min = 0.0, max = 6.0> (c)"),
        after=graph(
            'y = com.microsoft.FusedConv <activation = "Clip", activation_params = [0.0, 6.0]> (x, w)'
        ),
        opset=9,
        **TARGET,
    )


@pytest.mark.parametrize("order", ["a, c", "c, a"])
def test_sum_of_two_convolutions_and_the_activation_after_it(order):
    assert_rewrites(
        PASS,
        before=graph(
            f"a = Conv (x, w)  c = Conv (a, w)  s = Add ({order})  y = Relu (s)",
        ),
        after=graph(
            'a = Conv (x, w)  y = com.microsoft.FusedConv <activation = "Relu"> (a, w, , a)',
        ),
        sizes=[{"N": 2, "H": 3}],
        exact=False,
        **TARGET,
    )


def test_in_a_body():
    assert_rewrites(
        PASS,
        before=f"g (bool b, float[1,2,4,5] x) => (float[1,2,4,5] y) {{ {W} y = If (b) "
        "<then_branch = t () => (float[1,2,4,5] u) { c = Conv (x, w)  u = Relu (c) }, "
        "else_branch = e () => (float[1,2,4,5] v) { v = Neg (x) }> }",
        after=f"g (bool b, float[1,2,4,5] x) => (float[1,2,4,5] y) {{ {W} y = If (b) "
        '<then_branch = t () => (float[1,2,4,5] u) { u = com.microsoft.FusedConv <activation = "Relu"> (x, w) }, '
        "else_branch = e () => (float[1,2,4,5] v) { v = Neg (x) }> }",
        **TARGET,
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            graph("c = Conv (x, w)  r = Relu (c)  y = Mul (c, r)"),
            HAS_OTHER_CONSUMERS,
        ),
        (graph("c = Conv (x, w)  y = Relu (c)", outputs=f"{IMAGE} y, {IMAGE} c"), IS_GRAPH_OUTPUT),
        (graph("c = Conv (x, w)  y = Clip (c, 0.0, m)", inputs=f"{IMAGE} x, float m"), NO_BOUND),
        (
            "g (double[N,2,4,4] x, double[2,2,1,1] w) => (double[N,2,4,4] y) { c = Conv (x, w)  y = Relu (c) }",
            NO_KERNEL,
        ),
        (graph("c = Conv (x, w)  y = Add (c, z)", inputs=f"{IMAGE} x, {IMAGE} z"), NO_CONVOLUTION),
        (
            graph(
                "a = Conv (z, w)  c = Conv (x, w)  y = Add (c, a)",
                inputs=f"{IMAGE} x, float[N,2,1,5] z",
            ),
            NOT_ALIKE,
        ),
    ],
)
def test_leaves_alone(text, reason):
    assert_rejects(PASS, text, reason, target="onnxruntime")
