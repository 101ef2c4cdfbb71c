from __future__ import annotations

import numpy as np
import pytest

from graphopt.passes.quantization.fuse_integer_products import (
    GIVES_CODES,
    IS_SIGNED,
    OTHER_BIAS,
    OTHER_FORM,
    OTHER_INPUT,
)
from graphopt.rewriting.stored_matrices import OTHER_WEIGHT
from graphopt.testing import assert_rejects, model_from_text, operators_of, random_feeds, run, run_pass

PASS = "fuse-integer-products"
DOMAINS = {"com.microsoft": 1}
PARAMETERS = """
    float sx = {0.02}, uint8 zx = {120}, int8 zs = {-8},
    int8[4,3] wq = {1, -2, 3, 40, -50, 60, 7, 8, -9, 100, 110, -120}, float[3] sw = {0.01, 0.02, 0.03},
    float[3] b = {0.5, -1.0, 2.0}, float[1,1,3] b3 = {0.5, -1.0, 2.0}
"""
PAIR = "q = QuantizeLinear (x, sx, zx)  d = DequantizeLinear (q, sx, zx)  "
WEIGHT = "w = DequantizeLinear <axis = 1> (wq, sw)  "


def fused(nodes, head="(float[B,N,4] x) => (float[B,N,3] y)", parameters=PARAMETERS):
    """Operators after the pass, which gives the same answers."""
    model = model_from_text(f"g {head} <{parameters}> {{ {nodes} }}", opset=21, domains=DOMAINS)
    original = model.clone()
    run_pass(PASS, model, target="onnxruntime")
    for size in ({"B": 2, "N": 5}, {"B": 0, "N": 3}):
        feeds = random_feeds(original, size)
        for was, now in zip(run(original, feeds), run(model, feeds), strict=True):
            np.testing.assert_allclose(now, was, rtol=0, atol=2e-6)
    assert not run_pass(PASS, model, target="onnxruntime").firings
    return [name for name in operators_of(model) if name != "QuantizeLinear"]


@pytest.mark.parametrize("bias", ["b", "b3"])
def test_product_and_bias(bias):
    nodes = PAIR + WEIGHT + f"m = MatMul (d, w)  y = Add ({bias}, m)"
    assert fused(nodes) == ["MatMulIntegerToFloat"]


def test_the_residual_stays():
    head = "(float[B,N,4] x, float[B,N,3] r) => (float[B,N,3] y)"
    nodes = PAIR + WEIGHT + "m = MatMul (d, w)  a = Add (m, b)  y = Add (r, a)"
    assert fused(nodes, head) == ["MatMulIntegerToFloat", "Add"]


def test_gemm_with_a_transposed_weight():
    parameters = """float sx = {0.02}, uint8 zx = {120}, int8[3,4] wq = {1, -2, 3, 40, -50, 60, 7, 8, -9, 1, 2, 3},
        float[3] sw = {0.01, 0.02, 0.03}, int32[3] bq = {100, -200, 300}, float[3] sb = {0.0002, 0.0004, 0.0006}"""
    nodes = PAIR + (
        "w = DequantizeLinear <axis = 0> (wq, sw)  b = DequantizeLinear <axis = 0> (bq, sb)  "
        "y = Gemm <transB = 1> (d, w, b)"
    )
    assert fused(nodes, "(float[B,4] x) => (float[B,3] y)", parameters) == ["MatMulIntegerToFloat"]


def test_one_pair_for_two_products():
    head = "(float[B,N,4] x) => (float[B,N,3] y, float[B,N,3] z)"
    nodes = PAIR + WEIGHT + "y = MatMul (d, w)  v = DequantizeLinear <axis = 1> (wq, sw)  z = MatMul (d, v)"
    model = model_from_text(f"g {head} <{PARAMETERS}> {{ {nodes} }}", opset=21, domains=DOMAINS)
    run_pass(PASS, model, target="onnxruntime")
    assert operators_of(model) == ["QuantizeLinear", "MatMulIntegerToFloat", "MatMulIntegerToFloat"]


def test_in_a_loop_that_captures_the_codes():
    model = model_from_text(
        f"""g (float[2,4] x, int64 n, bool go) => (float[2,3] y) <{PARAMETERS}, float[2,3] zero = {{0,0,0,0,0,0}}> {{
        q = QuantizeLinear (x, sx, zx)
        y = Loop (n, go, zero) <body = inner (int64 i, bool c, float[2,3] s) => (bool e, float[2,3] t) {{
            e = Identity (c)
            d = DequantizeLinear (q, sx, zx)  {WEIGHT}  p = MatMul (d, w)  t = Add (s, p) }}> }}""",
        opset=21,
        domains=DOMAINS,
    )
    original = model.clone()
    run_pass(PASS, model, target="onnxruntime")
    [loop] = [node for node in model.graph if node.op_type == "Loop"]
    body = loop.attributes["body"].as_graph()
    assert [n.op_type for n in body] == ["Identity", "MatMulIntegerToFloat", "Add"]
    feeds = {"x": np.ones((2, 4), np.float32), "n": np.asarray(3), "go": np.asarray(True)}
    np.testing.assert_allclose(run(model, feeds)[0], run(original, feeds)[0], atol=1e-5)


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        (PAIR + WEIGHT + "m = MatMul (d, w)  y = QuantizeLinear (m, sx, zx)", GIVES_CODES),
        (PAIR.replace("zx", "zs") + WEIGHT + "y = MatMul (d, w)", IS_SIGNED),
        (PAIR + "w = DequantizeLinear <axis = 1> (wq, sw, z3)  y = MatMul (d, w)", OTHER_WEIGHT),
        (PAIR + WEIGHT + "y = Gemm <alpha = 2.0> (d, w)", OTHER_FORM),
        (PAIR + WEIGHT + "y = Gemm (d, w, c)", OTHER_BIAS),
        ("d = DequantizeLinear <axis = 1> (k, s4, z4)  " + WEIGHT + "y = MatMul (d, w)", OTHER_INPUT),
    ],
)
def test_leaves_alone(nodes, reason):
    result = "uint8" if reason is GIVES_CODES else "float"
    graph = f"""g (float[B,4] x, uint8[B,4] k, float[3] c) => ({result}[B,3] y) <{PARAMETERS},
        int8[3] z3 = {{0, 1, 2}}, float[4] s4 = {{1, 2, 3, 4}}, uint8[4] z4 = {{1, 1, 1, 1}}> {{ {nodes} }}"""
    assert_rejects(PASS, graph, reason, target="onnxruntime", opset=21, domains=DOMAINS)


def test_a_bias_that_is_no_vector_stays():
    graph = f"g (float[B,4] x) => (float[B,3] y) <{PARAMETERS}> {{ {PAIR + WEIGHT} m = MatMul (d, w)  y = Add (m, 1.0) }}"
    model = model_from_text(graph, opset=21, domains=DOMAINS)
    trace = run_pass(PASS, model, target="onnxruntime")
    assert operators_of(model)[-1] == "Add"
    assert any(miss.startswith(OTHER_BIAS) for miss in trace.misses.values())
