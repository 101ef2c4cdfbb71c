"""MatMulNBits against onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

from graphopt.ir.load import from_proto
from graphopt.lowering.lower import lower
from graphopt.runtime import InferenceSession


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize(("k", "n", "block"), [(64, 32, 32), (96, 41, 16), (50, 70, 32)])
def test_block_weights(bits: int, zeros: bool, k: int, n: int, block: int) -> None:
    rng = np.random.default_rng(0)
    blocks = -(-k // block)
    inputs = {
        "b": rng.integers(0, 256, (n, blocks, block * bits // 8)).astype(np.uint8),
        "scales": rng.random(n * blocks, dtype=np.float32),
    }
    if zeros:
        inputs["zeros"] = rng.integers(0, 256, n * -(-blocks * bits // 8)).astype(np.uint8)
    attributes = f"K = {k}, N = {n}, bits = {bits}, block_size = {block}"
    model = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 20, "com.microsoft": 1]>
        agraph (float[m, {k}] a) => (float[m, {n}] y) {{
            y = com.microsoft.MatMulNBits <{attributes}> (a, {", ".join(inputs)})
        }}"""
    )
    model.graph.initializer.extend(onnx.numpy_helper.from_array(w, name) for name, w in inputs.items())
    kernels = [i.kernel for i in lower(from_proto(model)).main.instructions]
    assert kernels == ["gemm.u4" if bits == 4 else "gemm"]
    session = onnxruntime.InferenceSession(model.SerializeToString())
    own = InferenceSession(model, optimize=False)
    for m in (1, 7):
        a = rng.standard_normal((m, k), dtype=np.float32)
        [expected] = session.run(None, {"a": a})
        np.testing.assert_allclose(own.run(None, {"a": a})[0], expected, rtol=1e-4, atol=1e-2)
