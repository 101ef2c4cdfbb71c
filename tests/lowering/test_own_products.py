from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.lowering.lower import lower
from graphopt.runtime import InferenceSession
from graphopt.testing import model_from_text, random_feeds, run, run_pass

DOMAINS = {"com.microsoft": 1}
PARAMETERS = """float sx = {0.02}, uint8 zx = {120}, int8[4,3] wq = {1, -2, 3, 40, -50, 60, 7, 8, -9, 100, 110, -120},
    float[3] sw = {0.01, 0.02, 0.03}, float[3] b = {0.5, -1.0, 2.0}"""


def kernels(model):
    return [i.kernel for i in lower(model.clone()).main.instructions]


@pytest.mark.parametrize("inputs", ["q, wq, sx, sw, zx", "q, wq, sx, sw, zx, , b", "q, wq, sx, sw"])
def test_bytes_by_bytes_that_give_floats(inputs):
    model = model_from_text(
        f"""g (float[B,N,4] x) => (float[B,N,3] y) <{PARAMETERS}>
        {{ q = QuantizeLinear (x, sx, zx)  y = com.microsoft.MatMulIntegerToFloat ({inputs}) }}""",
        opset=21,
        domains=DOMAINS,
    )
    assert kernels(model)[-1] == "gemm.u8s8"
    session = InferenceSession(ir.to_proto(model), optimize=False)
    for size in ({"B": 2, "N": 7}, {"B": 0, "N": 1}):
        feeds = random_feeds(model, size)
        np.testing.assert_allclose(session.run(None, feeds)[0], run(model, feeds)[0], rtol=0, atol=2e-6)


def test_three_products_of_one_input_quantize_it_once():
    pair = "q = QuantizeLinear (x, sx, zx)  d = DequantizeLinear (q, sx, zx)  w = DequantizeLinear <axis = 1> (wq, sw)"
    model = model_from_text(
        f"""g (float[B,4] x) => (float[B,3] y, float[B,3] z, float[B,3] v) <{PARAMETERS}>
        {{ {pair}  y = MatMul (d, w)  z = MatMul (d, w)  v = MatMul (d, w) }}""",
        opset=21,
    )
    run_pass("fuse-quantized-products", model, target="graphopt")
    assert sorted(kernels(model)) == ["elementwise", "gemm.u8s8", "gemm.u8s8", "gemm.u8s8"]


def test_stored_weights_of_a_convolution_are_constants_where_its_body_runs():
    model = model_from_text(
        """g (float[B,T,2] x) => (float[B,T,2] y) <int8[2,1,3] wq = {1, -2, 3, 40, -50, 60}, float[2] sw = {0.01, 0.02},
        float[2] b = {0.5, -1.0}> {
        t = Transpose <perm = [0, 2, 1]> (x)  w = DequantizeLinear <axis = 0> (wq, sw)
        c = Conv <group = 2, pads = [1, 1]> (t, w, b)  y = Transpose <perm = [0, 2, 1]> (c) }""",
        opset=21,
    )
    run_pass("fuse-quantized-convolutions", model, target="graphopt")
    assert kernels(model) == ["conv.depthwise", "copy"]  # an output of the graph is row-major
