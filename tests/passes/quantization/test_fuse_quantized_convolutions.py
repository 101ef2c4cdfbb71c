from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphopt.passes.quantization.fuse_quantized_convolutions import (
    OTHER_BIAS,
    OTHER_INPUT,
    OTHER_LAYOUT,
    OTHER_WEIGHT,
)
from graphopt.rewriting import HAS_OTHER_CONSUMERS
from graphopt.runtime import InferenceSession
from graphopt.testing import assert_rejects, model_from_text, random_feeds, run, run_pass

PASS = "fuse-quantized-convolutions"
PARAMETERS = """
    float sx = {0.02}, uint8 zx = {120}, int8[2,1,3] wq = {1, -2, 3, 40, -50, 60}, float[2] sw = {0.01, 0.02},
    float[2] b = {0.5, -1.0}
"""
HEAD = "(float[B,T,2] x) => (float[B,T,2] y)"
WEIGHT = "w = DequantizeLinear <axis = 0> (wq, sw)  "
FIRST = "t = Transpose <perm = [0, 2, 1]> (x)  "
LAST = "y = Transpose <perm = [0, 2, 1]> (c)"
CONV = "c = Conv <group = 2, pads = [1, 1]> (t, w, b)  "


def fused(nodes, head=HEAD, parameters=PARAMETERS, names=("B", "T")):
    """Operators after the pass; valid ONNX, the same answers in onnxruntime and in the engine."""
    model = model_from_text(f"g {head} <{parameters}> {{ {nodes} }}", opset=21)
    original = model.clone()
    run_pass(PASS, model, target="graphopt")
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    session = InferenceSession(proto, optimize=False)
    for size in ((2, 5), (1, 3), (0, 4)):
        feeds = random_feeds(original, dict(zip(names, size, strict=True)))
        for was, now, ours in zip(
            run(original, feeds), run(model, feeds), session.run(None, feeds), strict=True
        ):
            np.testing.assert_allclose(now, was, rtol=0, atol=2e-6)
            np.testing.assert_allclose(ours, was, rtol=0, atol=2e-6)
    return [node.op_type for node in model.graph if node.op_type != "Constant"]


def test_a_weight_alone():
    assert fused(FIRST + WEIGHT + CONV + LAST) == ["CompressedChannelsLastConv"]


def test_without_a_bias():
    conv = CONV.replace(", b)", ")")
    assert fused(FIRST + WEIGHT + conv + LAST) == ["CompressedChannelsLastConv"]


@pytest.mark.parametrize(
    "image",
    [
        FIRST.replace("t =", "u =") + "q = QuantizeLinear (u, sx, zx)  t = DequantizeLinear (q, sx, zx)  ",
        "q = QuantizeLinear (x, sx, zx)  u = DequantizeLinear (q, sx, zx)  " + FIRST.replace("(x)", "(u)"),
    ],
)
def test_quantized(image):
    assert fused(image + WEIGHT + CONV + LAST) == ["QuantizedChannelsLastConv"]


def test_images_of_two_axes():
    parameters = """int8[3,2,1,1] wq = {1, -2, 3, 40, -50, 60}, float[3] sw = {0.01, 0.02, 0.03},
        float[3] b = {0.5, -1.0, 2.0}"""
    nodes = (
        "t = Transpose <perm = [0, 3, 1, 2]> (x)  " + WEIGHT + "c = Conv <strides = [2, 2]> (t, w, b)  "
        "y = Transpose <perm = [0, 2, 3, 1]> (c)"
    )
    head = "(float[B,4,H,2] x) => (float[B,P,Q,3] y)"
    assert fused(nodes, head, parameters, ("B", "H")) == ["CompressedChannelsLastConv"]


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        (FIRST + WEIGHT + CONV + "y = Transpose <perm = [2, 1, 0]> (c)", OTHER_LAYOUT),
        ("t = Transpose <perm = [2, 0, 1]> (v)  " + WEIGHT + CONV + LAST, OTHER_LAYOUT),
        (FIRST + WEIGHT + CONV + "e = Relu (c)  " + LAST, HAS_OTHER_CONSUMERS),
        (FIRST + "w = DequantizeLinear <axis = 0> (wq, sw, z2)  " + CONV + LAST, OTHER_WEIGHT),
        (FIRST + WEIGHT + CONV.replace("b)", "v1)") + LAST, OTHER_BIAS),
        (
            FIRST.replace("t =", "u =")
            + "q = QuantizeLinear (u, sx, zx)  t = DequantizeLinear (q, s2, zx)  "
            + WEIGHT
            + CONV
            + LAST,
            OTHER_INPUT,
        ),
    ],
)
def test_leaves_alone(nodes, reason):
    outputs = "float[P,Q,R] y" + (", float[P,Q,R] e" if "e =" in nodes else "")
    graph = f"""g (float[B,T,2] x, float[2,T,B] v, float[2] v1) => ({outputs}) <{PARAMETERS}, float s2 = {{0.5}},
        int8[2] z2 = {{1, 2}}> {{ {nodes} }}"""
    assert_rejects(PASS, graph, reason, target="graphopt", opset=21)
