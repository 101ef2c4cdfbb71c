from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.errors import UsageError
from graphopt.passes.quantization.fuse_stored_products import OTHER_BIAS, OTHER_FORM, OTHER_INPUT
from graphopt.rewriting import registry
from graphopt.rewriting.stored_matrices import OTHER_WEIGHT
from graphopt.runtime import InferenceSession
from graphopt.testing import assert_rejects, model_from_text, operators_of, random_feeds, run, run_pass

PASS = "fuse-stored-products{accuracy-level=1}"
DOMAINS = {"com.microsoft": 1}
HEAD = "(float[B,N,40] x) => (float[B,N,3] y)"


def codes(*shape, low=-127, high=127):
    return np.random.default_rng(0).integers(low, high + 1, shape)


def constant(name, array, dtype="int8"):
    text = ", ".join(str(n) for n in array.reshape(-1))
    return f"{dtype}{list(array.shape)} {name} = {{{text}}}"


WEIGHT = constant("wq", codes(40, 3)) + ", float[3] sw = {0.01, 0.02, 0.03}, float[3] b = {0.5, -1.0, 2.0}"


def fused(nodes, head=HEAD, constants=WEIGHT, name=PASS, bits=8):
    """Operators after the pass; the same answers in onnxruntime and in the engine, computed in floats."""
    model = model_from_text(f"g {head} <{constants}> {{ {nodes} }}", opset=21, domains=DOMAINS)
    if bits == 4:  # text can't say integers of 4 bits
        stored = model.graph.initializers["wq"]
        stored.const_value = ir.tensor(stored.const_value.numpy(), ir.DataType.INT4, name="wq")
        stored.dtype = ir.DataType.INT4
    original = model.clone()
    run_pass(name, model, target="onnxruntime")
    session = InferenceSession(ir.to_proto(model), optimize=False)
    for size in ({"B": 2, "N": 5}, {"B": 1, "N": 1}):
        feeds = random_feeds(original, size)
        [was], [now], [ours] = run(original, feeds), run(model, feeds), session.run(None, feeds)
        np.testing.assert_allclose(now, was, rtol=0, atol=1e-5 * np.abs(was).max())
        np.testing.assert_allclose(ours, was, rtol=0, atol=1e-5 * np.abs(was).max())
    return operators_of(model)


def test_bytes_and_a_bias():
    nodes = "w = DequantizeLinear <axis = 1> (wq, sw)  m = MatMul (x, w)  y = Add (b, m)"
    assert fused(nodes) == ["MatMulNBits"]


def test_gemm_with_a_transposed_weight():
    constants = (
        constant("wq", codes(3, 40)) + ", float[3] sw = {0.01, 0.02, 0.03}, float[3] b = {0.5, -1.0, 2.0}"
    )
    nodes = "w = DequantizeLinear <axis = 0> (wq, sw)  y = Gemm <transB = 1> (x, w, b)"
    assert fused(nodes, "(float[B,40] x) => (float[B,3] y)", constants) == ["MatMulNBits"]


def test_more_rows_than_a_block_has():
    constants = constant("wq", codes(300, 3)) + ", float sw = {0.01}"
    nodes = "w = DequantizeLinear (wq, sw)  y = MatMul (x, w)"
    assert fused(nodes, "(float[B,300] x) => (float[B,3] y)", constants) == ["MatMulNBits"]


def test_blocks_of_4_bits():
    constants = constant("wq", codes(40, 3, low=-8, high=7))
    constants += ", float[3,3] sw = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9}"
    nodes = "w = DequantizeLinear <axis = 0, block_size = 16> (wq, sw)  y = MatMul (x, w)"
    assert fused(nodes, constants=constants, bits=4) == ["MatMulNBits"]


def test_inputs_are_rounded_where_nothing_else_is_asked_for():
    text = f"g {HEAD} <{WEIGHT}> {{ w = DequantizeLinear <axis = 1> (wq, sw)  y = MatMul (x, w) }}"
    model = model_from_text(text, opset=21, domains=DOMAINS)
    original = model.clone()
    run_pass("fuse-stored-products", model, target="onnxruntime")
    feeds = random_feeds(original, {"B": 2, "N": 5})
    [was], [now] = run(original, feeds), run(model, feeds)
    assert 1e-4 < np.abs(now - was).max() / np.abs(was).max() < 0.02


def test_a_level_that_there_is_not():
    with pytest.raises(UsageError, match="accuracy-level"):
        registry.find("fuse-stored-products")(accuracy_level=3)


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ("w = DequantizeLinear <axis = 0> (wq, s40)  y = MatMul (x, w)", OTHER_WEIGHT),
        ("w = DequantizeLinear <axis = 1> (wq, sw)  y = Gemm <alpha = 2.0> (x, w)", OTHER_FORM),
        ("w = DequantizeLinear <axis = 1> (wq, sw)  y = Gemm (x, w, c)", OTHER_FORM),
        (
            "q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)  "
            "w = DequantizeLinear <axis = 1> (wq, sw)  y = MatMul (d, w)",
            OTHER_INPUT,
        ),
    ],
)
def test_leaves_alone(nodes, reason):
    scales = constant("s40", np.full(40, 0.5), "float")
    graph = f"""g (float[B,40] x, float[3] c) => (float[B,3] y) <{WEIGHT}, {scales}, float s = {{0.1}},
        uint8 z = {{3}}> {{ {nodes} }}"""
    assert_rejects("fuse-stored-products", graph, reason, target="onnxruntime", opset=21, domains=DOMAINS)


def test_what_is_no_vector_stays_behind():
    nodes = "w = DequantizeLinear <axis = 1> (wq, sw)  m = MatMul (x, w)  y = Add (m, 1.0)"
    model = model_from_text(f"g {HEAD} <{WEIGHT}> {{ {nodes} }}", opset=21, domains=DOMAINS)
    trace = run_pass("fuse-stored-products", model, target="onnxruntime")
    assert operators_of(model) == ["MatMulNBits", "Add"]
    assert any(miss.startswith(OTHER_BIAS) for miss in trace.misses.values())
