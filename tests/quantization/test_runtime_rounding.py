"""What onnxruntime rounds in products with stored weights, beside what onnxruntime gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphopt.ir.save import save
from graphopt.ir.scoped_names import name_nodes
from graphopt.quantization.finishing import finished
from graphopt.quantization.runtime_rounding import block_of, rounded_in_blocks, with_runtime_rounding
from graphopt.runtime import InferenceSession

RNG = np.random.default_rng(0)


def stored(
    depth: int, op: str = "y = MatMul(x, w)", shape: tuple[int, ...] = (), opset: int = 21
) -> ir.Model:
    """A product of floats with a weight of 8 bits."""
    dims = shape or (depth, 32)
    text = f"""<ir_version: 10, opset_import: ["": {opset}]> g (float[T,{depth}] x) => (float[T,32] y)
        <int8[{dims[0]},{dims[1]}] codes, float[32] scale> {{
        w = DequantizeLinear <axis = {dims.index(32)}> (codes, scale)  {op} }}"""
    proto = onnx.parser.parse_model(text)
    codes = RNG.integers(-127, 128, dims).astype(np.int8)
    scale = RNG.uniform(0.001, 0.002, 32).astype(np.float32)
    proto.graph.initializer.extend(
        [onnx.numpy_helper.from_array(codes, "codes"), onnx.numpy_helper.from_array(scale, "scale")]
    )
    model = ir.from_proto(proto)
    name_nodes(model)
    return model


def in_onnxruntime(model: ir.Model, x: np.ndarray, path: Path) -> np.ndarray:
    import onnxruntime

    save(model, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def in_engine(model: ir.Model, x: np.ndarray) -> np.ndarray:
    return InferenceSession(model, optimize=False).run(None, {"x": x})[0]


@pytest.mark.parametrize("target", ["onnx", "onnxruntime"])
@pytest.mark.parametrize("depth", [64, 256, 512])
def test_it_is_what_the_runtime_rounds(target: str, depth: int, tmp_path: Path) -> None:
    x = (RNG.standard_normal((7, depth)) * np.linspace(0.2, 3, depth)).astype(np.float32)
    exact = in_engine(stored(depth), x)
    model = stored(depth)
    codes = model.graph.initializers["codes"].const_value.numpy()
    scale = model.graph.initializers["scale"].const_value.numpy()
    theirs = in_onnxruntime(finished(ir.serde.from_proto(ir.to_proto(model)), target), x, tmp_path / "m.onnx")
    ours = in_engine(with_runtime_rounding(model, target), x)
    by_hand = rounded_in_blocks(x, block_of(target, depth)) @ (codes * scale)
    np.testing.assert_allclose(ours, by_hand, atol=1e-4)
    # The rounding moves the outputs, and what is left is what ties and the order of sums do.
    moved = np.abs(theirs - exact).max()
    assert np.abs(theirs - ours).max() < 0.05 * moved


@pytest.mark.parametrize("depth", [40, 33, 20])
@pytest.mark.parametrize("opset", [17, 21])
def test_the_last_block_may_be_short(depth: int, opset: int) -> None:
    x = RNG.standard_normal((3, depth)).astype(np.float32)
    x[1] = 0
    model = with_runtime_rounding(stored(depth, opset=opset), "onnx")
    codes, scale = (model.graph.initializers[n].const_value.numpy() for n in ("codes", "scale"))
    np.testing.assert_allclose(in_engine(model, x), rounded_in_blocks(x, 32) @ (codes * scale), atol=1e-5)
    empty = in_engine(model, np.zeros((0, depth), np.float32))
    assert empty.shape == (0, 32)


def test_others_stay_as_they_are() -> None:
    assert block_of("graphopt", 256) is None
    for target, model in (
        ("graphopt", stored(64)),
        ("onnx", stored(64, "q = QuantizeLinear(x, s)  d = DequantizeLinear(q, s)  y = MatMul(d, w)")),
        ("onnx", stored(64, "v = Mul(w, w)  y = MatMul(x, v)")),
    ):
        before = [n.op_type for n in model.graph]
        assert [n.op_type for n in with_runtime_rounding(model, target).graph] == before


def test_gemm_with_a_turned_weight() -> None:
    x = RNG.standard_normal((5, 64)).astype(np.float32)
    model = with_runtime_rounding(stored(64, "y = Gemm <transB = 1> (x, w)", (32, 64)), "onnx")
    codes, scale = (model.graph.initializers[n].const_value.numpy() for n in ("codes", "scale"))
    expected = rounded_in_blocks(x, 32) @ (codes * scale[:, None]).T
    np.testing.assert_allclose(in_engine(model, x), expected, atol=1e-4)
