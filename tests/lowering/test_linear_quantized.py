"""Products of bytes in a model against onnx.reference and onnxruntime."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import onnx.reference
import onnxruntime
import pytest

from graphopt.ir.load import from_proto
from graphopt.lowering.lower import lower
from graphopt.runtime import InferenceSession

Array = npt.NDArray[np.generic]


def model_of(text: str, **weights: Array) -> onnx.ModelProto:
    header = '<ir_version: 10, opset_import: ["" : 20, "com.microsoft": 1]>'
    model = onnx.parser.parse_model(f"{header}\n{text}")
    model.graph.initializer.extend(onnx.numpy_helper.from_array(w, name) for name, w in weights.items())
    return model


def kernels_of(model: onnx.ModelProto, precision: str = "f32") -> list[str]:
    return [i.kernel for i in lower(from_proto(model), precision=precision).main.instructions]


def run(model: onnx.ModelProto, precision: str = "f32", **feeds: Array) -> Array:
    return InferenceSession(model, precision=precision, optimize=False).run(None, feeds)[0]  # type: ignore[arg-type]


def integers(dtype: str, *dims: int, seed: int = 0) -> Array:
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max + 1, dims).astype(dtype)


@pytest.mark.parametrize("left", ["uint8", "int8"])
@pytest.mark.parametrize("right", ["uint8", "int8"])
@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("zeros", ["", ", az", ", az, bz", ", rows, columns", ", , bz"])
def test_matmul_integer(left: str, right: str, constant: bool, zeros: str) -> None:
    fixed = {
        "az": integers(left, seed=1),
        "bz": integers(right, seed=2),
        "rows": integers(left, 4, seed=3),
        "columns": integers(right, 37, seed=4),
    }
    a, b = integers(left, 4, 30), integers(right, 30, 37, seed=5)
    used = {name: value for name, value in fixed.items() if name in zeros.replace(" ", "").split(",")}
    feeds = {"a": a} | ({} if constant else {"b": b})
    more = "" if constant else f", {right}[30, 37] b"
    model = model_of(
        f"agraph ({left}[4, 30] a{more}) => (int32[4, 37] y) {{ y = MatMulInteger(a, b{zeros}) }}",
        **used | ({"b": b} if constant else {}),
    )
    assert kernels_of(model) == ["gemm.u8s8" if constant else "matmul.integer"]
    az = used.get("az", used.get("rows", np.zeros((), np.int8))).astype(np.int64)
    bz = used.get("bz", used.get("columns", np.zeros((), np.int8))).astype(np.int64)
    exact = (a - (az[:, None] if az.ndim else az)) @ (b - bz)
    np.testing.assert_array_equal(run(model, **feeds), exact)


@pytest.mark.parametrize("name", ["uint8", "int8"])
@pytest.mark.parametrize("constant", [True, False])
def test_qlinear_matmul(name: str, constant: bool) -> None:
    fixed = {
        "sa": np.float32(0.02),
        "za": integers(name, seed=1),
        "b": integers(name, 30, 37, seed=2),
        "sb": np.float32(0.01),
        "zb": integers(name, seed=3),
        "sy": np.float32(0.4),
        "zy": integers(name, seed=4),
    }
    b = fixed["b"] if constant else fixed.pop("b")
    more = "" if constant else f", {name}[30, 37] b"
    model = model_of(
        f"agraph ({name}[2, n, 30] a{more}) => ({name}[2, n, 37] y) {{ y = QLinearMatMul(a, sa, za, b, sb, zb, sy, zy) }}",
        **{key: np.asarray(value) for key, value in fixed.items()},
    )
    assert kernels_of(model) == ["gemm.u8s8" if constant else "matmul.integer"]
    feeds = {"a": integers(name, 2, 5, 30)} | ({} if constant else {"b": b})
    [expected] = onnx.reference.ReferenceEvaluator(model).run(None, feeds)
    np.testing.assert_array_equal(run(model, **feeds), expected)


@pytest.mark.parametrize("bias", ["", ", , bias", ", bz, bias"])
def test_dynamic_quantize_matmul(bias: str) -> None:
    weights = {
        "b": integers("int8", 64, 48, seed=1),
        "sb": np.full(48, 0.01, np.float32),
        "bz": integers("int8", 48, seed=2) // 8,
        "bias": np.arange(48, dtype=np.float32),
    }
    used = {
        name: w
        for name, w in weights.items()
        if name in {"b", "sb"} or name in bias.replace(" ", "").split(",")
    }
    model = model_of(
        f"agraph (float[n, 64] a) => (float[n, 48] y) {{ y = com.microsoft.DynamicQuantizeMatMul(a, b, sb{bias}) }}",
        **used,
    )
    assert kernels_of(model) == ["quantize_rows", "gemm.u8s8"]
    a = np.random.default_rng(0).standard_normal((1, 64), dtype=np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    [expected] = session.run(None, {"a": a})  # of one row: its scale is the tensor's
    np.testing.assert_allclose(run(model, a=a), expected, rtol=1e-4, atol=1e-3)


def test_float_weights_in_8_bits() -> None:
    rng = np.random.default_rng(0)
    w, b = rng.standard_normal((64, 48), dtype=np.float32), rng.standard_normal(48, dtype=np.float32)
    for text, weights in (("Gemm(x, w, b)", w), ("Gemm<transB = 1>(x, w, b)", w.T.copy())):
        model = model_of(f"agraph (float[n, 64] x) => (float[n, 48] y) {{ y = {text} }}", w=weights, b=b)
        assert kernels_of(model, "int8") == ["quantize_rows", "gemm.u8s8"]
        x = rng.standard_normal((9, 64), dtype=np.float32)
        got, exact = run(model, "int8", x=x), x @ w + b
        # Each factor is off by up to half a step: 1/255 of a row's range, 1/127 of a column's largest.
        assert np.abs(got - exact).max() < 0.02 * np.abs(exact).max()


def test_small_weights_stay_floats() -> None:
    model = model_of(
        "agraph (float[n, 8] x) => (float[n, 48] y) { y = MatMul(x, w) }", w=np.ones((8, 48), np.float32)
    )
    assert kernels_of(model, "int8") == ["gemm"]


def test_rows_are_quantized_once_for_several_products() -> None:
    rng = np.random.default_rng(0)
    a, b, c = (rng.standard_normal((64, 64)).astype(np.float32) for _ in range(3))
    body = "p = MatMul(x, a) q = MatMul(x, b) r = MatMul(x, c) s = Add(p, q) y = Mul(s, r)"
    model = model_of(f"g(float[1, T, 64] x) => (float[1, T, 64] y) {{ {body} }}", a=a, b=b, c=c)
    kernels = kernels_of(model, "int8")
    assert (kernels.count("quantize_rows"), kernels.count("gemm.u8s8")) == (1, 3)
    x = rng.standard_normal((1, 9, 64)).astype(np.float32)
    (y,) = InferenceSession(model, precision="int8", optimize=False).run(None, {"x": x})
    wanted = (x @ a + x @ b) * (x @ c)
    assert np.abs(np.asarray(y) - wanted).max() < 0.03 * np.abs(wanted).max()
