"""Activations and sums inside products and convolutions: what is fused, and that values do not change."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from graphopt.ir.load import from_proto
from graphopt.lowering.lower import lower
from graphopt.runtime import InferenceSession

HEADER = '<ir_version: 10, opset_import: ["": 22]> '
DENSE = "t = MatMul(x, w)"
IMAGE = "t = Conv <pads = [1, 1, 1, 1]> (x, w)"


def parsed(body: str, shape: str = "1,T,40", more: str = "", extra_outputs: str = "") -> onnx.ModelProto:
    """A graph of x, r and w; w is a constant."""
    model = onnx.parser.parse_model(
        f"{HEADER} g(float[{shape}] x, float[{shape}] r{more}) => (float[{shape}] y{extra_outputs}) {{ {body} }}"
    )
    rank = shape.count(",") + 1
    dims = (40, 40) if rank == 3 else (8, 8, 3, 3)
    weights = np.random.default_rng(0).standard_normal(dims).astype(np.float32) / 8
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    return model


def kernels(model: onnx.ModelProto) -> list[str]:
    return [i.kernel for i in lower(from_proto(model)).main.instructions if i.kernel != "copy"]


def check(model: onnx.ModelProto, shape: tuple[int, ...], expected: list[str] | None = None) -> None:
    rng = np.random.default_rng(1)
    feeds = {name: rng.standard_normal(shape).astype(np.float32) for name in ("x", "r")}
    wanted = ReferenceEvaluator(model).run(None, feeds)
    got = InferenceSession(model, optimize=False).run(None, feeds)
    for a, b in zip(wanted, got, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)
    if expected is not None:
        assert kernels(model) == expected


ENDS = [
    "y = Relu(t)",
    "y = Add(t, r)",
    "y = Add(r, t)",
    "y = Sub(t, r)",
    "y = Sub(r, t)",
    "s = Add(t, r) y = Relu(s)",
    "s = Sigmoid(t) y = Add(r, s)",
    "s = Sigmoid(t) y = Mul(s, t)",
    "s = Add(t, r) u = Sigmoid(s) y = Mul(u, s)",
    "s = LeakyRelu <alpha = 0.3> (t) y = Add(s, r)",
    "y = HardSigmoid <alpha = 0.3, beta = 0.4> (t)",
    "y = HardSwish(t)",
    "y = Mish(t)",
    "y = Softplus(t)",
    "y = Elu <alpha = 0.7> (t)",
    "y = Tanh(t)",
    "y = Gelu(t)",
    'y = Gelu <approximate = "tanh"> (t)',
    "s = Relu(t) u = Relu(s) y = Add(u, r)",
    "s = Add(t, r) y = Add(s, r)",
    "s = Add(t, t) y = Mul(s, s)",
    "lo = Constant <value_float = -0.5> () hi = Constant <value_float = 0.75> () y = Clip(t, lo, hi)",
    "lo = Constant <value_float = -0.5> () y = Max(t, lo)",
    "hi = Constant <value_float = 0.5> () y = Min(hi, t)",
]


@pytest.mark.parametrize("end", ENDS)
def test_values_of_products(end: str) -> None:
    check(parsed(f"{DENSE} {end}"), (1, 7, 40))


@pytest.mark.parametrize("end", ENDS)
def test_values_of_convolutions(end: str) -> None:
    check(parsed(f"{IMAGE} {end}", "N,8,H,W"), (2, 8, 5, 6))


@pytest.mark.parametrize("first", [DENSE, IMAGE])
@pytest.mark.parametrize("end", ["y = Relu(t)", "s = Add(t, r) y = Relu(s)", "s = Sigmoid(t) y = Mul(s, t)"])
def test_one_instruction(first: str, end: str) -> None:
    shape = "1,T,40" if first == DENSE else "N,8,H,W"
    (kernel,) = kernels(parsed(f"{first} {end}", shape))
    assert kernel == ("gemm" if first == DENSE else "conv.direct")


def test_activation_then_sum_of_a_product() -> None:
    check(parsed(f"{DENSE} s = Relu(t) y = Add(s, r)"), (1, 5, 40), ["gemm"])


def test_product_that_others_read_stays() -> None:
    body = f"{DENSE} y = Relu(t) z = Neg(t)"
    check(parsed(body, extra_outputs=", float[1,T,40] z"), (1, 5, 40), ["gemm", "elementwise", "elementwise"])


def test_product_that_is_an_output_stays() -> None:
    check(
        parsed(f"{DENSE} y = Relu(t)", extra_outputs=", float[1,T,40] t"), (1, 5, 40), ["gemm", "elementwise"]
    )


def test_residual_that_is_broadcast_to_a_product() -> None:
    check(parsed(f"{DENSE} m = ReduceMax <keepdims = 1> (r) y = Add(t, m)"), (1, 5, 40))


def test_residual_that_is_broadcast_to_a_convolution_stays() -> None:
    body = f"{IMAGE} a = Constant <value_ints = [2, 3]> () m = ReduceMean (r, a) y = Add(t, m)"
    check(parsed(body, "N,8,H,W"), (2, 8, 5, 6))


def test_product_that_is_broadcast_stays() -> None:
    body = f"{DENSE} y = Add(t, q)"
    model = parsed(body, more=", float[4,1,1] q")
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", 1, [4, None, 40]))
    assert kernels(model) == ["gemm", "elementwise"]


def test_sum_of_two_products() -> None:
    check(parsed(f"{DENSE} u = MatMul(r, w) y = Add(t, u)"), (1, 5, 40), ["gemm", "gemm"])
