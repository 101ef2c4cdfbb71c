from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from examples.quantize_with_samples import quantize_but, samples, with_floats
from graphopt.ir import quant_table
from graphopt.ir.quant_table import ModelIdentity, OperatorPlan, QuantTable

RNG = np.random.default_rng(0)
TEXT = """<ir_version: 8, opset_import: ["": 17]>
g (float[N,64] x) => (float[N,32] y) { [first] h = MatMul(x, w)  r = Relu(h)  [classifier] y = MatMul(r, v) }"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    proto = onnx.parser.parse_model(TEXT)
    for name, shape in (("w", (64, 64)), ("v", (64, 32))):
        array = RNG.standard_normal(shape).astype(np.float32) / 8
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(proto, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_one_operator_keeps_floats(model: Path, tmp_path: Path):
    folder = tmp_path / "samples"
    folder.mkdir()
    for i in range(3):
        np.savez(folder / f"{i}.npz", x=RNG.standard_normal((50, 64)).astype(np.float32))
    data = samples(folder)
    assert isinstance(data, Iterator)
    out = tmp_path / "out.onnx"
    result = quantize_but(model, data, out, ["classifier"])
    types = [node.op_type for node in onnx.load(out).graph.node]
    assert types.count("QuantizeLinear") == 1
    assert result.report.modes == {"float": 1, "int8": 1}
    table = quant_table.read(out.with_suffix(".json"))
    assert table.operators["classifier"].reason == "asked for"
    x = RNG.standard_normal((5, 64)).astype(np.float32)
    a, b = (ort.InferenceSession(str(path)).run(None, {"x": x})[0] for path in (model, out))
    assert 0 < np.abs(a - b).max() < 0.1


def test_all_operators_keep_floats(model: Path, tmp_path: Path):
    data = [{"x": RNG.standard_normal((50, 64)).astype(np.float32)}]
    result = quantize_but(model, data, tmp_path / "out.onnx", ["first", "classifier"])
    assert result.report.modes == {"float": 2}
    assert "the quant table leaves nothing in 8 bits" in result.report.warnings


def test_words():
    plans = {name: OperatorPlan("int8", inputs=("x",)) for name in ("a/norm", "a/mul")}
    found = with_floats(QuantTable(ModelIdentity("0" * 64, 13), {}, plans), ["norm"])
    assert [plan.mode for plan in found.operators.values()] == ["float", "int8"]
