"""Convolutions of bytes, called directly: sums are exact, and every code is the one that rounding them gives."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.errors import ExecutionError
from graphopt.kernels import _engine
from tests.kernels.calling import call
from tests.kernels.convolutions import Case, channels_last, channels_last_strides, reference

INT8, INT32, FLOAT = 3, 6, 1
X_ZERO = 7


def depthwise(channels: int, image: tuple[int, ...], kernel: tuple[int, ...], **options: object) -> Case:
    return Case((2, channels, *image), (channels, 1, *kernel), groups=channels, **options)


DEPTHWISE = [
    *[
        depthwise(c, (7, w), (k, k), strides=(s, s), pads=(k // 2,) * 4)
        for c in (1, 3, 16, 24, 37, 64, 72, 130)
        for k in (1, 3, 5)
        for s in (1, 2)
        for w in (2, 19)
    ],
    depthwise(20, (9, 23), (3, 3), strides=(1, 3), pads=(0, 1, 2, 0)),
    depthwise(20, (9, 23), (3, 4), dilations=(2, 3), pads=(3, 2, 1, 7)),
    depthwise(20, (9, 23), (3, 3), auto_pad="SAME_UPPER", strides=(2, 2)),
    depthwise(20, (2, 2), (5, 5), pads=(5, 5, 5, 5)),
    depthwise(20, (31,), (31,), pads=(15, 15)),
    depthwise(20, (4, 5, 6), (3, 2, 3), pads=(1, 1, 1, 1, 0, 1)),
    depthwise(961, (5, 6), (3, 3), pads=(1, 1, 1, 1)),
    depthwise(5, (2, 6), (3, 3)),
    Case((0, 6, 5, 5), (6, 1, 3, 3), groups=6),
]
DENSE = [
    Case((2, 3, 19, 23), (16, 3, 3, 3), strides=(2, 2), pads=(1, 1, 1, 1)),
    Case((1, 3, 19, 23), (5, 3, 7, 7), strides=(2, 2), pads=(3, 3, 3, 3)),
    Case((1, 1, 9, 7), (33, 1, 3, 3), pads=(2, 0, 1, 3)),
    Case((1, 4, 1, 5), (7, 4, 1, 3), pads=(0, 1, 0, 1)),
    Case((2, 20, 5, 7), (37, 20, 1, 1)),
    Case((2, 16, 5, 7), (64, 16, 1, 1), strides=(2, 1)),
    Case((1, 5, 9), (40, 5, 3), pads=(1, 1), dilations=(2,)),
    Case((1, 6, 4, 5, 6), (4, 3, 2, 2, 2), groups=2, pads=(1, 0, 1, 0, 1, 0)),
    Case((1, 8, 6, 6), (3, 8, 3, 3), auto_pad="SAME_LOWER", strides=(2, 2)),
    Case((0, 3, 9, 9), (4, 3, 3, 3)),
    Case((1, 3, 2, 9), (4, 3, 3, 3)),
]


def drawn(dims: tuple[int, ...], dtype: type, seed: int) -> np.ndarray:
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max + 1, dims).astype(dtype)


def sums_of(case: Case, x: np.ndarray, w: np.ndarray, bias: np.ndarray) -> np.ndarray:
    wide = [x.astype(np.float64) - X_ZERO, w.astype(np.float64)]
    if x.size == 0 or 0 in dims_of(case):
        return np.zeros((case.x[0], case.w[0], *dims_of(case)), np.int64)
    (sums,) = reference("Conv", wide, case.attributes())
    return sums.astype(np.int64) + bias.reshape(-1, *(1,) * case.rank)


def dims_of(case: Case) -> tuple[int, ...]:
    """Positions of a window of stride 1."""
    pads = case.pads or (0,) * (2 * case.rank)
    return tuple(
        max(0, n + pads[i] + pads[case.rank + i] - k + 1)
        for i, (n, k) in enumerate(zip(case.x[2:], case.w[2:], strict=True))
    )


def run(
    case: Case,
    x: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray,
    scale: np.ndarray | None,
    out: type,
    y_zero: int,
    dims: tuple[int, ...],
    threads: int = 1,
    planar: bool = False,
) -> np.ndarray:
    raised = 128 if x.dtype == np.int8 else 0
    start = (bias - (X_ZERO + raised) * w.reshape(len(w), -1).sum(axis=1, dtype=np.int64)).astype(np.int32)
    ints = [*case.ints(), X_ZERO & 0xFF, y_zero]
    strides = () if planar else (channels_last_strides(dims),)
    asked = [(out, dims, *strides)]
    if case.groups == case.x[1] == case.w[0] and case.w[1] == 1:
        scales = [] if scale is None else [(scale, FLOAT)]
        packed = _engine.pack("conv.bytes.depthwise", [(w, INT8), (start, INT32), *scales], [])
        return call("conv.bytes.depthwise", [channels_last(x), packed], asked, ints, threads=threads)[0]
    packed = _engine.pack("conv.bytes", [(w, INT8)], [case.groups])
    return call("conv.bytes", [channels_last(x), packed, start, scale], asked, ints, threads=threads)[0]


def codes_of(sums: np.ndarray, scale: np.ndarray, zero: int, out: type) -> np.ndarray:
    of_filter = scale.reshape(-1, *(1,) * (sums.ndim - 2))
    product = sums.astype(np.float32) * of_filter
    assert product.dtype == np.float32
    info = np.iinfo(out)
    return np.clip(np.rint(product).astype(np.float64) + zero, info.min, info.max).astype(out)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("case", [*DEPTHWISE, *DENSE], ids=str)
def test_every_sum_and_every_code(case: Case, signed: bool) -> None:
    of_x = np.int8 if signed else np.uint8
    x, w = drawn(case.x, of_x, 0), drawn(case.w, np.int8, 1)
    rng = np.random.default_rng(2)
    bias = rng.integers(-3000, 3000, case.w[0])
    scale = rng.uniform(0.0005, 0.005, case.w[0]).astype(np.float32)
    sums = sums_of(case, x, w, bias)
    for threads in (1, 2):
        for planar in (False, True):
            got = run(case, x, w, bias, None, np.int32, 0, sums.shape, threads, planar)
            np.testing.assert_array_equal(got, sums)
            for out, zero in ((np.uint8, 5), (np.int8, -90)):
                got = run(case, x, w, bias, scale, out, zero, sums.shape, threads, planar)
                np.testing.assert_array_equal(got, codes_of(sums, scale, zero, out))
            got = run(case, x, w, bias, scale, np.float32, 0, sums.shape, threads, planar)
            of_filter = scale.reshape(-1, *(1,) * case.rank)
            np.testing.assert_array_equal(got, sums.astype(np.float32) * of_filter)


@pytest.mark.parametrize("case", [depthwise(72, (6, 9), (3, 3), pads=(1,) * 4), DENSE[0], DENSE[4]], ids=str)
@pytest.mark.parametrize(("out", "zeros"), [(np.uint8, (0, 255)), (np.int8, (-128, 127))])
def test_codes_saturate_however_large_the_number(case: Case, out: type, zeros: tuple[int, int]) -> None:
    x, w = drawn(case.x, np.uint8, 0), drawn(case.w, np.int8, 1)
    bias = np.zeros(case.w[0], np.int64)
    sums = sums_of(case, x, w, bias)
    for size in (1e-30, 0.5, 2.0, 1e5, 1e9, 1e30):
        scale = np.full(case.w[0], size, np.float32)
        for zero in zeros:
            got = run(case, x, w, bias, scale, out, zero, sums.shape)
            np.testing.assert_array_equal(got, codes_of(sums, scale, zero, out))


def test_halves_go_to_the_even_code() -> None:
    x = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    for case in (Case((1, 1, 16, 16), (1, 1, 1, 1)), Case((1, 2, 16, 16), (2, 1, 1, 1), groups=2)):
        of_case = np.repeat(x, case.x[1], axis=1)
        w, bias = np.ones(case.w, np.int8), np.zeros(case.w[0], np.int64)
        sums, scale = of_case.astype(np.int64) - X_ZERO, np.full(case.w[0], 0.5, np.float32)
        got = run(case, of_case, w, bias, scale, np.uint8, 3, sums.shape)
        np.testing.assert_array_equal(got, codes_of(sums, scale, 3, np.uint8))


def test_operands_that_do_not_fit() -> None:
    case = depthwise(8, (5, 5), (3, 3))
    x, w = drawn(case.x, np.uint8, 0), drawn((9, 1, 3, 3), np.int8, 1)
    with pytest.raises(ExecutionError, match="8 channels"):
        run(case, x, w, np.zeros(9, np.int64), np.ones(9, np.float32), np.uint8, 0, (2, 8, 3, 3))
