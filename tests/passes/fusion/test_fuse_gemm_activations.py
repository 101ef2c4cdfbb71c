from __future__ import annotations

import pytest

from graphopt.passes.fusion.fuse_gemm_activations import NO_KERNEL
from graphopt.rewriting import HAS_OTHER_CONSUMERS, IS_GRAPH_OUTPUT
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fuse-gemm-activations"
TARGET = {"target": "onnxruntime", "domains": {"com.microsoft": 1}}


def graph(body, outputs="float[N,3] y", kind="float"):
    return f"g ({kind}[N,4] x, {kind}[4,3] w, {kind}[3] b) => ({outputs}) {{ {body} }}"


@pytest.mark.parametrize(
    ("activation", "attributes"),
    [
        ("Relu (p)", 'activation = "Relu"'),
        ("Sigmoid (p)", 'activation = "Sigmoid"'),
        ("Tanh (p)", 'activation = "Tanh"'),
        ("LeakyRelu <alpha = 0.25> (p)", 'activation = "LeakyRelu", activation_alpha = 0.25'),
        (
            "HardSigmoid <alpha = 0.25, beta = 0.75> (p)",
            'activation = "HardSigmoid", activation_alpha = 0.25, activation_beta = 0.75',
        ),
    ],
)
@pytest.mark.parametrize("operands", ["x, w, b", "x, w"])
def test_activation_after_gemm(activation, attributes, operands):
    assert_rewrites(
        PASS,
        before=graph(f"p = Gemm <alpha = 0.5> ({operands})  y = {activation}"),
        after=graph(f"y = com.microsoft.FusedGemm <alpha = 0.5, {attributes}> ({operands})"),
        sizes=[{"N": 2}, {"N": 0}],
        **TARGET,
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (graph("p = Gemm (x, w, b)  r = Relu (p)  y = Mul (p, r)"), HAS_OTHER_CONSUMERS),
        (graph("p = Gemm (x, w, b)  y = Relu (p)", "float[N,3] y, float[N,3] p"), IS_GRAPH_OUTPUT),
        (graph("p = Gemm (x, w, b)  y = Relu (p)", "double[N,3] y", "double"), NO_KERNEL),
    ],
)
def test_leaves_alone(text, reason):
    assert_rejects(PASS, text, reason, target="onnxruntime")
