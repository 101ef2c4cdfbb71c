"""A model that came with external data is saved with external data."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from graphopt.compiler import optimize
from graphopt.ir.load import load
from graphopt.ir.save import save

WIDTH = 600  # 1.4 MB a matrix: large enough to be transposed when the result is saved
TEXT = """<ir_version: 10, opset_import: ["" : 17]> g (float[N,2,600] x) => (float[N,2,600] y)
    <float[600,600] w> { t = Transpose <perm = [1, 0]> (w)  y = MatMul (x, t) }"""


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("rank", [2, 3])
def test_all_weights_are_transposed(tmp_path, verify, rank):
    weight = np.random.default_rng(0).standard_normal((WIDTH, WIDTH)).astype(np.float32)
    text = TEXT if rank == 3 else TEXT.replace("[N,2,600]", "[N,600]").replace("MatMul (x, t)", "Gemm (x, t)")
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="m.onnx.data")
    result = optimize(tmp_path / "m.onnx", verify=verify)
    save(result.model, tmp_path / "r.onnx")
    assert (tmp_path / "r.onnx.data").stat().st_size == weight.nbytes
    (node,) = load(tmp_path / "r.onnx").graph
    saved = node.inputs[1].const_value.numpy()
    if rank == 2:  # Gemm reads the weight as it lay in the file
        assert node.attributes["transB"].as_int() == 1
        np.testing.assert_array_equal(saved, weight)
    else:
        np.testing.assert_array_equal(saved, weight.T)
