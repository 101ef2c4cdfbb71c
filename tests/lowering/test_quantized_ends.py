"""Quantization inside of the instruction that makes the floats: what is fused, and that no code changes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.reference
import pytest

from graphopt.ir.load import from_proto
from graphopt.lowering.lower import lower
from graphopt.runtime import InferenceSession

HEADER = '<ir_version: 10, opset_import: ["": 22]> '
RNG = np.random.default_rng(0)
CONSTANTS: dict[str, np.ndarray] = {
    "w": RNG.integers(-127, 128, (48, 40)).astype(np.int8),
    "v": RNG.integers(-127, 128, (40, 40)).astype(np.int8),
    "sw": RNG.random(40, dtype=np.float32) / 64,
    "sx": np.float32(0.021),
    "sy": np.float32(0.37),
    "zx": np.uint8(120),
    "zy": np.uint8(31),
    "b": RNG.standard_normal(40).astype(np.float32),
    "g": RNG.standard_normal(48).astype(np.float32),
    "e": RNG.standard_normal(48).astype(np.float32),
    "f": RNG.standard_normal((48, 40)).astype(np.float32),
}
PRODUCT = "d = DequantizeLinear(q, sx, zx) u = DequantizeLinear <axis = 1> (w, sw) p = MatMul(d, u) "
QUANTIZED = "q = QuantizeLinear(x, sx, zx) "


def model_of(body: str, given: str = "float[N, 48] x", result: str = "float[N, 40] y") -> onnx.ModelProto:
    model = onnx.parser.parse_model(f"{HEADER} g({given}) => ({result}) {{ {body} }}")
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(array), name)
        for name, array in CONSTANTS.items()
        if name in used
    )
    return model


def kernels(model: onnx.ModelProto, precision: str = "f32") -> list[str]:
    from graphopt.runtime.compilation import optimized_model

    made = optimized_model(model)
    return [i.kernel for i in lower(made, precision=precision).main.instructions]


def check(model: onnx.ModelProto, expected: list[str], rows: int = 9, steps: int = 0) -> None:
    """`steps`: how far codes may lie apart where sums of floats are rounded otherwise."""
    assert kernels(model) == expected
    x = (np.random.default_rng(1).standard_normal((rows, 48)) * 2).astype(np.float32)
    (got,) = InferenceSession(model).run(None, {"x": x})
    (wanted,) = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})
    if steps:
        assert np.abs(np.asarray(got) - wanted).max() <= steps * CONSTANTS["sy"] * 1.001
        assert np.mean(np.asarray(got) != wanted) < 0.02
    else:
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-4)


def test_between_two_products() -> None:
    end = "a = Add(p, b) c = QuantizeLinear(a, sy, zy) h = DequantizeLinear(c, sy, zy) k = DequantizeLinear <axis = 1> (v, sw) y = MatMul(h, k)"
    check(model_of(QUANTIZED + PRODUCT + end), ["elementwise", "gemm.u8s8", "gemm.u8s8"])


@pytest.mark.parametrize("activation", ["Relu", "HardSwish", "Gelu"])
def test_activations_come_first(activation: str) -> None:
    end = f"a = Add(p, b) r = {activation}(a) c = QuantizeLinear(r, sy, zy) y = DequantizeLinear(c, sy, zy)"
    check(model_of(QUANTIZED + PRODUCT + end), ["elementwise", "gemm.u8s8", "elementwise"], steps=1)


@pytest.mark.parametrize(
    ("norm", "kernel"), [("LayerNormalization", "layer_norm"), ("RMSNormalization", "rms_norm")]
)
def test_after_a_normalization(norm: str, kernel: str) -> None:
    factors = "g, e" if kernel == "layer_norm" else "g"
    body = f"n = {norm}(x, {factors}) q = QuantizeLinear(n, sx, zx) {PRODUCT} y = Identity(p)"
    model = model_of(body)
    model.opset_import[0].version = 23
    check(model, [f"{kernel}.bytes", "gemm.u8s8"])
    assert kernels(
        model_of(f"n = LayerNormalization(x, {factors if kernel == 'layer_norm' else 'g'}) y = MatMul(n, f)"),
        "int8",
    ) == [
        "layer_norm.rows",
        "gemm.u8s8",
    ]


def test_floats_that_others_read_stay() -> None:
    body = f"n = LayerNormalization(x, g, e) q = QuantizeLinear(n, sx, zx) {PRODUCT} m = ReduceMax <keepdims = 1> (n, axes) y = Add(p, m)"
    model = model_of("axes = Constant <value_ints = [1]> () " + body)
    assert "layer_norm" in kernels(model)
    x = np.random.default_rng(1).standard_normal((5, 48)).astype(np.float32)
    (got,) = InferenceSession(model).run(None, {"x": x})
    (wanted,) = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-4)


def test_rows_of_a_normalization_that_several_products_read() -> None:
    model = model_of("n = LayerNormalization(x, g, e) p = MatMul(n, f) q = MatMul(n, f2) y = Mul(p, q)")
    model.graph.initializer.append(onnx.numpy_helper.from_array(CONSTANTS["f"][::-1].copy(), "f2"))
    found = [i.kernel for i in lower(from_proto(model), precision="int8").main.instructions]
    assert found == ["layer_norm.rows", "gemm.u8s8", "gemm.u8s8", "elementwise"]
    x = np.random.default_rng(1).standard_normal((5, 48)).astype(np.float32)
    (got,) = InferenceSession(model, precision="int8", optimize=False).run(None, {"x": x})
    (wanted,) = InferenceSession(model, optimize=False).run(None, {"x": x})
    assert np.abs(np.asarray(got) - np.asarray(wanted)).max() < 0.03 * np.abs(np.asarray(wanted)).max()


@pytest.mark.parametrize("relu", ["", "r = Relu(s) "])
def test_sums_of_codes(relu: str) -> None:
    body = (
        "p = DequantizeLinear(x, sx, zx) q = DequantizeLinear(z, sv, zy) s = Add(q, p) "
        f"{relu} y = QuantizeLinear({'r' if relu else 's'}, sy, zx)"
    )
    model = model_of(body, "uint8[N, 48] x, uint8[N, 48] z", "uint8[N, 48] y")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0.3), "sv"))
    assert [i.kernel for i in lower(from_proto(model)).main.instructions] == ["sum.bytes"]
    x, z = (np.random.default_rng(k).integers(0, 256, (5, 48)).astype(np.uint8) for k in (1, 2))
    (got,) = InferenceSession(model, optimize=False).run(None, {"x": x, "z": z})
    (wanted,) = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x, "z": z})
    np.testing.assert_array_equal(got, wanted)


def test_images_are_quantized_where_their_channels_become_innermost() -> None:
    body = "q = QuantizeLinear(x, sx, zx) c = ConvInteger(q, k, zx) y = Cast <to = 1> (c)"
    model = model_of(body, "float[N, 3, H, W] x", "float[N, 5, I, J] y")
    weights = RNG.integers(-127, 128, (5, 3, 2, 2)).astype(np.int8)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "k"))
    assert kernels(model)[:2] == ["quantize.planes", "conv.bytes"]
    x = np.random.default_rng(1).standard_normal((2, 3, 7, 9)).astype(np.float32)
    (got,) = InferenceSession(model).run(None, {"x": x})
    (wanted,) = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_array_equal(got, wanted)
