"""Operators as matrix products: X W is what the operator gives."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from graphopt.ir.quantizable import weight_of
from graphopt.quantization.products import Product, product_of

RNG = np.random.default_rng(0)


def single(text: str, weight: np.ndarray, x: np.ndarray) -> tuple[Product, np.ndarray]:
    """The product of the one operator of a model, and what onnxruntime makes of x."""
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]>\n{text}')
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x})
    found = weight_of(ir.from_proto(proto).graph[0])
    assert found is not None
    product = product_of(found)
    assert product is not None
    return product, y


def outputs(product: Product, weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    """X W: [rows, group, N]."""
    return np.einsum("rgk,gkn->rgn", product.rows(x), product.matrix(weight))


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def test_matmul() -> None:
    w, x = floats(5, 3), floats(2, 4, 5)
    product, y = single("g (float[B,T,5] x) => (float[B,T,3] y) { y = MatMul(x, w) }", w, x)
    np.testing.assert_allclose(outputs(product, w, x)[:, 0], y.reshape(-1, 3), rtol=1e-5, atol=1e-5)
    assert (product.depth, product.channels, product.count(x)) == (5, 5, 8)


@pytest.mark.parametrize(("a", "b"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_gemm(a: int, b: int) -> None:
    w, x = floats(*((3, 5) if b else (5, 3))), floats(*((5, 4) if a else (4, 5)))
    text = f"g (float[M,K] x) => (float[P,3] y) {{ y = Gemm <transA = {a}, transB = {b}> (x, w) }}"
    product, y = single(text, w, x)
    np.testing.assert_allclose(outputs(product, w, x)[:, 0], y, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(product.weight(product.matrix(w)), w)


@pytest.mark.parametrize(
    "attributes",
    [
        "",
        "pads = [1, 2, 0, 1]",
        "strides = [2, 3], pads = [1, 1, 1, 1]",
        "dilations = [2, 1], strides = [1, 2]",
        'auto_pad = "SAME_UPPER", strides = [2, 2]',
        'auto_pad = "SAME_LOWER", strides = [2, 3]',
        'auto_pad = "VALID"',
    ],
)
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_conv(attributes: str, groups: int) -> None:
    w, x = floats(8, 4 // groups, 3, 2), floats(2, 4, 9, 8)
    inner = ", ".join(filter(None, [f"group = {groups}", attributes]))
    product, y = single(f"g (float[2,4,9,8] x) => (float[B,8,H,W] y) {{ y = Conv <{inner}> (x, w) }}", w, x)
    found = outputs(product, w, x).reshape(2, *y.shape[2:], 8)
    np.testing.assert_allclose(np.moveaxis(found, -1, 1), y, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(product.weight(product.matrix(w)), w)
    rows = product.rows(x)
    np.testing.assert_allclose(product.sums(x), rows.sum(0, dtype=np.float64), rtol=1e-6, atol=1e-6)
    assert product.count(x) == len(rows)
    some = np.array([0, 3, 7])
    np.testing.assert_array_equal(product.rows(x, some), rows[some])


def test_conv_of_one_dimension() -> None:
    w, x = floats(6, 1, 5), floats(1, 6, 12)
    text = "g (float[1,6,12] x) => (float[1,6,12] y) { y = Conv <group = 6, pads = [2, 2]> (x, w) }"
    product, y = single(text, w, x)
    np.testing.assert_allclose(outputs(product, w, x)[:, :, 0].T[None], y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_conv(groups: int) -> None:
    # Windows do not overlap where the stride is the kernel: then the columns are the outputs.
    w, x = floats(4, 3, 2, 2), floats(1, 4, 3, 5)
    text = (
        "g (float[1,4,3,5] x) => (float[1,C,6,10] y) "
        f"{{ y = ConvTranspose <strides = [2, 2], group = {groups}> (x, w) }}"
    )
    product, y = single(text, w, x)
    found = outputs(product, w, x).reshape(3, 5, groups * 3, 2, 2)
    np.testing.assert_allclose(found.transpose(2, 0, 3, 1, 4).reshape(y.shape), y, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(product.weight(product.matrix(w)), w)


def test_tables_are_no_products() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (int64[N] i) => (float[N,4] y) { y = Gather(w, i) }'
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(floats(9, 4), "w"))
    found = weight_of(ir.from_proto(proto).graph[0])
    assert found is not None
    assert product_of(found) is None
