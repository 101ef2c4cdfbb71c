from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphopt.ir.own_operators import ACTIVATIONS
from graphopt.passes.quantization.fuse_quantized_products import (
    GIVES_CODES,
    OTHER_BIAS,
    OTHER_FORM,
    OTHER_INPUT,
    OTHER_SHAPE,
)
from graphopt.rewriting import HAS_OTHER_CONSUMERS
from graphopt.rewriting.stored_matrices import OTHER_WEIGHT
from graphopt.runtime import InferenceSession
from graphopt.testing import assert_rejects, model_from_text, random_feeds, run, run_pass

PASS = "fuse-quantized-products"
PARAMETERS = """
    float sx = {0.02}, uint8 zx = {120}, int8 zs = {-8},
    int8[4,3] wq = {1, -2, 3, 40, -50, 60, 7, 8, -9, 100, 110, -120}, float[3] sw = {0.01, 0.02, 0.03},
    float[3] b = {0.5, -1.0, 2.0}
"""
HEAD = "(float[B,N,4] x) => (float[B,N,3] y)"
PAIR = "q = QuantizeLinear (x, sx, zx)  d = DequantizeLinear (q, sx, zx)  "
WEIGHT = "w = DequantizeLinear <axis = 1> (wq, sw)  "


def fused(nodes, head=HEAD, parameters=PARAMETERS, opset=21):
    """Operators after the pass; valid ONNX, the same answers in onnxruntime and, of the bodies, in the engine."""
    model = model_from_text(f"g {head} <{parameters}> {{ {nodes} }}", opset=opset)
    if "block_size" in nodes:  # text can't say integers of 4 bits
        stored = model.graph.initializers["wq"]
        stored.const_value = ir.tensor(stored.const_value.numpy(), ir.DataType.INT4, name="wq")
        stored.dtype = ir.DataType.INT4
    original = model.clone()
    run_pass(PASS, model, target="graphopt")
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    session = InferenceSession(proto, optimize=False)
    for size in ({"B": 2, "N": 5}, {"B": 0, "N": 3}, {"B": 1, "N": 1}):
        feeds = random_feeds(original, size)
        for was, now, ours in zip(
            run(original, feeds), run(model, feeds), session.run(None, feeds), strict=True
        ):
            np.testing.assert_allclose(now, was, rtol=0, atol=2e-6)
            np.testing.assert_allclose(ours, now, rtol=0, atol=1e-6)
    assert not run_pass(PASS, model, target="graphopt").firings
    return [node.op_type for node in model.graph if node.op_type != "Constant"]


def test_product_alone():
    assert fused(PAIR + WEIGHT + "y = MatMul (d, w)") == ["QuantizedMatMul"]


def test_signed_input():
    pair = "q = QuantizeLinear (x, sx, zs)  d = DequantizeLinear (q, sx, zs)  "
    assert fused(pair + WEIGHT + "y = MatMul (d, w)") == ["QuantizedMatMul"]


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_bias_and_activation(activation):
    given = {"LeakyRelu": "<alpha = 0.5>", "HardSigmoid": "<beta = 0.25>"}.get(activation, "")
    nodes = PAIR + WEIGHT + f"m = MatMul (d, w)  a = Add (b, m)  y = {activation} {given} (a)"
    assert fused(nodes) == [f"QuantizedFullyConnected{activation}"]


def test_bias_and_something_else_added():
    head = "(float[B,N,4] x, float[B,N,3] r) => (float[B,N,3] y)"
    nodes = PAIR + WEIGHT + "m = MatMul (d, w)  a = Add (m, b)  y = Add (r, a)"
    assert fused(nodes, head) == ["QuantizedFullyConnectedAdd"]
    assert fused(PAIR + WEIGHT + "m = MatMul (d, w)  y = Add (m, r)", head) == ["QuantizedMatMulAdd"]


def test_gemm_with_a_transposed_weight_and_a_bias_in_integers():
    parameters = """float sx = {0.02}, uint8 zx = {120}, int8[3,4] wq = {1, -2, 3, 40, -50, 60, 7, 8, -9, 1, 2, 3},
        float[3] sw = {0.01, 0.02, 0.03}, int32[3] bq = {100, -200, 300}, float[3] sb = {0.0002, 0.0004, 0.0006}"""
    nodes = PAIR + (
        "w = DequantizeLinear <axis = 0> (wq, sw)  b = DequantizeLinear <axis = 0> (bq, sb)  "
        "y = Gemm <transB = 1> (d, w, b)"
    )
    assert fused(nodes, "(float[B,4] x) => (float[B,3] y)", parameters) == ["QuantizedFullyConnected"]


def test_unsigned_weights_around_128_become_signed():
    parameters = """float sx = {0.02}, uint8 zx = {120}, uint8[4,3] wq = {1, 2, 3, 40, 250, 60, 7, 8, 9, 100, 0, 128},
        float sw = {0.01}, uint8 zw = {128}"""
    nodes = PAIR + "w = DequantizeLinear (wq, sw, zw)  y = MatMul (d, w)"
    assert fused(nodes, parameters=parameters) == ["QuantizedMatMul"]


def test_three_products_of_one_input_quantize_it_once_in_the_engine():
    head = "(float[B,N,4] x) => (float[B,N,3] y, float[B,N,3] z)"
    assert fused(PAIR + WEIGHT + "y = MatMul (d, w)  z = MatMul (d, w)", head) == ["QuantizedMatMul"] * 2


def test_codes_that_others_take_stay_codes():
    head = "(float[B,N,4] x) => (float[B,N,3] y, uint8[B,N,4] q)"
    assert fused(PAIR + WEIGHT + "y = MatMul (d, w)", head) == ["QuantizeLinear", "IntegerMatMul"]


def test_codes_of_an_input():
    head = "(uint8[B,N,4] q) => (float[B,N,3] y)"
    nodes = "d = DequantizeLinear (q, sx, zx)  " + WEIGHT + "m = MatMul (d, w)  y = Add (m, b)"
    assert fused(nodes, head) == ["IntegerFullyConnected"]


def test_a_weight_alone():
    assert fused(WEIGHT + "m = MatMul (x, w)  y = Add (m, b)") == ["CompressedFullyConnected"]


def test_blocks_of_4_bits():
    parameters = """int8[6,2] wq = {1, -2, 3, 4, -5, 6, 7, -8, 0, 1, 2, 3},
        float[2,2] sw = {0.1, 0.2, 0.3, 0.4}, float[2] b = {1.0, 2.0}"""
    nodes = "w = DequantizeLinear <axis = 0, block_size = 4> (wq, sw)  m = MatMul (x, w)  y = Add (m, b)"
    found = fused(nodes, "(float[B,N,6] x) => (float[B,N,2] y)", parameters)
    assert found == ["CompressedFullyConnected"]


def test_in_a_loop_with_weights_that_it_captures():
    model = model_from_text(
        f"""g (float[2,4] x, int64 n) => (float[2,4] y) <float sx = {{0.02}}, uint8 zx = {{120}},
        int8[4,4] wq = {{1, -2, 3, 40, -50, 60, 7, 8, -9, 100, 110, -120, 5, 6, 7, 8}}, float sw = {{0.01}},
        bool go = {{1}}> {{
        y = Loop (n, go, x) <body = inner (int64 i, bool c, float[2,4] s) => (bool e, float[2,4] t) {{
            e = Identity (c)
            {PAIR.replace("(x,", "(s,")}
            w = DequantizeLinear (wq, sw)  t = MatMul (d, w) }}> }}""",
        opset=21,
    )
    original = model.clone()
    run_pass(PASS, model, target="graphopt")
    [loop] = [node for node in model.graph if node.op_type == "Loop"]
    assert [n.op_type for n in loop.attributes["body"].as_graph()] == ["Identity", "QuantizedMatMul"]
    feeds = {"x": np.ones((2, 4), np.float32), "n": np.asarray(3)}
    np.testing.assert_allclose(run(model, feeds)[0], run(original, feeds)[0], atol=1e-6)


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        (PAIR + WEIGHT + "m = MatMul (d, w)  y = QuantizeLinear (m, sx, zx)", GIVES_CODES),
        (PAIR + "w = DequantizeLinear <axis = 0> (wq, s4)  y = MatMul (d, w)", OTHER_INPUT),
        (PAIR + "w = DequantizeLinear <axis = 1> (wq, sw, z3)  y = MatMul (d, w)", OTHER_WEIGHT),
        (PAIR + WEIGHT + "y = Gemm <alpha = 2.0> (d, w)", OTHER_FORM),
    ],
)
def test_leaves_alone(nodes, reason):
    graph = f"""g (float[B,4] x, float[1,3] r) => (float[B,3] y) <{PARAMETERS}, float[4] s4 = {{1, 2, 3, 4}},
        int8[3] z3 = {{0, 1, 2}}> {{ {nodes} }}"""
    if reason is GIVES_CODES:
        graph = graph.replace("(float[B,3] y)", "(uint8[B,3] y)")
    if reason is OTHER_INPUT:
        graph = graph.replace("QuantizeLinear (x, sx, zx)", "QuantizeLinear <axis = 1> (x, s4, z4)")
        graph = graph.replace("DequantizeLinear (q, sx, zx)", "DequantizeLinear <axis = 1> (q, s4, z4)")
        graph = graph.replace("float[4] s4", "uint8[4] z4 = {1, 1, 1, 1}, float[4] s4")
        graph = graph.replace("<axis = 0> (wq, s4)", "<axis = 1> (wq, sw)")
    assert_rejects(PASS, graph, reason, target="graphopt", opset=21)


@pytest.mark.parametrize(
    ("nodes", "left", "reason"),
    [
        ("y = Add (m, b1)", "Add", OTHER_BIAS),
        ("y = Add (m, r)", "Add", OTHER_SHAPE),
        ("a = Add (m, b)  y = Mul (a, m)", "Add", HAS_OTHER_CONSUMERS),
        ("a = Add (m, b)  c = Relu (a)  y = Mul (a, c)", "Relu", HAS_OTHER_CONSUMERS),
    ],
)
def test_leaves_what_follows_alone(nodes, left, reason):
    model = model_from_text(
        f"""g (float[B,4] x, float[1,3] r) => (float[B,3] y) <{PARAMETERS}, float[1,1] b1 = {{1.0}}>
        {{ {PAIR + WEIGHT} m = MatMul (d, w)  {nodes} }}""",
        opset=21,
    )
    trace = run_pass(PASS, model, target="graphopt")
    assert left in [node.op_type for node in model.graph]
    assert any(miss.startswith(reason) for miss in trace.misses.values())


def test_there_is_no_gemm_of_codes_in_the_standard():
    model = model_from_text(
        f"""g (float[B,4] x) => (uint8[B,3] y) <{PARAMETERS}>
        {{ {PAIR + WEIGHT} m = Gemm (d, w, b)  y = QuantizeLinear (m, sx, zx) }}""",
        opset=21,
    )
    run_pass(PASS, model, target="graphopt")
    assert [n.op_type for n in model.graph] == ["QuantizedFullyConnected", "QuantizeLinear"]


DYNAMIC = """q, s, z = DynamicQuantizeLinear (x)  p = MatMulInteger (q, wq, z, zw)  f = Cast <to = 1> (p)
    k = Mul (s, sw)  """
ZERO = ", int8 zw = {0}"


def dynamic(nodes, parameters=PARAMETERS + ZERO, head=HEAD):
    """Operators after the pass; a code of the quantized input may be its neighbour in another runtime."""
    model = model_from_text(f"g {head} <{parameters}> {{ {nodes} }}", opset=21)
    original = model.clone()
    run_pass(PASS, model, target="graphopt")
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    feeds = random_feeds(original, {"B": 2, "N": 5})
    for was, now, ours in zip(
        run(original, feeds),
        run(model, feeds),
        InferenceSession(proto, optimize=False).run(None, feeds),
        strict=True,
    ):
        np.testing.assert_allclose(now, was, rtol=0, atol=2e-6)
        np.testing.assert_allclose(ours, was, rtol=0, atol=2e-6)
    return [node.op_type for node in model.graph if node.op_type != "Constant"]


def test_an_input_that_is_quantized_by_its_own_range():
    nodes = DYNAMIC + "m = Mul (f, k)  a = Add (m, b)  y = Relu (a)"
    assert dynamic(nodes) == ["DynamicFullyConnectedRelu"]
    assert dynamic(DYNAMIC.replace("(s, sw)", "(sw, s)") + "y = Mul (k, f)") == ["DynamicMatMul"]


def test_unsigned_weights_of_a_dynamic_product():
    parameters = """uint8[4,3] wq = {1, 2, 3, 40, 250, 60, 7, 8, 9, 100, 0, 128}, float sw = {0.01}, uint8 zw = {128}"""
    assert dynamic(DYNAMIC + "y = Mul (f, k)", parameters) == ["DynamicMatMul"]


def test_two_dynamic_products_of_one_input():
    head = "(float[B,N,4] x) => (float[B,N,3] y, float[B,N,3] v)"
    second = "p2 = MatMulInteger (q, wq, z, zw)  f2 = Cast <to = 1> (p2)  k2 = Mul (s, sw)  v = Mul (f2, k2)"
    assert dynamic(DYNAMIC + "y = Mul (f, k)  " + second, head=head) == ["DynamicMatMul"] * 2


@pytest.mark.parametrize(
    ("nodes", "zero", "reason"),
    [
        (DYNAMIC + "y = Mul (f, k)", "5", OTHER_WEIGHT),
        (DYNAMIC.replace("Mul (s, sw)", "Mul (one, sw)") + "y = Mul (f, k)", "0", OTHER_INPUT),
    ],
)
def test_leaves_dynamic_products_alone(nodes, zero, reason):
    graph = f"g {HEAD} <{PARAMETERS}, int8 zw = {{{zero}}}, float one = {{1.0}}> {{ {nodes} }}"
    assert_rejects(PASS, graph, reason, target="graphopt", opset=21)
