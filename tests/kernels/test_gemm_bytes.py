"""The product of bytes: exact in 32 bits, and its three ends."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.errors import ExecutionError
from graphopt.kernels import _engine

NUMBERS = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6}
Array = npt.NDArray[np.generic]


def product(
    a: Array,
    b: Array,
    out: str = "int32",
    bias: Array | None = None,
    residual: Array | None = None,
    a_scale: Array | None = None,
    a_zero: Array | None = None,
    b_scale: Array | None = None,
    b_zero: Array | None = None,
    y_scale: Array | None = None,
    y_zero: Array | None = None,
    activation: int = 0,
    flags: int = 0,
    threads: int = 1,
) -> Array:
    packed = _engine.pack("gemm.u8s8", [(b, NUMBERS[str(b.dtype)])], [0])
    given = [a, packed, bias, residual, a_scale, a_zero, b_scale, b_zero, y_scale, y_zero]
    inputs = [None if x is None else (x, NUMBERS[str(x.dtype)]) for x in given]
    k, n = b.shape
    ints = [k, n, activation, flags, int(b.dtype == np.uint8)]
    dims = [*a.shape[:-1], n]
    return _engine.call_kernel(
        "gemm.u8s8", inputs, [(NUMBERS[out], dims, None)], ints, [1.0, 0.0, 0.0], b"", threads, 1
    )[0]


def integers(dtype: str, *dims: int, seed: int = 0) -> Array:
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max + 1, dims).astype(dtype)


def exact(a: Array, b: Array, a_zero: Array | int = 0, b_zero: Array | int = 0) -> npt.NDArray[np.int64]:
    return np.asarray((a.astype(np.int64) - a_zero) @ (b.astype(np.int64) - b_zero))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("left", ["uint8", "int8"])
@pytest.mark.parametrize("right", ["uint8", "int8"])
def test_every_size(left: str, right: str, threads: int) -> None:
    for k in (0, 1, 2, 3, 4, 7, 64, 129):
        for n in (1, 8, 16, 17, 32, 45, 100):
            b = integers(right, k, n, seed=1)
            for m in (0, 1, 2, 3, 5, 12, 13, 31):
                a = integers(left, m, k)
                np.testing.assert_array_equal(product(a, b, threads=threads), exact(a, b))


@pytest.mark.parametrize("largest", [64, 127, 128])
def test_largest_products_do_not_saturate(largest: int) -> None:
    """Sums of two products of 255 * 128 do not fit 16 bits."""
    for sign in (1, -1):
        b = np.full((70, 40), sign * largest if sign * largest < 128 else 127, np.int8)
        a = np.full((5, 70), 255, np.uint8)
        np.testing.assert_array_equal(product(a, b), exact(a, b))


@pytest.mark.parametrize("left", ["uint8", "int8"])
@pytest.mark.parametrize("right", ["uint8", "int8"])
def test_zero_points(left: str, right: str) -> None:
    a, b = integers(left, 3, 7, 30), integers(right, 30, 37, seed=1)
    one_a, one_b = integers(left, 1, seed=2), integers(right, 1, seed=3)
    rows, columns = integers(left, 3, 7, 1, seed=4), integers(right, 37, seed=5)
    for a_zero in (one_a, rows):
        for b_zero in (one_b, columns):
            got = product(a, b, a_zero=a_zero, b_zero=b_zero)
            np.testing.assert_array_equal(got, exact(a, b, a_zero.astype(np.int64), b_zero.astype(np.int64)))


@pytest.mark.parametrize("m", [1, 10, 27])
def test_to_floats(m: int) -> None:
    rng = np.random.default_rng(0)
    a, b = integers("uint8", m, 61), integers("int8", 61, 50, seed=1)
    a_scale, b_scale = rng.random(m, dtype=np.float32), rng.random(50, dtype=np.float32)
    a_zero = rng.integers(0, 256, m).astype(np.int32)
    bias, residual = rng.random(50, dtype=np.float32), rng.random((m, 50), dtype=np.float32)
    got = product(a, b, "float32", bias, residual, a_scale, a_zero, b_scale, activation=1, threads=2)
    summed = exact(a, b, a_zero[:, None]) * (a_scale[:, None].astype(np.float64) * b_scale) + bias
    np.testing.assert_allclose(got, np.maximum(summed, 0) + residual, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("out", ["uint8", "int8"])
@pytest.mark.parametrize("per_column", [False, True])
def test_requantized(out: str, per_column: bool) -> None:
    rng = np.random.default_rng(0)
    for m in (1, 13):
        a, b = integers("uint8", m, 33), integers("int8", 33, 41, seed=1)
        b_scale = rng.random(41 if per_column else 1, dtype=np.float32) / 20
        a_scale, y_scale = np.array([0.02], np.float32), np.array([0.5], np.float32)
        a_zero, y_zero = np.array([110], np.uint8), np.array([3], out)
        got = product(
            a, b, out, a_scale=a_scale, a_zero=a_zero, b_scale=b_scale, y_scale=y_scale, y_zero=y_zero
        )
        scaled = exact(a, b, 110).astype(np.float32) * (a_scale * b_scale / y_scale)
        info = np.iinfo(out)
        np.testing.assert_array_equal(got, np.clip(np.rint(scaled) + 3, info.min, info.max).astype(out))


def test_ties_round_to_even() -> None:
    a, b = np.arange(8, dtype=np.uint8)[:, None], np.ones((1, 1), np.int8)
    half = np.array([0.5], np.float32)
    got = product(a, b, "uint8", a_scale=half)
    np.testing.assert_array_equal(got[:, 0], [0, 0, 1, 2, 2, 2, 3, 4])


@given(st.integers(1, 30), st.integers(0, 70), st.integers(1, 70), st.integers(0, 9))
def test_any_size(m: int, k: int, n: int, seed: int) -> None:
    a, b = integers("uint8", m, k, seed=seed), integers("int8", k, n, seed=seed + 1)
    np.testing.assert_array_equal(product(a[:, ::1], b), exact(a, b))


def test_strided_rows() -> None:
    base = integers("uint8", 9, 4, 80)
    b = integers("int8", 33, 40, seed=1)
    for a in (base[:, 1, 5:38], base[::2, :, 47:], base.transpose(1, 0, 2)[..., :33]):
        np.testing.assert_array_equal(product(a, b), exact(a, b))


def test_rows_are_quantized() -> None:
    rng = np.random.default_rng(0)
    for columns in (1, 5, 16, 33, 64, 200):
        x = rng.standard_normal((3, 6, columns), dtype=np.float32) * np.exp(
            rng.standard_normal((3, 6, 1), dtype=np.float32) * 4
        )
        x[0, 0], x[0, 1], x[0, 2] = 0, np.abs(x[0, 1]), -np.abs(x[0, 2])
        outputs = [(2, None, None), (1, None, None), (6, None, None)]
        y, scale, zero = _engine.call_kernel("quantize_rows", [(x, 1)], outputs, [], [], b"", 2, 1)
        assert scale.shape == zero.shape == (3, 6)
        back = (y.astype(np.float64) - zero[..., None]) * scale[..., None]
        error = np.abs(back - x) / scale[..., None]
        assert error.max() <= 1.002  # a rounded zero point moves the ends of the range
        assert error[(y > 0) & (y < 255)].max(initial=0) <= 0.502
        assert (back[x == 0] == 0).all()
        largest = np.maximum(x.max(-1), 0) - np.minimum(x.min(-1), 0)
        np.testing.assert_allclose(scale, np.where(largest == 0, 1, largest / 255), rtol=1e-6)


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ExecutionError, match=r"operand 4 .* 2 values .* for 3"):
        product(integers("uint8", 3, 4), integers("int8", 4, 5), "float32", a_scale=np.ones(2, np.float32))


def ended(
    a: Array,
    b: Array,
    step: np.float32,
    zero: int,
    out: str = "uint8",
    residual: Array | None = None,
    activation: int = 0,
    threads: int = 1,
) -> tuple[Array, Array]:
    """What the product with bias, residual and activation is as floats, and as bytes."""
    k, n = b.shape
    rng = np.random.default_rng(3)
    packed = _engine.pack("gemm.u8s8", [(b, NUMBERS["int8"])], [0])
    given = [a, packed, rng.standard_normal(n, dtype=np.float32), residual]
    given += [np.array([0.004], np.float32), np.array([97], np.int32), rng.random(n, dtype=np.float32)]
    inputs = [None if x is None else (x, NUMBERS[str(x.dtype)]) for x in [*given, None, None, None]]
    made = []
    for flag, dtype, ints, floats in ((1, "float32", [], []), (9, out, [zero], [float(step)])):
        outputs = [(NUMBERS[dtype], [a.shape[0], n], None)]
        ints = [k, n, activation, flag, 0, *ints]
        made += _engine.call_kernel(
            "gemm.u8s8", inputs, outputs, ints, [1.0, 0.0, 0.0, 1.0, *floats], b"", threads, 1
        )
    return made[0], made[1]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("out", ["uint8", "int8"])
@pytest.mark.parametrize("activation", [0, 1, 6])
def test_the_end_quantized(out: str, activation: int, threads: int) -> None:
    info = np.iinfo(out)
    for m in (0, 1, 11, 30):
        for k, n in ((33, 16), (64, 41), (7, 96)):
            a, b = integers("uint8", m, k), integers("int8", k, n, seed=1)
            residual = np.random.default_rng(2).standard_normal((m, n), dtype=np.float32) if n > 16 else None
            zero = info.max // 2
            floats, codes = ended(a, b, np.float32(0.173), zero, out, residual, activation, threads)
            wanted = np.clip(np.rint(floats / np.float32(0.173)) + zero, info.min, info.max)
            np.testing.assert_array_equal(codes, wanted.astype(out))


@given(
    st.floats(-20, 8).map(lambda e: np.float32(2.0**e))
    | st.integers(0, 1 << 23).map(lambda i: np.float32(1 + i * 2.0**-23)),
    st.integers(0, 255),
    st.integers(-4, 4),
)
def test_quotients_are_those_of_a_division(step: np.float32, zero: int, apart: int) -> None:
    """Numbers around the halves between codes, `apart` floats from them, come in as a residual."""
    halves = (np.arange(-256, 256) + 0.5).astype(np.float32) * step
    x = halves.view(np.int32) + apart
    x = np.concatenate([x.view(np.float32), [np.inf, -np.inf, np.nan, 0.0]]).astype(np.float32)[None]
    n = x.shape[1]
    packed = _engine.pack("gemm.u8s8", [(np.zeros((4, n), np.int8), NUMBERS["int8"])], [0])
    inputs = [(np.zeros((1, 4), np.uint8), 2), packed, None, (x, 1), *[None] * 6]
    numbers = [1.0, 0.0, 0.0, 1.0, float(step)]
    (got,) = _engine.call_kernel(
        "gemm.u8s8",
        [i if isinstance(i, tuple) or i is None else (i, 2) for i in inputs],
        [(2, [1, n], None)],
        [4, n, 0, 9, 0, zero],
        numbers,
        b"",
        1,
        1,
    )
    quotients = np.nan_to_num(np.rint(x / step), nan=-np.inf)
    np.testing.assert_array_equal(got, np.clip(quotients + zero, 0, 255).astype(np.uint8))
