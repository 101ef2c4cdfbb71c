"""The product of two run-time operands against numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.errors import ExecutionError
from graphopt.kernels import _engine

NUMBERS = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "uint16": 4,
    "int16": 5,
    "int32": 6,
    "int64": 7,
    "float16": 10,
}
NUMBERS |= {"float64": 11, "uint32": 12, "uint64": 13}
RELU, GELU = 1, 6
RESIDUAL_FIRST, TRANSPOSE_A, TRANSPOSE_B = 1, 2, 4
Array = npt.NDArray[np.generic]


def matmul(
    a: Array,
    b: Array,
    bias: Array | None = None,
    residual: Array | None = None,
    activation: int = 0,
    flags: int = 0,
    alpha: float = 1.0,
    threads: int = 1,
) -> Array:
    inputs = [None if x is None else (x, NUMBERS[str(x.dtype)]) for x in (a, b, bias, residual)]
    outputs = [(NUMBERS[str(a.dtype)], None, None)]
    return _engine.call_kernel(
        "matmul", inputs, outputs, [activation, flags], [alpha, 0.0, 0.0], b"", threads, 1
    )[0]


def normal(*dims: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(dims, dtype=np.float32)


def assert_close(got: Array, exact: npt.NDArray[np.float64], depth: int) -> None:
    assert got.shape == exact.shape
    largest = np.abs(exact).max(initial=1)
    np.testing.assert_allclose(got, exact, rtol=0, atol=2 * 2**-23 * max(depth, 1) ** 0.5 * largest + 1e-6)


def exact(a: Array, b: Array) -> npt.NDArray[np.float64]:
    return np.asarray(np.matmul(a.astype(np.float64), b.astype(np.float64)))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("transposed", ["neither", "a", "b", "both"])
@pytest.mark.parametrize("k", [0, 1, 5, 16, 65])
def test_sizes_and_transposed_views(k: int, transposed: str, threads: int) -> None:
    for m in (1, 2, 3, 4, 5, 13, 80):
        for n in (1, 7, 16, 31, 32, 33, 100):
            a, b = normal(m, k), normal(k, n, seed=1)
            if transposed in {"a", "both"}:
                a = np.ascontiguousarray(a.T).T
            if transposed in {"b", "both"}:
                b = np.ascontiguousarray(b.T).T
            assert_close(matmul(a, b, threads=threads), exact(a, b), k)


SHAPES = [
    ((5,), (5,)),
    ((5,), (5, 3)),
    ((4, 5), (5,)),
    ((2, 4, 5), (5,)),
    ((5,), (2, 5, 3)),
    ((2, 3, 4, 5), (5, 6)),
    ((4, 5), (2, 3, 5, 6)),
    ((2, 1, 4, 5), (3, 5, 6)),
    ((7, 1, 1, 4, 5), (1, 3, 2, 5, 6)),
    ((2, 3, 1, 5), (2, 3, 5, 6)),
    ((2, 3, 1, 5), (2, 1, 5, 40)),
    ((0, 4, 5), (5, 6)),
    ((2, 0, 5), (2, 5, 6)),
    ((2, 4, 0), (2, 0, 6)),
    ((3, 4, 5), (3, 5, 0)),
    ((40, 2, 8), (40, 8, 9)),
]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("first", "second"), SHAPES)
def test_batches_and_vectors(first: tuple[int, ...], second: tuple[int, ...], threads: int) -> None:
    a, b = normal(*first), normal(*second, seed=1)
    assert_close(matmul(a, b, threads=threads), exact(a, b), 8)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("threads", [1, 2])
def test_element_types(name: str, threads: int) -> None:
    rng = np.random.default_rng(0)
    for first, second in SHAPES:
        a, b = (rng.integers(0, 7, shape).astype(name) for shape in (first, second))
        np.testing.assert_array_equal(matmul(a, b, threads=threads), np.matmul(a, b))
    a, b = rng.integers(0, 7, (9, 5)).astype(name), rng.integers(0, 7, (9, 6)).astype(name)
    np.testing.assert_array_equal(matmul(a.T, b[:, ::-2], threads=threads), a.T @ b[:, ::-2])


@pytest.mark.parametrize("name", ["int8", "int32", "uint16", "int64"])
def test_integers_wrap_around(name: str) -> None:
    info = np.iinfo(name)
    a, b = np.full((3, 4), info.max, name), np.full((4, 5), info.max, name)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(matmul(a, b), np.matmul(a, b))


@pytest.mark.parametrize("threads", [1, 2])
def test_heads_of_one_buffer(threads: int) -> None:
    """Queries times keys and weights times values, as attention takes them out of [T, 3 * d]."""
    t, heads, size = 37, 4, 24
    buffer = normal(t, 3, heads, size)
    q, k, v = (buffer[:, i].transpose(1, 0, 2) for i in range(3))
    scores = matmul(q, k.swapaxes(-1, -2), alpha=0.2, threads=threads)
    assert_close(scores, 0.2 * exact(q, k.swapaxes(-1, -2)), size)
    assert_close(matmul(scores, v, threads=threads), exact(scores, v), t)


@pytest.mark.parametrize("rows", [1, 3, 20])
def test_bias_residual_and_activation(rows: int) -> None:
    for b in (normal(40, 37, seed=1), normal(37, 40, seed=1).T):
        a, bias, residual = normal(2, rows, 40), normal(37, seed=2), normal(rows, 37, seed=3)
        summed = exact(a, b) + bias
        assert_close(matmul(a, b, bias, residual, RELU), np.maximum(summed, 0) + residual, 40)
        assert_close(matmul(a, b, bias, residual, RELU, RESIDUAL_FIRST), np.maximum(summed + residual, 0), 40)


def test_flags_transpose() -> None:
    a, b = normal(3, 7, 4), normal(2, 1, 5, 7, seed=1)
    got = matmul(a, b, flags=TRANSPOSE_A | TRANSPOSE_B)
    assert_close(got, exact(a.swapaxes(-1, -2), b.swapaxes(-1, -2)), 7)


@given(st.data())
def test_any_strides(data: st.DataObject) -> None:
    m, k, n = (data.draw(st.integers(1, 40)) for _ in range(3))
    batch = data.draw(st.integers(1, 3))
    base_a, base_b = normal(batch, 2 * m + 1, 2 * k + 3), normal(2 * n + 3, batch, 2 * k + 1, seed=1)
    a = base_a[:, data.draw(st.integers(0, m)) :, 1:][:, :m, :: data.draw(st.integers(1, 2))][..., :k]
    b = base_b.transpose(1, 2, 0)[:, :k, :: data.draw(st.sampled_from([-2, -1, 1, 2]))][..., :n]
    assert_close(matmul(a, b), exact(a, b), k)


def test_long_sums() -> None:
    a, b = normal(30, 5000), normal(5000, 70, seed=1)
    assert_close(matmul(a, b, threads=2), exact(a, b), 5000)


@pytest.mark.parametrize("threads", [1, 2])
def test_very_large_matrices(threads: int) -> None:
    """Strassen's product: of random rows, each element within the rounding of the whole."""
    a, b = normal(3072, 3074), normal(3074, 3136, seed=1)
    got = matmul(a, b, threads=threads)
    for rows in (slice(0, 4), slice(1534, 1538), slice(3068, 3072)):
        assert_close(got[rows], exact(a[rows], b), 3074)


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ExecutionError, match=r"\[\.\., 2, 5\] times \[\.\., 6, 7\]"):
        matmul(normal(2, 5), normal(6, 7))
