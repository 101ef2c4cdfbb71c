"""The product with packed weights against float64."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.errors import ExecutionError
from graphopt.kernels import _engine

FLOAT, UINT8, FLOAT16 = 1, 2, 10
RESIDUAL_FIRST = 1
ACTIVATIONS = ["none", "relu", "clip", "leaky", "sigmoid", "tanh", "gelu", "gelu_tanh", "silu"]
ACTIVATIONS += ["hard_sigmoid", "hard_swish", "elu", "softplus", "mish"]
Array = npt.NDArray[np.float32]

_erf = np.vectorize(math.erf)


def activated(x: npt.NDArray[np.float64], name: str, p: float, q: float) -> npt.NDArray[np.float64]:
    sigmoid = 1 / (1 + np.exp(-x))
    softplus = np.logaddexp(0, x)
    return {
        "none": lambda: x,
        "relu": lambda: np.maximum(x, 0),
        "clip": lambda: np.clip(x, p, q),
        "leaky": lambda: np.where(x < 0, x * p, x),
        "sigmoid": lambda: sigmoid,
        "tanh": lambda: np.tanh(x),
        "gelu": lambda: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
        "gelu_tanh": lambda: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        "silu": lambda: x / (1 + np.exp(-p * x)),
        "hard_sigmoid": lambda: np.clip(p * x + q, 0, 1),
        "hard_swish": lambda: x * np.clip(x / 6 + 0.5, 0, 1),
        "elu": lambda: np.where(x < 0, p * np.expm1(x), x),
        "softplus": lambda: softplus,
        "mish": lambda: x * np.tanh(softplus),
    }[name]()


def gemm(
    a: Array,
    w: Array,
    bias: Array | None = None,
    residual: Array | None = None,
    activation: str = "none",
    flags: int = 0,
    floats: tuple[float, float, float] = (1.0, 0.0, 0.0),
    threads: int = 1,
    kernel: str = "gemm",
    packer: str = "gemm.f32",
) -> Array:
    packed = _engine.pack(packer, [(w, FLOAT)], [])
    k, n = w.shape
    inputs = [(a, FLOAT), (packed, UINT8)]
    inputs += [None if bias is None else (bias, FLOAT), None if residual is None else (residual, FLOAT)]
    dims = [*a.shape[:-1], n]
    ints = [k, n, ACTIVATIONS.index(activation), flags]
    return _engine.call_kernel(kernel, inputs, [(FLOAT, dims, None)], ints, floats, b"", threads, 1)[0]


def normal(*dims: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(dims, dtype=np.float32)


def assert_close(got: npt.NDArray[np.generic], exact: npt.NDArray[np.float64], depth: int) -> None:
    """Rounding errors of a sum grow like the root of its length: two ulp of the largest result times that."""
    assert got.shape == exact.shape
    largest = np.abs(exact).max(initial=1)
    np.testing.assert_allclose(got, exact, rtol=0, atol=2 * 2**-23 * max(depth, 1) ** 0.5 * largest + 1e-6)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("k", [0, 1, 3, 64, 129])
@pytest.mark.parametrize("n", [1, 8, 15, 16, 17, 32, 33, 50, 64, 100])
def test_every_number_of_rows(n: int, k: int, threads: int) -> None:
    w, bias = normal(k, n, seed=1), normal(n, seed=2)
    for m in [*range(15), 25, 61]:
        a = normal(m, k, seed=3)
        assert_close(gemm(a, w, bias, threads=threads), a.astype(np.float64) @ w + bias, k)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("n", [32, 45])
@pytest.mark.parametrize("first", [False, True])
def test_activations_and_residuals(activation: str, n: int, first: bool) -> None:
    p, q = {"clip": (-0.5, 0.7), "silu": (1.702, 0.0), "hard_sigmoid": (0.2, 0.5)}.get(
        activation, (0.25, 0.0)
    )
    a, w, bias, residual = normal(19, 40), normal(40, n, seed=1) / 6, normal(n, seed=2), normal(19, n, seed=3)
    got = gemm(a, w, bias, residual, activation, RESIDUAL_FIRST if first else 0, (0.5, p, q))
    summed = 0.5 * (a.astype(np.float64) @ w) + bias
    exact = (
        activated(summed + residual, activation, p, q)
        if first
        else activated(summed, activation, p, q) + residual
    )
    assert_close(got, exact, 40)


@pytest.mark.parametrize("shape", [(1, 1), (7, 1), (1, 37), (37,), (7, 37), (3, 1, 37), (2, 1, 7, 37)])
def test_residuals_are_broadcast(shape: tuple[int, ...]) -> None:
    a, w, residual = normal(2, 3, 7, 5), normal(5, 37, seed=1), normal(*shape, seed=2)
    assert_close(gemm(a, w, None, residual), a.astype(np.float64) @ w + residual, 5)


@pytest.mark.parametrize("threads", [1, 2])
def test_strided_operands(threads: int) -> None:
    base, w = normal(6, 9, 4, 70), normal(33, 41, seed=1)
    views = [
        base[..., 5:38],
        base[:, ::2, :, 0:66:2],
        base.transpose(0, 3, 1, 2)[..., :1, :],
        base[:, :, ::-1, 2:35][:0],
    ]
    views += [
        base.transpose(1, 2, 3, 0)[..., 3:36, :].swapaxes(-1, -2),
        np.broadcast_to(base[:1, 0, :1, :33], (5, 3, 33)),
    ]
    for a in views:
        weights = w[: a.shape[-1]]
        assert_close(gemm(a, weights, threads=threads), a.astype(np.float64) @ weights, 33)


def test_results_with_strided_rows() -> None:
    a, w = normal(5, 12), normal(12, 43, seed=1)
    packed = _engine.pack("gemm.f32", [(w, FLOAT)], [])
    [got] = _engine.call_kernel(
        "gemm", [(a, FLOAT), (packed, UINT8)], [(FLOAT, [5, 43], [50, 1])], [12, 43, 0, 0], [1.0], b"", 1, 1
    )
    assert got.strides == (200, 4)
    assert_close(got, a.astype(np.float64) @ w, 12)


def test_rows_that_lie_4_kib_apart() -> None:
    for k, m in [(1024, 40), (2048, 100)]:
        a, w = normal(m, k), normal(k, 160, seed=1)
        assert_close(gemm(a, w, threads=2), a.astype(np.float64) @ w, k)


@pytest.mark.parametrize("source", ["row", "column", "both", "reversed"])
def test_weights_of_any_strides(source: str) -> None:
    base = normal(90, 120)
    w = {
        "row": base[:37, 3:50],
        "column": base.T[:37, 5:52],
        "both": base[::2, ::2][:37, :47],
        "reversed": base[::-1, ::-1][:37, :47],
    }[source]
    a = normal(6, 37, seed=1)
    assert_close(gemm(a, w), a.astype(np.float64) @ w, 37)


def test_weights_that_are_stored_transposed() -> None:
    w = normal(37, 47)
    straight = _engine.pack("gemm.f32", [(w, FLOAT)], [])
    transposed = _engine.pack("gemm.f32", [(np.ascontiguousarray(w.T), FLOAT)], [1])
    np.testing.assert_array_equal(straight, transposed)


def test_not_a_number_survives_a_clip() -> None:
    a, w = normal(3, 8), normal(8, 40, seed=1)
    a[1, 2] = np.nan
    for activation in ACTIVATIONS:
        got = gemm(a, w, activation=activation, floats=(1.0, 0.5, 1.0))
        assert np.isnan(got[1]).all(), activation
        assert np.isfinite(got[[0, 2]]).all(), activation


@given(
    st.integers(0, 40),
    st.integers(0, 80),
    st.integers(0, 80),
    st.integers(1, 2),
    st.booleans(),
    st.booleans(),
    st.integers(0, 5),
)
def test_any_size(m: int, k: int, n: int, threads: int, bias: bool, residual: bool, seed: int) -> None:
    a, w = normal(m, k, seed=seed), normal(k, n, seed=seed + 1)
    b, r = normal(n, seed=seed + 2) if bias else None, normal(m, n, seed=seed + 3) if residual else None
    exact = a.astype(np.float64) @ w + (0 if b is None else b) + (0 if r is None else r)
    assert_close(gemm(a, w, b, r, threads=threads), exact, k)


def test_weights_stored_in_16_bits() -> None:
    for m in (1, 5, 31):
        a, w = normal(m, 77), normal(77, 51, seed=1)
        exact = a.astype(np.float64) @ w.astype(np.float16).astype(np.float64)
        assert_close(gemm(a, w, kernel="gemm.f16", packer="gemm.f16"), exact, 77)


def test_activations_in_16_bits() -> None:
    a, w = normal(14, 60).astype(np.float16), normal(60, 51, seed=1).astype(np.float16)
    packed = _engine.pack("gemm.f32", [(w, FLOAT16)], [])
    [got] = _engine.call_kernel(
        "gemm", [(a, FLOAT16), (packed, UINT8)], [(FLOAT16, [14, 51], None)], [60, 51, 0, 0], [1.0], b"", 1, 1
    )
    exact = a.astype(np.float64) @ w.astype(np.float64)
    np.testing.assert_allclose(got, exact, rtol=2**-10, atol=1e-4)


def test_shapes_that_do_not_fit_are_named() -> None:
    packed = _engine.pack("gemm.f32", [(normal(6, 7), FLOAT)], [])
    inputs = [(normal(2, 5), FLOAT), (packed, UINT8)]
    with pytest.raises(ExecutionError, match=r"\[\.\., 5\] times \[6, 7\]"):
        _engine.call_kernel("gemm", inputs, [(FLOAT, [2, 7], None)], [6, 7, 0, 0], [], b"", 1, 1)


def as_bf16(x: Array) -> npt.NDArray[np.float64]:
    bits = x.view(np.uint32)
    rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32)
    return rounded.view(np.float32).astype(np.float64)


@pytest.mark.parametrize("m", [0, 1, 2, 3, 12, 31])
@pytest.mark.parametrize("k", [0, 1, 2, 33, 78])
def test_bfloat16(m: int, k: int) -> None:
    """Activations are rounded only where the CPU multiplies bfloat16; the weights always."""
    a, bias = normal(m, k), normal(51, seed=2)
    w = as_bf16(normal(k, 51, seed=1)).astype(np.float32)
    for x in (a, np.asfortranarray(a)):
        got = gemm(x, w, bias, kernel="gemm.bf16", packer="gemm.bf16")
        exact = as_bf16(np.ascontiguousarray(a)) @ w + bias
        if _engine.isa() != "v4dot":
            exact = a.astype(np.float64) @ w + bias
        assert_close(got, exact, k)


@pytest.mark.parametrize("m", [0, 1, 5, 30])
def test_weights_in_8_bits(m: int) -> None:
    rng = np.random.default_rng(0)
    a, w, scale = (
        normal(m, 77),
        rng.integers(-128, 128, (77, 51)).astype(np.int8),
        rng.random(51, dtype=np.float32),
    )
    packed = _engine.pack("gemm.s8", [(w, 3)], [0])
    inputs = [(a, FLOAT), (packed, UINT8), None, None, (scale, FLOAT)]
    [got] = _engine.call_kernel("gemm.s8", inputs, [(FLOAT, None, None)], [77, 51, 0, 0], [1.0], b"", 1, 1)
    assert_close(got, a.astype(np.float64) @ (w * scale.astype(np.float64)), 77)


@pytest.mark.parametrize("m", [0, 1, 2, 13])
@pytest.mark.parametrize(
    ("k", "n", "block"), [(64, 32, 32), (96, 41, 16), (50, 70, 32), (1, 5, 16), (256, 16, 128)]
)
def test_weights_in_4_bits(m: int, k: int, n: int, block: int) -> None:
    rng = np.random.default_rng(0)
    blocks = -(-k // block)
    stored = rng.integers(0, 256, (n, blocks, block // 2)).astype(np.uint8)
    scales = rng.random((n, blocks), dtype=np.float32)
    zeros = rng.integers(0, 16, (n, blocks)).astype(np.float32)
    quantized = np.stack([stored & 15, stored >> 4], axis=-1).reshape(n, blocks, block)
    w = ((quantized - zeros[..., None].astype(np.float64)) * scales[..., None]).reshape(n, -1)[:, :k].T
    packed = _engine.pack("gemm.u4", [(stored, UINT8), (scales, FLOAT), (zeros, FLOAT)], [k, n, block])
    for a in (normal(m, k), np.asfortranarray(normal(m, k))):
        bias = normal(n, seed=2)
        inputs = [(a, FLOAT), (packed, UINT8), (bias, FLOAT), None]
        [got] = _engine.call_kernel(
            "gemm.u4", inputs, [(FLOAT, None, None)], [k, n, 0, 0, block], [1.0], b"", 2, 1
        )
        assert_close(got, a.astype(np.float64) @ w + bias, k)
