from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphopt.ir.own_operators import ACTIVATIONS
from graphopt.passes.algebra.fuse_fully_connected import NOT_CONSTANT, OTHER_BIAS, OTHER_FORM
from graphopt.testing import (
    assert_rejects,
    assert_same_outputs,
    model_from_text,
    operators_of,
    random_feeds,
    run_pass,
)

PASS = "fuse-fully-connected"
W = "float[2,3] w = {1, 2, 3, 4, 5, 6}, float[3] b = {1, 2, 3}"
HEAD = "(float[B,N,2] x) => (float[B,N,3] y)"


def fused(head, nodes, constants=W, opset=20):
    """Operators of the main graph after the pass, which must be valid ONNX and give the same answers."""
    model = model_from_text(f"g {head} <{constants}> {{ {nodes} }}", opset=opset)
    original = model.clone()
    run_pass(PASS, model, target="graphopt")
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    for size in ({"B": 2, "N": 3}, {"B": 0, "N": 3}):
        assert_same_outputs(original, model, random_feeds(original, size), exact=False)
    assert not run_pass(PASS, model, target="graphopt").firings
    return [(node.op_type, node.domain) for node in model.graph]


@pytest.mark.parametrize("bias", ["float[3] b = {1,2,3}", "float[1,1,3] b = {1,2,3}"])
def test_bias(bias):
    constants = f"float[2,3] w = {{1, 2, 3, 4, 5, 6}}, {bias}"
    assert fused(HEAD, "a = MatMul (x, w)  y = Add (b, a)", constants) == [("FullyConnected", "ai.graphopt")]


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_activation(activation):
    attributes = {
        "Gelu": '<approximate = "tanh">',
        "LeakyRelu": "<alpha = 0.5>",
        "HardSigmoid": "<beta = 0.25>",
    }
    nodes = f"a = MatMul (x, w)  c = Add (a, b)  y = {activation} {attributes.get(activation, '')} (c)"
    assert fused(HEAD, nodes) == [(f"FullyConnected{activation}", "ai.graphopt")]


def test_gemm_and_its_transposed_weight():
    constants = "float[3,2] w = {1, 2, 3, 4, 5, 6}, float[3] b = {1, 2, 3}"
    found = fused(
        "(float[B,2] x) => (float[B,3] y)", "a = Gemm <transB = 1> (x, w, b)  y = Relu (a)", constants
    )
    assert found == [("FullyConnectedRelu", "ai.graphopt")]


def test_one_function_for_all_calls():
    nodes = "a = MatMul (x, w)  c = Add (a, b)  d = MatMul (c, v)  y = Add (d, b)"
    constants = f"{W}, float[3,3] v = {{1,2,3,4,5,6,7,8,9}}"
    model = model_from_text(f"g {HEAD} <{constants}> {{ {nodes} }}")
    run_pass(PASS, model, target="graphopt")
    assert operators_of(model) == ["FullyConnected"] * 2
    assert [name for _, name, _ in model.functions] == ["FullyConnected"]


def test_in_the_body_of_a_loop():
    text = """g (int64 n, float[1,3] x) => (float[1,3] y) <float[3,3] w = {1,2,3,4,5,6,7,8,9}, float[3] b = {1,2,3}> {
        t = Constant <value = bool {1}> ()
        y = Loop (n, t, x) <body = l (int64 i, bool c, float[1,3] s) => (bool d, float[1,3] r) {
            d = Identity (c)  p = MatMul (s, w)  q = Add (p, b)  r = Sigmoid (q) }>
    }"""
    model = model_from_text(text)
    original = model.clone()
    run_pass(PASS, model, target="graphopt")
    assert "FullyConnectedSigmoid" in operators_of(model)
    feeds = {"n": np.array(2), "x": np.zeros((1, 3), np.float32)}
    assert_same_outputs(original, model, feeds, exact=False)


@pytest.mark.parametrize(
    ("head", "nodes", "reason"),
    [
        (HEAD.replace(") =>", ", float[2,3] v) =>"), "a = MatMul (x, v)  y = Add (a, b)", NOT_CONSTANT),
        (HEAD.replace(") =>", ", float[3] c) =>"), "a = MatMul (x, w)  y = Add (a, c)", OTHER_BIAS),
        (HEAD, "a = MatMul (x, w)  y = Add (a, 1.0)", OTHER_BIAS),
        ("(float[B,2] x) => (float[B,3] y)", "y = Gemm <alpha = 2.0> (x, w, b)", OTHER_FORM),
    ],
)
def test_leaves_alone(head, nodes, reason):
    assert_rejects(PASS, f"g {head} <{W}> {{ {nodes} }}", reason, target="graphopt")
