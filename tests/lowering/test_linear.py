"""Products of a model against onnx.reference, and which instruction each becomes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import onnx.reference
import pytest

from graphopt.ir.load import from_proto
from graphopt.lowering.lower import lower
from graphopt.runtime import InferenceSession

Array = npt.NDArray[np.generic]


def normal(*dims: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(dims, dtype=np.float32)


def model_of(text: str, **weights: Array) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20, "com.microsoft": 1]>\n{text}')
    model.graph.initializer.extend(onnx.numpy_helper.from_array(w, name) for name, w in weights.items())
    return model


def kernels_of(model: onnx.ModelProto, precision: str = "f32") -> list[str]:
    return [i.kernel for i in lower(from_proto(model), precision=precision).main.instructions]


def run(model: onnx.ModelProto, precision: str = "f32", **feeds: Array) -> Array:
    return InferenceSession(model, precision=precision, optimize=False).run(None, feeds)[0]  # type: ignore[arg-type]


def reference(model: onnx.ModelProto, **feeds: Array) -> Array:
    return np.asarray(onnx.reference.ReferenceEvaluator(model).run(None, feeds)[0])


CASES = [
    ("[m, 5] a, float[5, n] b", "[m, n]", (3, 5), (5, 4)),
    ("[5] a, float[5, n] b", "[n]", (5,), (5, 4)),
    ("[m, 5] a, float[5] b", "[m]", (3, 5), (5,)),
    ("[5] a, float[5] b", "", (5,), (5,)),
    ("[p, 1, m, 5] a, float[q, 5, n] b", "[p, q, m, n]", (2, 1, 3, 5), (4, 5, 6)),
    ("[m, k] a, float[k, n] b", "[m, n]", (3, 0), (0, 4)),
    ("[m, k] a, float[k, n] b", "[m, n]", (0, 3), (3, 4)),
]


@pytest.mark.parametrize(("inputs", "dims", "first", "second"), CASES)
def test_two_run_time_operands(
    inputs: str, dims: str, first: tuple[int, ...], second: tuple[int, ...]
) -> None:
    model = model_of(f"agraph (float{inputs}) => (float{dims} y) {{ y = MatMul(a, b) }}")
    assert kernels_of(model) == ["matmul"]
    a, b = normal(*first), normal(*second, seed=1)
    np.testing.assert_allclose(run(model, a=a, b=b), np.matmul(a, b), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("first", [(3, 37), (37,), (2, 3, 37), (0, 37), (2, 0, 37)])
def test_constant_weights_are_packed(first: tuple[int, ...]) -> None:
    dims = ", ".join("abcd"[: len(first) - 1])
    text = f"agraph (float[{dims}{', ' * (len(first) > 1)}37] x) => (float[{dims}{', ' * (len(first) > 1)}41] y) {{ y = MatMul(x, w) }}"
    model = model_of(text, w=normal(37, 41, seed=1))
    assert kernels_of(model) == ["gemm"]
    x = normal(*first)
    np.testing.assert_allclose(run(model, x=x), reference(model, x=x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("added", [None, (41,), (1, 41), (6, 1), (6, 41), (1,), (1, 1), ()])
@pytest.mark.parametrize(
    "attributes",
    ["", "transB = 1", "alpha = 0.5, beta = 0.25", "transA = 1", "transA = 1, transB = 1, beta = 0.0"],
)
@pytest.mark.parametrize("constants", ["w", "wc", "c", ""])
def test_gemm(attributes: str, added: tuple[int, ...] | None, constants: str) -> None:
    given = {
        "x": normal(37, 6) if "transA" in attributes else normal(6, 37),
        "w": normal(41, 37, seed=1) if "transB" in attributes else normal(37, 41, seed=1),
    }
    if added is not None:
        given["c"] = normal(*added, seed=2)
    fixed = {name: given.pop(name) for name in constants if name in given}
    inputs = ", ".join(f"float[{', '.join(map(str, a.shape))}] {name}" for name, a in given.items())
    inputs = inputs.replace("float[]", "float")
    call = f"Gemm <{attributes}> (x, w{', c' * (added is not None)})".replace("<>", "")
    model = model_of(f"agraph ({inputs}) => (float[6, 41] y) {{ y = {call} }}", **fixed)
    assert kernels_of(model) == ["gemm" if "w" in fixed else "matmul"]
    np.testing.assert_allclose(run(model, **given), reference(model, **given), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(
    "kind", ["", "Relu", "Sigmoid", "Tanh", "HardSwish", "Gelu", "LeakyRelu", "HardSigmoid"]
)
def test_fully_connected(kind: str) -> None:
    import graphopt

    last = f"y = {kind} (s)" if kind else "y = Identity (s)"
    text = f"agraph (float[n, 37] x) => (float[n, 41] y) {{ p = MatMul (x, w) s = Add (p, b) {last} }}"
    model = model_of(text, w=normal(37, 41, seed=1), b=normal(41, seed=2))
    fused = graphopt.optimize(model, target="graphopt", verify=False).model
    assert [i.kernel for i in lower(fused).main.instructions] == ["gemm"]
    x = normal(5, 37)
    session = InferenceSession(model)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], reference(model, x=x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["double", "int32", "int64", "uint32", "uint64"])
def test_element_types(name: str) -> None:
    model = model_of(f"agraph ({name}[2, 3] a, {name}[3, 4] b) => ({name}[2, 4] y) {{ y = MatMul(a, b) }}")
    dtype = {"double": "float64"}.get(name, name)
    a, b = (np.arange(6).reshape(2, 3).astype(dtype), np.arange(12).reshape(3, 4).astype(dtype))
    np.testing.assert_array_equal(run(model, a=a, b=b), a @ b)


def test_half_precision_weights() -> None:
    model = model_of(
        "agraph (float[n, 37] x) => (float[n, 41] y) { y = MatMul(x, w) }", w=normal(37, 41, seed=1)
    )
    assert kernels_of(model, "f16") == ["gemm.f16"]
    x = normal(5, 37)
    np.testing.assert_allclose(run(model, "f16", x=x), reference(model, x=x), rtol=0, atol=2**-10 * 10)
    large = model_of(
        "agraph (float[n, 37] x) => (float[n, 41] y) { y = MatMul(x, w) }", w=1e5 * normal(37, 41)
    )
    assert kernels_of(large, "f16") == ["gemm"]


def test_bfloat16_products() -> None:
    w = normal(37, 41, seed=1)
    model = model_of("agraph (float[n, 37] x) => (float[n, 41] y) { y = MatMul(x, w) }", w=w)
    assert kernels_of(model, "bf16") == ["gemm.bf16"]
    x = normal(5, 37)
    # Each of two factors is off by 2^-9 of itself.
    assert (np.abs(run(model, "bf16", x=x) - x @ w) <= 2**-8 * (np.abs(x) @ np.abs(w))).all()
